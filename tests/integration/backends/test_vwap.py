"""The vwap of a candle that is made of others: worked out by hand, over all levels, in every definition."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.store import Store
from tests.support.archives import query, run_outside_transaction
from tests.support.lanes import Lane

MINUTES = """
    INSERT INTO candles
    SELECT 'BTC/USD', timestamp, 1, 1, 1, 1, 1, volume, NULL, 1, vwap FROM (VALUES
        -- Monday 2nd. The first hour: (10 + 60) / 4; of the second, one minute's is unknown.
        (TIMESTAMPTZ '2023-01-02 00:00+00', 1, 10),
        (TIMESTAMPTZ '2023-01-02 00:01+00', 3, 20),
        (TIMESTAMPTZ '2023-01-02 01:00+00', 2, 30),
        (TIMESTAMPTZ '2023-01-02 01:01+00', 5, NULL),
        -- Tuesday: a minute without volume does not matter. (6 * 40 + 2 * 50) / 8.
        (TIMESTAMPTZ '2023-01-03 00:00+00', 6, 40),
        (TIMESTAMPTZ '2023-01-03 00:01+00', 0, NULL),
        (TIMESTAMPTZ '2023-01-03 05:00+00', 2, 50),
        -- The week after: (1 * 10 + 2 * 70) / 3; an hour of nothing but a minute without volume.
        (TIMESTAMPTZ '2023-01-09 00:00+00', 1, 10),
        (TIMESTAMPTZ '2023-01-11 00:00+00', 2, 70),
        (TIMESTAMPTZ '2023-01-11 07:00+00', 0, NULL)
    ) minutes(timestamp, volume, vwap)
"""
EXPECTED: dict[int, dict[str, Any]] = {
    60: {
        "2023-01-02 00": Decimal("17.5"),
        "2023-01-02 01": None,
        "2023-01-03 00": Decimal(40),
        "2023-01-03 05": Decimal(50),
        "2023-01-09 00": Decimal(10),
        "2023-01-11 00": Decimal(70),
        "2023-01-11 07": None,
    },
    1440: {
        "2023-01-02 00": None,
        "2023-01-03 00": Decimal("42.5"),
        "2023-01-09 00": Decimal(10),
        "2023-01-11 00": Decimal(70),
    },
    10080: {"2023-01-02 00": None, "2023-01-09 00": Decimal(50)},
}
LATER = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 2, 1, tzinfo=UTC))


async def assert_right(url: str) -> None:
    for interval, expected in EXPECTED.items():
        view = {60: "candles_1h", 1440: "candles_1d", 10080: "candles_1w"}[interval]
        rows = await query(url, f"SELECT timestamp, vwap FROM {view}")
        assert {f"{moment.astimezone(UTC):%Y-%m-%d %H}": vwap for moment, vwap in rows} == expected
        async with HistoricalDataProvider(url) as provider:
            found = await provider.get_candles("BTC/USD", interval, *LATER)
        assert {f"{c.timestamp:%Y-%m-%d %H}": c.vwap for c in found} == expected


async def test_a_mean_of_all_parts_or_none(lane: Lane, db_url: str) -> None:
    await query(db_url, MINUTES)
    await assert_right(db_url)  # computed when it is read

    if lane.name == "timescale":  # elsewhere triggers have noted it
        await query(
            db_url,
            "INSERT INTO pending_refresh (symbol, stale)"
            " VALUES ('BTC/USD', '[2023-01-02 00:00+00, 2023-01-11 08:00+00)')",
        )
    store = await Store.open(db_url)
    try:
        await store.refresh_pending()
    finally:
        await store.close()
    await assert_right(db_url)  # as our refresh has stored it

    if lane.name == "timescale":
        await query(db_url, "UPDATE candles SET volume = volume")
        for view in ("candles_1h", "candles_1d", "candles_1w"):
            await run_outside_transaction(db_url, f"CALL refresh_continuous_aggregate('{view}', NULL, NULL)")
        await assert_right(db_url)  # as TimescaleDB has stored it
