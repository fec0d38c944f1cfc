"""A store is copied: every table and every view of it is the same afterwards, killed on the way or not."""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend
from kraken_db.bulk_csv_importer import FileReport
from kraken_db.cli import cli
from kraken_db.db.locks import JobLock
from kraken_db.errors import ConfigurationError, DatabaseError, PairError, SchemaError
from kraken_db.ingest import copying
from kraken_db.models import CANDLES
from kraken_db.repositories.pair_facts import PairFacts, read_facts
from kraken_db.store import Store
from kraken_db.store_copy import StoreCopy
from tests.support.archives import import_file, minutes, query, write
from tests.support.copies import (
    OF_ROWS,
    copied,
    drop_old,
    everything_of,
    fill,
    fill_four,
    killed_on_the_way,
)
from tests.support.retention import MONDAY, keep, trades
from tests.support.shell import Shell
from tests.support.stores import opened, opened_database


async def test_plain_to_plain(plain_url: str, plain_empty_url: str, tmp_path: Path) -> None:
    await fill(plain_url, tmp_path)
    await drop_old(plain_url)
    before = await everything_of(plain_url)
    assert all(before.values()), [name for name, rows in before.items() if not rows]
    assert any("t)" in str(row) for row in before["rolled_candles"]), "some are kept"
    report = await copied(plain_url, plain_empty_url)
    assert (list(report.copied), report.failed) == (["ADA/USD", "BTC/USD", "ETH/USD"], [])
    assert report.copied["BTC/USD"].kept > 0
    assert await everything_of(plain_empty_url) == before
    assert await everything_of(plain_url) == before

    again = await copied(plain_url, plain_empty_url)
    assert (list(again.copied), again.equal) == ([], ["ADA/USD", "BTC/USD", "ETH/USD"])


async def test_to_timescale_and_back(
    plain_url: str, timescale_empty_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    await fill(plain_url, tmp_path)
    await drop_old(plain_url)
    before = await everything_of(plain_url)
    assert (await copied(plain_url, timescale_empty_url)).failed == []
    there = await everything_of(timescale_empty_url, *OF_ROWS)
    assert there == {name: before[name] for name in there}
    await copied(timescale_empty_url, plain_empty_url)
    assert await everything_of(plain_empty_url) == before


async def test_what_timescale_has_dropped_by_chunks(
    timescale_url: str, plain_empty_url: str, timescale_empty_url: str, tmp_path: Path
) -> None:
    """No row says there that it was dropped; elsewhere one does."""
    await fill(timescale_url, tmp_path)
    await query(
        timescale_url, "SELECT drop_chunks('candles', older_than => TIMESTAMPTZ '2023-01-10 00:00+00')"
    )
    await query(
        timescale_url, "SELECT drop_chunks('trades', older_than => TIMESTAMPTZ '2023-01-04 00:00+00')"
    )
    before = await everything_of(timescale_url, *OF_ROWS)
    assert before["dropped_ranges"] == []
    await copied(timescale_url, plain_empty_url)
    after = await everything_of(plain_empty_url, *OF_ROWS)
    dropped = after.pop("dropped_ranges")
    assert after == {name: before[name] for name in after}
    assert len(dropped) == 3
    assert await query(plain_empty_url, "SELECT count(*) FROM rolled_candles WHERE kept") != [(0,)]
    await copied(plain_empty_url, timescale_empty_url)
    back = await everything_of(timescale_empty_url, *OF_ROWS)
    assert back.pop("dropped_ranges") == dropped
    assert back == after


async def test_no_chunk_is_compressed_or_dropped_under_a_copy(timescale_url: str, tmp_path: Path) -> None:
    """Its rows would be gone for a snapshot that has not read them yet."""
    process = "SELECT pg_backend_pid()"
    if await query(timescale_url, process) == await query(timescale_url, process):
        pytest.skip("this server has one session")
    await import_file(timescale_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    chunks = "SELECT {}(c) FROM show_chunks('candles') c"
    for away in (chunks.format("compress_chunk"), "SELECT drop_chunks('candles', now())"):
        async with opened(timescale_url) as store, copying.snapshot(store, "BTC/USD") as connection:
            async with opened_database(timescale_url) as database, database.begin() as other:
                await other.exec_driver_sql("SET LOCAL lock_timeout TO '500ms'")
                with pytest.raises(DBAPIError, match="lock timeout"):
                    await other.exec_driver_sql(away)
                await other.rollback()
            assert await connection.scalar(select(func.count()).select_from(CANDLES)) == 10
    assert await query(timescale_url, chunks.format("compress_chunk"))


async def test_own_ids_never_meet_those_that_were_copied(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    await fill(plain_url, tmp_path)
    await copied(plain_url, plain_empty_url)
    ((last,),) = await query(plain_url, "SELECT max(id) FROM trades WHERE id < 0")
    ((following,),) = await query(plain_empty_url, "SELECT nextval('trades_id_seq')")
    assert following == last + 1


async def test_a_pair_that_is_written_meanwhile_is_copied_as_it_was(
    plain_url: str, plain_empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(plain_url, tmp_path)
    before = await everything_of(plain_url)

    later = write(tmp_path, "XBTUSD_1.csv", f"{MONDAY - 60},1,1,1,1,77,1\n")
    writing: list[asyncio.Task[FileReport]] = []

    async def read_and_write(connection: AsyncConnection, backend: Backend, symbol: str) -> PairFacts:
        facts = await read_facts(connection, backend, symbol)
        if not writing:
            writing.append(asyncio.create_task(import_file(plain_url, later)))
            if backend.shards is None:  # on a cluster, writers wait for the copy
                await writing[0]
        return facts

    monkeypatch.setattr(copying, "read_facts", read_and_write)
    for symbol in ("BTC/USD", "ADA/USD", "ETH/USD"):
        await copied(plain_url, plain_empty_url, symbol)
    assert (await writing[0]).new == 1
    assert await everything_of(plain_empty_url) == before

    report = await copied(plain_url, plain_empty_url)
    assert [(symbol, error.message) for symbol, error in report.failed] == [
        ("BTC/USD", "BTC/USD: the target has something else of it")
    ]
    assert await everything_of(plain_empty_url) == before
    assert list((await copied(plain_url, plain_empty_url, replaces=True)).copied) == ["BTC/USD"]
    assert await everything_of(plain_empty_url) == await everything_of(plain_url)


async def test_one_changed_row_makes_a_pair_another_one(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    await fill(plain_url, tmp_path)
    await copied(plain_url, plain_empty_url)
    await query(plain_empty_url, "UPDATE trades SET misc = 'x' WHERE id = 50")
    assert (await copied(plain_url, plain_empty_url, checks=False)).failed == []
    assert [symbol for symbol, _ in (await copied(plain_url, plain_empty_url)).failed] == ["BTC/USD"]


async def test_what_is_not_the_same_is_not_committed(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    await fill(plain_url, tmp_path)
    async with StoreCopy(plain_url, plain_empty_url):
        pass
    await query(
        plain_empty_url,
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.volume := NEW.volume + 0.0000000001; RETURN NEW; END $$",
    )
    await query(
        plain_empty_url,
        "CREATE TRIGGER spoil BEFORE INSERT ON trades FOR EACH ROW WHEN (NEW.id = 50)"
        " EXECUTE FUNCTION spoil()",
    )
    report = await copied(plain_url, plain_empty_url)
    assert (list(report.copied), [symbol for symbol, _ in report.failed]) == (
        ["ADA/USD", "ETH/USD"],
        ["BTC/USD"],
    )
    assert "are not the same; nothing of it was committed" in report.failed[0][1].message
    assert await query(plain_empty_url, "SELECT DISTINCT symbol FROM candles ORDER BY 1") == [
        ("ADA/USD",),
        ("ETH/USD",),
    ]


async def test_pairs_that_are_at_work_are_left_alone(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    await fill(plain_url, tmp_path)
    await copied(plain_url, plain_empty_url, "ETH/USD", "ADA/USD")
    async with opened(plain_empty_url) as store, JobLock(store.database, "recording", "BTC/USD"):
        report = await copied(plain_url, plain_empty_url)
    assert (list(report.copied), report.equal, [symbol for symbol, _ in report.failed]) == (
        [],
        ["ADA/USD", "ETH/USD"],
        ["BTC/USD"],
    )


async def test_policies_of_a_target_that_has_pairs_stay(
    plain_url: str, timescale_url: str, tmp_path: Path
) -> None:
    await import_file(timescale_url, write(tmp_path, "XBTEUR_1.csv", minutes(10)))
    await fill(plain_url, tmp_path)
    report = await copied(plain_url, timescale_url, "BTC/*")
    assert {table: period.days for table, period in report.keeps_less.items()} == {
        "trades": 90,
        "candles": 365,
    }
    assert await query(timescale_url, "SELECT DISTINCT symbol FROM candles ORDER BY 1") == [
        ("BTC/EUR",),
        ("BTC/USD",),
    ]


async def test_wrong_inputs(plain_url: str, plain_empty_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    with pytest.raises(ConfigurationError, match="the same database"):
        await copied(plain_url, plain_url)
    with pytest.raises(SchemaError):
        await copied(plain_empty_url, plain_url)
    with pytest.raises(ConfigurationError):
        await copied(f"embedded:///{tmp_path / 'none'}", plain_url)
    with pytest.raises(PairError, match="nothing is stored of ADA/USD"):
        await copied(plain_url, plain_empty_url, "ADA/USD")


def test_the_command(plain_url: str, plain_empty_url: str, tmp_path: Path) -> None:
    for name in ("XBTUSD", "ETHUSD"):
        asyncio.run(import_file(plain_url, write(tmp_path, f"{name}_1.csv", minutes(10))))
    shell = Shell(tmp_path)
    planned = shell.run("db", "copy", plain_url, plain_empty_url, "--dry-run")
    assert (planned.returncode, planned.stdout.splitlines()[1:]) == (
        0,
        ["BTC/USD       0       10  missing", "ETH/USD       0       10  missing"],
    )
    assert planned.stderr.endswith("Would copy 2 pairs. Nothing was changed.\n")
    assert asyncio.run(query(plain_empty_url, "SELECT to_regclass('candles')")) == [(None,)]
    done = shell.run("db", "copy", plain_url, plain_empty_url, "--symbols", "BTC/*")
    assert (done.returncode, done.stdout) == (
        0,
        "BTC/USD: copied 0 trades, 10 candles\nCopied 1 pair; 0 pairs were there already\n",
    )
    rest = json.loads(shell.run("db", "copy", plain_url, plain_empty_url, "--json").stdout)
    assert (rest["equal"], [one["symbol"] for one in rest["copied"]]) == (["BTC/USD"], ["ETH/USD"])


def test_addresses_in_the_environment(plain_url: str, plain_empty_url: str, tmp_path: Path) -> None:
    asyncio.run(import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10))))
    asyncio.run(import_file(plain_url, write(tmp_path, "XBTUSD.csv", trades(MONDAY, 3))))
    shell = Shell(tmp_path, OLD=plain_url, NEW=plain_empty_url, EMPTY="")
    planned = shell.run("db", "copy", "env:OLD", "env:NEW", "--dry-run", "--json")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert json.loads(planned.stdout) == {
        "dry_run": True,
        "pairs": [{"symbol": "BTC/USD", "trades": 3, "candles": 10, "target": "missing"}],
    }
    assert asyncio.run(query(plain_empty_url, "SELECT to_regclass('candles')")) == [(None,)]
    done = shell.run("db", "copy", "env:OLD", "env:NEW", "--no-check")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "BTC/USD: copied 3 trades, 10 candles")

    for name in ("EMPTY", "NOT_SET"):
        failed = shell.run("db", "copy", "env:OLD", f"env:{name}")
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr == f"Error: env:{name}: there is no variable {name} in the environment\n"


def test_the_command_says_which_pairs_it_left_alone(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    copy = ("db", "copy", plain_url, plain_empty_url)
    asyncio.run(import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10))))
    assert shell.run(*copy).returncode == 0
    asyncio.run(query(plain_empty_url, "UPDATE candles SET volume = volume + 1"))
    asyncio.run(keep(plain_empty_url, candles=timedelta(days=20)))

    planned = shell.run(*copy, "--dry-run")
    assert planned.stdout.splitlines()[1:] == ["BTC/USD       0       10  different"]
    assert planned.stderr.endswith(
        "Would copy 0 pairs, and replace 1 pair with --replace. Nothing was changed.\n"
    )
    left = shell.run(*copy)
    assert (left.returncode, left.stdout) == (1, "Copied 0 pairs; 0 pairs were there already\n")
    assert left.stderr.splitlines()[-2:] == [
        "Failed: BTC/USD: the target has something else of it. To have it replaced: --replace",
        "The target drops candles after 20 days, sooner than the source."
        " To change it: kraken-db policies set",
    ]
    told = shell.run(*copy, "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout) == {
        "dry_run": False,
        "copied": [],
        "equal": [],
        "failed": [
            {
                "symbol": "BTC/USD",
                "reason": "BTC/USD: the target has something else of it",
                "hint": "to have it replaced: --replace",
            }
        ],
        "keeps_less_seconds": {"candles": 20 * 86_400},
        "refresh_error": None,
    }
    replaced = shell.run(*copy, "--replace")
    assert (replaced.returncode, replaced.stdout.splitlines()[0]) == (
        0,
        "BTC/USD: copied 0 trades, 10 candles",
    )


def test_a_copy_whose_higher_intervals_fail_is_not_well(
    plain_url: str, plain_empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are there all the same, and the next run of any command makes up for it."""

    async def refuse(_: Store) -> None:
        raise DatabaseError("no refresh today")

    asyncio.run(import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10))))
    monkeypatch.setattr(Store, "refresh_pending", refuse)
    done = CliRunner().invoke(cli, ["db", "copy", plain_url, plain_empty_url])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (1, "BTC/USD: copied 0 trades, 10 candles")
    assert "the higher intervals are not up to date: no refresh today" in done.stderr
    assert asyncio.run(query(plain_empty_url, "SELECT count(*) FROM candles")) == [(10,)]


def test_to_the_embedded_database_and_back(plain_url: str, plain_empty_url: str, tmp_path: Path) -> None:
    asyncio.run(fill(plain_url, tmp_path))
    asyncio.run(drop_old(plain_url))
    before = asyncio.run(everything_of(plain_url))
    # Root's server runs as another user, who has to reach it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        data = Path(name) / "embedded"
        shell = Shell(tmp_path, KRAKEN_DB_DATA_DIR=str(data))
        looked = shell.run("db", "copy", plain_url, "embedded:", "--dry-run")
        assert (looked.returncode, data.exists()) == (0, False), looked.stderr
        for addresses in ((plain_url, "embedded:"), ("-", plain_empty_url)):
            done = shell.run("db", "copy", *addresses)
            assert (done.returncode, "Copied 3 pairs" in done.stdout) == (0, True), done.stderr
        shell.run("db", "stop")
    assert asyncio.run(everything_of(plain_empty_url)) == before


async def test_a_copy_is_a_running_job_of_the_target(
    plain_url: str, plain_empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(plain_url, tmp_path)
    said: list[str] = []

    async def read_and_look(connection: AsyncConnection, backend: Backend, symbol: str) -> PairFacts:
        shown = await asyncio.to_thread(Shell(tmp_path, DATABASE_URL=plain_empty_url).run, "status")
        said.extend(line for line in shown.stdout.splitlines() if line.startswith("At work"))
        return await read_facts(connection, backend, symbol)

    monkeypatch.setattr(copying, "read_facts", read_and_look)
    await copied(plain_url, plain_empty_url)
    assert len(said) == 3
    assert all(line.startswith("At work   copy of 3 pairs on ") for line in said)
    jobs = "SELECT kind, symbols, behind, state, ended_at IS NOT NULL FROM running_jobs WHERE kind = 'copy'"
    symbols = ["ADA/USD", "BTC/USD", "ETH/USD"]
    assert await query(plain_empty_url, jobs) == [("copy", symbols, [], "3 of 3 pairs done", True)]
    assert await query(plain_url, jobs) == []

    # One that was killed a moment ago holds nothing up, and is taken for ended once it was repeated.
    await query(plain_empty_url, "DELETE FROM trades WHERE symbol = 'ETH/USD'")
    await query(plain_empty_url, "UPDATE running_jobs SET ended_at = NULL, heard_at = clock_timestamp()")
    again = await copied(plain_url, plain_empty_url, replaces=True)
    assert (list(again.copied), again.failed) == (["ETH/USD"], [])


async def test_killed_again_and_again(plain_url: str, plain_empty_url: str, tmp_path: Path) -> None:
    """Whole pairs are there after each kill, and all of them in the end."""
    before = await fill_four(plain_url, tmp_path)
    await killed_on_the_way(plain_url, plain_empty_url, tmp_path, kills=6)
    assert await everything_of(plain_empty_url) == before
