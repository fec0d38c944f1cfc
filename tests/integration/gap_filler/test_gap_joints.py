"""Where several sources meet: archives, live trades and downloads, and what was dropped."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from kraken_db.data_types import DataType
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.ranges import TICK
from kraken_db.repositories.ledger import Ledger
from tests.support.archives import import_paths, query, write
from tests.support.downloading import assert_same, coverage, floor, stored
from tests.support.gap_filling import DAY, HOUR, LATER, START, World, calm, clock, store_live
from tests.support.stores import opened


async def test_a_gap_behind_live_trades(plain_url: str) -> None:
    """The live stamp is ahead of Kraken's own: the answer that goes on from it shows both as one trade."""
    world = World(calm(a_minute=4), now=clock(300) + LATER)
    (market,) = world.exchange.markets.values()
    await world.backfill(plain_url, end_timestamp=clock(100))
    live = [trade for trade in market.truth_trades(clock(130)) if trade.timestamp >= clock(100)]
    await store_live(plain_url, live, (clock(100), live[-1].timestamp))
    world.advance(DAY)
    await world.backfill(plain_url, since=to_cursor(clock(300)))
    result = await world.fill(plain_url)
    assert result["errors"] == []
    assert len(world.asked("Trades")) < 8
    found = await stored(plain_url, "BTC/USD")
    until = found.coverage["candles_1m"][-1][1]
    assert [trade.id for trade in found.trades] == list(range(1, len(found.trades) + 1))
    assert len(found.candles) == len({floor(t.timestamp) for t in market.truth_trades(until)})
    await world.assert_nothing_left(plain_url)


async def test_ids_that_are_missing_where_two_sources_meet(plain_url: str) -> None:
    """The live feed has claimed more than it has seen: coverage shows nothing, the ids do."""
    world = World(calm(a_minute=4), now=clock(200) + LATER)
    (market,) = world.exchange.markets.values()
    await world.backfill(plain_url, end_timestamp=clock(100))
    live = [trade for trade in market.truth_trades(clock(120)) if trade.timestamp >= clock(100)]
    await store_live(plain_url, live[3:], (clock(100), clock(120)))
    await world.backfill(plain_url, since=to_cursor(clock(120)))
    assert len(await coverage(plain_url, "BTC/USD")) == 1
    async with world.filler(plain_url) as filler:
        (gap, *rest) = await filler.detect_gaps()
        before = [*market.truth_trades(clock(100))][-1].timestamp
        assert (gap.data_type, gap.start_time) == ("trades", before + TICK)
        assert gap.end_time == live[3].timestamp - TICK
        result = await filler.fill_all_gaps()
        assert (result["gaps_filled"], result["errors"]) == (1 + len(rest), [])
        # The candles of the live trades needed no answer.
        assert world.asked("OHLC") == []
    found = await stored(plain_url, "BTC/USD")
    truth = [*market.truth_trades(found.coverage["candles_1m"][-1][1])]
    assert [trade.id for trade in found.trades][: len(truth)] == [trade.id for trade in truth]
    await world.assert_nothing_left(plain_url)


async def test_candles_from_an_archive_with_a_hole(plain_url: str, tmp_path: Path) -> None:
    """Nothing but minutes is stored: the old hole is filled by trades, which are stored, too."""
    world = World(calm(), now=START + 2 * DAY + LATER)
    (market,) = world.exchange.markets.values()
    rows = [
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
        for c in market.truth_candles(until=START + 2 * DAY)
        if not clock(600) <= c.timestamp < clock(660)
    ]
    half = [row for row in rows if int(row.partition(",")[0]) < clock(600).timestamp()]
    await import_paths(plain_url, write(tmp_path, "a/XBTUSD_1.csv", "".join(half)))
    await import_paths(plain_url, write(tmp_path, "b/XBTUSD_1.csv", "".join(rows[len(half) :])))
    async with world.filler(plain_url) as filler:
        gaps = await filler.detect_gaps()
    holes = [gap for gap in gaps if gap.start_time < clock(700)]
    assert holes[0].start_time <= clock(600) and holes[-1].end_time >= clock(660)
    result = await world.fill(plain_url)
    assert (result["gaps_filled"], result["errors"]) == (result["gaps_detected"], [])
    found = await stored(plain_url, "BTC/USD")
    expected = list(market.truth_candles(until=floor(world.now())))
    assert_same(
        [(c.timestamp, c.open, c.close, c.volume, c.trade_count) for c in found.candles],
        [(c.timestamp, c.open, c.close, c.volume, c.trade_count) for c in expected],
    )
    in_hole = [t for t in market.truth_trades(clock(660)) if t.timestamp >= clock(600)]
    assert {t.id for t in in_hole} <= {t.id for t in found.trades}
    await world.assert_nothing_left(plain_url)
    # A later download has the whole history, and begins at its beginning.
    await world.backfill(plain_url, resume=True)
    assert len((await stored(plain_url, "BTC/USD")).trades) == len([*market.truth_trades(world.now())])


async def test_trades_without_candles_are_built_without_a_question(plain_url: str) -> None:
    world = World(calm(), now=START + 2 * HOUR + LATER)
    (market,) = world.exchange.markets.values()
    await world.backfill(plain_url, build_candles=False)
    async with world.filler(plain_url) as filler:
        (symbol,) = await filler.survey()
        assert symbol.found[0].kind == "not built"
    result = await world.fill(plain_url)
    assert (result["gaps_filled"], result["trades_processed"]) == (result["gaps_detected"], 0)
    assert world.asked("Trades") == []
    assert result["candles_inserted"] == len([*market.truth_candles(until=floor(world.now()))])
    await world.assert_nothing_left(plain_url)


async def test_what_was_dropped_is_no_gap(plain_url: str) -> None:
    """Whether it was known to be complete or not; and only where retention begins is told."""
    world = World(calm(), now=START + 10 * HOUR + LATER)
    await world.backfill(plain_url, end_timestamp=clock(100))
    await world.backfill(plain_url, since=to_cursor(clock(200)))
    async with opened(plain_url) as store, store.database.begin() as connection:
        for data_type in (DataType.TRADES, DataType.CANDLES_1M):
            await Ledger(connection).drop("BTC/USD", data_type, [(START, clock(200))])
        await connection.execute(text("INSERT INTO retention_periods VALUES ('candles', '7 days')"))
    async with world.filler(plain_url) as filler:
        (symbol,) = await filler.survey()
    assert [found.kind for found in symbol.found if found.gap.start_time < clock(210)] == []
    assert symbol.kept_from == {"trades": None, "candles": world.now() - 7 * DAY}


async def test_the_higher_intervals_follow(db_url: str) -> None:
    """Of the touched time alone: nothing else is refreshed, and nothing waits afterwards."""
    world = World(calm(), now=START + 26 * HOUR + LATER)
    (market,) = world.exchange.markets.values()
    await world.backfill(db_url, end_timestamp=START + 20 * HOUR)
    await world.fill(db_url)
    until = floor(world.now())
    hours = await query(
        db_url,
        "SELECT timestamp, open, high, low, close, volume, trade_count FROM candles_1h ORDER BY timestamp",
    )
    truth = list(market.truth_candles(60, until=until))
    assert_same(
        [row for row in hours if row[0] < START + 26 * HOUR],
        [
            (c.timestamp, c.open, c.high, c.low, c.close, c.volume, c.trade_count)
            for c in truth
            if c.timestamp < START + 26 * HOUR
        ],
    )
    pending = await query(db_url, "SELECT count(*) FROM pending_refresh WHERE refreshed_at IS NULL")
    assert pending == [(0,)]
