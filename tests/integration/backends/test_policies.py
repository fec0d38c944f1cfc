"""Policies: what is set is what the database does, on both lanes; the same work by hand on TimescaleDB."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.maintenance import change_policies
from kraken_db.store import Store
from tests.support.archives import as_kraken_rows, import_file, minutes, query, read_candles, write
from tests.support.lanes import Lane
from tests.support.retention import HIGHER, MONDAY, WEEK, keep, maintain, trades
from tests.support.shell import run
from tests.support.stores import opened

JOBS = (
    "SELECT proc_name, hypertable_name, COALESCE(config ->> 'drop_after', config ->> 'compress_after'),"
    " job_id, schedule_interval FROM timescaledb_information.jobs"
    " WHERE proc_name IN ('policy_retention', 'policy_compression') ORDER BY 1, 2"
)


def document(url: str, *arguments: str) -> Any:
    done = run(url, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def lines(done: Result) -> list[str]:
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


async def in_database(url: str) -> list[tuple[str, str, str]]:
    return [(row[0].removeprefix("policy_"), row[1], row[2]) for row in await query(url, JOBS)]


# --- TimescaleDB's own policies ---


async def test_what_is_set_is_what_the_jobs_do(timescale_url: str) -> None:
    url = timescale_url
    before = await query(url, JOBS)
    done = await asyncio.to_thread(
        run, url, "policies", "set", "--trades-retention", "30d", "--candles-compression", "3w"
    )
    assert (done.exit_code, lines(done)) == (
        0,
        [
            "trades: retention after 30 days (until now: 90 days)",
            "trades: compression after 7 days (as before)",
            "nothing that is stored is that old; the next run of its job drops nothing",
            "candles: retention after 365 days (as before)",
            "candles: compression after 21 days (until now: 30 days)",
        ],
    )
    assert await in_database(url) == [
        ("compression", "candles", "21 days"),
        ("compression", "trades", "7 days"),
        ("retention", "candles", "365 days"),
        ("retention", "trades", "30 days"),
    ]
    # The same jobs, as often as before.
    assert [row[3:] for row in await query(url, JOBS)] == [row[3:] for row in before]
    shown = await asyncio.to_thread(document, url, "policies", "show")
    assert shown["tables"] == [
        {"table": "trades", "retention_seconds": 30 * 86400, "compression_seconds": 7 * 86400},
        {"table": "candles", "retention_seconds": 365 * 86400, "compression_seconds": 21 * 86400},
    ]
    refreshed = [job["relation"] for job in shown["jobs"] if job["task"] == "refresh"]
    assert sorted(refreshed) == sorted(view for interval, view in INTERVAL_VIEWS.items() if interval > 1)


async def test_never_and_back(timescale_url: str) -> None:
    url = timescale_url
    never = ("--trades-retention", "never", "--candles-retention", "never")
    done = await asyncio.to_thread(run, url, "policies", "set", *never)
    assert "trades: retention after never (until now: 90 days)" in lines(done)
    assert [row[0] for row in await in_database(url)] == ["compression", "compression"]
    again = await asyncio.to_thread(run, url, "policies", "set", *never)
    assert again.exit_code == 0
    shown = await asyncio.to_thread(run, url, "policies", "show")
    assert "candles retention never - - -" in lines(shown)
    assert "Kept" not in (await asyncio.to_thread(run, url, "status")).stdout
    await asyncio.to_thread(run, url, "policies", "set", "--candles-retention", "2y")
    assert ("retention", "candles", "730 days") in await in_database(url)
    assert "Kept candles 730 days" in " ".join((await asyncio.to_thread(run, url, "status")).stdout.split())


async def test_all_of_a_change_or_none(timescale_url: str) -> None:
    before = await query(timescale_url, JOBS)
    done = await asyncio.to_thread(
        run, timescale_url, "policies", "set", "--trades-retention", "30d", "--candles-retention", "9d"
    )
    assert done.exit_code == 2
    assert "Error: candles cannot be dropped after 9 days: 5m to 1h are computed from" in done.stderr
    assert await query(timescale_url, JOBS) == before


async def test_a_paused_job_stays_paused(timescale_url: str) -> None:
    url = timescale_url
    await query(url, f"SELECT alter_job(job_id, scheduled => false) FROM ({JOBS}) j")
    await asyncio.to_thread(run, url, "policies", "set", "--trades-retention", "30d")
    shown = await asyncio.to_thread(document, url, "policies", "show")
    states = {(job["relation"], job["task"]): job["state"] for job in shown["jobs"]}
    assert states["trades", "retention"] == states["candles", "compression"] == "paused"
    assert states["candles_1h", "refresh"] != "paused"


# --- plain PostgreSQL ---


async def test_plain_postgresql_keeps_everything_until_it_is_told(plain_url: str, tmp_path: Path) -> None:
    url = plain_url
    assert lines(await asyncio.to_thread(run, url, "policies", "show")) == [
        "table dropped after",
        "trades never",
        "candles never",
        "Nothing is done by itself here: kraken-db db maintain drops what is older.",
    ]
    nothing = await asyncio.to_thread(run, url, "db", "maintain")
    assert (nothing.exit_code, lines(nothing)[-1]) == (0, "Nothing to do")
    assert "no retention is set. To set one: kraken-db policies set --trades-retention 90d" in nothing.stderr

    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(60)))
    done = await asyncio.to_thread(run, url, "policies", "set", "--candles-retention", "52w")
    assert lines(done)[0] == "candles: retention after 364 days (until now: never)"
    assert "the next kraken-db db maintain drops what is from before" in lines(done)[1]
    assert lines(done)[1].endswith("(the oldest is from 2023-01-01 00:00)")
    assert await query(url, "SELECT table_name, kept_for FROM retention_periods") == [
        ("candles", timedelta(days=364))
    ]
    shown = lines(await asyncio.to_thread(run, url, "status"))
    assert "Kept candles 364 days (kraken-db db maintain drops older ones; higher intervals stay)" in shown

    dry = await asyncio.to_thread(run, url, "db", "maintain", "--dry-run")
    assert lines(dry)[-1] == "Would drop 60 rows. Nothing was changed"
    report = await asyncio.to_thread(document, url, "db", "maintain")
    assert [(table["table"], table["dropped_rows"]) for table in report["tables"]] == [
        ("trades", 0),
        ("candles", 60),
    ]
    assert [row[6] for row in as_kraken_rows(await read_candles(url, "BTC/USD", 60))] == [420]
    await asyncio.to_thread(run, url, "policies", "set", "--candles-retention", "never")
    assert await query(url, "SELECT * FROM retention_periods") == []


async def test_plain_postgresql_compresses_nothing(plain_lane: Lane, plain_url: str) -> None:
    database = "Citus" if plain_lane.name == "citus" else "a plain PostgreSQL"
    options = ("--trades-retention", "30d", "--candles-compression", "7d")
    done = await asyncio.to_thread(run, plain_url, "policies", "set", *options)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: candles cannot be compressed: this database is {database}. Compression needs TimescaleDB\n"
    )
    assert await query(plain_url, "SELECT * FROM retention_periods") == []


@pytest.mark.parametrize("options", [(), ("--trades-retention", "3x"), ("--trades-retention", "0")])
def test_wrong_usage(plain_url: str, options: tuple[str, ...]) -> None:
    done = run(plain_url, "policies", "set", *options)
    assert done.exit_code == 2
    assert "kraken-db policies set --help" in done.stderr


# --- kraken-db db maintain on TimescaleDB ---


async def compress_after(url: str, candles: timedelta | None) -> None:
    async with opened(url) as store:
        await change_policies(store, {"candles": {"compression": candles}})


async def higher(url: str, symbol: str) -> dict[int, Any]:
    return {interval: await read_candles(url, symbol, interval) for interval in HIGHER}


async def test_chunks_are_dropped_and_compressed(timescale_url: str, tmp_path: Path) -> None:
    """Chunks of candles begin on Thursdays: the 5th, 12th and 19th of January."""
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(3 * WEEK, start=MONDAY)))
    before = await higher(url, "BTC/USD")
    await compress_after(url, timedelta(days=6))
    await keep(url, candles=timedelta(days=10))
    now = datetime(2023, 1, 26, tzinfo=UTC)

    dry = (await maintain(url, now, dry_run=True)).tables[1]
    assert (dry.dropped_rows, dry.dropped_pieces, dry.compressed_pieces) == (10 * 1440, 2, 1)
    assert await query(url, "SELECT count(*) FROM candles") == [(3 * WEEK,)]

    done = (await maintain(url, now)).tables[1]
    assert (done.before, done.dropped_rows) == (datetime(2023, 1, 16, tzinfo=UTC), 10 * 1440)
    assert (done.dropped_pieces, done.compressed_pieces, done.waiting_pieces) == (2, 1, 0)
    assert done.freed_bytes is not None
    assert done.freed_bytes > 0
    assert await query(url, "SELECT count(*), min(timestamp) FROM candles") == [
        (11 * 1440, datetime(2023, 1, 12, tzinfo=UTC))
    ]
    assert await query(
        url,
        "SELECT range_start, is_compressed FROM timescaledb_information.chunks"
        " WHERE hypertable_name = 'candles' ORDER BY 1",
    ) == [(datetime(2023, 1, 12, tzinfo=UTC), True), (datetime(2023, 1, 19, tzinfo=UTC), False)]
    assert await higher(url, "BTC/USD") == before

    again = (await maintain(url, now)).tables[1]
    assert (again.dropped_rows, again.dropped_pieces, again.compressed_pieces) == (0, 0, 0)
    assert await higher(url, "BTC/USD") == before


async def test_what_another_program_wrote_is_aggregated_before_it_goes(timescale_url: str) -> None:
    """No note says that it waits for a refresh, and it is too old for the policies."""
    url = timescale_url
    await query(
        url,
        "INSERT INTO candles SELECT 'BTC/USD', m, 1, 1, 2, 1, 2, 1, NULL, 3, NULL FROM generate_series("
        "TIMESTAMPTZ '2023-01-02 00:00+00', TIMESTAMPTZ '2023-01-02 23:59+00', INTERVAL '1 minute') m",
    )
    await query(url, "INSERT INTO data_sync_status (symbol, data_type) VALUES ('BTC/USD', 'candles_1m')")
    await compress_after(url, None)
    await keep(url, candles=timedelta(days=10))
    done = (await maintain(url, datetime(2023, 2, 1, tzinfo=UTC))).tables[1]
    assert done.dropped_rows == 1440
    assert [row[6] for row in as_kraken_rows(await read_candles(url, "BTC/USD", 1440))] == [3 * 1440]
    assert [row[6] for row in as_kraken_rows(await read_candles(url, "BTC/USD", 5))] == [15] * 288


async def test_what_waits_for_its_refresh_stays(
    timescale_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(2 * WEEK, start=MONDAY)))
    await compress_after(url, None)
    await keep(url, candles=timedelta(days=10))
    await query(
        url,
        "INSERT INTO pending_refresh (symbol, stale) VALUES"
        " ('BTC/USD', '[2023-01-06 00:00+00,2023-01-06 00:01+00)')",
    )

    async def not_now(self: Store, also: object = ()) -> None:
        pass

    monkeypatch.setattr(Store, "refresh_pending", not_now)
    done = (await maintain(url, datetime(2023, 2, 1, tzinfo=UTC))).tables[1]
    assert (done.dropped_pieces, done.waiting_pieces) == (2, 1)
    assert await query(url, "SELECT min(timestamp), max(timestamp) FROM candles") == [
        (datetime(2023, 1, 5, tzinfo=UTC), datetime(2023, 1, 11, 23, 59, tzinfo=UTC))
    ]


async def test_a_chunk_of_trades_goes_when_all_of_it_has_candles(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    await import_file(
        url, write(tmp_path, "XBTUSD.csv", trades(MONDAY, 30, first_id=11)), build_candles=False
    )
    await keep(url, trades=timedelta(days=20))
    now = datetime(2023, 2, 1, tzinfo=UTC)
    report = await maintain(url, now)
    assert (report.built_candles, report.tables[0].dropped_rows, report.tables[0].kept_minutes) == (8, 0, 2)
    assert await query(url, "SELECT count(*) FROM trades") == [(30,)]
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(10, start=MONDAY)))
    report = await maintain(url, now)
    assert (report.built_candles, report.tables[0].dropped_rows, report.tables[0].kept_minutes) == (0, 30, 0)
    assert await query(url, "SELECT count(*) FROM trades") == [(0,)]
    assert [row[6] for row in as_kraken_rows(await read_candles(url, "BTC/USD", 1440))] == [70]
