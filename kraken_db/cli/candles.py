"""``kraken-db candles SYMBOL``: stored candles as table, CSV or JSON.

Each writer gets them in pieces, so that a long range needs little memory.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import click

from kraken_db.charts.series import decimals_of
from kraken_db.cli.moments import INTERVALS_HELP, interval_options, range_options
from kraken_db.cli.options import (
    MultiValueCommand,
    db_url_option,
    exclude_option,
    json_option,
    one_pair_options,
    pair_options,
    style_options,
)
from kraken_db.cli.output import (
    Column,
    count_text,
    is_terminal,
    iso,
    note,
    plain_number,
    print_json,
    print_styled,
    print_table,
    to_json,
    wants_colour,
)
from kraken_db.errors import KrakenDBError
from kraken_db.intervals import Interval, IntervalLike, as_interval, interval_name
from kraken_db.nothing_found import minute_text, no_candles, stored_range
from kraken_db.pairs import known_spelling
from kraken_db.types import Candle

if TYPE_CHECKING:
    from kraken_db.historical_provider import Fill, HistoricalDataProvider

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_AT_ONCE = 10_000
"""Candles: the most that are in memory."""


@dataclass(frozen=True, slots=True)
class CandleQuery:
    """The newest ``count`` candles, or those that open from ``start`` on and before ``end``."""

    symbol: str
    interval: IntervalLike
    start: datetime | None
    end: datetime | None
    count: int
    fill: Fill | None

    @property
    def every(self) -> Interval:
        return as_interval(self.interval)

    @property
    def is_range(self) -> bool:
        return bool(self.start or self.end)


def candle_options(default_count: str) -> Callable[[_Decorated], _Decorated]:
    """SYMBOL, ``--interval``, ``--since``, ``--until`` and ``--last``; ``default_count`` is for the help."""
    options = [
        one_pair_options,
        interval_options(f"{INTERVALS_HELP}.", default="1h"),
        range_options("Candles that open at or after this time.", "Candles that open before this time."),
        click.option(
            "--last",
            type=click.IntRange(min=1),
            metavar="N",
            help=f"The newest N. Default, without a range: {default_count}.",
        ),
    ]

    def decorate(command: _Decorated) -> _Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def candle_query(
    symbol: str,
    interval: Interval,
    start: datetime | None,
    end: datetime | None,
    last: int | None,
    default_count: int,
    fill: Fill | None,
) -> CandleQuery:
    """The query of these options. Raises UsageError for those that contradict each other."""
    if last is not None and (start or end):
        raise click.UsageError("--last cannot be combined with --since and --until: choose one of them")
    return CandleQuery(symbol, interval, start, end, last or default_count, fill)


async def stored_spelling(provider: HistoricalDataProvider, query: CandleQuery) -> CandleQuery:
    """``aaplx/usd`` as the stored AAPLx/USD, where no currency of the name is stored."""
    if not query.symbol.partition("/")[0].endswith("X"):
        return query
    return replace(query, symbol=known_spelling(query.symbol, await provider.get_symbols()))


async def select_candles(
    provider: HistoricalDataProvider, query: CandleQuery
) -> AsyncGenerator[list[Candle]]:
    """What was asked for, in pieces of bounded size: memory does not grow with the range."""
    if not query.is_range:
        return _newest(provider, query)
    stored = await stored_range(provider, query.symbol, query.interval)
    if stored is None:
        return _newest(provider, query)  # finds nothing, and a note says so
    # Outside of what is stored there is nothing to look for.
    start = query.every.opened_at(stored[0])
    end = stored[1] + timedelta(minutes=1)
    if query.start:
        start = max(start, query.start)
    if query.end:
        end = query.end if query.fill else min(end, query.end)
    return _between(provider, query, start, end)


async def _newest(provider: HistoricalDataProvider, query: CandleQuery) -> AsyncGenerator[list[Candle]]:
    """Few of them at once; where there are many, their beginning is looked for first."""
    count = min(query.count, _AT_ONCE)
    found = await provider.get_latest_candles(query.symbol, query.interval, count, fill=query.fill)
    if not found:
        return
    if query.count == count:
        yield found
        return
    start = await _start_of_newest(provider, query, found)
    end = query.every.closed_at(found[-1].timestamp)
    del found
    async for chunk in _between(provider, query, start, end):
        yield chunk


async def _start_of_newest(
    provider: HistoricalDataProvider, query: CandleQuery, newest: Sequence[Candle]
) -> datetime:
    """When the first of the newest ``count`` candles opens, of which ``newest`` are the last."""
    start, missing = newest[0].timestamp, query.count - len(newest)
    if query.fill:  # every interval counts, from the oldest candle on
        stored = await stored_range(provider, query.symbol, query.interval)
        oldest = query.every.opened_at(stored[0]) if stored else start
        return query.every.back(start, missing, min(oldest, start))
    asked, found = len(newest), len(newest)
    while missing > 0 and found == asked:
        asked = min(missing, _AT_ONCE)
        before = await provider.get_multi_timeframe_candles(query.symbol, start, [query.interval], asked)
        older = before[query.every.key]
        found = len(older)
        if older:
            start, missing = older[0].timestamp, missing - found
    return start


async def _between(
    provider: HistoricalDataProvider, query: CandleQuery, start: datetime, end: datetime
) -> AsyncGenerator[list[Candle]]:
    size = 1000
    chunk: list[Candle] = []
    replay = provider.replay_candles(query.symbol, query.interval, start, end, speed=0, fill=query.fill)
    async for candle in replay:
        chunk.append(candle)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def nothing_there(provider: HistoricalDataProvider, query: CandleQuery) -> KrakenDBError:
    """Why no candle came: an unknown symbol, or a range outside of what is stored."""
    return await no_candles(provider, query.symbol, query.interval)


async def note_file(provider: HistoricalDataProvider, query: CandleQuery, first: Candle) -> None:
    """Say on stderr which candles, of ``first`` and those that follow, are taken from an imported file."""
    file = await provider.get_file_range(query.symbol, query.interval)
    if file is not None and first.timestamp < file[1]:
        stored = query.every.stored
        source = (
            "computed from an imported file, not"
            if stored is None
            else f"taken from an imported file of {interval_name(stored)}, not computed"
        )
        note(f"Note: candles from before {minute_text(file[1])} UTC are {source} from minutes")


FIELDS = ("timestamp", "open", "high", "low", "close", "volume", "trades", "vwap")
"""Columns of CSV and keys of JSON: the order of Kraken's own files, with the open time as ISO 8601 UTC."""

_GAP = "  "
_LEAST_DECIMALS = 2
"""Of a volume, before another column makes room."""
_COLUMNS = ("", "open", "high", "low", "close", "volume", "trades", "vwap")
"""Of the table; the time, whose title has its zone, is always there."""


class CandleWriter(Protocol):
    """``begin`` sees the first piece before it is written, and decides on widths by it."""

    def begin(self, first: Sequence[Candle]) -> None: ...

    def write(self, candles: Sequence[Candle]) -> None: ...

    def end(self) -> None: ...


def candle_writer(
    style: Literal["table", "csv", "json"], symbol: str, interval: IntervalLike
) -> CandleWriter:
    interval = as_interval(interval)
    match style:
        case "table":
            return TableWriter(interval)
        case "csv":
            return CsvWriter()
        case "json":
            return JsonWriter(symbol, interval)


def _exact(candle: Candle) -> tuple[str, str, str, str, str, str, int, str | None]:
    """The values of FIELDS."""
    return (
        iso(candle.timestamp),
        plain_number(candle.open),
        plain_number(candle.high),
        plain_number(candle.low),
        plain_number(candle.close),
        plain_number(candle.volume),
        candle.trade_count,
        None if candle.vwap is None else plain_number(candle.vwap),
    )


class CsvWriter:
    """A header line, then one line a candle; an unknown vwap is empty."""

    def begin(self, first: Sequence[Candle]) -> None:
        click.echo(",".join(FIELDS))

    def write(self, candles: Sequence[Candle]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(_exact(candle) for candle in candles)
        click.echo(text.getvalue(), nl=False)

    def end(self) -> None:
        pass


class JsonWriter:
    """One document, one candle a line; an unknown vwap is null."""

    def __init__(self, symbol: str, interval: Interval) -> None:
        minutes = None if interval.grid is None else interval.grid[0] // timedelta(minutes=1)
        head: dict[str, Any] = {"symbol": symbol, "interval_minutes": minutes}
        if interval.stored is None:
            head |= {"interval": interval.name, "tz": interval.zone_name}
        self._head = to_json(head, indent=None).removesuffix("}") + ', "candles": ['
        self._separator = "\n  "

    def begin(self, first: Sequence[Candle]) -> None:
        click.echo(self._head, nl=False)

    def write(self, candles: Sequence[Candle]) -> None:
        lines = (to_json(dict(zip(FIELDS, _exact(candle), strict=True)), indent=None) for candle in candles)
        click.echo(self._separator + ",\n  ".join(lines), nl=False)
        self._separator = ",\n  "

    def end(self) -> None:
        click.echo("\n]}")


class TableWriter:
    """Aligned columns; all prices with the same number of decimals, as many as the first piece needs.

    A later price with more decimals is still printed whole. vwap is shown if the first piece has any. On a
    narrow terminal the volume is rounded (its heading says ``~``) and columns are left out: a table of which
    each line takes two is none.
    """

    def __init__(self, interval: Interval) -> None:
        is_day = interval.unit != "minute" and not interval.begins
        self._shows_hours = not is_day
        self._time_format = "%Y-%m-%d" if is_day else "%Y-%m-%d %H:%M"
        self._zone = interval.zone
        self._colour = wants_colour()
        self._price_decimals = self._volume_decimals = 0
        self._titles: tuple[str, ...] = (
            f"time ({interval.zone_name})",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "trades",
        )
        self._widths: list[int] = []
        self._gap = _GAP
        self._rounds_volume = False

    def begin(self, first: Sequence[Candle]) -> None:
        if any(candle.vwap is not None for candle in first):
            self._titles += ("vwap",)
        prices = [price for c in first for price in (c.open, c.high, c.low, c.close)]
        self._price_decimals = max(map(decimals_of, prices))
        self._volume_decimals = max(decimals_of(candle.volume) for candle in first)
        self._widths = self._widths_of(first)
        if is_terminal():
            self._fit(first, get_terminal_size().columns)
        print_styled(self._line(self._headings, bold=True))

    def _fit(self, first: Sequence[Candle], room: int) -> None:
        """Have each candle on one line: what is needed least makes room first."""
        titles = self._titles
        for make_room in self._ways(first):
            if self._width <= room:
                break
            make_room()
            self._widths = self._widths_of(first)
        if hidden := [title for title in titles[1:] if title not in self._titles]:
            note(f"The terminal is too narrow for {', '.join(hidden)}; --format csv and --json have all.")

    @property
    def _headings(self) -> tuple[str, ...]:
        if not self._rounds_volume:
            return self._titles
        return tuple("~vol" if title == "volume" else title for title in self._titles)

    @property
    def _width(self) -> int:
        return sum(self._widths) + len(self._gap) * (len(self._widths) - 1)

    def _ways(self, first: Sequence[Candle]) -> Iterator[Callable[[], None]]:
        decimals = self._volume_decimals
        if len(self._titles[0]) > len(self._cells(first[0])[0]):
            yield self._zone_above
        for fewer in range(decimals - 1, _LEAST_DECIMALS - 1, -1):
            yield partial(self._round_volume, fewer)
        for title in ("vwap", "trades", "volume"):
            if title in self._titles:
                yield partial(self._hide, title, decimals)
            for fewer in range(decimals - 1, -1, -1) if title == "vwap" else ():
                yield partial(self._round_volume, fewer)
            if title == "vwap":
                yield self._closer
        if self._shows_hours:
            yield self._without_year

    def _zone_above(self) -> None:
        print_styled(f"times: {self._titles[0].removeprefix('time (').removesuffix(')')}")
        self._titles = ("time", *self._titles[1:])

    def _round_volume(self, decimals: int) -> None:
        self._volume_decimals, self._rounds_volume = decimals, True

    def _hide(self, title: str, decimals: int) -> None:
        self._titles = tuple(one for one in self._titles if one != title)
        if title == "vwap":  # that may be enough
            self._volume_decimals, self._rounds_volume = decimals, False

    def _closer(self) -> None:
        self._gap = " "

    def _without_year(self) -> None:
        self._time_format = "%m-%d %H:%M"

    def write(self, candles: Sequence[Candle]) -> None:
        lines = (self._line(self._cells(candle), colour=_colour_of(candle)) for candle in candles)
        print_styled("\n".join(lines))

    def end(self) -> None:
        pass

    def _widths_of(self, candles: Sequence[Candle]) -> list[int]:
        cells = [self._headings, *map(self._cells, candles)]
        return [max(map(len, column)) for column in zip(*cells, strict=True)]

    def _cells(self, candle: Candle) -> tuple[str, ...]:
        price = self._price_decimals
        cells = (
            self._time(candle.timestamp),
            *(_fixed(value, price) for value in (candle.open, candle.high, candle.low, candle.close)),
            (_rounded if self._rounds_volume else _fixed)(candle.volume, self._volume_decimals),
            str(candle.trade_count),
            "" if candle.vwap is None else _rounded(candle.vwap, price),
        )
        return tuple(
            cell
            for cell, title in zip(cells, _COLUMNS, strict=True)
            if title in self._titles[1:] or not title
        )

    def _time(self, moment: datetime) -> str:
        """With the offset where the clocks go back, and show this time twice."""
        local = moment.astimezone(self._zone)
        text = local.strftime(self._time_format)
        is_twice = local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset()
        return f"{text} {local.isoformat()[-6:]}" if is_twice and self._shows_hours else text

    def _line(self, cells: Sequence[str], *, bold: bool = False, colour: str | None = None) -> str:
        time, *numbers = cells
        width, *widths = self._widths
        text = self._gap.join(
            [time.ljust(width), *(n.rjust(w) for n, w in zip(numbers, widths, strict=True))]
        ).rstrip()
        return click.style(text, fg=colour, bold=bold or None) if self._colour else text


def _colour_of(candle: Candle) -> str | None:
    if candle.close == candle.open:
        return None
    return "green" if candle.is_bullish else "red"


def _fixed(value: Decimal, decimals: int) -> str:
    """With that many decimals, or with more where the value has more: never rounded."""
    return f"{value:.{max(decimals, decimals_of(value))}f}"


def _rounded(value: Decimal, decimals: int) -> str:
    """A mean has as many digits as its column has room for; the prices' decimals are what one reads."""
    return f"{value:.{decimals}f}"


DEFAULT_COUNT = 50


@click.command(cls=MultiValueCommand, epilog="Example: kraken-db candles build BTC/USD")
@pair_options("Default: all that are stored.")
@exclude_option
@json_option
@db_url_option
def build(symbols: tuple[str, ...] | None, exclude: tuple[str, ...], as_json: bool, db_url: str) -> None:
    """Build the candles of stored trades that have none yet, of all pairs or of some. Nobody is asked.

    SYMBOL is a pair, or a pattern in quotes: 'XRP/*', '*/USD', '*x/USD' (tokenized).
    """
    from kraken_db.historical_backfill import KrakenTradesBackfill

    async def run() -> dict[str, int]:
        async with KrakenTradesBackfill(db_url, creates=False) as service:
            return await service.build_missing_candles(symbols or (), exclude=exclude)

    written = asyncio.run(run())
    if as_json:
        print_json({"pairs": [{"symbol": name, "candles": count} for name, count in written.items()]})
    else:
        columns = [Column("symbol"), Column("candles", right=True)]
        print_table(columns, [(name, count_text(count)) for name, count in written.items()])


class _CandlesCommand(MultiValueCommand):
    """``kraken-db candles SYMBOL``, and ``kraken-db candles build``."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == [build.name]:
            return build.make_context(f"{info_name} {build.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    cls=_CandlesCommand,
    short_help="Print stored candles as table, CSV or JSON.",
    epilog="Example: kraken-db candles BTC/USD -i 1h --since 2023-01-01 --until 2023-02-01 --format csv",
)
@candle_options(str(DEFAULT_COUNT))
@click.option(
    "--fill",
    type=click.Choice(["previous"]),
    help="Flat candles without volume where nothing was traded and the store is known to be complete.",
)
@style_options("Numbers in CSV and JSON are exact.")
@db_url_option
def candles(
    symbol: str,
    interval: Interval,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
    fill: Literal["previous"] | None,
    style: Literal["table", "csv", "json"],
    as_json: bool,
    db_url: str,
) -> None:
    """Print stored candles of SYMBOL, oldest first.

    'candles build' builds missing candles from stored trades.

    Times are 2023-01-31, 2023-01-31T15:30, '7 days ago' or now. They are UTC, or of the zone of --tz, unless
    they say otherwise: 2023-01-31T15:30+01:00. --since is included, --until is not. The table shows times of
    that zone; CSV and JSON are always UTC. An interval in which nothing was traded has no candle, unless
    --fill asks for one.
    """
    query = candle_query(symbol, interval, since, until, last, DEFAULT_COUNT, fill)
    found = asyncio.run(_print(query, "json" if as_json else style, db_url))
    if found == DEFAULT_COUNT and last is None and not query.is_range:
        note(f"These are the newest {DEFAULT_COUNT} candles; --last, --since and --until give others.")


async def _print(query: CandleQuery, style: Literal["table", "csv", "json"], db_url: str) -> int:
    """Returns the number of candles."""
    from kraken_db.historical_provider import HistoricalDataProvider

    async with HistoricalDataProvider(db_url, pool_min_size=1, pool_max_size=2) as provider:
        query = await stored_spelling(provider, query)
        chunks = await select_candles(provider, query)
        writer = candle_writer(style, query.symbol, query.every)
        found = 0
        first: Candle | None = None
        async with aclosing(chunks):
            async for chunk in chunks:
                if first is None:
                    first = chunk[0]
                    writer.begin(chunk)
                found += len(chunk)
                writer.write(chunk)
        if first is None:
            raise await nothing_there(provider, query)
        writer.end()
        await note_file(provider, query, first)
    return found
