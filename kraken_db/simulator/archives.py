"""The archives of a simulated exchange, as Kraken publishes them: names, content and packing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from kraken_db.errors import WrongValueError
from kraken_db.simulator.archive_rows import ARCHIVE_INTERVALS, TradeLayout, candle_rows, trade_rows
from kraken_db.simulator.archive_zip import FilesSink, Member, WrittenFile, ZipWriter, sums_text
from kraken_db.simulator.clock import to_ns
from kraken_db.simulator.market import Market
from kraken_db.simulator.tape import SECOND

KRAKENS_PART_SIZE = 2_097_152_000
_QUARTER = re.compile(r"(\d{4})-?Q([1-4])", re.IGNORECASE)
_README = "# Kraken {what}\n\n{content}, {first} to {last}. Made by the simulated exchange of kraken-db.\n"


@dataclass(frozen=True, slots=True, order=True)
class Quarter:
    """Three months of UTC, the first of them with number 1."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime) -> Self:
        moment = moment.astimezone(UTC)
        return cls(moment.year, (moment.month + 2) // 3)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``2024Q1``. Raises ConfigurationError."""
        found = _QUARTER.fullmatch(text.strip())
        if found is None:
            raise WrongValueError(f"{text!r} is no quarter", hint="write it like 2024Q1")
        return cls(int(found[1]), int(found[2]))

    @property
    def begin(self) -> datetime:
        return datetime(self.year, 3 * self.number - 2, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment that is not in it."""
        return self.next.begin

    @property
    def next(self) -> Quarter:
        return Quarter(self.year, self.number + 1) if self.number < 4 else Quarter(self.year + 1, 1)

    @property
    def previous(self) -> Quarter:
        return Quarter(self.year, self.number - 1) if self.number > 1 else Quarter(self.year - 1, 4)

    def __str__(self) -> str:
        return f"{self.year}Q{self.number}"


class Product(StrEnum):
    """What is in an archive, by the name that its files have."""

    TRADES = "Trades"
    CANDLES = "OHLCVT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive: the trades or candles of a quarter, or of everything until its end."""

    product: Product
    quarter: Quarter
    is_full: bool = False
    """All from the first trade on, cut into parts, with a file of their sums."""
    layout: TradeLayout = TradeLayout.SCHEMA_2
    has_header: bool | None = None
    """None: as Kraken has it. OLD and candles never have one."""
    manifest: Mapping[str, object] = field(default_factory=dict)
    """What MANIFEST.json says otherwise than the files."""

    @property
    def name(self) -> str:
        """``Kraken_Trades_Full_2026Q2.zip``, without the ending of a part."""
        return f"Kraken_{self.product}{'_Full' if self.is_full else ''}_{self.quarter}.zip"

    @property
    def header(self) -> str | None:
        is_wanted = self.product is Product.TRADES and self.has_header is not False
        return self.layout.header if is_wanted else None

    def positions(self, market: Market) -> tuple[int, int]:
        """The market's trades that belong into it, half-open."""
        start = 0 if self.is_full else market.position(to_ns(self.quarter.begin), after=False)
        return start, market.position(to_ns(self.quarter.end), after=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How the zip is made."""

    part_size: int = KRAKENS_PART_SIZE
    """Bytes of a part of a full archive; the last one is shorter."""
    level: int = 6
    """Of deflate, 1 to 9: 1 is the fastest."""
    zip64: bool | None = None
    """Whether the fields for large archives are used throughout; None: in full archives only."""
    announce: Callable[[str], None] | None = None
    """Gets the name of each file before it is made."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was written for one archive."""

    archive: Archive
    files: tuple[WrittenFile, ...]
    """The zip or its parts, in order, without the file of the sums."""
    rows: int
    members: int
    """CSV files in the zip."""


def write_archive(
    folder: Path, archive: Archive, markets: Iterable[Market], packing: Packing | None = None
) -> Written:
    """Write the archive of these markets into the folder, in Kraken's shape.

    The markets need not be listed by any exchange. One without a trade in the archive's time is left out;
    one that never trades (``trades=0``) has files of candles without a byte. Memory does not grow with the
    rows. The same arguments give the same bytes.
    """
    packing = packing or Packing()
    if archive.is_full and packing.part_size < 1:
        raise WrongValueError("a part of an archive has at least one byte")
    sink = FilesSink(folder, archive.name, packing.part_size if archive.is_full else None, packing.announce)
    try:
        zip64 = archive.is_full if packing.zip64 is None else packing.zip64
        day = archive.quarter.end.date()
        writer = ZipWriter(sink, day, zip64=zip64, level=packing.level)
        rows, members, pairs, first = _add_members(writer, archive, list(markets))
        for name, text in _papers(archive, rows=rows, files=members, pairs=pairs, first=first):
            with writer.member(name) as member:
                member.write(text.encode())
                writer.add(member)
        writer.close()
    finally:
        sink.close()
    if archive.is_full:
        sums = f"{archive.product}_Full_PARTS_SHA256SUMS.txt"
        if packing.announce is not None:
            packing.announce(sums)
        (folder / sums).write_text(sums_text(sink.files), encoding="ascii")
    return Written(archive, tuple(sink.files), rows, members)


def archives_until(markets: Sequence[Market], full: Quarter, last: Quarter) -> list[Archive]:
    """Trades and candles: the full archive of the one quarter, and each later one up to the last.

    Those without a trade are left out: nobody publishes them.
    """
    found = []
    quarter, is_full = full, True
    while quarter <= last:
        archive = Archive(product=Product.TRADES, quarter=quarter, is_full=is_full)
        if any(start < stop for start, stop in map(archive.positions, markets)):
            found += [archive, replace(archive, product=Product.CANDLES)]
        quarter, is_full = quarter.next, False
    return found


def _add_members(
    writer: ZipWriter, archive: Archive, markets: list[Market]
) -> tuple[int, int, int, datetime | None]:
    """Rows, files, pairs, and the time of the first trade."""
    rows = members = pairs = 0
    first: int | None = None
    for market in sorted(markets, key=lambda market: market.pair.altname):
        start, stop = archive.positions(market)
        if start == stop and not (market.size == 0 and archive.product is Product.CANDLES):
            continue
        pairs += 1
        if start < stop:
            stamp = market.stamp(start)
            first = stamp if first is None else min(first, stamp)
        if archive.product is Product.TRADES:
            rows += stop - start
            members += 1
            _add_trades(writer, archive, market)
        else:
            rows += _add_candles(writer, archive, market)
            members += len(ARCHIVE_INTERVALS)
    return rows, members, pairs, None if first is None else datetime.fromtimestamp(first // SECOND, UTC)


def _add_trades(writer: ZipWriter, archive: Archive, market: Market) -> None:
    with writer.member(f"{market.pair.altname}.csv") as member:
        if archive.header is not None:
            member.write(f"{archive.header}\n".encode())
        for lines in trade_rows(market, *archive.positions(market), archive.layout):
            member.write(lines)
        writer.add(member)


def _add_candles(writer: ZipWriter, archive: Archive, market: Market) -> int:
    rows = 0
    with ExitStack() as open_members:
        members: dict[int, Member] = {
            interval: open_members.enter_context(writer.member(f"{market.pair.altname}_{interval}.csv"))
            for interval in ARCHIVE_INTERVALS
        }
        for interval, lines in candle_rows(market, *archive.positions(market)):
            rows += lines.count(b"\n")
            members[interval].write(lines)
        for member in sorted(members.values(), key=lambda member: member.name):
            writer.add(member)
    return rows


def _papers(
    archive: Archive, *, rows: int, files: int, pairs: int, first: datetime | None
) -> Iterator[tuple[str, str]]:
    """MANIFEST.json, for layouts that have one, and README.md."""
    begins = archive.quarter.begin.date()
    if archive.is_full and first is not None:
        begins = first.date()
    ends: date = archive.quarter.end.date() - timedelta(days=1)
    if archive.product is Product.CANDLES or archive.layout is TradeLayout.SCHEMA_2:
        manifest = _columns(archive) | {
            "coverage": {"start": begins.isoformat(), "end": ends.isoformat()},
            "pairs": pairs,
            "files": files,
            "rows": rows,
            "generated": archive.quarter.end.date().isoformat(),
        }
        yield "MANIFEST.json", json.dumps(manifest | dict(archive.manifest), indent=2) + "\n"
    content = f"{pairs} pairs, {rows} rows"
    yield "README.md", _README.format(what=archive.product, content=content, first=begins, last=ends)


def _columns(archive: Archive) -> dict[str, Any]:
    if archive.product is Product.TRADES:
        columns = (TradeLayout.SCHEMA_2.header or "").split(",")
        return {
            "product": "trades",
            "schema_version": 2,
            "columns": columns,
            "has_header": archive.header is not None,
        }
    return {
        "product": "ohlcvt",
        "schema_version": 1,
        "columns": ["timestamp", "open", "high", "low", "close", "volume", "trades"],
        "has_header": False,
        "intervals": list(ARCHIVE_INTERVALS),
    }
