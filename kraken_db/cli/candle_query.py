"""Which candles a command is to read: the options that say it, and the reading in pieces."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kraken_db.cli.options import IntervalType, SymbolType, TimeType
from kraken_db.cli.output import count_text, iso
from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.intervals import INTERVAL_NAMES, floor_to_interval, interval_name
from kraken_db.types import Candle

if TYPE_CHECKING:
    from kraken_db.historical_provider import Fill, HistoricalDataProvider

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_SHOWN_SYMBOLS = 10


@dataclass(frozen=True, slots=True)
class CandleQuery:
    """The newest ``count`` candles, or those that open from ``start`` on and before ``end``."""

    symbol: str
    interval: int
    start: datetime | None
    end: datetime | None
    count: int
    fill: Fill | None

    @property
    def is_range(self) -> bool:
        return bool(self.start or self.end)


def candle_options(default_count: str) -> Callable[[_Decorated], _Decorated]:
    """SYMBOL, ``--interval``, ``--start``, ``--end`` and ``--last``; ``default_count`` is for the help."""
    options = [
        click.argument("symbol", type=SymbolType()),
        click.option(
            "-i",
            "--interval",
            type=IntervalType(),
            default="1h",
            show_default=True,
            help=", ".join(INTERVAL_NAMES.values()) + "; or minutes.",
        ),
        click.option(
            "--start",
            "--since",
            "start",
            type=TimeType(),
            help="Candles that open at or after this time.",
        ),
        click.option("--end", "--until", "end", type=TimeType(), help="Candles that open before this time."),
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
    interval: int,
    start: datetime | None,
    end: datetime | None,
    last: int | None,
    default_count: int,
    fill: Fill | None,
) -> CandleQuery:
    """The query of these options. Raises UsageError for those that contradict each other."""
    if last is not None and (start or end):
        raise click.UsageError("--last cannot be combined with --start and --end: choose one of them")
    if start and end and start >= end:
        raise click.UsageError(f"--start ({iso(start)}) is not before --end ({iso(end)})")
    return CandleQuery(symbol, interval, start, end, last or default_count, fill)


async def select_candles(
    provider: HistoricalDataProvider, query: CandleQuery
) -> AsyncGenerator[list[Candle]]:
    """What was asked for, in pieces of bounded size: memory does not grow with the range."""
    if not query.is_range:
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


async def _newest(provider: HistoricalDataProvider, query: CandleQuery) -> AsyncGenerator[list[Candle]]:
    found = await provider.get_latest_candles(query.symbol, query.interval, query.count, fill=query.fill)
    if found:
        yield found


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
