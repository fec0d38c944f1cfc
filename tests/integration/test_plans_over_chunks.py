"""No statement is planned over more chunks than its own range has, in a store of 1,000 chunks of trades.

To plan over all of them takes up to a second, however few rows are read then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kraken_db import DatabaseWriter, GapFiller, HistoricalDataProvider, KrakenTradesBackfill
from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.exporting import Exporter
from kraken_db.historical_backfill import BackfillReport
from kraken_db.intervals import as_interval
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.recorder.rejoin import CatchUp
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retry import DOWNLOAD
from kraken_db.simulator import ManualClock, Market, SimulatedExchange, TradeText
from kraken_db.status import read_status
from kraken_db.types import CandleRecord, TradeRecord
from kraken_db.verification import StoreVerifier
from tests.support.archives import write
from tests.support.chunk_plans import (
    BTC,
    DAY,
    DAYS,
    ETH,
    LTC,
    MINUTE,
    NOW,
    PACKED,
    START,
    WEEK,
    WEEKS_BEFORE,
    XRP,
    ChunkPlans,
    chunk_plans,
    fill_many_chunks,
    stamp,
)
from tests.support.downloading import ShortTime, quick_client
from tests.support.lanes import Lane
from tests.support.stores import opened

MOST = 20
MIDDLE = DAYS // 2
TAIL = 60
"""Trades of the last day that the exchange has and the store has not."""


@pytest.fixture(scope="module")
def many_chunks(lanes: dict[str, Lane]) -> Iterator[str]:
    """The URL of the store; what a test writes the next one finds."""
    with lanes["timescale"].migrated_database() as url:
        asyncio.run(fill_many_chunks(url))
        yield url


@pytest.fixture
def plans() -> Iterator[ChunkPlans]:
    """Of all that a test does."""
    with chunk_plans() as plans:
        yield plans
    assert plans.seen
    assert not plans.beyond(MOST), "\n\n".join(map(str, plans.beyond(MOST)))


def clock() -> datetime:
    return NOW


def text(moment: datetime) -> str:
    return f"{int(moment.timestamp())}.{moment.microsecond:06}000"


def market(symbol: str = BTC, *, moved: int = 0) -> Market:
    """What is stored, and the newest hour; trade ``moved`` is a microsecond later than it is stored."""
    first = {BTC: 1, ETH: DAYS - 29, XRP: DAYS, LTC: 1}[symbol]
    last = 30 if symbol == LTC else DAYS + TAIL
    stamps = [stamp(n) + timedelta(microseconds=n == moved) for n in range(first, last + 1)]
    return Market.scripted(symbol, [TradeText("100", "1", text(one), "b", "l", "", 0) for one in stamps])


@asynccontextmanager
async def downloading(url: str, *markets: Market) -> AsyncIterator[KrakenTradesBackfill]:
    exchange = SimulatedExchange(markets, clock=ManualClock(NOW))
    async with (
        exchange.serve() as base_url,
        KrakenTradesBackfill(
            url, client=quick_client(base_url), sleep=ShortTime().sleep, clock=clock
        ) as service,
    ):
        yield service


async def backfill(url: str, one: Market, **options: Any) -> BackfillReport:
    async with downloading(url, one) as service:
        (report,) = await service.backfill([one.symbol], **options)
    assert report.error is None, report.error
    assert report.refresh_error is None, report.refresh_error
    return report


def trade(number: int, *, symbol: str = BTC, has_id: bool = True, **fields: Any) -> TradeRecord:
    values = {"price": Decimal(100), "volume": Decimal(1), "side": "buy", **fields}
    return TradeRecord(
        symbol, stamp(number), order_type="limit", trade_id=number if has_id else None, **values
    )


# --- reads ---


@pytest.mark.parametrize("symbol", [BTC, ETH, LTC])
async def test_trades_up_to_now(many_chunks: str, plans: ChunkPlans, symbol: str) -> None:
    async with HistoricalDataProvider(many_chunks) as provider:
        assert len(await provider.get_trades(symbol, START - 3650 * DAY, NOW, limit=10)) == 10
        assert len(await provider.get_trades(symbol, NOW - 3 * DAY, NOW, limit=10)) < 10


@pytest.mark.parametrize("symbol", [BTC, ETH, LTC])
@pytest.mark.parametrize("interval", [1, 5, 60, 240, 1440, 10080])
async def test_latest_candles(many_chunks: str, plans: ChunkPlans, symbol: str, interval: int) -> None:
    async with HistoricalDataProvider(many_chunks) as provider:
        assert len(await provider.get_latest_candles(symbol, interval, 1)) == 1
        (candle,) = await provider.get_warmup_data(symbol, interval, 1)
        assert await provider.get_candles(symbol, interval, candle.timestamp, candle.timestamp + DAY)
        assert len(await provider.get_latest_candles(symbol, interval, 3, fill="previous")) <= 3


@pytest.mark.parametrize(
    ("interval", "tz"), [("3m", None), ("2h", None), ("2d", None), ("1M", None), ("1d", "Europe/Berlin")]
)
async def test_latest_candles_of_any_interval(
    many_chunks: str, plans: ChunkPlans, interval: str, tz: str | None
) -> None:
    every = as_interval(interval, tz=tz)
    async with HistoricalDataProvider(many_chunks) as provider:
        for symbol in (BTC, ETH, LTC):
            (newest,) = await provider.get_latest_candles(symbol, every, 1)
            (candle,) = await provider.get_warmup_data(symbol, every, 1)
            assert candle.timestamp <= newest.timestamp
            assert await provider.get_candles(symbol, every, candle.timestamp, candle.timestamp + DAY)
            assert len(await provider.get_candles(symbol, every, START - 3650 * DAY, NOW, limit=1)) == 1


@pytest.mark.parametrize("symbol", [BTC, ETH, LTC])
async def test_where_data_begins_and_ends(many_chunks: str, plans: ChunkPlans, symbol: str) -> None:
    async with opened(many_chunks) as store, store.database.read() as connection:
        candles = CandleRepository(connection, store.backend)
        for interval in (1, 60, 1440):
            assert await candles.bounds(symbol, interval)
            assert await candles.extent(symbol, interval, fill=True)
        trades = TradeRepository(connection)
        assert await trades.extent(symbol)
        assert await trades.newest_until(symbol, NOW)
        assert await trades.newest_until(symbol, stamp(DAYS - 25)) or symbol == LTC


async def test_status(many_chunks: str, plans: ChunkPlans) -> None:
    async with opened(many_chunks) as store, store.database.read() as connection:
        assert (await read_status(connection, store.backend, NOW)).data


async def test_verification_of_a_range(many_chunks: str, plans: ChunkPlans) -> None:
    async with StoreVerifier(many_chunks, clock=clock) as service:
        for symbol in (BTC, ETH):
            await service.verify([symbol], since=stamp(DAYS - 20), until=stamp(DAYS - 18), ask_exchange=False)


@pytest.mark.parametrize(("what", "intervals"), [("trades", [1]), ("candles", [1, 60])])
async def test_export_of_a_range(
    many_chunks: str, plans: ChunkPlans, tmp_path: Path, what: Any, intervals: list[int]
) -> None:
    async with Exporter(many_chunks, clock=clock) as service:
        for symbol in (BTC, ETH):
            report = await service.export(
                [symbol],
                tmp_path / symbol.replace("/", ""),
                what=what,
                intervals=intervals,
                style="csv",
                since=stamp(DAYS - 20),
                until=stamp(DAYS - 18),
            )
            assert report.files


# --- downloads ---


async def test_a_download_that_finds_nothing_new(many_chunks: str, plans: ChunkPlans) -> None:
    assert (await backfill(many_chunks, market(LTC), resume=True)).new == 0


@pytest.mark.parametrize("symbol", [ETH, XRP])
async def test_a_download_of_what_is_new(many_chunks: str, plans: ChunkPlans, symbol: str) -> None:
    assert (await backfill(many_chunks, market(symbol), resume=True)).new > 1
    assert (await backfill(many_chunks, market(symbol), resume=True)).new == 0


async def test_a_download_in_the_middle(many_chunks: str, plans: ChunkPlans) -> None:
    """One trade has got another stamp: it is deleted and written again, in a chunk that is compressed."""
    since, end = to_cursor(stamp(MIDDLE - 3)), stamp(MIDDLE + 3)
    done = await backfill(many_chunks, market(moved=MIDDLE), since=since, end_timestamp=end)
    assert (done.new, done.changed) == (0, 1)
    deletes = [one for one in plans.seen if one.statement.lstrip().startswith("DELETE FROM trades ")]
    # Of the days that the page has.
    assert [0 < one.chunks <= 7 for one in deletes] == [True]


@pytest.mark.parametrize("symbol", [BTC, ETH])
async def test_rows_that_are_handed_over(many_chunks: str, plans: ChunkPlans, symbol: str) -> None:
    async with downloading(many_chunks, market()) as service:
        moment = stamp(DAYS) + timedelta(minutes=30)
        await service.store_trades(symbol, [["100.0", "1.0", moment.timestamp(), "b", "l", "", 5_000]])
        await service.build_candles_from_trades(symbol, moment - 10 * MINUTE, moment + 10 * MINUTE)


async def test_gaps(many_chunks: str, plans: ChunkPlans) -> None:
    exchange = SimulatedExchange([market(), market(ETH)], clock=ManualClock(NOW))
    async with (
        exchange.serve() as base_url,
        GapFiller(
            many_chunks, [BTC, ETH], client=quick_client(base_url), clock=clock, sleep=ShortTime().sleep
        ) as filler,
    ):
        assert await filler.survey()
        await filler.fill()
        await filler.survey()


class NothingWaits:
    async def flush(self) -> None: ...


@pytest.mark.parametrize("symbol", [BTC, ETH])
async def test_a_recorder_that_rejoins(many_chunks: str, plans: ChunkPlans, symbol: str) -> None:
    exchange = SimulatedExchange([market(symbol)], clock=ManualClock(NOW))
    async with (
        opened(many_chunks, clock=clock) as store,
        exchange.serve() as base_url,
        quick_client(base_url) as client,
    ):
        catch_up = CatchUp(store, client, Exchange(client, DOWNLOAD, clock), NothingWaits())
        await catch_up.run(SymbolFeed(symbol))


# --- files ---


@pytest.mark.parametrize("first", [1, MIDDLE, DAYS - 5])
async def test_a_small_file_of_trades(
    many_chunks: str, plans: ChunkPlans, tmp_path: Path, first: int
) -> None:
    rows = "".join(f"100,1,{text(stamp(n))},b,l,,{n}\n" for n in range(first, first + 5))
    await import_file(many_chunks, write(tmp_path, "XBTUSD.csv", rows))


@pytest.mark.parametrize("first", [1, MIDDLE, DAYS - 5])
async def test_a_small_file_of_candles(
    many_chunks: str, plans: ChunkPlans, tmp_path: Path, first: int
) -> None:
    opens = int(stamp(first).timestamp())
    rows = "".join(f"{opens + 60 * n},100,100,100,100,1,1\n" for n in range(5))
    await import_file(many_chunks, write(tmp_path, "XBTUSD_1.csv", rows))


async def import_file(url: str, path: Path) -> None:
    async with BulkCSVImporter(url, workers=1, clock=clock) as importer:
        report = await importer.run(importer.plan([path]))
    assert not report.errors
    assert report.refresh_error is None


# --- the live feed ---


@pytest.mark.parametrize("symbol", [BTC, ETH, "DOT/USD"])
async def test_live_trades(many_chunks: str, plans: ChunkPlans, tmp_path: Path, symbol: str) -> None:
    async with DatabaseWriter(many_chunks, journal_dir=tmp_path / "journal", clock=clock) as writer:
        await writer.write_trade(trade(DAYS + TAIL + 1, symbol=symbol))
        await writer.flush()
        await writer.write_trade(trade(DAYS + TAIL + 2, symbol=symbol))
        await writer.flush()
        # A hole, and what fills it.
        await writer.write_trade(trade(DAYS + TAIL + 4, symbol=symbol))
        await writer.flush()
        await writer.write_trade(trade(DAYS + TAIL + 3, symbol=symbol), is_official=True)
        await writer.flush()
        await writer.write_trade(trade(DAYS + TAIL + 9, symbol=symbol, has_id=False))
        await writer.flush()
        assert writer.get_stats()["error_count"] == 0


async def test_live_trades_of_long_ago(many_chunks: str, plans: ChunkPlans, tmp_path: Path) -> None:
    async with DatabaseWriter(many_chunks, journal_dir=tmp_path / "journal", clock=clock) as writer:
        await writer.write_trade(trade(MIDDLE + 10))
        await writer.flush()
        await writer.write_trade(trade(MIDDLE + 10, price=Decimal(101)))
        await writer.flush()
        await writer.write_trade(trade(MIDDLE + 20, has_id=False))
        await writer.flush()
        assert writer.get_stats()["error_count"] == 0


@pytest.mark.parametrize("symbol", [BTC, ETH, "ADA/USD"])
async def test_live_candles(many_chunks: str, plans: ChunkPlans, tmp_path: Path, symbol: str) -> None:
    async with DatabaseWriter(many_chunks, journal_dir=tmp_path / "journal", clock=clock) as writer:
        for moment in (stamp(DAYS) + 5 * MINUTE, stamp(MIDDLE)):
            opens = moment.replace(second=0, microsecond=0)
            one = Decimal(100)
            await writer.write_candle(CandleRecord(symbol, opens, 1, one, one, one, one, one, 3, one))
            await writer.flush()
        assert writer.get_stats()["error_count"] == 0


async def test_the_refresh(many_chunks: str, plans: ChunkPlans) -> None:
    async with opened(many_chunks, clock=clock) as store, store.database.begin() as connection:
        await store.backend.mark_stale(connection, BTC, [(stamp(MIDDLE), stamp(MIDDLE) + DAY)])
    async with opened(many_chunks, clock=clock) as store:
        await store.refresh_pending()


# --- what has to look at all time ---


async def test_a_symbol_that_only_other_programs_may_have_written(many_chunks: str) -> None:
    """Nothing is noted of it, so it may lie anywhere: all chunks are looked at, until something is stored."""
    symbol, moment = "SOL/USD", stamp(DAYS) + timedelta(minutes=30)
    async with downloading(many_chunks, market()) as service:
        for number, most in ((5_000, DAYS + PACKED), (5_001, MOST)):
            with chunk_plans() as plans:
                row = ["100.0", "1.0", moment.timestamp() + number, "b", "l", "", number]
                await service.store_trades(symbol, [row])
            assert not plans.beyond(most)
    with chunk_plans() as plans:
        async with HistoricalDataProvider(many_chunks) as provider:
            assert await provider.get_latest_candles("EUR/USD", 1, 1) == []
    assert len(plans.beyond(MOST)) == 1


async def test_an_open_end_is_seen(many_chunks: str) -> None:
    """What is looked for here is found."""
    with chunk_plans() as plans:
        async with opened(many_chunks) as store, store.database.read() as connection:
            trades = TradeRepository(connection)
            await trades.any_between(BTC, START, NOW)
            await trades.checksum(BTC, START, stamp(100))
            candles = CandleRepository(connection, store.backend)
            await candles.between(BTC, 1, START - WEEKS_BEFORE * WEEK, NOW)
    assert [one.chunks for one in plans.seen if one.chunks] == [DAYS + PACKED, 100, WEEKS_BEFORE + 144]


async def test_reads_of_a_candle_file(many_chunks: str, tmp_path: Path) -> None:
    """A file of all the years, an hour of some of the weeks; then two minutes of the last hours beside it."""
    newest_week = DAYS // 7
    weeks = [*range(0, newest_week - 5, 10), *range(newest_week - 3, newest_week)]
    hours = [int((START + n * WEEK).timestamp()) for n in weeks]
    newest = int((NOW - timedelta(hours=4)).timestamp())
    await _import(many_chunks, tmp_path, "XDGUSD_60.csv", hours)
    await _assert_few_chunks(many_chunks)
    await _import(many_chunks, tmp_path, "XDGUSD_1.csv", [newest, newest + 3600])
    await _assert_few_chunks(many_chunks, newer=2)


async def _import(url: str, folder: Path, name: str, opens: list[int]) -> None:
    path = write(folder, name, "".join(f"{moment},1,1,1,1,1,1\n" for moment in opens))
    async with BulkCSVImporter(url, workers=1, clock=clock) as importer:
        report = await importer.run(importer.plan([path], only_1m=False))
    assert report.failures == []


async def _assert_few_chunks(url: str, *, newer: int = 0) -> None:
    with chunk_plans() as plans:
        async with HistoricalDataProvider(url) as provider:
            for count in (1, 2, 3):
                assert len(await provider.get_latest_candles("DOGE/USD", 60, count)) == count
            middle = START + 50 * WEEK
            assert len(await provider.get_candles("DOGE/USD", 60, middle, middle + DAY)) == 1
            assert len(await provider.get_candles("DOGE/USD", 60, NOW - DAY, NOW)) == newer
            async for first in provider.replay_candles("DOGE/USD", 60, START, NOW, speed=0):
                assert first.timestamp == START
                break
    assert not plans.beyond(MOST), "\n\n".join(map(str, plans.beyond(MOST)))
