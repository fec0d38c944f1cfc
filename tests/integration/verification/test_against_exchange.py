"""The newest minutes beside Kraken's own candles, and what is said where Kraken cannot be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.errors import ConflictingTradesError
from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import Faults, ManualClock, Market, Scenario, SimulatedExchange
from kraken_db.verification import StoreVerifier
from tests.support.archives import checksums, query
from tests.support.downloading import MINUTE, assert_is_truth, downloading, quick_client
from tests.support.verifying import NOWHERE, kinds, verify, wrong

SYMBOL = "BTC/USDT"
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(hours=14)
NOW = END + timedelta(seconds=20)
OHLC = "Kraken's candles"
COPY_CANDLE = """
    INSERT INTO candles (timestamp, symbol, interval_minutes, open, high, low, close, volume, trade_count)
    SELECT CAST(:at AS timestamptz), symbol, 1, open, high, low, close, volume, trade_count
    FROM candles WHERE timestamp = :of
"""


def clock() -> datetime:
    return NOW


@pytest.fixture
def exchange() -> SimulatedExchange:
    """14 hours of a market with quiet minutes; OHLC reaches back over the last 12 of them."""
    market = Market(SYMBOL, seed=51, start=START, until=END, trades_per_minute=1.5, scenario=Scenario.CALM)
    return SimulatedExchange([market], clock=ManualClock(NOW))


@pytest.fixture
async def filled(plain_url: str, exchange: SimulatedExchange) -> AsyncIterator[str]:
    async with downloading(plain_url, exchange, clock=clock) as service:
        await service.backfill_symbol(SYMBOL)
    yield plain_url


async def test_twelve_hours_of_kraken(filled: str, exchange: SimulatedExchange) -> None:
    found = await verify(filled, exchange, clock=clock)
    assert found.is_clean, found.findings
    part = found.part(OHLC)
    assert part is not None and part.not_checked is None
    # 720 committed minutes, quiet ones too; the running one is not among them.
    assert (part.compared, part.oldest) == (720, END - 720 * MINUTE)
    assert part.newest == END - MINUTE


async def test_candles_that_differ_from_kraken(filled: str, exchange: SimulatedExchange) -> None:
    """The trades are changed with the candles: what is stored agrees with itself."""
    times = [candle.timestamp for candle in exchange.markets[SYMBOL].truth_candles()]
    first, second, third = [item for item in times if item > NOW - timedelta(hours=2)][:3]
    quiet = next(item for item in (third + MINUTE * n for n in range(60)) if item not in times)
    await query(
        filled,
        "UPDATE trades SET volume = volume * 2 WHERE timestamp >= :a AND timestamp < :b",
        a=first,
        b=first + MINUTE,
    )
    await query(filled, "DELETE FROM candles WHERE timestamp IN (:a, :b)", a=first, b=second)
    await query(filled, COPY_CANDLE, at=quiet, of=third)
    found = await verify(filled, exchange, clock=clock)
    assert kinds(found, OHLC) == {"candle missing": 2, "candle without trades": 1}
    repaired = await verify(filled, exchange, clock=clock, repair=True)
    assert repaired.is_clean, repaired.findings
    await assert_is_truth(filled, exchange.markets[SYMBOL])


async def test_candles_without_trades_are_taken_from_kraken(filled: str, exchange: SimulatedExchange) -> None:
    """Only candles are stored, as from an archive: Kraken's own candle is the record."""
    for statement in (
        "DELETE FROM trades",
        "DELETE FROM data_coverage WHERE data_type = 'trades'",
        "DELETE FROM data_sync_status WHERE data_type = 'trades'",
        "UPDATE candles SET vwap = NULL, quote_volume = NULL",
        "UPDATE data_coverage SET source = 'csv'",
    ):
        await query(filled, statement)
    truth = list(exchange.markets[SYMBOL].truth_candles())
    changed = next(candle for candle in truth if candle.timestamp > NOW - timedelta(hours=2))
    await query(filled, "UPDATE candles SET close = 1, low = 1 WHERE timestamp = :at", at=changed.timestamp)
    found = await verify(filled, exchange, clock=clock)
    assert wrong(found) == {OHLC: {"candle differs": 1}}
    (finding,) = found.findings
    assert f"close 1, at Kraken {changed.close:f}".rstrip("0") in finding.text
    assert found.candles is not None and found.candles.not_checked
    assert found.candles.unproven == found.candles.stored > 0
    repaired = await verify(filled, exchange, clock=clock, repair=True)
    assert repaired.is_clean, repaired.findings
    rows = await query(
        filled, "SELECT low, close, trade_count FROM candles WHERE timestamp = :at", at=changed.timestamp
    )
    assert rows == [(changed.low, changed.close, changed.trade_count)]
    assert await query(filled, "SELECT count(*) FROM trades") == [(0,)]


async def test_kraken_is_not_reached(filled: str) -> None:
    """What cannot be compared is said, not claimed; asked for in so many words it is a failure."""
    async with StoreVerifier(filled, client=quick_client(NOWHERE)) as service:
        (found,) = await service.verify()
        assert found.is_clean
        part = found.part(OHLC)
        assert part is not None and part.not_checked is not None and part.compared == 0
        assert part.not_checked.startswith("Kraken was not reached")
        (found,) = await service.verify(all_trades=True)
        assert wrong(found) == {"Kraken's trades": {"not compared": 1}}


async def test_a_pair_that_kraken_does_not_list_any_more(filled: str, exchange: SimulatedExchange) -> None:
    gone = SimulatedExchange(exchange.markets.values(), Faults(delisted=[SYMBOL]), clock=ManualClock(NOW))
    found = await verify(filled, gone, clock=clock)
    part = found.part(OHLC)
    assert found.is_clean
    assert part is not None and part.not_checked is not None
    assert part.not_checked.startswith("Kraken does not serve it")


async def test_another_market_changes_nothing(filled: str) -> None:
    """An exchange that says something else of every trade is another one: nothing gives way to it."""
    await query(filled, "DELETE FROM trades WHERE id BETWEEN 100 AND 300")
    before = await checksums(filled)
    market = Market(SYMBOL, seed=99, start=START, until=END, trades_per_minute=1.5, scenario=Scenario.CALM)
    other = SimulatedExchange([market], clock=ManualClock(NOW))
    found = await verify(filled, other, clock=clock, repair=True)
    assert isinstance(found.error, ConflictingTradesError)
    assert not found.is_clean
    assert await checksums(filled) == before


async def test_a_gap_is_missing(plain_url: str, exchange: SimulatedExchange) -> None:
    """Two stretches with an hour between them that nobody has downloaded."""
    market = exchange.markets[SYMBOL]
    begin, end = START + timedelta(hours=3), START + timedelta(hours=4)
    async with downloading(plain_url, exchange, clock=clock) as service:
        await service.backfill([SYMBOL], end_timestamp=begin)
        await service.backfill([SYMBOL], since=to_cursor(end))
    found = await verify(plain_url, clock=clock)
    assert found.trades is not None
    lost = [trade for trade in market.truth_trades() if begin <= trade.timestamp < end]
    assert found.trades.missing_ids == len(lost)
    assert kinds(found, "trades")["gap"] == kinds(found, "candles")["gap"] == 1
    gap = next(item for item in found.findings if item.kind == "gap")
    assert (gap.start, gap.end) == (begin, end)
    repaired = await verify(plain_url, exchange, clock=clock, repair=True)
    assert repaired.is_clean, repaired.findings
    await assert_is_truth(plain_url, market)


async def test_trades_whose_candles_were_not_built(plain_url: str, exchange: SimulatedExchange) -> None:
    """Before the first candle and behind the last one that is a choice; between them it is a gap."""
    market = exchange.markets[SYMBOL]
    marks = [START + timedelta(hours=hours) for hours in (2, 5, 8, 11)]
    async with downloading(plain_url, exchange, clock=clock) as service:
        await service.backfill([SYMBOL], build_candles=False)
    candles = list(market.truth_candles())
    found = await verify(plain_url, clock=clock)
    assert found.is_clean and found.candles is not None
    assert found.candles.notes == [f"{len(candles)} minutes have trades and no candle yet"]

    async with KrakenTradesBackfill(plain_url, clock=clock) as service:
        await service.build_candles_from_trades(SYMBOL, marks[0], marks[1])
        await service.build_candles_from_trades(SYMBOL, marks[2], marks[3])
    found = await verify(plain_url, clock=clock)
    assert wrong(found) == {"candles": {"gap": 1}}
    (gap,) = found.findings
    assert (gap.start, gap.end) == (marks[1], marks[2])
    assert (await verify(plain_url, clock=clock, repair=True)).is_clean
    built = await query(plain_url, "SELECT count(*), min(timestamp), max(timestamp) FROM candles")
    expected = [candle.timestamp for candle in candles if marks[0] <= candle.timestamp < marks[3]]
    assert built == [(len(expected), expected[0], expected[-1])]


async def test_nothing_of_the_time_that_was_asked_for(filled: str) -> None:
    found = await verify(filled, since=NOW + timedelta(days=1))
    assert found.is_empty and not found.is_clean
