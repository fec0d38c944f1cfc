"""Reads that must stay fast in a large store: what the planner does with them, on both lanes.

Ten symbols. The plain lane holds a year of minutes of each, the WASM server a smaller store of the same
shape. What is counted are the rows that the plan touches, not seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import event

from kraken_db.db.compiled import CompiledStatement
from kraken_db.db.fetch import fetch
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.repositories import candles
from kraken_db.store import Store, StoreService
from kraken_db.timeseries import StaleRange
from tests.archives import query
from tests.lanes import Lane

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
    await query(
        url,
        "INSERT INTO candles SELECT s, m, 1, 100, 101, 99, 100, 1.5, NULL, 3, NULL"
        " FROM generate_series(CAST(:start AS timestamptz), CAST(:end AS timestamptz), "
        f"INTERVAL '{every} minutes') m, unnest(CAST(:symbols AS text[])) s",
        start=START,
        end=START + timedelta(days=days) - timedelta(minutes=1),
        symbols=SYMBOLS,
    )
    await query(url, "ANALYZE candles")
    store = await Store.open(url)
    try:
        everything = [StaleRange(symbol, START, START + timedelta(days=days)) for symbol in SYMBOLS]
        await store.timeseries.refresh(store.database, everything, store.clock())
    finally:
        await store.close()


@asynccontextmanager
async def watched(
    url: str, make: Callable[[str], Service] = HistoricalDataProvider
) -> AsyncIterator[tuple[Service, list[dict[str, Any]]]]:
    """A service, and the plan (with what was really touched) of every statement that it ran."""
    plans: list[dict[str, Any]] = []
    seen: list[tuple[str, Any]] = []
    async with make(url) as provider:
        engine = provider._connected().database.engine

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if statement.lstrip().startswith("SELECT"):
                seen.append((statement, parameters))

        async def watched_fetch(connection: Any, statement: CompiledStatement) -> Any:
            seen.append((statement.sql, statement.values))
            return await fetch(connection, statement)

        # Candles are read past SQLAlchemy, everything else through it.
        event.listen(engine.sync_engine, "before_cursor_execute", note)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(candles, "fetch", watched_fetch)
            yield provider, plans
        event.remove(engine.sync_engine, "before_cursor_execute", note)
        async with engine.connect() as connection:
            for statement, parameters in seen:
                explained = await connection.exec_driver_sql(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters
                )
                found = explained.scalar_one()
                plans.append((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def touched(plan: dict[str, Any]) -> float:
    """How many rows of tables a plan read, those included that a filter then threw away."""
    total = 0.0
    for node in nodes(plan):
        if "Scan" in node["Node Type"] and "Relation Name" in node:
            dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            total += node["Actual Loops"] * (node["Actual Rows"] + dropped)
    return total


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
    async with watched(url) as (provider, plans):
        found = await provider.get_latest_candles("ETH/USD", interval, count)
        assert len(found) == count
    assert_reads_little(plans, limit)


@pytest.mark.parametrize("interval", [1, 5])
async def test_a_range_of_a_thousand(filled: tuple[str, int], interval: int) -> None:
    url, days = filled
    middle = START + timedelta(days=days // 2)
    async with watched(url) as (provider, plans):
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
    async with watched(url) as (provider, plans):
        await provider.get_symbols()
        await provider.get_data_range("ETH/USD")
        await provider.health_check()
    assert len(plans) == 3
    tables = {node["Relation Name"] for plan in plans for node in nodes(plan) if "Relation Name" in node}
    assert tables == {"data_sync_status"}
