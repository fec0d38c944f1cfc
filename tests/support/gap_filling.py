"""A gap filler at a simulated exchange whose clock the test turns, and what the tables must hold then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Any

from kraken_db import GapFiller, KrakenTradesBackfill
from kraken_db.data_types import DataType
from kraken_db.ingest.trades import LIVE, stage_trades
from kraken_db.ingest.write_unit import Ingest
from kraken_db.ranges import TICK, TimeRange
from kraken_db.simulator import (
    Faults,
    ManualClock,
    Market,
    Scenario,
    SimulatedExchange,
    TrueCandle,
    TrueTrade,
)
from kraken_db.types import TradeRecord
from tests.support.downloading import (
    MINUTE,
    ShortTime,
    Stored,
    assert_same,
    candles_of,
    floor,
    in_order_of_the_store,
    quick_client,
    stored,
)
from tests.support.stores import opened

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LATER = timedelta(seconds=20)
"""Into a minute: the one before it has ended for good."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def calm(symbol: str = "BTC/USD", *, a_minute: float = 1.0, **options: Any) -> Market:
    """A market without an end, with so many trades a minute, at random distances."""
    return Market(symbol, seed=4, start=START, scenario=Scenario.CALM, trades_per_minute=a_minute, **options)


class World:
    """Some markets and the time, which stands still until the test turns it forward."""

    def __init__(self, *markets: Market, now: datetime, faults: Faults | None = None) -> None:
        self.clock = ManualClock(now)
        self.exchange = SimulatedExchange(markets, faults, clock=self.clock)
        self.symbols = [market.symbol for market in markets]

    def now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.clock.now_ns // 1000)

    def advance(self, by: timedelta) -> None:
        self.clock.advance(by.total_seconds())

    def asked(self, call: str = "") -> list[str]:
        """What the exchange was asked for since the log was cleared."""
        names = [request.path.rpartition("/")[2] for request in self.exchange.requests]
        return [name for name in names if call in name]

    @asynccontextmanager
    async def filler(
        self, url: str, symbols: Sequence[str] | None = None, **options: Any
    ) -> AsyncIterator[GapFiller]:
        async with self.exchange.serve() as base_url:
            client = quick_client(base_url, max_retries=options.pop("max_retries", 3))
            async with GapFiller(
                url,
                list(symbols or self.symbols),
                client=client,
                clock=self.now,
                sleep=ShortTime().sleep,
                **options,
            ) as filler:
                yield filler

    async def fill(self, url: str, symbols: Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
        """Fill once; the log of requests begins with it."""
        self.exchange.requests.clear()
        async with self.filler(url, symbols, **options) as filler:
            return await filler.fill_all_gaps()

    async def backfill(self, url: str, **options: Any) -> None:
        """Download up to now, or what ``options`` of ``KrakenTradesBackfill.backfill`` say."""
        async with (
            self.exchange.serve() as base_url,
            KrakenTradesBackfill(
                url, client=quick_client(base_url), sleep=ShortTime().sleep, clock=self.now
            ) as service,
        ):
            for report in await service.backfill(self.symbols, **options):
                assert report.error is None, report.error

    async def assert_nothing_left(self, url: str) -> None:
        """The second run finds nothing and asks for nothing."""
        assert await self.fill(url) == {
            "gaps_detected": 0,
            "gaps_filled": 0,
            "candles_inserted": 0,
            "trades_processed": 0,
            "errors": [],
        }
        assert self.asked() == []


def from_ohlc(candle: TrueCandle, market: Market) -> TrueCandle:
    """The same candle as Kraken's OHLC has it: its vwap is cut, and there is no quote volume."""
    unit = Decimal(1).scaleb(-market.pair.decimals)
    # The truth always has a quote volume; this is a row of the table, where it may be NULL.
    values: dict[str, Any] = {"quote_volume": None, "vwap": candle.vwap.quantize(unit, ROUND_DOWN)}
    return replace(candle, **values)


async def assert_filled(
    url: str,
    market: Market,
    until: datetime,
    *,
    by_candles: Iterable[TimeRange] = (),
    since: datetime | None = None,
) -> Stored:
    """The tables hold the market from ``since``, or its first trade, to ``until``: trades but for the ranges
    that were filled ``by_candles``, and every candle; and the coverage says so.
    """
    ranges = list(by_candles)

    def is_from_ohlc(moment: datetime) -> bool:
        return any(start <= moment < end for start, end in ranges)

    truth = [trade for trade in market.truth_trades(until) if not since or trade.timestamp >= since]
    found = await stored(url, market.symbol)
    has = [trade for trade in found.trades if trade.timestamp < until]
    assert_same(has, in_order_of_the_store(t for t in truth if not is_from_ohlc(t.timestamp)))
    expected = [
        from_ohlc(candle, market) if is_from_ohlc(candle.timestamp) else candle
        for candle in candles_of(truth)
    ]
    assert_same(found.candles, expected)
    minutes = [candle.timestamp for candle in expected]
    assert found.status["candles_1m"] == (minutes[0], minutes[-1], len(minutes))
    times = [trade.timestamp for trade in found.trades]
    assert found.status["trades"] == (times[0], times[-1], len(times))
    assert found.coverage["candles_1m"] == [(since or floor(truth[0].timestamp), until)]
    return found


def clock(minutes: float) -> datetime:
    return START + minutes * MINUTE


async def store_live(url: str, trades: Sequence[TrueTrade], claimed: TimeRange) -> None:
    """As the live feed does: stamped a microsecond early, and claimed by it."""
    symbol = trades[0].symbol
    records = [
        TradeRecord(
            symbol, trade.timestamp - TICK, trade.price, trade.volume, trade.side, trade.id, trade.order_type
        )
        for trade in trades
    ]
    keys = [(symbol, data_type) for data_type in (DataType.TRADES, DataType.CANDLES_1M)]
    async with (
        opened(url) as store,
        Ingest(store) as ingest,
        ingest.transaction(keys, claimed[0]) as transaction,
    ):
        await (await stage_trades(transaction, symbol, LIVE, records)).store()
        transaction.unit(symbol, DataType.TRADES).mark_complete("live", [claimed])
