"""Reads that must stay fast in a large store: what the planner does with them, on both lanes.

Ten symbols. The plain lane holds a year of each: all minutes around those that are read, and one in every
hour elsewhere. The WASM server has a smaller store of the same shape. What is counted are the rows that the
plan touches, not seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import text

from kraken_db import HistoricalDataProvider
from kraken_db.backends import StaleRange
from kraken_db.store import StoreService
from tests.support.archives import query
from tests.support.lanes import Lane
from tests.support.plans import nodes, touched, watched
from tests.support.stores import opened, opened_database

Service = TypeVar("Service", bound=StoreService)
SYMBOLS = [f"{base}/USD" for base in ("ADA", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "SOL", "TRX", "XRP")]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = {"postgres": 365, "timescale": 35}
INDEX_SCANS = {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}


@pytest.fixture(scope="session")
def filled_stores(lanes: dict[str, Lane]) -> Iterator[Callable[[str], str]]:
    """Lane to the URL of a store with minutes of ten symbols, filled once."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def url_of(lane: str) -> str:
            if lane not in urls:
                urls[lane] = stack.enter_context(lanes[lane].migrated_database())
                asyncio.run(fill(urls[lane], DAYS[lane], every=1 if lane == "postgres" else 4))
            return urls[lane]

        yield url_of


@pytest.fixture(params=["postgres", "timescale"])
def filled(request: pytest.FixtureRequest, filled_stores: Callable[[str], str]) -> tuple[str, int]:
    """The URL of a filled store, and how many days of minutes it has."""
    return filled_stores(request.param), DAYS[request.param]


async def fill(url: str, days: int, every: int) -> None:
    # Which days have all their minutes: around the first of March, the middle, and the end.
    whole = [(58, 63), (days // 2 - 2, days // 2 + 6), (days - 10, days)] if days > 100 else [(0, days)]
    dense = [f"[{START + timedelta(days=first)},{START + timedelta(days=last)})" for first, last in whole]
    await query(
        url,
        "INSERT INTO candles SELECT s, m, 1, 100, 101, 99, 100, 1.5, NULL, 3, NULL"
        " FROM generate_series(CAST(:start AS timestamptz), CAST(:end AS timestamptz), "
        f"INTERVAL '{every} minutes') m, unnest(CAST(:symbols AS text[])) s"
        " WHERE m <@ CAST(CAST(:dense AS text) AS tstzmultirange) OR extract(minute FROM m) = 0",
        dense=f"{{{', '.join(dense)}}}",
        start=START,
        end=START + timedelta(days=days) - timedelta(minutes=1),
        symbols=SYMBOLS,
    )
    await query(url, "ANALYZE candles")
    async with opened(url) as store:
        everything = [StaleRange(symbol, START, START + timedelta(days=days)) for symbol in SYMBOLS]
        await store.backend.refresh(store.database, store.clock(), everything)


def assert_reads_little(plans: list[dict[str, Any]], limit: int) -> None:
    assert plans
    for plan in plans:
        scans = {node["Node Type"] for node in nodes(plan) if "Scan" in node["Node Type"]}
        assert "Seq Scan" not in {
            node["Node Type"] for node in nodes(plan) if node.get("Actual Rows", 0) > limit
        }, scans
        assert scans & INDEX_SCANS
        assert touched(plan) <= limit, (touched(plan), scans)


@pytest.mark.parametrize(
    ("interval", "count", "limit"), [(5, 200, 5 * 400 + 100), (1, 1000, 2100), (60, 24, 60 * 50)]
)
async def test_latest_candles(filled: tuple[str, int], interval: int, count: int, limit: int) -> None:
    url, _ = filled
    async with watched(url, HistoricalDataProvider) as (provider, plans):
        found = await provider.get_latest_candles("ETH/USD", interval, count)
        assert len(found) == count
    assert_reads_little(plans, limit)


@pytest.mark.parametrize("interval", [1, 5])
async def test_a_range_of_a_thousand(filled: tuple[str, int], interval: int) -> None:
    url, days = filled
    middle = START + timedelta(days=days // 2)
    async with watched(url, HistoricalDataProvider) as (provider, plans):
        found = await provider.get_candles(
            "ETH/USD", interval, middle, middle + timedelta(minutes=1000 * interval)
        )
        assert len(found) in (1000, 250)
    assert_reads_little(plans, 1000 * interval + 100)


async def test_the_index_of_the_specification_is_there(db_url: str) -> None:
    rows = await query(
        db_url, "SELECT indexdef FROM pg_indexes WHERE tablename = 'candles' AND schemaname = 'public'"
    )
    assert any('(symbol, interval_minutes, "timestamp" DESC)' in row[0] for row in rows)


async def test_status_tables_alone_answer_what_is_stored(filled: tuple[str, int]) -> None:
    url, _ = filled
    async with watched(url, HistoricalDataProvider) as (provider, plans):
        await provider.get_symbols()
        await provider.get_data_range("ETH/USD")
        await provider.health_check()
    assert len(plans) == 3
    tables = {node["Relation Name"] for plan in plans for node in nodes(plan) if "Relation Name" in node}
    assert tables == {"data_sync_status"}


# --- SQL of one's own, on plain PostgreSQL ---


async def explained(url: str, statement: str) -> dict[str, Any]:
    ((found,),) = await query(url, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


@pytest.mark.parametrize(
    ("interval", "rows"), [("1h", 8760), ("4h", 2190), ("12h", 730), ("1d", 365), ("1w", 53)]
)
async def test_a_year_of_a_stored_interval(
    filled_stores: Callable[[str], str], interval: str, rows: int
) -> None:
    """Nothing is read but the candles themselves, and no minute."""
    year = f"SELECT * FROM candles_{interval} WHERE symbol = 'ETH/USD' ORDER BY timestamp"
    plan = await explained(filled_stores("postgres"), year)
    assert plan["Actual Rows"] == rows
    assert_reads_little([plan], rows)


async def test_a_month_of_a_stored_interval(filled_stores: Callable[[str], str]) -> None:
    url = filled_stores("postgres")
    month = "timestamp >= '2024-03-01 00:00+00' AND timestamp < '2024-04-01 00:00+00'"
    plan = await explained(url, f"SELECT * FROM candles_1h WHERE symbol = 'ETH/USD' AND {month}")
    assert plan["Actual Rows"] == 31 * 24
    assert_reads_little([plan], 31 * 24)


async def test_a_day_of_an_interval_that_is_not_stored(filled_stores: Callable[[str], str]) -> None:
    """All hours are gone through, and the minutes of the day alone are read."""
    day = "timestamp >= '2024-03-01 00:00+00' AND timestamp < '2024-03-02 00:00+00'"
    plan = await explained(
        filled_stores("postgres"), f"SELECT * FROM candles_5m WHERE symbol = 'ETH/USD' AND {day}"
    )
    assert plan["Actual Rows"] == 288
    assert_reads_little([plan], 8760 + 1440)


async def test_a_candle_that_waits_is_read_from_its_minutes(filled_stores: Callable[[str], str]) -> None:
    """One minute was written and not refreshed: its day costs a day of minutes, the other days nothing."""
    url = filled_stores("postgres")
    async with opened_database(url) as database, database.read() as connection:
        await connection.execute(
            text("UPDATE candles SET high = 500 WHERE symbol = 'ETH/USD' AND timestamp = :moment"),
            {"moment": START + timedelta(days=364, hours=5)},
        )
        year = "SELECT * FROM candles_1d WHERE symbol = 'ETH/USD'"
        found = await connection.scalar(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {year}"))
        highs = await connection.scalars(text(f"SELECT high FROM ({year} ORDER BY timestamp) days"))
        assert list(highs) == [101] * 364 + [500]
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    # Of each day it is looked up whether it waits.
    assert_reads_little([plan], 1440 + 2 * 365 + 10)
