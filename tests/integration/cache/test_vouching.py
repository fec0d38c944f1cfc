"""Whatever changes candles, whoever does it: the next read shows it. Without its trigger, it would not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kraken_db.backends import StaleRange
from kraken_db.db import migrations
from kraken_db.repositories.candle_versions import CandleVersionRepository
from tests.support.archives import query, run_outside_transaction
from tests.support.cache_storm import CacheStorm
from tests.support.cached import END, START, both, store_minutes
from tests.support.lanes import Lane
from tests.support.stores import opened, opened_database

ONE = (
    "INSERT INTO candles VALUES ('BTC/USD', '2023-02-10 12:34+00', 1, 7, 7, 7, 7, 7, NULL, 7, NULL)"
    " ON CONFLICT (timestamp, symbol, interval_minutes) DO NOTHING"
)
OF_DAY = "symbol = 'BTC/USD' AND timestamp >= '2023-02-10+00' AND timestamp < '2023-02-11+00'"
MOVED = f"UPDATE candles SET symbol = 'ETH/USD' WHERE {OF_DAY}"


@dataclass(frozen=True)
class Change:
    """Something that is done to ``table``, and the triggers that see it."""

    statement: str
    triggers: tuple[str, ...]
    table: str = "candles"
    symbol: str = "BTC/USD"
    interval: str = "1m"


ANYWHERE = {
    "insert": Change(ONE, ("renew_inserted_candles",)),
    "delete": Change(f"DELETE FROM candles WHERE {OF_DAY}", ("renew_deleted_candles",)),
    "moved to": Change(MOVED, ("renew_updated_candles",), symbol="ETH/USD"),
    "moved from": Change(MOVED, ("renew_replaced_candles",)),
    "update": Change(
        f"UPDATE candles SET volume = 1 WHERE {OF_DAY}", ("renew_updated_candles", "renew_replaced_candles")
    ),
}
ON_PLAIN = {
    "truncate": Change("TRUNCATE candles", ("renew_truncated_candles",)),
    "rolled insert": Change(
        "INSERT INTO rolled_candles VALUES ('BTC/USD', 60, '2023-02-28 23:00+00', 1, 1, 1, 1, 1, NULL, 1, 1)",
        ("renew_inserted_candles",),
        "rolled_candles",
        interval="1h",
    ),
    "rolled update": Change(
        f"UPDATE rolled_candles SET volume = 1 WHERE {OF_DAY}",
        ("renew_updated_candles", "renew_replaced_candles"),
        "rolled_candles",
        interval="1h",
    ),
    "rolled delete": Change(
        f"DELETE FROM rolled_candles WHERE {OF_DAY}",
        ("renew_deleted_candles",),
        "rolled_candles",
        interval="2h",
    ),
    "rolled truncate": Change(
        "TRUNCATE rolled_candles", ("renew_truncated_candles",), "rolled_candles", interval="1d"
    ),
    "note": Change(
        "INSERT INTO pending_refresh (symbol, stale)"
        " VALUES ('BTC/USD', tstzrange('2023-02-01+00', '2023-02-20+00'))",
        ("renew_noted_candles",),
        "pending_refresh",
        interval="4h",
    ),
    "dropped": Change(
        "INSERT INTO dropped_ranges VALUES"
        " ('BTC/USD', 'candles_1m', tstzmultirange(tstzrange('2023-02-10+00', '2023-02-11+00')))",
        ("renew_dropped_candles",),
        "dropped_ranges",
        interval="30m",
    ),
}
# What makes a note and a dropped range count: rolled candles that say something else than the minutes.
DISAGREE = (
    f"UPDATE rolled_candles SET volume = 2, kept = true WHERE {OF_DAY}",
    "INSERT INTO rolled_candles VALUES"
    " ('BTC/USD', 30, '2023-02-10 12:00+00', 1, 1, 1, 1, 1, NULL, 1, 1, true)",
)


def stored(folder: Path) -> list[Path]:
    """The files of a cache."""
    return sorted(folder.rglob("*.arrow"))


async def prepare(url: str) -> None:
    await store_minutes(url, "BTC/USD", "2023-01-10", "2023-02-28")
    async with opened(url) as store:
        # TimescaleDB knows nothing of what others have written.
        await store.refresh_pending([StaleRange("BTC/USD", START, END)])


async def differs(url: str, folder: Path, change: Change) -> bool:
    """Whether a cached read differs from one without the cache, after the change. Before it, it does not."""
    async with both(url, folder) as pair:
        for _ in range(2):
            assert await pair.are_equal(change.interval, change.symbol)
        before = (await pair.frames(change.interval, change.symbol))[1]
        await query(url, change.statement)
        after = (await pair.frames(change.interval, change.symbol))[1]
        assert not before.equals(after), "nothing has changed: this tests nothing"
        return not await pair.are_equal(change.interval, change.symbol)


async def take_off(url: str, change: Change) -> None:
    of_table = "SELECT tgname FROM pg_trigger WHERE tgrelid = CAST(:table AS regclass)"
    there = await query(url, of_table, table=change.table)
    gone = set(change.triggers)
    if ("renew_replaced_candles",) not in there:  # TimescaleDB before 2.18: one on rows for both ends
        gone = {name.replace("replaced", "updated") for name in gone}
    await change_triggers(url, *(f"DROP TRIGGER {trigger} ON {change.table}" for trigger in gone))


async def change_triggers(url: str, *statements: str) -> None:
    async with opened_database(url, pool_max_size=0) as database, database.begin() as connection:
        # Elsewhere than on Citus it is a name that nobody knows.
        await connection.execute(text("SELECT set_config('citus.enable_unsafe_triggers', 'on', true)"))
        for statement in statements:
            await connection.execute(text(statement))


def may_move(lane: Lane, change: Change) -> None:
    if lane.name == "citus" and change.statement == MOVED:
        pytest.skip("a cluster keeps a row where its symbol is: no UPDATE gives it another one")


@pytest.mark.parametrize("name", ANYWHERE)
async def test_a_change_of_minutes(lane: Lane, db_url: str, tmp_path: Path, name: str) -> None:
    may_move(lane, ANYWHERE[name])
    await prepare(db_url)
    assert not await differs(db_url, tmp_path, ANYWHERE[name])


@pytest.mark.parametrize("name", ANYWHERE)
async def test_a_change_of_minutes_without_its_trigger(
    lane: Lane, db_url: str, tmp_path: Path, name: str
) -> None:
    may_move(lane, ANYWHERE[name])
    await prepare(db_url)
    await take_off(db_url, ANYWHERE[name])
    assert await differs(db_url, tmp_path, ANYWHERE[name])


@pytest.mark.parametrize("name", ON_PLAIN)
async def test_what_else_plain_postgresql_reads(plain_url: str, tmp_path: Path, name: str) -> None:
    await prepare(plain_url)
    for statement in DISAGREE:
        await query(plain_url, statement)
    assert not await differs(plain_url, tmp_path, ON_PLAIN[name])


@pytest.mark.parametrize("name", ON_PLAIN)
async def test_what_else_plain_postgresql_reads_without_its_trigger(
    plain_lane: Lane, plain_url: str, tmp_path: Path, name: str
) -> None:
    if plain_lane.name == "citus" and name == "truncate":
        pytest.skip("on a cluster the note of what is stale after a TRUNCATE renews the versions, too")
    await prepare(plain_url)
    for statement in DISAGREE:
        await query(plain_url, statement)
    await take_off(plain_url, ON_PLAIN[name])
    assert await differs(plain_url, tmp_path, ON_PLAIN[name])


AGGREGATED = "CALL refresh_continuous_aggregate('candles_1h', '{}', '{}')"


async def aggregate_of_hours(url: str) -> str:
    ((table,),) = await query(
        url,
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'candles_1h'",
    )
    return str(table)


@pytest.mark.parametrize("has_triggers", [True, False])
async def test_a_refresh_by_the_database(timescale_url: str, tmp_path: Path, has_triggers: bool) -> None:
    """Hours are not what minutes say until a refresh; no candle of minutes changes then."""
    await prepare(timescale_url)
    table = await aggregate_of_hours(timescale_url)
    if not has_triggers:
        for trigger in ("renew_inserted_candles", "renew_deleted_candles"):
            await query(timescale_url, f"DROP TRIGGER {trigger} ON {table}")
    await query(timescale_url, f"UPDATE candles SET volume = 1 WHERE {OF_DAY}")
    async with both(timescale_url, tmp_path) as pair:
        assert await pair.are_equal("1h")
        before = (await pair.frames("1h"))[1]
        await run_outside_transaction(timescale_url, AGGREGATED.format("2023-02-09", "2023-02-12"))
        assert not before.equals((await pair.frames("1h"))[1])
        assert await pair.are_equal("1h") is has_triggers


async def test_a_refresh_that_hides_what_is_older(timescale_url: str, tmp_path: Path) -> None:
    """Where an aggregate is stored up to a later time, older hours that are not stored vanish from it."""
    await store_minutes(timescale_url, "BTC/USD", "2023-01-10", "2023-03-28")
    async with both(timescale_url, tmp_path) as pair:
        assert await pair.are_equal("1h")
        before = (await pair.frames("1h"))[0]
        assert len(before) == 77 * 24
        await run_outside_transaction(timescale_url, AGGREGATED.format("2023-03-20", "2023-03-28"))
        assert len((await pair.frames("1h"))[1]) < len(before)
        assert await pair.are_equal("1h")


async def test_dropped_and_compressed_chunks(timescale_url: str, tmp_path: Path) -> None:
    """No trigger sees either. What is compressed is the same, and its files stay what they are."""
    await prepare(timescale_url)
    async with both(timescale_url, tmp_path) as pair:
        assert await pair.are_equal("1m")
        files = stored(tmp_path)
        await query(timescale_url, "SELECT compress_chunk(c) FROM show_chunks('candles') c")
        assert await pair.are_equal("1m")
        assert stored(tmp_path) == files
        await query(timescale_url, "SELECT drop_chunks('candles', TIMESTAMPTZ '2023-02-01')")
        one, other = await pair.frames("1m")
        assert one.equals(other)
        assert len(one) < 35 * 144
        await query(timescale_url, "TRUNCATE candles")
        one, other = await pair.frames("1m")
        assert len(one) == len(other) == 0


async def test_rows_as_servers_without_transition_tables_see_them(timescale_url: str, tmp_path: Path) -> None:
    """TimescaleDB before 2.18: one trigger for each row, with the same effect."""
    for name, event in (("inserted", "INSERT"), ("updated", "UPDATE")):
        await query(timescale_url, f"DROP TRIGGER renew_{name}_candles ON candles")
        await query(
            timescale_url,
            f"CREATE TRIGGER renew_{name}_candles AFTER {event} ON candles FOR EACH ROW"
            " EXECUTE FUNCTION renew_changed_candle()",
        )
    await query(timescale_url, "DROP TRIGGER renew_replaced_candles ON candles")
    await prepare(timescale_url)
    for name, change in ANYWHERE.items():
        async with both(timescale_url, tmp_path) as pair:
            assert await pair.are_equal("1m"), name
            assert await pair.are_equal("1m", "ETH/USD"), name
            await query(timescale_url, change.statement)
            assert await pair.are_equal("1m"), name
            assert await pair.are_equal("1m", "ETH/USD"), name


async def versions(url: str) -> Sequence[Any]:
    return await query(url, "SELECT symbol, month, count(*) FROM candle_versions GROUP BY 1, 2 ORDER BY 1, 2")


async def test_one_version_of_each_month(db_url: str) -> None:
    await prepare(db_url)
    for _ in range(5):
        await query(db_url, f"UPDATE candles SET volume = volume + 1 WHERE {OF_DAY}")
    found = await versions(db_url)
    assert {count for _, _, count in found} == {1}
    assert [month.month for symbol, month, _ in found if symbol == "BTC/USD"][:2] == [1, 2]


async def test_writers_of_one_month_do_not_wait(plain_url: str) -> None:
    """Each in its own transaction, both open at once, and in the order in which a lock would be deadly."""
    await prepare(plain_url)
    row = "INSERT INTO candles VALUES ('{}/USD', '2023-02-10 0{}:01+00', 1, 7, 7, 7, 7, 7, NULL, 7, NULL)"
    async with (
        opened(plain_url) as store,
        asyncio.timeout(20),
        store.database.begin() as one,
        store.database.begin() as other,
    ):
        for symbol, first, second in (("BTC", one, other), ("ETH", other, one), ("XRP", one, other)):
            await first.execute(text(row.format(symbol, 1)))
            await second.execute(text(row.format(symbol, 2)))
    assert [count for symbol, _, count in await versions(plain_url) if symbol == "ETH/USD"] == [2]


async def test_a_new_store_at_the_same_address(plain_empty_url: str, tmp_path: Path) -> None:
    """Its rows were there before the triggers, and have no version."""
    for end in ("2023-02-05", "2023-02-09"):
        await migrations.upgrade(plain_empty_url, "1003")
        await store_minutes(plain_empty_url, "BTC/USD", "2023-02-01", end)
        await migrations.upgrade(plain_empty_url)
        assert len(await versions(plain_empty_url)) == 1
        async with both(plain_empty_url, tmp_path) as pair:
            for _ in range(2):
                assert await pair.are_equal("1m")
        await migrations.downgrade(plain_empty_url, "base")
    assert len(stored(tmp_path)) == 6


async def test_a_storm(db_url: str, tmp_path: Path) -> None:
    async with opened(db_url) as store:
        found = await CacheStorm(store, tmp_path, seed=1).run(commits=120, reads=60)
    assert found.wrong == []
    assert found.commits.total() >= 120
    assert found.reads >= 60


async def test_a_storm_without_a_trigger(plain_url: str, tmp_path: Path) -> None:
    """The storm sees what it is there for."""
    await change_triggers(plain_url, "DROP TRIGGER renew_inserted_candles ON candles")
    async with opened(plain_url) as store:
        found = await CacheStorm(store, tmp_path, 3).run(commits=300, reads=150, until_wrong=True)
    assert found.wrong


async def test_a_store_without_triggers_has_no_cache(plain_url: str, tmp_path: Path) -> None:
    await prepare(plain_url)
    await change_triggers(plain_url, "ALTER TABLE candles DISABLE TRIGGER USER")
    async with both(plain_url, tmp_path) as pair:
        for _ in range(2):
            assert await pair.are_equal("1m")
            await query(plain_url, ONE)
            assert await pair.are_equal("1m")
    assert stored(tmp_path) == []


async def test_a_subscriber_has_no_cache(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that another server sends fire no trigger on statements."""

    async def are_renewed(_self: CandleVersionRepository) -> bool:
        return False

    monkeypatch.setattr(CandleVersionRepository, "are_renewed", are_renewed)
    await prepare(plain_url)
    async with both(plain_url, tmp_path) as pair:
        for _ in range(2):
            assert await pair.are_equal("1m")
    assert stored(tmp_path) == []
    assert "no cache is used" in caplog.text
