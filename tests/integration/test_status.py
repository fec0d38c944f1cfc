"""The state of a store on both lanes: what is planted is what is told, and no row of data is looked at."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import StaleRange
from kraken_db.backends.pending_refresh import PendingRefreshWriter
from kraken_db.data_types import DataType
from kraken_db.ranges import TimeRange
from kraken_db.repositories.ledger import Ledger, Stored
from kraken_db.status import MOST_RANGES, DataStatus, StoreStatus, read_status
from kraken_db.store import Store
from tests.support import stores
from tests.support.archives import import_file, minutes, query, write
from tests.support.problems import problem_texts
from tests.support.shell import run

DAY = timedelta(days=1)
NOW = datetime(2024, 5, 20, 12, tzinfo=UTC)


def day(month: int, number: int) -> datetime:
    return datetime(2024, month, number, tzinfo=UTC)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Store, AsyncConnection]]:
    """What is written to the connection is gone afterwards."""
    async with stores.opened(url, pool_max_size=1) as store, store.database.read() as connection:
        yield store, connection


async def plant(
    connection: AsyncConnection, symbol: str, data_type: DataType, **covered: Iterable[TimeRange]
) -> None:
    """Coverage by source, and a row of the counters."""
    ledger = Ledger(connection)
    await ledger.cover(
        (symbol, data_type, source, ranges)  # type: ignore[misc]
        for source, ranges in covered.items()
    )
    await ledger.count([Stored(symbol, data_type, oldest=day(1, 10), newest=day(5, 20), added=1234)])


async def status_of(
    store: Store, connection: AsyncConnection, symbols: Sequence[str] | None = None
) -> StoreStatus:
    return await read_status(connection, store.backend, NOW, symbols)


def months(item: DataStatus) -> str:
    """From January on: # full, + part, . none, - dropped."""
    characters = {"full": "#", "part": "+", "none": ".", "dropped": "-"}
    blank = " " * (item.months[0].first_day.month - 1)
    assert [month.first_day for month in item.months] == [
        date(2024, len(blank) + 1 + n, 1) for n in range(len(item.months))
    ]
    return blank + "".join(characters[month.state] for month in item.months)


async def test_gaps_and_months_are_those_of_all_sources_together(plain_url: str) -> None:
    async with opened(plain_url) as (store, connection):
        await plant(
            connection,
            "BTC/USD",
            DataType.CANDLES_1M,
            csv=[(day(1, 10), day(3, 1)), (day(4, 2), day(4, 10))],
            rest_ohlc=[(day(2, 20), day(3, 5)), (day(4, 10), day(5, 1)), (day(5, 20), NOW)],
        )
        await plant(connection, "BTC/USD", DataType.TRADES, live=[(day(1, 10), day(5, 20))])
        status = await status_of(store, connection)
    trades, candles = status.data
    assert (trades.data_type, candles.data_type) == ("trades", "candles_1m")
    assert (candles.sources, candles.rows, candles.ranges) == (("csv", "rest_ohlc"), 1234, 3)
    # Between 5 March, 2 April, 1 May and 20 May.
    assert candles.gaps == 2
    assert candles.covered == ((day(1, 10), day(3, 5)), (day(4, 2), day(5, 1)), (day(5, 20), NOW))
    assert (candles.lag, trades.lag) == (timedelta(0), timedelta(hours=12))
    assert months(candles) == "##+++"
    assert (months(trades), trades.gaps) == ("#####", 0)
    assert problem_texts(status) == [
        "BTC/USD 1m has 2 gaps, the longest from 2024-03-05 00:00 to 2024-04-02 00:00 UTC."
        " To fill: kraken-db gaps fill BTC/USD"
    ]


async def test_a_hole_in_the_trades_is_a_gap_where_their_minutes_are_not_known(plain_url: str) -> None:
    """Of three, one lies in a minute that OHLC knows, one in two minutes of which it knows one."""
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    begin = day(1, 10)
    holes = [begin + number * 10 * minute for number in (1, 2, 3)]
    ends = [holes[0] + 20 * second, holes[1] + 80 * second, holes[2] + 10 * second]
    trades = list(zip([begin, *ends], [*holes, day(1, 11)], strict=True))
    known = [(hole, hole + minute) for hole in holes[:2]]
    async with opened(plain_url) as (store, connection):
        await plant(connection, "BTC/USD", DataType.TRADES, rest_trades=trades)
        await plant(connection, "BTC/USD", DataType.CANDLES_1M, rest_ohlc=known)
        found, _ = (await status_of(store, connection)).data
    assert (found.data_type, found.ranges, found.gaps) == ("trades", 4, 2)


async def test_dropped_months_and_months_without_anything(plain_url: str) -> None:
    async with opened(plain_url) as (store, connection):
        await plant(
            connection, "BTC/USD", DataType.TRADES, csv=[(day(1, 10), day(3, 10)), (day(5, 1), day(5, 2))]
        )
        await Ledger(connection).drop("BTC/USD", DataType.TRADES, [(day(1, 1), day(2, 20))])
        (trades,) = (await status_of(store, connection)).data
    assert months(trades) == "-#+.#"


async def test_only_the_pairs_that_are_asked_for(plain_url: str) -> None:
    async with opened(plain_url) as (store, connection):
        for symbol in ("BTC/USD", "ETH/USD", "SOL/USD"):
            await plant(connection, symbol, DataType.TRADES, csv=[(day(1, 10), day(5, 20))])
        status = await status_of(store, connection, ["ETH/USD", "XRP/USD"])
    assert [item.symbol for item in status.data] == ["ETH/USD"]
    assert status.last_sync is not None


async def test_ten_thousand_ranges_are_counted_and_not_sent(plain_url: str) -> None:
    minute = timedelta(minutes=1)
    # One minute in five: 34 days, 17 hours and 20 minutes from 10 January on.
    many = [(day(1, 10) + 5 * n * minute, day(1, 10) + (5 * n + 1) * minute) for n in range(10_000)]
    async with opened(plain_url) as (store, connection):
        await plant(connection, "BTC/USD", DataType.CANDLES_1M, rest_ohlc=many)
        await plant(connection, "ETH/USD", DataType.CANDLES_1M, rest_ohlc=many[:MOST_RANGES])
        many_status, fewer = (await status_of(store, connection)).data
    assert (many_status.gaps, many_status.covered) == (9999, None)
    assert months(many_status) == "++..."
    assert fewer.covered == tuple(many[:MOST_RANGES])


async def test_what_a_killed_run_left_is_told_from_what_a_run_is_at(plain_url: str) -> None:
    async with opened(plain_url) as (store, connection):
        for symbol in ("BTC/USD", "ETH/USD", "SOL/USD"):
            await plant(connection, symbol, DataType.CANDLES_1M, csv=[(day(1, 10), day(5, 20))])
            await PendingRefreshWriter(connection).add(StaleRange(symbol, day(2, 1), day(2, 2)))
        # A refresh has been over it: what is left waits for its candles to close.
        await PendingRefreshWriter(connection).add(StaleRange("SOL/USD", day(5, 1), day(5, 2), NOW))
        for symbol, minutes_ago in (("BTC/USD", 61), ("ETH/USD", 59), ("SOL/USD", 0)):
            await connection.execute(
                text("UPDATE data_sync_status SET last_sync_at = :at WHERE symbol = :symbol"),
                {"at": NOW - timedelta(minutes=minutes_ago), "symbol": symbol},
            )
        status = await status_of(store, connection)
    assert (status.pending_refreshes, status.pending_from) == (3, day(2, 1))
    assert (status.stalled_refreshes, status.last_sync) == (1, NOW)
    assert len(problem_texts(status)) == 1


# --- both lanes ---


async def test_sizes_are_those_of_the_files(db_url: str, tmp_path: Path) -> None:
    before = await sizes(db_url)
    assert set(before) == {"trades", "candles", "higher intervals"}
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(20_000)))
    after = await sizes(db_url)
    # A minute takes about 150 bytes with its two indexes.
    assert 1_500_000 < after["candles"] - before["candles"] < 6_000_000
    assert after["trades"] == before["trades"]
    assert after["higher intervals"] >= before["higher intervals"]


async def sizes(url: str) -> dict[str, int]:
    async with opened(url) as (store, connection):
        status = await status_of(store, connection)
    assert status.database_size > sum(table.size for table in status.tables)
    return {table.table: table.size for table in status.tables}


async def test_no_row_of_data_is_looked_at(db_url: str, tmp_path: Path) -> None:
    """By the plan of each statement, and by the server's own count of scans."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(3000)))
    async with opened(db_url) as (store, connection):
        seen: list[tuple[str, Any]] = []
        engine = connection.engine.sync_engine

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            seen.append((statement, parameters))

        before = await scans(connection)
        event.listen(engine, "before_cursor_execute", note)
        status = await status_of(store, connection)
        await store.backend.policies(connection)
        event.remove(engine, "before_cursor_execute", note)
        scanned = {name for name, count in (await scans(connection)).items() if count > before.get(name, 0)}
        assert [item.rows for item in status.data] == [3000]
        assert len(seen) >= 8
        relations: set[str] = set()
        for statement, parameters in seen:
            found = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            plan = found.scalar_one()
            relations |= set(relations_of(json.loads(plan) if isinstance(plan, str) else plan))
        assert {"data_sync_status", "data_coverage", "pending_refresh"} <= relations
        assert not [name for name in relations if holds_data(name)]
        assert "data_sync_status" in scanned or store.backend.shards is not None
        assert not [name for name in scanned if holds_data(name)]


async def scans(connection: AsyncConnection) -> dict[str, int]:
    """How often each table has been read: the server's own count, the running transaction included."""
    rows = await connection.execute(
        text("SELECT relname, seq_scan + COALESCE(idx_scan, 0) FROM pg_stat_xact_all_tables")
    )
    return dict(rows.all())


def relations_of(plan: Any) -> Iterable[str]:
    if isinstance(plan, list):
        for part in plan:
            yield from relations_of(part)
    elif isinstance(plan, dict):
        if "Relation Name" in plan:
            yield re.sub(r"_\d{6,}$", "", plan["Relation Name"])  # of a shard, that of its table
        for value in plan.values():
            yield from relations_of(value)


def holds_data(relation: str) -> bool:
    """Trades and candles, their chunks and those of the aggregates, compressed ones too."""
    chunks = ("_hyper_", "compress_hyper_", "_materialized_", "_compressed_hyper")
    return relation.startswith(("trades", "candles", "rolled", *chunks))


async def test_a_scan_would_be_seen(db_url: str, tmp_path: Path) -> None:
    """The test above can fail: on both lanes a look at the candles shows in the plan and in the counts."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    async with opened(db_url) as (store, connection):
        before = await scans(connection)
        plan = await connection.scalar(text("EXPLAIN (FORMAT JSON) SELECT max(close) FROM candles"))
        assert any(map(holds_data, relations_of(json.loads(plan) if isinstance(plan, str) else plan)))
        await connection.execute(text("SELECT max(close) FROM candles"))
        after = await scans(connection)
        # The workers of a cluster count theirs for themselves.
        seen = any(holds_data(name) for name, count in after.items() if count > before.get(name, 0))
        assert seen is (store.backend.shards is None)


# --- TimescaleDB ---


async def test_compression_and_what_retention_dropped(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    # Eight days from a Thursday on: two chunks of candles.
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(12_000, start=1672876800)))
    async with opened(url) as (store, connection):
        before = await status_of(store, connection)
    (candles,) = [table for table in before.tables if table.table == "candles"]
    assert (candles.chunks, candles.compressed_chunks, candles.compression_ratio) == (2, 0, None)
    await query(url, "SELECT compress_chunk(c, true) FROM show_chunks('candles') c ORDER BY c LIMIT 1")
    async with opened(url) as (store, connection):
        (packed,) = [t for t in (await status_of(store, connection)).tables if t.table == "candles"]
    assert (packed.chunks, packed.compressed_chunks) == (2, 1)
    (stats,) = await query(
        url,
        "SELECT before_compression_total_bytes, after_compression_total_bytes"
        " FROM hypertable_compression_stats('candles')",
    )
    assert packed.compression_ratio == stats[0] / stats[1] > 2
    # The server's own way to say it.
    ((size,),) = await query(url, "SELECT hypertable_size('candles')")
    assert packed.size == size
    shown = (await asyncio.to_thread(run, url, "status")).stdout
    assert f"Packed    candles {stats[0] / stats[1]:.1f} : 1 (1 of 2 chunks)" in shown
    await query(url, "SELECT drop_chunks('candles', older_than => TIMESTAMPTZ '2099-01-01')")
    async with opened(url) as (store, connection):
        (minute,) = (await status_of(store, connection)).data
    assert minute.months[0].state == "dropped"
    assert minute.gaps == 0


async def test_failing_jobs_are_told_with_their_reason(timescale_url: str) -> None:
    url = timescale_url
    async with opened(url) as (store, connection):
        assert not [
            problem for problem in problem_texts(await status_of(store, connection)) if "fail" in problem
        ]
        (job_id,) = await connection.scalars(
            text(
                "SELECT job_id FROM timescaledb_information.jobs"
                " WHERE proc_name = 'policy_retention' AND hypertable_name = 'trades'"
            )
        )
        await fail_job(connection, job_id)
        found = await status_of(store, connection)
    (failing,) = [job for job in found.jobs if job.succeeded is False]
    assert (failing.relation, failing.task, failing.last_error) == (
        "trades",
        "retention",
        "out of shared memory",
    )
    assert "retention of trades is failing (2 failures): out of shared memory" in problem_texts(found)


@pytest.mark.parametrize(
    ("crashed", "began", "noticed", "told"),
    [
        (0, "5 seconds", False, "running"),
        (2, "5 seconds", False, "running, 2 crashes"),
        (1, "5 seconds", True, "crashed, 1"),
        (3, "1 hour", True, "crashed, 3"),
        # A server that went down with it, and has not looked at it since.
        (0, "1 hour", False, "crashed, 1"),
    ],
)
async def test_jobs_that_run_and_jobs_that_crashed(
    timescale_url: str, crashed: int, began: str, noticed: bool, told: str
) -> None:
    """As the scheduler notes a start: no end, no next run. A crash is a row without end and process."""
    async with opened(timescale_url) as (store, connection):
        (job_id,) = await connection.scalars(
            text(
                "SELECT job_id FROM timescaledb_information.jobs"
                " WHERE proc_name = 'policy_retention' AND hypertable_name = 'trades'"
            )
        )
        await forget_runs(connection, job_id)
        await connection.execute(
            text(
                "INSERT INTO _timescaledb_internal.bgw_job_stat VALUES (:job,"
                " now() - CAST(:began AS interval), '-infinity', '-infinity', '-infinity', false,"
                " 4, '0', '0', 0, 0, 4, 0, 4, 0)"
            ),
            {"job": job_id, "began": parse_interval(began)},
        )
        for number in range(crashed):
            # The last of those that were noticed is the run that has no end.
            age = f"{0 if noticed and number == 0 else number + 1} days"
            await connection.execute(
                text(
                    "INSERT INTO _timescaledb_internal.bgw_job_stat_history (job_id, pid, execution_start)"
                    " VALUES (:job, NULL, now() - CAST(:began AS interval) - CAST(:age AS interval))"
                ),
                {"job": job_id, "began": parse_interval(began), "age": parse_interval(age)},
            )
        found = await status_of(store, connection)
    (job,) = [one for one in found.jobs if (one.task, one.relation) == ("retention", "trades")]
    if told.startswith("running"):
        assert job.running_since is not None
        assert job.crashed_at is None
        assert job.crashes == crashed
    else:
        assert (job.running_since, job.crashes) == (None, int(told.removeprefix("crashed, ")))
        assert job.crashed_at == job.last_run
    named = [problem for problem in problem_texts(found) if problem.startswith("retention of trades")]
    assert len(named) == (0 if told == "running" else 1)


def parse_interval(words: str) -> timedelta:
    number, unit = words.split()
    return timedelta(**{unit if unit.endswith("s") else f"{unit}s": int(number)})


async def forget_runs(connection: AsyncConnection, job_id: int) -> None:
    """What a scheduler that runs has noted, or would note before the transaction ends."""
    for table in ("bgw_job_stat", "bgw_job_stat_history"):
        await connection.execute(
            text(f"DELETE FROM _timescaledb_internal.{table} WHERE job_id = :job"), {"job": job_id}
        )


async def fail_job(connection: AsyncConnection, job_id: int) -> None:
    """As the scheduler, which the WASM server has not, would note a run that failed."""
    await forget_runs(connection, job_id)
    await connection.execute(
        text(
            "INSERT INTO _timescaledb_internal.bgw_job_stat VALUES (:job, now() - INTERVAL '1 min', now(),"
            " now() + INTERVAL '1 hour', '-infinity', false, 2, '0', '0', 0, 2, 0, 2, 0, 0)"
        ),
        {"job": job_id},
    )
    await connection.execute(
        text(
            "INSERT INTO _timescaledb_internal.bgw_job_stat_history"
            " (job_id, pid, execution_start, execution_finish, succeeded, data)"
            " VALUES (:job, 1, now() - INTERVAL '1 min', now(), false,"
            ' \'{"error_data": {"message": "out of shared memory"}}\')'
        ),
        {"job": job_id},
    )


# --- the command ---


@pytest.mark.parametrize("max_lag", ["1d", "never"])
async def test_the_command_checks_on_both_lanes(db_url: str, tmp_path: Path, max_lag: str) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(60)))
    done = await asyncio.to_thread(run, db_url, "status", "--check", "--max-lag", max_lag, "--json")
    (entry,) = json.loads(done.stdout)["symbols"]
    assert entry["data"][0]["months"]["2023-01"] == "part"
    if max_lag == "never":
        assert (done.exit_code, done.stderr) == (0, "")
    else:
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: check failed: BTC/USD 1m is ")
        assert done.stderr.count("\n") == 1
