"""Which files there are to import: in folders, in zips (whole, in parts, on a server), or named alone."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from kraken_db.archives.byte_source import ByteSource
from kraken_db.archives.catalog import Product, PublishedArchive, covered_by_name, open_archive
from kraken_db.archives.manifest import Manifest, ManifestError, parse_manifest
from kraken_db.archives.names import archive_symbols
from kraken_db.archives.parts import check_file, check_sums, find_parts, find_sums, split_name, system_reason
from kraken_db.archives.sources import FileSource, open_local
from kraken_db.archives.web import shown
from kraken_db.archives.zip_reading import ZipMember, printable, read_directory, unpack
from kraken_db.bulk_csv_importer.addresses import archives_at, is_address, of_whole
from kraken_db.bulk_csv_importer.report import (
    ArchiveFile,
    ImportPlan,
    RefusedFile,
    SkippedFile,
    WholeArchive,
    as_failure,
)
from kraken_db.errors import ConfigurationError, ImportFileError, PairError
from kraken_db.intervals import BASE_INTERVAL, INTERVAL_NAMES
from kraken_db.pairs import from_archive_name, known_spelling, parse_symbol, to_archive_name
from kraken_db.patterns import is_pattern, select
from kraken_db.times import Clock, utc_now

INTERVAL_MAP: dict[str, int] = {str(minutes): minutes for minutes in INTERVAL_NAMES}
"""The number in a file's name to minutes."""

_NAME = re.compile(r"(?P<pair>[^_]+)(?:_(?P<minutes>\d+))?\.csv", re.IGNORECASE)
# Numbers in text pack to a third or so; what packs a thousand times was made to fill a disk.
_MAX_PACKING = 1000
_NOTHING_PACKED = 16  # bytes that any packer makes of nothing
_MAX_MANIFEST = 2**20
_AS = "to import it all the same: kraken-db import-csv FILE --as BTC/USD"


@dataclass(frozen=True, slots=True)
class _Archive:
    """A zip, and what it says of itself. ``files``: how many CSV files are in it."""

    source: ByteSource
    files: int
    manifest: Manifest | None
    covers: tuple[datetime | None, datetime | None]
    is_remote: bool


@dataclass(slots=True)
class _Found:
    path: Path
    size: int
    archive: _Archive | None = None
    entry: ZipMember | None = None
    doubt: str = ""
    """Why it must not be imported, should it be wanted."""

    @property
    def name(self) -> str:
        if self.archive is None or self.entry is None:
            return str(self.path)
        return f"{self.archive.source.name}:{printable(self.entry.name)}"

    @property
    def basename(self) -> str:
        return PurePosixPath(self.entry.name).name if self.entry else self.path.name


class _Wanted:
    """The symbols that were asked for, under every name that their files may have."""

    def __init__(self, symbols: Collection[str], named: Collection[str]) -> None:
        self.names = {symbol: to_archive_name(symbol) for symbol in symbols}
        self.named = {symbol: name for symbol, name in self.names.items() if symbol in named}
        """Those that were asked for one by one: they must be there."""
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
    check_sums: bool = False
    exclude: Collection[str] = ()
    product: Product | None = None
    """Of the archives at an address, where there are several."""
    clock: Clock = utc_now
    _found: list[_Found] = field(default_factory=list)
    _files: list[ArchiveFile] = field(default_factory=list)
    _skipped: list[SkippedFile] = field(default_factory=list)
    _refused: list[RefusedFile] = field(default_factory=list)
    _wanted: _Wanted | None = None
    _seen: dict[tuple[int, int], Path] = field(default_factory=dict)
    _addresses: set[str] = field(default_factory=set)
    _archives: list[_Archive] = field(default_factory=list)
    _sources: list[ByteSource] = field(default_factory=list)

    async def plan(self, places: Sequence[Path | str | PublishedArchive]) -> ImportPlan:
        """``places``: a text is an http(s) address."""
        for place in places:
            before = len(self._found) + len(self._skipped) + len(self._refused)
            try:
                await self._walk(place)
            except BaseException:
                await ImportPlan([], sources=self._sources).close()
                raise
            if len(self._found) + len(self._skipped) + len(self._refused) == before:
                self._refuse(_name_of(place), "there are no CSV files and no zip archives in it")
        self._sort_all()
        self._miss()
        if not self._files and not self._refused:
            names = " ".join(map(_name_of, places))
            self._refuse(names, "nothing to import: every file was skipped", self._hint())
        order = sorted(
            self._files, key=lambda file: (file.symbol, file.interval or 0, _begins(file), file.name)
        )
        return ImportPlan(order, self._skipped, self._refused, self._sources, self._whole_archives())

    def _whole_archives(self) -> list[WholeArchive]:
        wanted = Counter(id(file.source) for file in self._files)
        empty = Counter(id(found.archive) for found in self._found if found.archive and not found.size)
        return [
            WholeArchive(archive.source, archive.manifest, wanted[id(archive.source)], empty[id(archive)])
            for archive in self._archives
            if archive.manifest is not None
            and wanted[id(archive.source)] + empty[id(archive)] == archive.files
        ]

    def _hint(self) -> str | None:
        return self._skipped[0].reason if self._skipped else None

    def _refuse(self, name: str, reason: str, hint: str | None = None) -> None:
        self._refused.append(RefusedFile(name, ImportFileError(name, reason, hint=hint)))

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """What goes wrong with one file or archive is told of it, and the others go on.

        Not so a ConfigurationError: that is about what was asked for.
        """
        try:
            yield
        except ConfigurationError:
            raise
        except Exception as error:
            failure = as_failure(name, error)
            where = str(failure.path) if isinstance(failure, ImportFileError) else name
            self._refused.append(RefusedFile(where, failure))

    def _skip(self, name: str, reason: str) -> None:
        self._skipped.append(SkippedFile(name, reason))

    def _miss(self) -> None:
        found = {file.symbol for file in self._files}
        for symbol, name in (self._wanted.named if self._wanted else {}).items():
            if symbol not in found:
                self._refuse(
                    symbol,
                    f"no file to import for this symbol (looked for {name}_*.csv and {name}.csv)",
                    f"a file of another name: kraken-db import-csv FILE --as {symbol}",
                )

    async def _walk(self, place: Path | str | PublishedArchive) -> None:
        if isinstance(place, PublishedArchive):
            with self._alone(place.name):
                is_remote = any(is_address(part.place) for part in place.parts)
                source = open_archive(place)
                await self._members(Path(place.name), source, place.covers, is_remote=is_remote)
        elif isinstance(place, str):
            with self._alone(shown(place)):
                await self._download(place)
        else:
            paths: list[Path] = []
            with self._alone(str(place)):
                paths = await asyncio.to_thread(self._paths, place)
            for path in paths:
                with self._alone(str(path)):
                    await self._open(path)

    async def _download(self, address: str) -> None:
        whole = of_whole(address)
        if whole in self._addresses:
            self._skip(shown(address), "named twice")
            return
        self._addresses.add(whole)
        for source, covers in await archives_at(address, self.product, self.clock):
            with self._alone(source.name):
                await self._members(Path(source.name), source, covers, is_remote=True)

    def _paths(self, place: Path) -> list[Path]:
        try:
            return list(self._children(place)) if place.is_dir() else [place]
        except OSError as error:
            self._refuse(str(error.filename or place), system_reason(error))
            return []

    def _children(self, folder: Path) -> Iterable[Path]:
        def report(error: OSError) -> None:
            self._refuse(str(error.filename or folder), system_reason(error))

        for parent, folders, names in os.walk(folder, onerror=report):
            folders[:] = sorted(name for name in folders if not _is_hidden(name))
            for name in folders:
                if (link := Path(parent, name)).is_symlink():
                    self._skip(str(link), "links to folders are not followed: name the folder itself")
            wholes: set[str] = set()
            for name in sorted(names):
                part = split_name(name)
                whole = part[0] if part else name
                if whole in wholes or _is_hidden(name):
                    continue  # of the parts of one zip, each stands for all
                if Path(whole).suffix.lower() in (".csv", ".zip"):
                    wholes.add(whole)
                    yield Path(parent, name)

    async def _open(self, path: Path) -> None:
        part = split_name(path.name)
        is_zip = (part[0] if part else path.name).lower().endswith(".zip")
        source = await open_local(path)
        if is_zip and self.check_sums:
            await self._check_sums(path)
        known = check_file(path if isinstance(source, FileSource) else find_parts(path)[0])
        first = self._seen.setdefault((known.st_dev, known.st_ino), path)
        if first is not path:
            self._skip(str(path), f"the same file as {first}")
            return
        if is_zip:
            await self._members(path, source, covered_by_name(part[0] if part else path.name))
        else:
            self._found.append(_Found(path, source.size))

    async def _check_sums(self, path: Path) -> None:
        parts = find_parts(path)
        if not parts:
            return
        sums = find_sums(parts)
        if sums is None:
            raise ImportFileError(
                path,
                "there is no list of sums beside its parts",
                hint="Kraken publishes it as Trades_Full_PARTS_SHA256SUMS.txt",
            )
        await check_sums(parts, sums)

    async def _members(
        self,
        path: Path,
        source: ByteSource,
        covers: tuple[datetime | None, datetime | None],
        *,
        is_remote: bool = False,
    ) -> None:
        self._sources.append(source)
        members = await read_directory(source)
        archive = await self._archive(source, members, covers, is_remote)
        self._archives.append(archive)
        by_name: defaultdict[str, list[ZipMember]] = defaultdict(list)
        for member in members:
            if not any(map(_is_hidden, PurePosixPath(member.name).parts)):
                by_name[member.name].append(member)
        for name, copies in by_name.items():
            where = f"{source.name}:{printable(name)}"
            with self._alone(where):
                if name.lower().endswith(".zip"):
                    self._skip(where, "a zip inside of a zip is not opened: unpack it first")
                elif name.lower().endswith(".csv"):
                    self._found += self._member(path, archive, copies)

    async def _archive(
        self,
        source: ByteSource,
        members: Sequence[ZipMember],
        covers: tuple[datetime | None, datetime | None],
        is_remote: bool,
    ) -> _Archive:
        """What the zip says of itself. Raises ImportFileError where that cannot be."""
        files = sum(member.name.lower().endswith(".csv") for member in members)
        told = [member for member in members if PurePosixPath(member.name).name == "MANIFEST.json"]
        if len(told) != 1:
            return _Archive(source, files, None, covers, is_remote)
        name = f"{source.name}:{printable(told[0].name)}"
        if told[0].size > _MAX_MANIFEST:
            raise ImportFileError(name, f"it has {told[0].size:,} bytes: Kraken's have some hundreds")
        async with aclosing(unpack(source, told[0])) as blocks:
            content = b"".join([block async for block in blocks])
        try:
            manifest = parse_manifest(content).without_future(self.clock())
        except ManifestError as error:
            raise ImportFileError(name, error.message, hint=error.hint) from error
        if (wrong := manifest.contradiction(files, None)) is not None:
            raise ImportFileError(source.name, wrong, hint="get the archive again")
        return _Archive(source, files, manifest, manifest.narrowed(*covers), is_remote)

    def _member(self, path: Path, archive: _Archive, copies: Sequence[ZipMember]) -> Iterable[_Found]:
        """A file of a zip; it is in doubt which one, if the zip has several of its name."""
        for member in copies:
            name = member.name
            found = _Found(path, member.size, archive, member, _which_of(copies))
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
                self._refuse(found.name, "the name leads out of the archive")
            elif member.is_encrypted:
                self._refuse(found.name, "the file is encrypted")
            elif member.size > _MAX_PACKING * max(member.packed_size, 1):
                self._refuse(found.name, f"it unpacks to {member.size:,} bytes: more than text can be packed")
            elif not member.size and member.packed_size > _NOTHING_PACKED:
                self._refuse(
                    found.name, f"it is called empty, and has {member.packed_size:,} bytes in the zip"
                )
            else:
                yield found

    def _sort_all(self) -> None:
        """All that was found, with the names of each archive read together."""
        groups: defaultdict[int, list[tuple[_Found, re.Match[str]]]] = defaultdict(list)
        for found in self._found:
            match = _NAME.fullmatch(found.basename)
            if match is None:
                self._refuse(found.name, "the name is neither <PAIR>_<minutes>.csv nor <PAIR>.csv", _AS)
            else:
                groups[id(found.archive)].append((found, match))
        names = [[match["pair"] for _, match in group] for group in groups.values()]
        self._wanted = self._choose(names)
        for group, pairs in zip(groups.values(), names, strict=True):
            symbols = archive_symbols(pairs, self._wanted.spellings if self._wanted else None)
            for found, match in group:
                with self._alone(found.name):
                    self._sort(found, match["pair"], match["minutes"], symbols)

    def _choose(self, names: Sequence[Sequence[str]]) -> _Wanted | None:
        """The pairs that were asked for, by what there are files of; None for all."""
        if self.symbols is None and not self.exclude:
            return None
        plain = [parse_symbol(text) for text in self.symbols or () if not is_pattern(text)]
        spellings = _Wanted(plain, plain).spellings
        found = [symbol for group in names for symbol in archive_symbols(group, spellings).values()]
        present = sorted({symbol for symbol in found if isinstance(symbol, str)})
        wanted = None if self.symbols is None else list(self.symbols)
        try:
            chosen = select(wanted, present, exclude=list(self.exclude), place="in these files")
        except PairError as error:
            self._refuse(" ".join(wanted or self.exclude), error.message, error.hint)
            chosen = []
        return _Wanted(chosen, {known_spelling(symbol, present) for symbol in plain})

    def _is_wanted(self, pair: str, symbol: str | PairError) -> bool:
        if self._wanted is None or (self.symbols is None and isinstance(symbol, PairError)):
            return True
        return symbol in self._wanted.names or self._wanted.may_be(pair)

    def _sort(
        self, found: _Found, pair: str, minutes: str | None, symbols: dict[str, str | PairError]
    ) -> None:
        symbol = symbols[pair]
        if not self._is_wanted(pair, symbol):
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
        elif isinstance(symbol, PairError):
            hint = symbol.hint if found.archive else f"{symbol.hint}; or say which it is: --as BTC/USD"
            error = ImportFileError(found.name, symbol.message, hint=hint)
            self._refused.append(RefusedFile(found.name, error))
        else:
            self._accept(found, symbol, None if minutes is None else INTERVAL_MAP[minutes])

    def _accept(self, found: _Found, symbol: str, interval: int | None) -> None:
        file = ArchiveFile(found.path, None, found.size, symbol, interval)
        if (archive := found.archive) is not None and found.entry is not None:
            declared = archive.manifest.columns if archive.manifest and interval is None else None
            file = replace(
                file,
                member=found.entry.name,
                source=archive.source,
                entry=found.entry,
                declared=declared,
                covers=archive.covers,
                is_remote=archive.is_remote,
            )
        self._files.append(file)


def _name_of(place: Path | str | PublishedArchive) -> str:
    if isinstance(place, PublishedArchive):
        return place.name
    return shown(place) if isinstance(place, str) else str(place)


def _begins(file: ArchiveFile) -> datetime:
    """What a full archive has comes first: later quarters go on behind it."""
    return file.covers[0] or datetime.min.replace(tzinfo=UTC)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) and name != ".."


def _which_of(copies: Sequence[ZipMember]) -> str:
    """Nothing for a single file: else no one knows which one is meant, and a reader would take the last."""
    if len(copies) == 1:
        return ""
    sizes = " and ".join(f"{copy.size:,}" for copy in copies)
    return f"the archive has {len(copies)} files of this name, of {sizes} bytes"
