"""What a backend is made of, what it notes as stale, and what its packed chunks and edges say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import kraken_db
from kraken_db import HistoricalDataProvider
from kraken_db.backends import Backend, PostgresBackend, TimescaleBackend
from kraken_db.backends.pending_refresh import PendingRefresh
from kraken_db.db.locks import lock_for_writing
from kraken_db.db.migrations import upgrade
from kraken_db.repositories import CandleRepository
from kraken_db.status import read_status
from kraken_db.store import Store
from tests.support.archives import at, import_file, minutes, query, run_outside_transaction, write
from tests.support.plans import nodes, watched
from tests.support.retention import maintain

MONDAY = 1672617600  # 2023-01-02
THURSDAY = MONDAY + 3 * 86_400  # a chunk of candles begins
WEEK = 7 * 86_400
ONE = "('{symbol}', '{moment}+00', 1, 10, 11, 9, 10, 2, NULL, 3, NULL)"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = await Store.open(url, pool_max_size=2)
    try:
        yield store
    finally:
        await store.close()


async def insert(connection: AsyncConnection, *moments: str, symbol: str = "BTC/USD") -> None:
    rows = ", ".join(ONE.format(symbol=symbol, moment=moment) for moment in moments)
    await connection.execute(text(f"INSERT INTO candles VALUES {rows}"))


async def stale(url: str) -> list[tuple[datetime, datetime]]:
    return await query(url, "SELECT lower(stale), upper(stale) FROM pending_refresh ORDER BY 1")


async def test_what_a_database_has(plain_url: str, timescale_url: str) -> None:
    async with opened(plain_url) as store:
        plain: Backend = store.backend
    assert isinstance(plain, PostgresBackend)
    assert (plain.chunks, plain.jobs, plain.compression, dict(plain.bulk_settings)) == (None, None, None, {})
    async with opened(timescale_url) as store:
        assert isinstance(store.backend, TimescaleBackend)
        assert None not in (store.backend.chunks, store.backend.jobs, store.backend.compression)
        async with store.database.begin() as connection:
            await lock_for_writing(connection, ["trades:BTC/USD"], store.backend.bulk_settings)
            for name, value in store.backend.bulk_settings.items():
                assert await connection.scalar(text(f"SHOW {name}")) == value
        async with store.database.read() as connection:
            assert await connection.scalar(text("SHOW plan_cache_mode")) == "force_custom_plan"


async def test_an_extension_that_came_later_changes_nothing(timescale_empty_url: str, tmp_path: Path) -> None:
    """The store was made as a plain one, and stays one: its higher intervals are no aggregates.

    A view hides the extension while it is made: the WASM server cannot drop the extension and make it again.
    """
    url = timescale_empty_url
    others = "SELECT * FROM pg_catalog.pg_extension WHERE extname <> 'timescaledb'"
    await query(url, f"CREATE VIEW public.pg_extension AS {others}")
    await upgrade(f"{url}?search_path=public,pg_catalog")
    await query(url, "DROP VIEW public.pg_extension")
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(180, start=MONDAY)))
    async with opened(url) as store:
        assert isinstance(store.backend, PostgresBackend)
    assert await query(url, "SELECT count(*), sum(volume) FROM candles_1h") == [(3, Decimal("450"))]


def test_what_all_share_knows_no_kind_of_database() -> None:
    package = Path(kraken_db.__file__).parent
    for name in ("backends/base.py", "store.py", "retention.py", "maintenance.py", "status.py"):
        assert "timescale" not in (package / name).read_text().lower(), name


# --- what is stale ---

START, END = datetime(2023, 1, 2, tzinfo=UTC), datetime(2023, 1, 2, 1, tzinfo=UTC)


async def test_minutes_that_are_written_are_stale(db_url: str) -> None:
    """Where the writer says which they were, or the triggers see it, no others are."""
    first, last = datetime(2023, 1, 2, 0, 10, tzinfo=UTC), datetime(2023, 1, 2, 0, 31, tzinfo=UTC)
    async with (
        opened(db_url) as store,
        store.database.begin() as connection,
        store.backend.writing_minutes(connection, "BTC/USD", START, END) as minutes,
    ):
        await insert(connection, "2023-01-02 00:10", "2023-01-02 00:30")
        minutes.wrote(first, last)
    assert await stale(db_url) == [(first, last)]


@pytest.mark.parametrize("are_new", [False, True])
async def test_a_write_that_changes_nothing_makes_nothing_stale(db_url: str, are_new: bool) -> None:
    async with opened(db_url) as store, store.database.begin() as connection:
        writing = store.backend.writing_minutes(connection, "BTC/USD", START, END, are_new=are_new)
        async with writing as minutes:
            await connection.execute(text("DELETE FROM candles WHERE symbol = 'BTC/USD'"))
            minutes.wrote(None, None)
    assert await stale(db_url) == []


async def test_of_a_write_that_says_nothing_all_is_stale(timescale_url: str) -> None:
    async with (
        opened(timescale_url) as store,
        store.database.begin() as connection,
        store.backend.writing_minutes(connection, "BTC/USD", START, END),
    ):
        await insert(connection, "2023-01-02 00:10")
    assert await stale(timescale_url) == [(START, END)]


async def test_a_range_of_new_minutes_is_stale_as_a_whole(plain_url: str) -> None:
    """The triggers take its word; after the block they look for themselves again."""
    later = datetime(2023, 1, 2, 2, tzinfo=UTC)
    async with opened(plain_url) as store, store.database.begin() as connection:
        async with store.backend.writing_minutes(connection, "BTC/USD", START, END, are_new=True):
            await insert(connection, "2023-01-02 00:10")
        await insert(connection, "2023-01-02 02:00", symbol="ETH/USD")
    rows = await query(plain_url, "SELECT symbol, lower(stale), upper(stale) FROM pending_refresh ORDER BY 1")
    assert rows == [("BTC/USD", START, END), ("ETH/USD", later, later + timedelta(minutes=1))]


async def test_what_is_marked_is_computed_anew(db_url: str, tmp_path: Path) -> None:
    """On both lanes the mark leaves a note, once for ranges that touch."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(180, start=MONDAY)))
    assert await stale(db_url) == []
    middle = END + (END - START) / 2
    async with opened(db_url) as store:
        async with store.database.begin() as connection:
            await store.backend.mark_stale(connection, "BTC/USD", [(START, END), (END, middle)])
        assert await stale(db_url) == [(START, middle)]
        await store.refresh_pending()
        async with store.database.read() as connection:
            assert not await PendingRefresh(connection).unrefreshed()


# --- packed chunks ---


async def pack(url: str) -> None:
    await query(url, "SELECT compress_chunk(c, true) FROM show_chunks('candles') c")


async def packed(url: str) -> tuple[int, int, int]:
    async with opened(url) as store, store.database.read() as connection:
        (candles,) = [item for item in await store.backend.storage(connection) if item.table == "candles"]
    return candles.chunks, candles.compressed_chunks, candles.partly_compressed_chunks


async def ratio(url: str) -> float:
    async with opened(url) as store, store.database.read() as connection:
        status = await read_status(connection, store.backend, store.clock())
    (candles,) = [item for item in status.tables if item.table == "candles"]
    assert candles.compression_ratio is not None
    return candles.compression_ratio


async def test_chunks_that_were_written_after_they_were_packed(timescale_url: str, tmp_path: Path) -> None:
    """They count apart, the ratio falls, and the upkeep packs them again."""
    url, now = timescale_url, datetime(2023, 3, 1, tzinfo=UTC)
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(10_000, start=MONDAY)))
    await query(url, "SELECT remove_retention_policy('candles', if_exists => true)")
    await query(url, "SELECT remove_retention_policy('trades', if_exists => true)")
    await pack(url)
    assert await packed(url) == (2, 2, 0)
    before = await ratio(url)
    # Something is changed in every minute of the second chunk.
    await query(url, "UPDATE candles SET trade_count = 8 WHERE timestamp >= :start", start=at(THURSDAY))
    assert await packed(url) == (2, 1, 1)
    assert await ratio(url) < before * 0.7
    dry = await maintain(url, now, dry_run=True)
    assert [table.compressed_pieces for table in dry.tables] == [0, 1]
    done = await maintain(url, now)
    assert [table.compressed_pieces for table in done.tables] == [0, 1]
    assert await packed(url) == (2, 2, 0)
    assert await query(url, "SELECT count(*) FROM candles WHERE trade_count = 8") == [(10_000 - 3 * 1440,)]
    again = await maintain(url, now)
    assert [table.compressed_pieces for table in again.tables] == [0, 0]


async def test_a_mark_where_nothing_is_stored_unpacks_nothing(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    rows = minutes(100, start=MONDAY) + minutes(100, start=MONDAY + 4 * 3600)
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", rows))
    await pack(url)
    quiet = (datetime(2023, 1, 2, 2, tzinfo=UTC), datetime(2023, 1, 2, 3, tzinfo=UTC))
    async with opened(url) as store, store.database.begin() as connection:
        await store.backend.mark_stale(connection, "BTC/USD", [quiet])
        await store.backend.mark_stale(connection, "ETH/USD", [(START, END)])
    assert await packed(url) == (1, 1, 0)


# --- edges ---


async def bounds(url: str, interval: int = 1, symbol: str = "BTC/USD") -> tuple[datetime, datetime] | None:
    async with opened(url) as store, store.database.read() as connection:
        return await CandleRepository(connection, store.backend).bounds(symbol, interval)


async def test_edges_are_those_of_the_rows(db_url: str, tmp_path: Path) -> None:
    """Whatever the status knows: rows of other programs outside of it, and rows that somebody deleted."""
    assert await bounds(db_url) is None
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY)))
    first, last = at(MONDAY), at(MONDAY + 59 * 60)
    assert await bounds(db_url) == (first, last)
    assert await bounds(db_url, 60) == (first, first)

    older, newer = datetime(2015, 3, 4, 5, 6, tzinfo=UTC), datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
    for moment in (older, newer):
        async with opened(db_url) as store, store.database.begin() as connection:
            await insert(connection, f"{moment:%Y-%m-%d %H:%M}")
    assert await bounds(db_url) == (older, newer)
    assert await bounds(db_url, 1440) == (older.replace(hour=0, minute=0), newer.replace(hour=0, minute=0))

    # What is left lies far inside of what the status says.
    await query(
        db_url,
        "UPDATE data_sync_status SET oldest_timestamp = '2014-01-01', newest_timestamp = '2025-01-01'",
    )
    assert await bounds(db_url) == (older, newer)
    await query(db_url, "DELETE FROM candles WHERE timestamp IN (:a, :b)", a=older, b=newer)
    assert await bounds(db_url) == (first, last)
    await query(db_url, "DELETE FROM data_sync_status")
    assert await bounds(db_url) == (first, last)
    await query(db_url, "DELETE FROM candles")
    assert await bounds(db_url) is None


async def test_higher_candles_that_outlived_their_minutes(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(14 * 1440, start=MONDAY)))
    await run_outside_transaction(url, "SELECT drop_chunks('candles', TIMESTAMPTZ '2023-01-12 00:00+00')")
    assert await bounds(url) == (datetime(2023, 1, 12, tzinfo=UTC), datetime(2023, 1, 15, 23, 59, tzinfo=UTC))
    newest = datetime(2023, 1, 15, tzinfo=UTC)
    assert await bounds(url, 1440) == (at(MONDAY), newest)


async def test_edges_are_planned_without_the_chunks_between(timescale_url: str, tmp_path: Path) -> None:
    """Of sixty chunks of minutes a plan touches the outermost ones."""
    url = timescale_url
    lines = "".join(f"{MONDAY + week * WEEK},10,12,9,11,2,3\n" for week in range(60))
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", lines))
    assert await query(url, "SELECT count(*) FROM show_chunks('candles')") == [(60,)]
    async with watched(url, HistoricalDataProvider) as (provider, plans):
        for _ in range(8):  # a plan for values that are not known would be made by now
            (candle,) = await provider.get_latest_candles("BTC/USD", 60, 1)
    assert candle.timestamp == at(MONDAY + 59 * WEEK)
    for plan in plans:
        scanned = [node for node in nodes(plan) if "_chunk" in node.get("Relation Name", "")]
        assert len(scanned) < 15
    assert any("_chunk" in node.get("Relation Name", "") for plan in plans for node in nodes(plan))
