"""``kraken-db candles SYMBOL``: stored candles as table, CSV or JSON."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import click

from kraken_db.cli.options import IntervalType, SymbolType, TimeType, db_url_option
from kraken_db.cli.output import count_text, iso, note
from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.intervals import INTERVAL_NAMES, floor_to_interval, interval_name
from kraken_db.types import Candle

if TYPE_CHECKING:
    from kraken_db.historical_provider import Fill, HistoricalDataProvider

DEFAULT_COUNT = 50
_SHOWN_SYMBOLS = 10


@dataclass(frozen=True, slots=True)
class _Query:
    symbol: str
    interval: int
    start: datetime | None
    end: datetime | None
    last: int | None
    fill: Fill | None


@click.command(
    short_help="Print stored candles as table, CSV or JSON.",
    epilog="Example: kraken-db candles BTC/USD -i 1h --start 2023-01-01 --end 2023-02-01 --format csv",
)
@click.argument("symbol", type=SymbolType())
@click.option(
    "-i",
    "--interval",
    type=IntervalType(),
    default="1h",
    show_default=True,
    help=", ".join(INTERVAL_NAMES.values()) + "; or minutes.",
)
@click.option("--start", type=TimeType(), help="Candles that open at or after this time.")
@click.option("--end", type=TimeType(), help="Candles that open before this time.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"The newest N. Default, without a range: {DEFAULT_COUNT}.",
)
@click.option(
    "--fill",
    type=click.Choice(["previous"]),
    help="Flat candles without volume where nothing was traded and the store is known to be complete.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="Numbers in CSV and JSON are exact.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@db_url_option
def candles(
    symbol: str,
    interval: int,
    start: datetime | None,
    end: datetime | None,
    last: int | None,
    fill: Literal["previous"] | None,
    style: Literal["table", "csv", "json"],
    as_json: bool,
    db_url: str,
) -> None:
    """Print stored candles of SYMBOL, oldest first.

    Times are UTC: 2023-01-31, 2023-01-31T15:30, '7 days ago', now; with a zone (2023-01-31T15:30+01:00)
    they are converted. --start is included, --end is not. An interval in which nothing was traded has no
    candle, unless --fill asks for one.
    """
    if last is not None and (start or end):
        raise click.UsageError("--last cannot be combined with --start and --end: choose one of them")
    if start and end and start >= end:
        raise click.UsageError(f"--start ({iso(start)}) is not before --end ({iso(end)})")
    query = _Query(symbol, interval, start, end, last, fill)
    asyncio.run(_print(query, "json" if as_json else style, db_url))


async def _print(query: _Query, style: Literal["table", "csv", "json"], db_url: str) -> None:
    from kraken_db.cli.candle_formats import candle_writer
    from kraken_db.historical_provider import HistoricalDataProvider

    async with HistoricalDataProvider(db_url, pool_min_size=1, pool_max_size=2) as provider:
        chunks = await _select(provider, query)
        writer = candle_writer(style, query.symbol, query.interval)
        found = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                if not found:
                    writer.begin(chunk)
                found += len(chunk)
                writer.write(chunk)
        if not found:
            raise await _nothing_there(provider, query)
        writer.end()
    if found == DEFAULT_COUNT and not (query.start or query.end or query.last):
        note(f"These are the newest {DEFAULT_COUNT} candles; --last, --start and --end give others.")


async def _select(provider: HistoricalDataProvider, query: _Query) -> AsyncGenerator[list[Candle]]:
    """What was asked for, in pieces of bounded size: memory does not grow with the range."""
    if not (query.start or query.end):
        return _newest(provider, query)
    stored = await provider.get_data_range(query.symbol)
    if stored["oldest"] is None:
        return _newest(provider, query)  # finds nothing, and that is told
    # Outside of what is stored there is nothing to look for.
    start = floor_to_interval(stored["oldest"], query.interval)
    end = stored["newest"] + timedelta(minutes=1)
    if query.start:
        start = max(start, query.start)
    if query.end:
        end = query.end if query.fill else min(end, query.end)
    return _between(provider, query, start, end)


async def _newest(provider: HistoricalDataProvider, query: _Query) -> AsyncGenerator[list[Candle]]:
    count = query.last or DEFAULT_COUNT
    found = await provider.get_latest_candles(query.symbol, query.interval, count, fill=query.fill)
    if found:
        yield found


async def _between(
    provider: HistoricalDataProvider, query: _Query, start: datetime, end: datetime
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


async def _nothing_there(provider: HistoricalDataProvider, query: _Query) -> KrakenDBError:
    """Why no candle came: an unknown symbol, or a range outside of what is stored."""
    stored = await provider.get_data_range(query.symbol)
    if stored["oldest"] is not None:
        return ConfigurationError(
            f"{query.symbol} has no {interval_name(query.interval)} candles in this range",
            hint=f"its candles go from {_shown(stored['oldest'])} to {_shown(stored['newest'])} UTC",
        )
    symbols = await provider.get_symbols()
    if not symbols:
        return ConfigurationError(
            "the store is empty",
            hint=f"get history first: kraken-db backfill --symbols {query.symbol},"
            " or kraken-db import-csv --help",
        )
    if query.symbol in symbols:
        return await _no_minutes(provider, query.symbol)
    near = difflib.get_close_matches(query.symbol, symbols, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    more = len(symbols) - _SHOWN_SYMBOLS
    others = f" and {count_text(more)} more (kraken-db status)" if more > 0 else ""
    return ConfigurationError(
        f"nothing is stored of {query.symbol}",
        hint=f"{meant}Stored: {', '.join(symbols[:_SHOWN_SYMBOLS])}{others}",
    )


async def _no_minutes(provider: HistoricalDataProvider, symbol: str) -> KrakenDBError:
    """Something is stored of the symbol, but not what candles are computed from."""
    kinds = [
        name
        for name in INTERVAL_NAMES.values()
        if await provider.get_sync_status(symbol, f"candles_{name}") is not None
    ]
    if kinds:
        what = f"only files of {', '.join(kinds)} are stored of {symbol}, and no 1m candles"
    else:
        what = f"{symbol} has trades in the store, but no 1m candles"
    return ConfigurationError(
        what,
        hint="all intervals are computed from 1m: import its file of 1m, or build them from its trades:"
        f" kraken-db backfill --symbols {symbol}; see also: kraken-db status",
    )


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
