"""Trades that a live writer has lost are a gap until they are filled, whatever is known of their minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kraken_db.types import DataGap, TradeRecord
from tests.support.archives import query
from tests.support.downloading import coverage
from tests.support.gap_filling import LATER, World, calm, clock
from tests.support.live_writing import BTC, write, writing


@pytest.mark.parametrize("has_candles", [False, True])
@pytest.mark.parametrize("lost", [(60, 90), (60, 60.9)])
async def test_what_the_writer_has_lost(
    plain_url: str, tmp_path: Path, has_candles: bool, lost: tuple[float, float]
) -> None:
    """Half an hour, or less than a minute; OHLC serves both, and would have closed them without a trade."""
    world = World(market := calm(a_minute=6), now=clock(120) + LATER)
    first, last = map(clock, lost)
    truth = [trade for trade in market.truth_trades(clock(119)) if trade.timestamp >= clock(10)]
    kept = [trade for trade in truth if not first <= trade.timestamp < last]
    assert len(truth) - len(kept) > 2
    async with writing(plain_url, tmp_path, clock=world.now) as writer:
        for batch in ([t for t in kept if t.timestamp < first], [t for t in kept if t.timestamp >= last]):
            await write(
                writer,
                [TradeRecord(BTC, t.timestamp, t.price, t.volume, t.side, t.id, t.order_type) for t in batch],
            )
    assert len(await coverage(plain_url, BTC)) == 2
    async with world.filler(plain_url) as filler:
        if has_candles:
            gap = DataGap(BTC, "candles_1m", clock(11), clock(119), clock(119) - clock(11))
            assert await filler.fill_gap_ohlc(gap) > 60
        gaps = [gap for gap in await filler.detect_gaps() if gap.data_type == "trades"]
    (gap,) = gaps
    inside = [trade for trade in truth if trade not in kept]
    assert gap.start_time < inside[0].timestamp and inside[-1].timestamp < gap.end_time
    result = await world.fill(plain_url)
    assert result["errors"] == []
    assert result["trades_processed"] >= len(inside)
    rows = await query(plain_url, "SELECT id FROM trades WHERE timestamp < :end ORDER BY id", end=clock(119))
    assert [row[0] for row in rows] == [trade.id for trade in truth]
    await world.assert_nothing_left(plain_url)
