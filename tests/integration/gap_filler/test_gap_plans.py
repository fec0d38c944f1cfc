"""Gaps are found without a look at history: what detection reads of a store with many trades."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kraken_db import GapFiller
from kraken_db.ranges import TICK
from tests.support.archives import query
from tests.support.plans import nodes, touched, watched

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 20
STEP = timedelta(seconds=2 * 86400 / 10_000)


def at(position: int) -> datetime:
    return START + position * STEP


async def fill(url: str) -> None:
    """Two pairs of 100,000 trades in twenty days; every second day another source knows them, and one id is
    missing where the known trades have a hole.
    """
    await query(
        url,
        "INSERT INTO trades SELECT n + 1, s, CAST(:start AS timestamptz) + n * CAST(:step AS interval),"
        " 100, 1, 'buy', 'market', '' FROM generate_series(0, 99999) n, unnest(ARRAY['BTC/USD', 'ETH/USD']) s"
        " WHERE n <> 55555",
        start=START,
        step=STEP,
    )
    await query(url, "ANALYZE trades")
    for number in range(DAYS):
        source = ("rest_trades", "live")[number % 2]
        await query(
            url,
            "INSERT INTO data_coverage SELECT s, 'trades', :source, tstzmultirange(tstzrange(:start, :end))"
            " FROM unnest(ARRAY['BTC/USD', 'ETH/USD']) s ON CONFLICT (symbol, data_type, source)"
            " DO UPDATE SET covered = data_coverage.covered + excluded.covered",
            source=source,
            start=START + timedelta(days=number),
            end=START + timedelta(days=number + 1),
        )
    await query(
        url,
        "UPDATE data_coverage SET covered = covered - tstzmultirange(tstzrange(:start, :end))",
        start=at(55_554) + TICK,
        end=at(55_556),
    )


async def test_detection_reads_next_to_nothing(plain_url: str) -> None:
    """Nineteen joints and a hole for each pair, among 200,000 trades."""
    await fill(plain_url)

    def make(url: str) -> GapFiller:
        return GapFiller(url, ["BTC/USD", "ETH/USD"], clock=lambda: START + timedelta(days=DAYS))

    plans: list[dict[str, Any]]
    async with watched(plain_url, make) as (filler, plans):
        gaps = await filler.detect_gaps()
    ids = [gap for gap in gaps if gap.data_type == "trades"]
    assert [(gap.symbol, gap.start_time, gap.end_time) for gap in ids] == [
        (symbol, at(55_554) + TICK, at(55_556)) for symbol in ("BTC/USD", "ETH/USD")
    ]
    of_trades = [plan for plan in plans if any(node.get("Relation Name") == "trades" for node in nodes(plan))]
    assert len(of_trades) == 2 * 2 * (19 + 1)
    assert all(touched(plan) <= 2 * 20 for plan in of_trades)
    assert {node["Relation Name"] for plan in plans for node in nodes(plan) if "Relation Name" in node} <= {
        "trades",
        "data_coverage",
        "data_sync_status",
        "dropped_ranges",
        "retention_periods",
    }
