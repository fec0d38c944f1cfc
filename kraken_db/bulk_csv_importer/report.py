"""What an import is going to do, and what it did."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from kraken_db.archives.byte_source import ByteSource
from kraken_db.archives.manifest import Manifest
from kraken_db.archives.zip_reading import ZipMember, printable
from kraken_db.data_types import DataType
from kraken_db.errors import ImportFileError, KrakenDBError, unforeseen
from kraken_db.intervals import interval_name

_log = logging.getLogger(__name__)


def as_failure(name: str, error: Exception) -> KrakenDBError:
    """Why a file failed, alone; also where no rule foresaw it: --debug shows the traceback then."""
    if isinstance(error, KrakenDBError):
        return error
    _log.debug("%s", name, exc_info=error)
    return ImportFileError(name, unforeseen(error), hint="run it again with --debug")


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One CSV file: on disk, or inside a zip (``member`` is its name there)."""

    path: Path
    member: str | None
    size: int
    """Bytes, unpacked."""
    symbol: str
    interval: int | None
    """Minutes of its candles; None for trades (Time & Sales)."""
    source: ByteSource | None = field(default=None, compare=False, repr=False)
    """The bytes of the file, or of the zip that it is in; None: those of ``path``."""
    entry: ZipMember | None = field(default=None, compare=False, repr=False)
    """Where in the zip it is: without this the reader has to look through the zip's directory."""
    declared: tuple[str, ...] | None = None
    """The columns that the archive says it has."""
    covers: tuple[datetime | None, datetime | None] = (None, None)
    """From when to when the archive says that it has everything; half-open, None where it does not say."""
    is_remote: bool = field(default=False, compare=False)
    """Whether it is on a server: to read it is to download it."""

    @property
    def name(self) -> str:
        """For people: the path, with the name inside the zip behind it."""
        place = self.source.name if self.source is not None else str(self.path)
        return f"{place}:{printable(self.member)}" if self.member else place

    @property
    def is_whole_history(self) -> bool:
        """Whether the archive says that it has everything from the first trade on."""
        return self.covers[0] is None and self.covers[1] is not None

    @property
    def data_type(self) -> DataType:
        """What is stored of it."""
        return DataType.TRADES if self.interval is None else DataType.candles(self.interval)

    @property
    def kind(self) -> str:
        """``'1m'``, ``'1h'``, ... or ``'trades'``."""
        return "trades" if self.interval is None else interval_name(self.interval)


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is not imported, and why; nothing is wrong with it."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that cannot be imported: it counts as a failure."""

    name: str
    error: KrakenDBError


@dataclass(frozen=True, slots=True)
class WholeArchive:
    """An archive that a plan has all files of. ``files``: how many these are; ``empty``: how many more have
    no row."""

    source: ByteSource
    manifest: Manifest
    files: int
    empty: int


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What was found: in the order in which it will be imported."""

    files: Sequence[ArchiveFile]
    skipped: Sequence[SkippedFile] = ()
    refused: Sequence[RefusedFile] = ()
    sources: Sequence[ByteSource] = field(default=(), repr=False)
    """The archives that were opened."""
    whole_archives: Sequence[WholeArchive] = field(default=(), repr=False)
    """Those of them that say what is in them, and of which nothing with a row is left out."""

    @property
    def size(self) -> int:
        """Bytes of all files, unpacked."""
        return sum(file.size for file in self.files)

    def contradictions(self, rows: Iterable[tuple[ArchiveFile, int]]) -> list[KrakenDBError]:
        """What the archives that were read whole say otherwise of themselves.

        ``rows``: how many each file has that was read to its end.
        """
        counts: defaultdict[int, list[int]] = defaultdict(list)
        for file, count in rows:
            counts[id(file.source)].append(count)
        errors: list[KrakenDBError] = []
        for archive in self.whole_archives:
            found = counts[id(archive.source)]
            if len(found) != archive.files:
                continue
            wrong = archive.manifest.contradiction(archive.files + archive.empty, sum(found))
            if wrong is not None:
                hint = "get the archive again; what was imported of it stays"
                errors.append(ImportFileError(archive.source.name, wrong, hint=hint))
        return errors

    async def close(self) -> None:
        """Close the connections to archives on a server."""
        for source in self.sources:
            await source.close()


@dataclass(slots=True)
class FileReport:
    """The outcome of one file. With an ``error``, nothing of it was stored; or, of trades with ids, the
    batches before the row at fault."""

    file: ArchiveFile
    read: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    differing: int = 0
    """Candles, part of ``unchanged``, that are stored with as many trades but with other numbers."""
    rejected: int = 0
    """Rows that were not taken: the bad ones of a file that failed, those without a trade otherwise."""
    candles: int = 0
    """Minutes that were built of its trades, new or changed."""
    oldest: datetime | None = None
    newest: datetime | None = None
    """Times of the first and the last row of the file, both inclusive."""
    error: KrakenDBError | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ImportReport:
    """The outcome of a run."""

    plan: ImportPlan
    files: list[FileReport] = field(default_factory=list)
    refresh_error: KrakenDBError | None = None
    """Why the higher intervals could not be brought up to date; the rows themselves are stored."""
    stopped: KrakenDBError | None = None
    """Why the run ended before its last file: the database does not answer any more."""
    interrupted: bool = False
    """Whether it was asked to end before its last file."""
    contradictions: list[KrakenDBError] = field(default_factory=list)
    """What archives that were read whole say otherwise of themselves; their rows are stored."""
    seconds: float = 0.0
    """How long it took."""

    @property
    def failures(self) -> list[tuple[str, KrakenDBError]]:
        """Name and error of every file that was not imported."""
        refused = [(file.name, file.error) for file in self.plan.refused]
        return refused + [(done.file.name, done.error) for done in self.files if done.error is not None]

    @property
    def not_tried(self) -> int:
        """How many files of the plan were not even begun, or not ended, because the run was ``stopped`` or
        ``interrupted``.
        """
        return len(self.plan.files) - len(self.files)

    @property
    def errors(self) -> list[KrakenDBError]:
        """Everything that went wrong: the files', the archives', then the refresh's."""
        refresh = [self.refresh_error] if self.refresh_error is not None else []
        return [error for _, error in self.failures] + self.contradictions + refresh

    @property
    def written(self) -> dict[str, dict[int, int]]:
        """Symbol to interval to the number of candles written (new or changed)."""
        counts: dict[str, dict[int, int]] = {}
        for done in self.files:
            if done.file.interval is not None and done.error is None:
                by_interval = counts.setdefault(done.file.symbol, {})
                interval = done.file.interval
                by_interval[interval] = by_interval.get(interval, 0) + done.new + done.changed
        return counts


class ImportFailedError(KrakenDBError):
    """A file of a run was not imported, an archive has not the rows that it says, or the refresh failed.

    ``report`` has all of it.
    """

    def __init__(self, report: ImportReport) -> None:
        first, *others = report.errors
        more = f" (and {len(others)} more)" if others else ""
        what = "not everything was imported: " if report.failures else ""
        super().__init__(f"{what}{first}{more}")
        self.report = report
