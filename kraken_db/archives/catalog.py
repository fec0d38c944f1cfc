"""Which archives there are, on a server or in a folder: found out from what is there, not from a date.

Kraken publishes the whole history of two products (in parts, with a list of their sums), and single quarters.
The newest full archive and the quarters after it have all there is; what they contain already is left out.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import aiohttp

from kraken_db.archives.byte_source import ByteSource
from kraken_db.archives.parts import (
    MAX_SUMS,
    SUMS_SUFFIX,
    check_file,
    check_numbers,
    check_sizes,
    find_parts,
    parse_sums,
    split_name,
    system_reason,
)
from kraken_db.archives.sources import FileSource, PartedSource
from kraken_db.archives.web import VARIABLE, HttpSource, fetch_text, look, shown
from kraken_db.errors import ImportFileError, WrongValueError
from kraken_db.kraken.transport import open_session
from kraken_db.retry import DOWNLOAD, REQUEST, Retry
from kraken_db.settings import expanded
from kraken_db.times import Clock, utc_now
from kraken_db.web_addresses import server_parts

Product: TypeAlias = Literal["trades", "ohlcvt"]
Quarter: TypeAlias = tuple[int, int]
"""Year, and 1 to 4."""

QUARTERS_BACK = 8
"""How far back is looked where no list of sums says what there is."""
CONNECTIONS = 4
"""For one stream: twice as fast and more where a connection alone brings less than can be unpacked."""
_MOST_QUARTERS = 40
_MOST_PARTS = 200
_AT_ONCE = 4

_TITLES: dict[Product, str] = {"trades": "Trades", "ohlcvt": "OHLCVT"}
_NAME = re.compile(
    r"Kraken_(?P<product>Trades|Trading_History|OHLCVT)(?P<full>_Full)?"
    r"(?:_(?P<year>20\d\d)Q(?P<number>[1-4])|_Q(?P<old_number>[1-4])_(?P<old_year>20\d\d))?\.zip",
    re.IGNORECASE | re.ASCII,
)


class ArchivePart(NamedTuple):
    """``place``: a path or a URL, with what it needs of credentials: show the archive's name instead."""

    place: str
    size: int


@dataclass(frozen=True, slots=True)
class PublishedArchive:
    """A zip of Kraken's, whole or in parts.

    ``quarter``: the last one in it, None where the name does not say. ``covers``: half-open; its start
    is None for the beginning of Kraken's history, its end where the name does not say.
    """

    product: Product
    name: str
    quarter: Quarter | None
    is_full: bool
    parts: tuple[ArchivePart, ...] = field(repr=False)
    covers: tuple[datetime | None, datetime | None]

    @property
    def size(self) -> int:
        """Bytes, packed."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Name:
    product: Product
    quarter: Quarter | None
    is_full: bool

    def archive(self, name: str, parts: Iterable[ArchivePart]) -> PublishedArchive:
        end = None if self.quarter is None else begin_of(following(self.quarter))
        start = None if self.is_full or self.quarter is None else begin_of(self.quarter)
        return PublishedArchive(self.product, name, self.quarter, self.is_full, tuple(parts), (start, end))


def quarter_of(moment: datetime) -> Quarter:
    return moment.year, (moment.month + 2) // 3


def following(quarter: Quarter) -> Quarter:
    year, number = quarter
    return (year, number + 1) if number < 4 else (year + 1, 1)


def begin_of(quarter: Quarter) -> datetime:
    """The first moment of a quarter, UTC."""
    year, number = quarter
    return datetime(year, 3 * number - 2, 1, tzinfo=UTC)


def _read_name(name: str) -> _Name | None:
    match = _NAME.fullmatch(name)
    if match is None or (match["full"] and not match["year"]):
        return None
    product: Product = "ohlcvt" if match["product"].upper() == "OHLCVT" else "trades"
    year, number = match["year"] or match["old_year"], match["number"] or match["old_number"]
    return _Name(product, (int(year), int(number)) if year else None, bool(match["full"] or not year))


def covered_by_name(name: str) -> tuple[datetime | None, datetime | None]:
    """What an archive of this name has: half-open, as ``PublishedArchive.covers``."""
    found = _read_name(name)
    return (None, None) if found is None else found.archive(name, ()).covers


async def find_archives(
    place: str, *, clock: Clock = utc_now, product: Product | None = None, retry: Retry = REQUEST
) -> list[PublishedArchive]:
    """The newest full archive of each product and the quarters after it: full first, then by time.

    ``place``: an http(s) address or a folder. ``product``: only this one is looked for.

    Raises ImportFileError, one line with the reason, where nothing is there, the server cannot be reached, or
    a set of parts is not whole; ConfigurationError for an address that is not one.
    """
    products = [product] if product else list(_TITLES)
    if re.match(r"https?:", place.strip(), re.IGNORECASE):
        base = _checked(place.strip())
        now = quarter_of(clock())
        async with open_session() as session:
            server = _Server(session, base, now, retry)
            found = [archive for one in products for archive in await server.archives(one)]
        reason = f"there is no archive of Kraken's{server.reasons()}"
        if not found:
            raise ImportFileError(shown(base), reason, hint=f"check {VARIABLE}")
        return found
    return await asyncio.to_thread(_in_folder, place, products)


def open_archive(
    archive: PublishedArchive, *, connections: int = CONNECTIONS, retry: Retry = DOWNLOAD
) -> ByteSource:
    """The bytes of an archive. ``connections``: for one stream, where it is on a server. ``close`` it.

    Raises ImportFileError where a file of it is gone.
    """

    def source(part: ArchivePart) -> ByteSource:
        if _is_url(part.place):
            return HttpSource(part.place, part.size, connections=connections, retry=retry)
        return FileSource(Path(part.place))

    sources = [source(part) for part in archive.parts]
    if len(sources) == 1:
        return sources[0]
    return PartedSource(sources, f"{archive.name} ({len(sources)} parts)")


def _is_url(place: str) -> bool:
    return re.match(r"https?://", place, re.IGNORECASE) is not None


def _checked(place: str) -> str:
    hint = f"e.g. https://assets.kraken.com/marketing/institutions/, or a folder, in {VARIABLE}"
    parts = server_parts(place)
    if parts is None or parts.query or parts.fragment:
        raise WrongValueError("the address of Kraken's archives is not one", hint=hint)
    return place.rstrip("/") + "/"


def _newest(archives: Iterable[PublishedArchive]) -> list[PublishedArchive]:
    """Of one product: the newest full archive, and the quarters that it does not contain."""
    by_age = sorted(archives, key=lambda archive: archive.quarter or (0, 0))
    full = next((archive for archive in reversed(by_age) if archive.is_full), None)
    quarters = [archive for archive in by_age if not archive.is_full and archive.quarter is not None]
    reach = full.quarter if full and full.quarter else (0, 0)
    return ([full] if full else []) + [one for one in quarters if one.quarter and one.quarter > reach]


# --- a folder ---


def _in_folder(place: str, products: Sequence[Product]) -> list[PublishedArchive]:
    folder = expanded(place)
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ImportFileError(folder, system_reason(error), hint=f"check {VARIABLE}") from error
    named = {(split_name(name) or (name, 0))[0]: name for name in names}
    known = [(base, read) for base in named if (read := _read_name(base)) is not None]
    found = []
    for product in products:
        # Sizes come later: what is not used may be incomplete.
        candidates = [read.archive(base, ()) for base, read in known if read.product == product]
        found += [_with_parts(folder, archive) for archive in _newest(candidates)]
    if not found:
        reason = (
            "there is no archive of Kraken's in this folder: Kraken_Trades_Full_<year>Q<n>.zip.part00, .."
        )
        raise ImportFileError(folder, reason, hint=f"check {VARIABLE}")
    return found


def _with_parts(folder: Path, archive: PublishedArchive) -> PublishedArchive:
    path = folder / archive.name
    files = [path] if path.exists() else find_parts(path)
    parts = tuple(ArchivePart(str(file), check_file(file).st_size) for file in files)
    return PublishedArchive(
        archive.product, archive.name, archive.quarter, archive.is_full, parts, archive.covers
    )


# --- a server ---


@dataclass(slots=True)
class _Server:
    """What a server has. ``now``: the quarter of today."""

    session: aiohttp.ClientSession
    base: str
    now: Quarter
    retry: Retry
    _seen: set[str] = field(default_factory=set)

    def reasons(self) -> str:
        """Why there was nothing, as the server said it."""
        return f" ({', '.join(sorted(self._seen))})" if self._seen else ""

    async def archives(self, product: Product) -> list[PublishedArchive]:
        full = await self._listed(product) or await self._guessed(product)
        since = following(full.quarter) if full and full.quarter else self._back(QUARTERS_BACK - 1)
        wanted = list(self._quarters(since))[-_MOST_QUARTERS:]
        names = [f"Kraken_{_TITLES[product]}_{year}Q{number}.zip" for year, number in wanted]
        quarters = [
            _Name(product, quarter, is_full=False).archive(name, [ArchivePart(self.base + name, size)])
            for quarter, name, size in zip(wanted, names, await self._sizes(names), strict=True)
            if size is not None
        ]
        return ([full] if full else []) + quarters

    async def _listed(self, product: Product) -> PublishedArchive | None:
        """The newest full archive by the list of its parts' sums; None where there is no list."""
        url = f"{self.base}{_TITLES[product]}_Full_PARTS{SUMS_SUFFIX}"
        text = await fetch_text(self.session, url, MAX_SUMS, retry=self.retry)
        sets: defaultdict[tuple[Quarter, str], list[tuple[int, str]]] = defaultdict(list)
        for name in parse_sums(text or ""):
            part = split_name(name)
            read = _read_name(part[0]) if part else None
            if part and read and read.is_full and read.product == product and read.quarter:
                sets[read.quarter, part[0]].append((part[1], name))
        known = [key for key in sets if key[0] <= self.now]
        if not known:
            return None
        quarter, base = max(known)
        numbered = sorted(sets[quarter, base])[:_MOST_PARTS]
        check_numbers(f"{shown(url)}: {base}", numbered)
        return await self._full(product, quarter, base, [name for _, name in numbered])

    async def _full(
        self, product: Product, quarter: Quarter, base: str, names: list[str]
    ) -> PublishedArchive:
        parts = []
        for name, size in zip(names, await self._sizes(names), strict=True):
            if size is None:
                reason = f"the server does not have this part{self.reasons()}"
                raise ImportFileError(shown(self.base + name), reason, hint="try later")
            parts.append(ArchivePart(self.base + name, size))
        check_sizes([(shown(place), size) for place, size in parts])
        return _Name(product, quarter, is_full=True).archive(base, parts)

    async def _guessed(self, product: Product) -> PublishedArchive | None:
        """The newest full archive by names that it would have."""
        for quarter in reversed(list(self._quarters(self._back(QUARTERS_BACK - 1)))):
            base = f"Kraken_{_TITLES[product]}_Full_{quarter[0]}Q{quarter[1]}.zip"
            whole, first = await self._sizes([base, f"{base}.part00"])
            if whole is not None:
                name = _Name(product, quarter, is_full=True)
                return name.archive(base, [ArchivePart(self.base + base, whole)])
            if first is not None:
                return await self._full(product, quarter, base, [name async for name in self._parts(base)])
        return None

    async def _parts(self, base: str) -> AsyncIterator[str]:
        """The names of parts, as many as there are."""
        for number in range(_MOST_PARTS):
            name = f"{base}.part{number:02}"
            if (await look(self.session, self.base + name, retry=self.retry)).size is None:
                return
            yield name

    async def _sizes(self, names: Sequence[str]) -> list[int | None]:
        """The size of each file, None where it is not there; a few are asked for at once."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> int | None:
            async with places:
                found = await look(self.session, self.base + name, retry=self.retry)
            if found.size is None:
                self._seen.add(found.reason)
            return found.size

        tasks = [asyncio.create_task(one(name)) for name in names]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _quarters(self, since: Quarter) -> Iterator[Quarter]:
        """From this one up to that of today."""
        while since <= self.now:
            yield since
            since = following(since)

    def _back(self, count: int) -> Quarter:
        year, number = self.now
        months = 4 * year + number - 1 - count
        return months // 4, months % 4 + 1
