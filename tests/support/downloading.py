"""A download from a simulated exchange, and what the tables hold afterwards beside what they must hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import aiohttp

from kraken_db.historical_backfill import BackfillReport, KrakenTradesBackfill
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.ranges import TimeRange
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.simulator import Faults, Market, SimulatedExchange, TrueCandle, TrueTrade
from kraken_db.simulator.truth import true_candles
from tests.support.archives import query
from tests.support.stores import opened

MINUTE = timedelta(minutes=1)
_TEN_DECIMALS = Decimal("1e-10")


class ShortTime:
    """A clock of seconds that runs on by itself, and that whoever sleeps turns forward instead."""

    def __init__(self) -> None:
        self._slept = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._slept

    async def sleep(self, seconds: float) -> None:
        self._slept += seconds
        await asyncio.sleep(0)


def quick_client(base_url: str, *, hang_after: float = 5.0, max_retries: int = 3) -> KrakenRestClient:
    """One that never waits: its pauses are those of a clock that is turned forward."""
    clock = ShortTime()
    return KrakenRestClient(
        base_url,
        rate_limit_delay=0,
        max_retries=max_retries,
        limiter=RateLimiter(clock=clock, sleep=clock.sleep),
        sleep=clock.sleep,
        timeout=aiohttp.ClientTimeout(total=hang_after),
    )


@asynccontextmanager
async def downloading(
    url: str, exchange: SimulatedExchange, *, hang_after: float = 5.0, **options: Any
) -> AsyncIterator[KrakenTradesBackfill]:
    """A service that is connected to both."""
    async with exchange.serve() as base_url:
        client = options.pop("client", None) or quick_client(base_url, hang_after=hang_after)
        async with KrakenTradesBackfill(
            url, client=client, sleep=options.pop("sleep", ShortTime().sleep), **options
        ) as service:
            yield service


async def download(
    url: str,
    markets: Market | Sequence[Market],
    faults: Faults | None = None,
    *,
    hang_after: float = 5.0,
    **options: Any,
) -> list[BackfillReport]:
    """Download all of some markets, or what ``options`` of ``backfill`` say."""
    wanted = [markets] if isinstance(markets, Market) else markets
    exchange = SimulatedExchange(wanted, faults)
    async with downloading(url, exchange, hang_after=hang_after) as service:
        return await service.backfill([market.symbol for market in wanted], **options)


async def download_one(
    url: str, market: Market, faults: Faults | None = None, **options: Any
) -> BackfillReport:
    (report,) = await download(url, market, faults, **options)
    return report


@dataclass(frozen=True)
class Stored:
    """The rows of one symbol, in the order in which readers get them."""

    trades: list[TrueTrade]
    """Those without an id of Kraken's have None, as the truth has it."""
    candles: list[TrueCandle]
    status: dict[str, tuple[datetime | None, datetime | None, int]]
    coverage: dict[str, list[TimeRange]]


async def stored(url: str, symbol: str) -> Stored:
    trades = await query(
        url,
        "SELECT CASE WHEN id > 0 THEN id END, symbol, timestamp, price, volume, side, order_type, misc"
        " FROM trades WHERE symbol = :symbol ORDER BY timestamp, id",
        symbol=symbol,
    )
    candles = await query(
        url,
        "SELECT symbol, timestamp, interval_minutes, open, high, low, close, volume, quote_volume, vwap,"
        " trade_count FROM candles WHERE symbol = :symbol ORDER BY timestamp",
        symbol=symbol,
    )
    status = await query(
        url,
        "SELECT data_type, oldest_timestamp, newest_timestamp, total_records FROM data_sync_status"
        " WHERE symbol = :symbol",
        symbol=symbol,
    )
    return Stored(
        [TrueTrade(*row) for row in trades],
        [TrueCandle(*row) for row in candles],
        {name: (oldest, newest, total) for name, oldest, newest, total in status},
        {name: await coverage(url, symbol, name) for name in ("trades", "candles_1m")},
    )


async def coverage(url: str, symbol: str, data_type: str = "trades") -> list[TimeRange]:
    async with opened(url) as store, store.database.read() as connection:
        return list(await CoverageRepository(connection).covered(symbol, data_type))


async def ended(url: str, symbol: str = "BTC/USD") -> datetime | None:
    """From when on nothing more is expected of a pair; None: it goes on."""
    rows = await query(
        url,
        "SELECT ended_at FROM data_sync_status WHERE symbol = :symbol AND data_type = 'trades'",
        symbol=symbol,
    )
    found: datetime | None = rows[0][0]
    return found


def in_order_of_the_store(trades: Iterable[TrueTrade]) -> list[TrueTrade]:
    """By time and id. Trades without an id come first in their microsecond, in the order they came.

    It changes nothing where all trades have ids. Between two trades of one microsecond of which one has no id
    the table cannot keep Kraken's order: its key is (timestamp, symbol, id), and such ids are negative.
    """
    return sorted(trades, key=lambda trade: (trade.timestamp, trade.id or -1))


def rounded(candle: TrueCandle) -> TrueCandle:
    return replace(candle, quote_volume=candle.quote_volume.quantize(_TEN_DECIMALS, ROUND_HALF_UP))


def candles_of(trades: Iterable[TrueTrade]) -> list[TrueCandle]:
    return [rounded(candle) for candle in true_candles(trades)]


def by_content(trades: Iterable[TrueTrade]) -> list[TrueTrade]:
    """Trades without an id in an order that their content gives, within their microsecond."""
    return sorted(
        trades, key=lambda trade: (trade.timestamp, trade.id or -1, trade.id is None and astuple(trade)[3:])
    )


async def assert_is_truth(
    url: str,
    market: Market,
    truth: Iterable[TrueTrade] | None = None,
    *,
    has_candles: bool = True,
    is_shuffled: bool = False,
) -> Stored:
    """The tables hold the market, row for row, and say so: counters, range, and coverage without a hole.

    ``is_shuffled``: pages came out of order. Then nobody can know the order of trades of one microsecond
    that have no id, and the one that is stored is taken for the candles.
    """
    trades = in_order_of_the_store(market.truth_trades() if truth is None else truth)
    found = await stored(url, market.symbol)
    if is_shuffled:
        assert_same(by_content(found.trades), by_content(trades))
        trades = found.trades
    assert_same(found.trades, trades)
    oldest, newest = trades[0].timestamp, trades[-1].timestamp
    assert found.status["trades"] == (oldest, newest, len(trades))
    ends = floor(newest) + MINUTE
    assert found.coverage["trades"] == [(floor(oldest), ends)]
    if has_candles:
        candles = candles_of(trades)
        assert_same(found.candles, candles)
        assert found.status["candles_1m"] == (candles[0].timestamp, candles[-1].timestamp, len(candles))
        assert found.coverage["candles_1m"] == [(floor(oldest), ends)]
    return found


def assert_same(found: Sequence[object], expected: Sequence[object]) -> None:
    """Equal lists; of others only the first difference is told."""
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        assert one == other, f"row {number}"
    assert len(found) == len(expected)


def floor(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
