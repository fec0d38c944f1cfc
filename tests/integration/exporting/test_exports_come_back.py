"""Whatever is stored: its export is imported again without a word, and the tables are the same."""

from __future__ import annotations

import asyncio
import string
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal, localcontext
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kraken_db.exporting import Exporter
from kraken_db.types import CandleRecord, TradeRecord
from tests.support.archives import import_paths, query
from tests.support.factories import EPOCH
from tests.support.live_writing import writing

TABLES = (
    "candles, trades, data_sync_status, data_coverage, unproven_ranges, pending_refresh, rolled_candles,"
    " dropped_ranges, flush_positions"
)
FLAGS = "".join(c for c in map(chr, range(0x20, 0x7F)) if c not in ',"\\')
LEAST = Decimal("1E-10")
QUICK = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)

# Prices as large as times are refused in files, whose columns may be in another order: see TradeFields.
prices = st.decimals(LEAST, Decimal("9999999999.9999999999"), places=10).filter(
    lambda price: not 1_300_000_000 < price < 2_000_000_000
)


def volumes(price: Decimal, bound: int) -> st.SearchStrategy[Decimal]:
    """Up to a bound that the value has, too."""
    with localcontext(prec=60, rounding=ROUND_DOWN):
        largest = (bound / max(price, Decimal(1))).quantize(LEAST) - LEAST
    return st.decimals(LEAST, largest, places=10)


@st.composite
def trades(draw: st.DrawFn) -> list[TradeRecord]:
    """In order of id, if they have one; stamps may be equal, and go back by microseconds where the feed's
    end and REST's begin."""
    moment, number, found = EPOCH, draw(st.sampled_from([1, 77, 2**62 - 50])), []
    for _ in range(draw(st.integers(1, 12))):
        moment += timedelta(microseconds=draw(st.sampled_from([0, 0, 1, -1, -1, 100, 999_999, 59_000_000])))
        has_id = draw(st.sampled_from([True, True, True, False]))
        found.append(
            TradeRecord(
                "BTC/USD",
                max(moment, EPOCH),
                price := draw(prices),
                draw(volumes(price, 10**18)),
                draw(st.sampled_from(["buy", "sell", ""])),
                number if has_id else None,
                draw(
                    st.one_of(
                        st.sampled_from([None, "market", "limit", "stop-loss", "settle-pos"]),
                        st.text(string.ascii_lowercase + "-", min_size=3, max_size=10),
                    )
                ),
                draw(st.one_of(st.none(), st.just(""), st.text(FLAGS, max_size=50))),
            )
        )
        number += has_id * draw(st.sampled_from([1, 1, 1, 2]))
    return found


@st.composite
def candles(draw: st.DrawFn) -> list[CandleRecord]:
    found = []
    for minute in sorted(draw(st.sets(st.integers(0, 200), min_size=1, max_size=8))):
        low, *inside, high = sorted(draw(st.lists(prices, min_size=4, max_size=4)))
        first, last = draw(st.permutations(inside))
        found.append(
            CandleRecord(
                "BTC/USD",
                EPOCH + timedelta(minutes=minute),
                1,
                first,
                high,
                low,
                last,
                draw(volumes(high, 2 * 10**23)),
                draw(st.integers(1, 200_000)),
                None,
            )
        )
    return found


async def content(url: str) -> list[Any]:
    """All that a file can hold. Of a trade without an id the number is ours, and another one each time."""
    return [
        await query(
            url,
            "SELECT symbol, timestamp, price, volume, side, COALESCE(order_type, ''), COALESCE(misc, ''),"
            " greatest(id, 0) FROM trades ORDER BY 2, 8, 3, 4, 5, 6, 7",
        ),
        await query(
            url,
            "SELECT symbol, timestamp, interval_minutes, open, high, low, close, volume, trade_count"
            " FROM candles ORDER BY 1, 3, 2",
        ),
    ]


async def come_back(url: str, records: Sequence[TradeRecord | CandleRecord]) -> None:
    await query(url, f"TRUNCATE {TABLES}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with writing(url, folder) as writer:
            for record in records:
                if isinstance(record, TradeRecord):
                    await writer.write_trade(record)
                else:
                    await writer.write_candle(record)
            await writer.flush()
            assert writer.get_stats()["rejected_count"] == 0, writer.get_stats()["rejections"]
        before = await content(url)
        assert any(before)
        async with Exporter(url) as exporter:
            if before[0]:
                await exporter.export(["BTC/USD"], folder / "out", what="trades", style="csv")
            if before[1]:
                await exporter.export(["BTC/USD"], folder / "out", style="csv")
        await query(url, f"TRUNCATE {TABLES}")
        report = await import_paths(url, folder / "out")
        assert [str(error) for error in report.errors] == []
        assert [done.rejected for done in report.files] == [0] * len(report.files)
        after = await content(url)
        # Candles are built of trades that are imported.
        assert after[0] == before[0]
        assert after[1] == before[1] or not before[1]


@settings(QUICK, max_examples=30)
@given(trades())
def test_trades(plain_url: str, records: list[TradeRecord]) -> None:
    asyncio.run(come_back(plain_url, records))


@settings(QUICK, max_examples=15)
@given(candles())
def test_candles(plain_url: str, records: list[CandleRecord]) -> None:
    asyncio.run(come_back(plain_url, records))
