"""Which files there are to import: in folders, in zip archives, or named one by one."""

from __future__ import annotations

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kraken_db.bulk_csv_importer.reading import check_file, system_reason
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
    entry: zipfile.ZipInfo | None = None
    doubt: str = ""
    """Why it must not be imported, should it be wanted."""

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def basename(self) -> str:
        return PurePosixPath(self.member).name if self.member else self.path.name


class _Wanted:
    """The symbols that were asked for, under every name that their files may have."""

    def __init__(self, symbols: Collection[str]) -> None:
        self.names = {symbol: to_archive_name(symbol) for symbol in symbols}
        readings: defaultdict[str, set[str]] = defaultdict(set)
        for symbol, name in self.names.items():
            readings[name].add(symbol)
            readings[symbol.replace("/", "")].add(symbol)
        self._unclear = {name for name, fitting in readings.items() if len(fitting) > 1}
        self.spellings = {name: symbol for name, (symbol, *others) in sorted(readings.items()) if not others}
        """Names that can mean only one of the symbols."""

    def may_be(self, name: str) -> bool:
        """Whether a name means one of the symbols, or cannot be told apart between two of them."""
        try:
            return from_archive_name(name, known=self.spellings) in self.names
        except PairError:
            return name in self._unclear


@dataclass(slots=True)
class Discovery:
    """Walks the given paths and sorts what it finds into a plan."""

    only_1m: bool
    symbols: Collection[str] | None
    skip_empty: bool
    _files: list[ArchiveFile] = field(default_factory=list)
    _skipped: list[SkippedFile] = field(default_factory=list)
    _refused: list[RefusedFile] = field(default_factory=list)
    _wanted: _Wanted | None = None
    _seen: dict[tuple[int, int], Path] = field(default_factory=dict)

    def plan(self, paths: Sequence[Path]) -> ImportPlan:
        self._wanted = None if self.symbols is None else _Wanted(self.symbols)
        for path in paths:
            before = len(self._files) + len(self._skipped) + len(self._refused)
            for found in self._walk(path):
                self._sort(found)
            if len(self._files) + len(self._skipped) + len(self._refused) == before:
                self._refuse(str(path), "there are no CSV files and no zip archives in it")
        self._miss()
        if not self._files and not self._refused:
            self._refuse(" ".join(map(str, paths)), "nothing to import: every file was skipped", self._hint())
        order = sorted(self._files, key=lambda file: (file.symbol, file.interval or 0, file.name))
        return ImportPlan(order, self._skipped, self._refused)

    def _hint(self) -> str | None:
        return self._skipped[0].reason if self._skipped else None

    def _refuse(self, name: str, reason: str, hint: str | None = None) -> None:
        self._refused.append(RefusedFile(name, ImportFileError(name, reason, hint=hint)))

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.append(SkippedFile(name, reason))

    def _miss(self) -> None:
        found = {file.symbol for file in self._files}
        for symbol, name in (self._wanted.names if self._wanted else {}).items():
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
            self._refuse(str(error.filename or path), system_reason(error))

    def _children(self, folder: Path) -> Iterable[Path]:
        def report(error: OSError) -> None:
            self._refuse(str(error.filename or folder), system_reason(error))

        for parent, folders, names in os.walk(folder, onerror=report):
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            for name in folders:
                if (link := Path(parent, name)).is_symlink():
                    self._skip(str(link), "links to folders are not followed: name the folder itself")
            for name in sorted(names):
                if Path(name).suffix.lower() in (".csv", ".zip") and not _is_hidden(name):
                    yield Path(parent, name)

    def _open(self, path: Path) -> Iterator[_Found]:
        try:
            known = check_file(path)
        except ImportFileError as error:
            self._refused.append(RefusedFile(str(path), error))
            return
        first = self._seen.setdefault((known.st_dev, known.st_ino), path)
        if first is not path:
            self._skip(str(path), f"the same file as {first}")
        elif path.suffix.lower() == ".zip":
            yield from self._members(path)
        else:
            yield _Found(path, None, known.st_size)

    def _members(self, path: Path) -> Iterator[_Found]:
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except OSError as error:
            self._refuse(str(path), system_reason(error))
            return
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            self._refuse(str(path), f"not a readable zip archive: {error}", "get the file again")
            return
        by_name: defaultdict[str, list[zipfile.ZipInfo]] = defaultdict(list)
        for member in members:
            if not member.is_dir() and not any(map(_is_hidden, PurePosixPath(member.filename).parts)):
                by_name[member.filename].append(member)
        for name, copies in by_name.items():
            if name.lower().endswith(".zip"):
                self._skip(f"{path}:{name}", "a zip inside of a zip is not opened: unpack it first")
            elif name.lower().endswith(".csv"):
                yield from self._member(path, copies)

    def _member(self, path: Path, copies: Sequence[zipfile.ZipInfo]) -> Iterator[_Found]:
        """A file of a zip; it is in doubt which one, if the zip has several of its name."""
        for member in copies:
            name = member.filename
            found = _Found(path, name, member.file_size, member, _which_of(copies))
            parts = PurePosixPath(name).parts
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

    def _sort(self, found: _Found) -> None:
        match = _NAME.fullmatch(found.basename)
        if match is None:
            self._refuse(found.name, "the name is neither <PAIR>_<minutes>.csv nor <PAIR>.csv")
            return
        pair, minutes = match["pair"], match["minutes"]
        if self._wanted is not None and not self._wanted.may_be(pair):
            self._skip(found.name, "not among the symbols asked for")
        elif minutes is not None and minutes not in INTERVAL_MAP:
            self._skip(found.name, f"candles of {minutes} minutes are not kept")
        elif minutes is not None and self.only_1m and INTERVAL_MAP[minutes] != BASE_INTERVAL:
            self._skip(found.name, "only 1m is imported, higher intervals are computed from it (--all)")
        elif found.doubt:
            self._refuse(found.name, found.doubt, "pack the archive anew with the right one of them alone")
        elif found.size == 0 and self.skip_empty:
            self._skip(found.name, "empty: nothing was traded")
        elif found.size == 0:
            self._refuse(found.name, "the file is empty", "--skip-empty passes over such files")
        else:
            self._accept(found, pair, None if minutes is None else INTERVAL_MAP[minutes])

    def _accept(self, found: _Found, pair: str, interval: int | None) -> None:
        try:
            symbol = from_archive_name(pair, known=self._wanted.spellings if self._wanted else None)
        except PairError as error:
            self._refused.append(
                RefusedFile(found.name, ImportFileError(found.name, error.message, hint=error.hint))
            )
            return
        self._files.append(ArchiveFile(found.path, found.member, found.size, symbol, interval, found.entry))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) and name != ".."


def _which_of(copies: Sequence[zipfile.ZipInfo]) -> str:
    """Nothing for a single file: else no one knows which one is meant, and a reader would take the last."""
    if len(copies) == 1:
        return ""
    sizes = " and ".join(f"{copy.file_size:,}" for copy in copies)
    return f"the archive has {len(copies)} files of this name, of {sizes} bytes"
