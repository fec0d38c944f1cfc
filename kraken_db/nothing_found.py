"""Why nothing was found: a pair that was never stored, an empty store, or a range without data."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kraken_db.data_types import DataType
from kraken_db.errors import ConfigurationError, KrakenDBError, PairError
from kraken_db.intervals import INTERVAL_NAMES, IntervalLike, as_interval
from kraken_db.ranges import TICK

if TYPE_CHECKING:
    from kraken_db.historical_provider import HistoricalDataProvider
    from kraken_db.ranges import TimeRange

_SHOWN_SYMBOLS = 10
_NEAR, _ALIKE = 3, 0.7
_BUILT_FROM_MINUTES = "all intervals are computed from 1m: import its file of 1m, or"


async def stored_range(
    provider: HistoricalDataProvider, symbol: str, interval: IntervalLike
) -> TimeRange | None:
    """The times of the oldest and the newest row that candles of this interval come from."""
    minutes = await provider.get_data_range(symbol)
    file = await provider.get_file_range(symbol, interval)
    known = [] if minutes["oldest"] is None else [(minutes["oldest"], minutes["newest"])]
    if file is not None:
        known.append((file[0], as_interval(interval).opened_at(file[1] - TICK)))
    return (min(first for first, _ in known), max(last for _, last in known)) if known else None


async def no_candles(provider: HistoricalDataProvider, symbol: str, interval: IntervalLike) -> KrakenDBError:
    """Why no candle was found. PairError where nothing is stored of the pair."""
    stored = await stored_range(provider, symbol, interval)
    if stored is not None:
        return EmptyRangeError.of(symbol, f"{as_interval(interval).name} candles", "its candles", stored)
    return await _not_stored(provider, symbol) or await _no_minutes(provider, symbol)


async def no_trades(provider: HistoricalDataProvider, symbol: str) -> KrakenDBError:
    """Why no trade was found. PairError where nothing is stored of the pair."""
    status = await provider.get_sync_status(symbol, DataType.TRADES)
    if status is not None and status["oldest"] is not None:
        stored = status["oldest"], status["newest"]
        return EmptyRangeError.of(symbol, "trades", "its trades", stored)
    return await _not_stored(provider, symbol) or ConfigurationError(
        f"{symbol} has candles in the store, but no trades",
        hint=f"get its trades: kraken-db backfill --symbols {symbol}",
    )


class EmptyRangeError(ConfigurationError):
    """The pair is stored, and nothing of it in the range that was asked for."""

    @classmethod
    def of(cls, symbol: str, what: str, these: str, stored: TimeRange) -> EmptyRangeError:
        return cls(
            f"{symbol} has no {what} in this range",
            hint=f"{these} go from {minute_text(stored[0])} to {minute_text(stored[1])} UTC",
        )


async def _not_stored(provider: HistoricalDataProvider, symbol: str) -> KrakenDBError | None:
    """None where something is stored of the pair."""
    symbols = await provider.get_symbols()
    if not symbols:
        return ConfigurationError("the store is empty", hint=stored_instead([symbol], symbols))
    if symbol in symbols:
        return None
    return PairError(f"nothing is stored of {symbol}", hint=stored_instead([symbol], symbols))


def stored_instead(missing: Sequence[str], stored: Sequence[str]) -> str:
    """What somebody may have meant who asked for pairs of which nothing is stored, and what is stored."""
    if not stored:
        return f"get history first: kraken-db backfill --symbols {missing[0]}, or kraken-db import-csv --help"
    near = list(dict.fromkeys(other for symbol in missing for other in nearest(symbol, stored)))[:_NEAR]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    more = len(stored) - _SHOWN_SYMBOLS
    others = f" and {more:,} more (kraken-db status)" if more > 0 else ""
    return f"{meant}Stored: {', '.join(stored[:_SHOWN_SYMBOLS])}{others}"


async def _no_minutes(provider: HistoricalDataProvider, symbol: str) -> KrakenDBError:
    """Something is stored of the symbol, but not what candles are computed from."""
    kinds = [
        name
        for name in INTERVAL_NAMES.values()
        if await provider.get_sync_status(symbol, DataType(f"candles_{name}")) is not None
    ]
    if kinds:
        return ConfigurationError(
            f"only files of {', '.join(kinds)} are stored of {symbol}, and no 1m candles",
            hint=f"{_BUILT_FROM_MINUTES} read what there is: -i {kinds[0]}",
        )
    return ConfigurationError(
        f"{symbol} has trades in the store, but no 1m candles",
        hint=f"{_BUILT_FROM_MINUTES} build them from its trades:"
        f" kraken-db backfill --symbols {symbol}; see also: kraken-db status",
    )


def nearest(symbol: str, symbols: Collection[str]) -> list[str]:
    """The symbols that somebody may have meant: spelled alike, or the same coin in another currency."""
    alike = difflib.get_close_matches(symbol, symbols, n=_NEAR, cutoff=_ALIKE)
    base = symbol.partition("/")[0]
    same = [other for other in symbols if other.partition("/")[0] == base]
    return list(dict.fromkeys(alike + same))[:_NEAR]


def minute_text(moment: datetime) -> str:
    """``2023-01-31 15:30``, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
