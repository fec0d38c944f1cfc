"""Which files there are to import: in folders, in zip archives, or named one by one."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kraken_db.bulk_csv_importer.report import ArchiveFile, ImportPlan, RefusedFile, SkippedFile
from kraken_db.errors import ImportFileError, PairError
from kraken_db.intervals import BASE_INTERVAL, INTERVAL_NAMES
from kraken_db.pairs import from_archive_name, to_archive_name

INTERVAL_MAP: dict[str, int] = {str(minutes): minutes for minutes in INTERVAL_NAMES}
"""The number in a file's name to minutes."""

_NAME = re.compile(r"(?P<pair>[^_]+)(?:_(?P<minutes>\d+))?\.csv", re.IGNORECASE)
# Numbers in text pack to a third or so; what packs a thousand times was made to fill a disk.
_MAX_PACKING = 1000


@dataclass(slots=True)
class _Found:
    path: Path
    member: str | None
    size: int

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def basename(self) -> str:
        return PurePosixPath(self.member).name if self.member else self.path.name


@dataclass(slots=True)
class Discovery:
    """Walks the given paths and sorts what it finds into a plan."""

    only_1m: bool
    symbols: Collection[str] | None
    skip_empty: bool
    _files: list[ArchiveFile] = field(default_factory=list)
    _skipped: list[SkippedFile] = field(default_factory=list)
    _refused: list[RefusedFile] = field(default_factory=list)

    def plan(self, paths: Sequence[Path]) -> ImportPlan:
        wanted = None if self.symbols is None else {to_archive_name(name): name for name in self.symbols}
        for path in paths:
            before = len(self._files) + len(self._skipped) + len(self._refused)
            for found in self._walk(path):
                self._sort(found, wanted)
            if len(self._files) + len(self._skipped) + len(self._refused) == before:
                self._refuse(str(path), "there are no CSV files and no zip archives in it")
        self._miss(wanted)
        if not self._files and not self._refused:
            self._refuse(" ".join(map(str, paths)), "nothing to import: every file was skipped", self._hint())
        order = sorted(self._files, key=lambda file: (file.symbol, file.interval or 0, file.name))
        return ImportPlan(order, self._skipped, self._refused)

    def _hint(self) -> str | None:
        return self._skipped[0].reason if self._skipped else None

    def _refuse(self, name: str, reason: str, hint: str | None = None) -> None:
        self._refused.append(RefusedFile(name, ImportFileError(name, reason, hint=hint)))

    def _miss(self, wanted: Mapping[str, str] | None) -> None:
        found = {file.symbol for file in self._files}
        for name, symbol in (wanted or {}).items():
            if symbol not in found:
                self._refuse(
                    symbol, f"no file to import for this symbol (looked for {name}_*.csv and {name}.csv)"
                )

    def _walk(self, path: Path) -> Iterator[_Found]:
        try:
            if path.is_dir():
                for child in self._children(path):
                    yield from self._open(child)
            else:
                yield from self._open(path)
        except OSError as error:
            self._refuse(str(error.filename or path), _system_reason(error))

    def _children(self, folder: Path) -> Iterable[Path]:
        def report(error: OSError) -> None:
            self._refuse(str(error.filename or folder), _system_reason(error))

        for parent, folders, names in os.walk(folder, onerror=report):
            folders.sort()
            folders[:] = [name for name in folders if not _is_hidden(name)]
            for name in sorted(names):
                if Path(name).suffix.lower() in (".csv", ".zip") and not _is_hidden(name):
                    yield Path(parent, name)

    def _open(self, path: Path) -> Iterator[_Found]:
        if not path.exists():
            self._refuse(str(path), "there is no such file")
        elif not path.is_file():
            self._refuse(str(path), "this is not a file")
        elif path.suffix.lower() == ".zip":
            yield from self._members(path)
        else:
            yield _Found(path, None, path.stat().st_size)

    def _members(self, path: Path) -> Iterator[_Found]:
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except OSError as error:
            self._refuse(str(path), _system_reason(error))
            return
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            self._refuse(str(path), f"not a readable zip archive: {error}", "get the file again")
            return
        for member in members:
            name = member.filename
            parts = PurePosixPath(name).parts
            if member.is_dir() or not name.lower().endswith(".csv") or any(map(_is_hidden, parts)):
                continue
            found = _Found(path, name, member.file_size)
            if ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
                self._refuse(found.name, "the name leads out of the archive")
            elif member.flag_bits & 0x1:
                self._refuse(found.name, "the file is encrypted")
            elif member.file_size > _MAX_PACKING * max(member.compress_size, 1):
                self._refuse(
                    found.name, f"it unpacks to {member.file_size:,} bytes: more than text can be packed"
                )
            else:
                yield found

    def _sort(self, found: _Found, wanted: Mapping[str, str] | None) -> None:
        match = _NAME.fullmatch(found.basename)
        if match is None:
            self._refuse(found.name, "the name is neither <PAIR>_<minutes>.csv nor <PAIR>.csv")
            return
        pair, minutes = match["pair"], match["minutes"]
        if wanted is not None and pair not in wanted:
            self._skipped.append(SkippedFile(found.name, "not among the symbols asked for"))
        elif minutes is not None and minutes not in INTERVAL_MAP:
            self._skipped.append(SkippedFile(found.name, f"candles of {minutes} minutes are not kept"))
        elif minutes is not None and self.only_1m and INTERVAL_MAP[minutes] != BASE_INTERVAL:
            self._skipped.append(
                SkippedFile(found.name, "only 1m is imported, higher intervals are computed from it (--all)")
            )
        elif found.size == 0 and self.skip_empty:
            self._skipped.append(SkippedFile(found.name, "empty: nothing was traded"))
        elif found.size == 0:
            self._refuse(found.name, "the file is empty", "--skip-empty passes over such files")
        else:
            self._accept(found, pair, None if minutes is None else INTERVAL_MAP[minutes], wanted)

    def _accept(
        self, found: _Found, pair: str, interval: int | None, wanted: Mapping[str, str] | None
    ) -> None:
        try:
            symbol = from_archive_name(pair, known=wanted)
        except PairError as error:
            self._refused.append(
                RefusedFile(found.name, ImportFileError(found.name, error.message, hint=error.hint))
            )
            return
        self._files.append(ArchiveFile(found.path, found.member, found.size, symbol, interval))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) and name != ".."


def _system_reason(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return error.strerror or str(error)
