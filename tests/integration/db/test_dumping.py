"""``kraken-db db dump`` and ``restore``: an equal store, whole or not at all, by the right programs."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kraken_db.db import dumping
from kraken_db.db.dumping import dump, restore
from kraken_db.db.migrations import downgrade
from kraken_db.db.programs import Program, find, newest
from kraken_db.errors import ConfigurationError, ProgramError
from kraken_db.progress import NullProgress, NullTask, Task
from tests.support.archives import import_file, import_texts, minutes, query, read_candles, write
from tests.support.lanes.base import Lane
from tests.support.pgbouncer import pooled
from tests.support.shell import run
from tests.support.stores import opened_database, with_user

TABLES = {
    "trades": "symbol, id",
    "candles": "symbol, timestamp, interval_minutes",
    "candles_1h": "symbol, timestamp",
    "data_sync_status": "symbol, data_type",
    "data_coverage": "symbol, data_type, source",
}
TRADES = "".join(f"{number},{1672531200 + number},100.5,0.25,b,m,\n" for number in range(1, 500))


async def require_sessions(url: str) -> None:
    """The settings of a script would be those of our connections, too, where all have one session."""
    one, other = await asyncpg.connect(url), await asyncpg.connect(url)
    pids = [await connection.fetchval("SELECT pg_backend_pid()") for connection in (one, other)]
    await one.close()
    await other.close()
    if pids[0] == pids[1]:
        pytest.skip("this server has one session")


async def fill(url: str) -> None:
    """Some minutes of one pair and some trades of another."""
    header = "trade_id,timestamp,price,volume,side,order_type,misc\n"
    await import_texts(url, {"ETHUSD_1.csv": minutes(130), "XBTUSD.csv": header + TRADES})


@pytest.fixture
async def filled(lane: Lane) -> AsyncIterator[str]:
    with lane.migrated_database() as url:
        await require_sessions(url)
    with lane.filled_database(fill) as url:
        yield url


@pytest.fixture
async def target(filled: str, lane: Lane) -> AsyncIterator[str]:
    with lane.empty_database() as url:
        yield url


async def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: await query(url, f"SELECT t::text FROM {table} AS t ORDER BY {order}")
        for table, order in TABLES.items()
    }


async def dump_by_hand(url: str, file: Path) -> None:
    """By pg_dump itself: without a checksum."""
    async with opened_database(url) as database:
        address = database.address
    options = ["--format=custom", f"--file={file}", f"--dbname={address.url}"]
    ((major,),) = await query(url, "SELECT current_setting('server_version_num')::int / 10000")
    command = [str(find("pg_dump", at_least=major).path), *options]
    await asyncio.to_thread(subprocess.run, command, env=address.environment(), check=True, timeout=60)


async def test_a_restored_store_equals_the_dumped_one(filled: str, target: str, tmp_path: Path) -> None:
    before = await contents(filled)
    assert [len(before[table]) for table in ("trades", "candles_1h")] == [499, 4]
    file = tmp_path / "kraken.dump"
    dumped = await asyncio.to_thread(run, filled, "db", "dump", str(file))
    assert dumped.exit_code == 0, dumped.stderr
    restored = await asyncio.to_thread(run, target, "db", "restore", str(file))
    assert restored.exit_code == 0, restored.stderr
    assert await contents(target) == before
    # It goes on from there: what is stored is known, what is new is taken.
    more = await import_file(target, write(tmp_path, "ETHUSD_1.csv", minutes(140)))
    assert (more.new, more.unchanged) == (10, 130)


@pytest.mark.parametrize("by", ["kraken-db", "pg_dump"])
async def test_nobody_is_at_work_in_a_copy(filled: str, target: str, tmp_path: Path, by: str) -> None:
    """Whoever records into the original would look like a recording of the copy that was killed."""
    file = tmp_path / "kraken.dump"
    await query(
        filled,
        "INSERT INTO running_jobs (id, kind, symbols, behind, host, pid, started_at, heard_at, state)"
        " VALUES (gen_random_uuid(), 'recording', '{ETH/USD}', '{}', 'elsewhere', 4711,"
        " now() - interval '1 h', now() - interval '1 min', '1 of 1 pairs live')",
    )
    if by == "kraken-db":
        dumped = await asyncio.to_thread(run, filled, "db", "dump", str(file))
        assert dumped.exit_code == 0, dumped.stderr
    else:
        await dump_by_hand(filled, file)
    restored = await asyncio.to_thread(run, target, "db", "restore", str(file))
    assert restored.exit_code == 0, restored.stderr
    assert await query(target, "SELECT count(*) FROM running_jobs") == [(0,)]
    assert await query(filled, "SELECT count(*) FROM running_jobs WHERE host = 'elsewhere'") == [(1,)]
    check = await asyncio.to_thread(run, target, "status", "--check", "--max-lag", "never")
    assert "killed" not in check.stderr


async def test_an_empty_schema_makes_room_for_a_dump(filled: str, tmp_path: Path) -> None:
    file = tmp_path / "kraken.dump"
    before = await contents(filled)
    async with opened_database(filled) as database:
        await dump(database, file)
        with pytest.raises(ConfigurationError, match="pairs are stored there already"):
            await restore(database, file)
        await query(filled, "DELETE FROM data_sync_status")
        await restore(database, file)
    assert await contents(filled) == before


@pytest.mark.parametrize("damage", ["cut", "changed"])
async def test_of_a_damaged_dump_nothing_is_restored(
    filled: str, target: str, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "kraken.dump"
    async with opened_database(filled) as database:
        await dump(database, file)
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) * 2 // 3 :]
    else:
        # Among the rows: before them are the statements, and not every one of their letters is used.
        for at in range(len(data) * 9 // 10, len(data) * 9 // 10 + 40):
            data[at] ^= 0x55
    file.write_bytes(data)
    async with opened_database(target) as database:
        with pytest.raises(ProgramError):
            await restore(database, file)
    assert await query(
        target, "SELECT to_regclass('trades')::text, to_regclass('alembic_version')::text"
    ) == [(None, None)]


async def test_wherever_a_dump_is_damaged_nothing_is_restored(
    filled: str, target: str, tmp_path: Path
) -> None:
    """pg_restore looks at neither its table of contents nor the headers of its blocks."""
    file = tmp_path / "kraken.dump"
    async with opened_database(filled) as database:
        await dump(database, file)
    whole = file.read_bytes()
    places = [*random.Random(15).sample(range(5, len(whole)), 60), 5, 60, len(whole) - 1, len(whole) - 200]
    async with opened_database(target) as database:
        for at in places:
            damaged = bytearray(whole)
            for one in range(at, min(at + 1 + at % 40, len(whole))):
                damaged[one] ^= 0x55
            file.write_bytes(damaged)
            with pytest.raises(ProgramError, match="is damaged"):
                await restore(database, file)
            assert await query(target, "SELECT to_regclass('trades')::text") == [(None,)], at
        file.write_bytes(whole)
        await restore(database, file)
    assert await contents(target) == await contents(filled)


async def test_pg_restore_takes_a_sealed_dump_by_hand(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(130)))
    file = tmp_path / "kraken.dump"
    async with opened_database(plain_url) as database:
        await dump(database, file)
    sealed = file.read_bytes()
    assert sealed.count(b"kraken-db sha256") == 3
    bare = tmp_path / "bare.dump"
    bare.write_bytes(sealed[: sealed.index(b"\nkraken-db sha256")])
    program = str(newest("pg_restore").path)

    def script(*arguments: str, stdin: bytes | None = None) -> bytes:
        command = [program, "--file=-", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=60)
        assert done.stderr == b""
        lines = done.stdout.splitlines()  # newer programs say so with another word each time
        return b"\n".join(line for line in lines if not line.startswith((b"\\restrict", b"\\unrestrict")))

    expected = script(str(bare))
    assert b"COPY public.candles" in expected
    assert script(str(file)) == expected
    assert script(stdin=sealed) == expected, "from a pipe"
    assert script("--list", str(file)) == script("--list", str(bare))


async def test_how_far_a_dump_and_its_restoring_are(filled: str, target: str, tmp_path: Path) -> None:
    told: list[tuple[str, int | None, int]] = []

    class Watching(NullProgress):
        def task(self, label: str, total: int | None = None, **_: Any) -> Task:
            class Counting(NullTask):
                done_so_far = 0

                def advance(self, amount: int = 1) -> None:
                    self.done_so_far += amount

                def done(self, outcome: str = "", *, failed: bool = False) -> None:
                    told.append((label, total, self.done_so_far))

            return Counting()

    file = tmp_path / "kraken.dump"
    async with opened_database(filled) as database:
        report = await dump(database, file, Watching())
    seal = 3 * 82
    assert report.size == file.stat().st_size
    bare = report.size - seal
    assert told == [("dump", None, bare), ("checksum", bare, bare)]
    told.clear()
    async with opened_database(target) as database:
        await restore(database, file, Watching())
    (check, restored) = told
    assert check == ("checksum", report.size, bare)
    assert restored[:2] == ("restore", report.size)
    assert bare * 9 // 10 < restored[2] <= report.size


async def test_only_dumps_are_replaced_and_read(filled: str, tmp_path: Path) -> None:
    (other := tmp_path / "notes.txt").write_text("mine")
    (link := tmp_path / "link.dump").symlink_to(other)
    (tmp_path / "empty.dump").touch()
    for path in (other, link, tmp_path, tmp_path / "no" / "folder", tmp_path / "empty.dump"):
        done = await asyncio.to_thread(run, filled, "db", "dump", str(path))
        assert done.exit_code == 1, path
        assert done.stderr.startswith("Error: ")
    assert other.read_text() == "mine"
    for path in (other, tmp_path):
        done = await asyncio.to_thread(run, filled, "db", "restore", str(path))
        assert f"{path} is no file of kraken-db db dump" in done.stderr
    assert await query(filled, "SELECT count(*) FROM trades") == [(499,)]


async def test_a_dump_that_fails_leaves_the_older_one(filled: str, tmp_path: Path) -> None:
    file = tmp_path / "kraken.dump"
    async with opened_database(filled) as database:
        await dump(database, file)
        older = file.read_bytes()
        await query(filled, "CREATE ROLE reads_little LOGIN PASSWORD 'secret'")
        try:
            url = with_user(filled, "reads_little")
            done = await asyncio.to_thread(run, url, "db", "dump", str(file))
        finally:
            await query(filled, "DROP ROLE reads_little")
    assert done.exit_code == 1
    assert "permission denied" in done.stderr
    assert "secret" not in done.stderr
    assert file.read_bytes() == older
    assert {path.suffix for path in file.parent.iterdir()} == {".dump"}


@pytest.mark.one_server("the dump of a cluster is for servers that have Citus")
async def test_a_plain_store_goes_to_any_server(
    plain_url: str, timescale_empty_url: str, tmp_path: Path
) -> None:
    """The dump of a newer pg_dump sets what an older server does not know."""
    await require_sessions(timescale_empty_url)
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(130)))
    async with opened_database(plain_url) as database:
        await dump(database, tmp_path / "kraken.dump")
    async with opened_database(timescale_empty_url, pool_max_size=1) as database:
        await restore(database, tmp_path / "kraken.dump")
    assert await contents(timescale_empty_url) == await contents(plain_url)


@pytest.mark.one_server("a distributed store does not go back to an older schema")
async def test_an_older_store_is_restored_as_it_is(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "kraken.dump"
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(130)))
    await downgrade(plain_url, "1003")
    async with opened_database(plain_url) as database:
        assert (await dump(database, file)).revision == "1003"
    restored = await asyncio.to_thread(run, plain_empty_url, "db", "restore", str(file))
    assert restored.exit_code == 0
    assert restored.stderr.endswith("its schema is at revision 1003; next: kraken-db db upgrade\n")
    assert await query(plain_empty_url, "SELECT version_num FROM alembic_version") == [("1003",)]
    upgraded = await asyncio.to_thread(run, plain_empty_url, "db", "upgrade")
    assert upgraded.exit_code == 0, upgraded.stderr
    assert len(await read_candles(plain_empty_url, "ETH/USD", 1)) == 130


def test_a_database_without_a_store_is_not_dumped(plain_empty_url: str, tmp_path: Path) -> None:
    done = run(plain_empty_url, "db", "dump", str(tmp_path / "kraken.dump"))
    assert (done.exit_code, "this database has no kraken-db tables" in done.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_no_dump_goes_through_a_pooler(plain_url: str, tmp_path: Path) -> None:
    with pooled(plain_url, "transaction") as url:
        done = run(url, "db", "dump", str(tmp_path / "kraken.dump"))
    assert done.exit_code == 1
    assert done.stderr.endswith(
        ": there is a pooler, and PostgreSQL's own programs need the server itself. Name the server's own"
        " host and port with --db-url\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.one_server("the dump of a cluster is for servers that have Citus")
async def test_the_dump_of_another_program_is_not_restored(plain_empty_url: str, tmp_path: Path) -> None:
    file = tmp_path / "other.dump"
    await query(plain_empty_url, "CREATE TABLE notes AS SELECT 'mine' AS note")
    await dump_by_hand(plain_empty_url, file)
    await query(plain_empty_url, "DROP TABLE notes")
    done = await asyncio.to_thread(run, plain_empty_url, "db", "restore", str(file))
    assert done.exit_code == 1
    assert done.stderr.endswith(f"{file} is the dump of another program's database\n")
    assert await query(plain_empty_url, "SELECT to_regclass('notes')::text") == [(None,)]


@pytest.mark.one_server("the dump of a cluster is for servers that have Citus")
async def test_a_dump_without_a_checksum_is_restored_whole_or_not_at_all(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    """pg_restore itself finds out that it was cut, after it has written the tables and some of the rows."""
    file = tmp_path / "by_hand.dump"
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(20_000)))
    await dump_by_hand(plain_url, file)
    whole = file.read_bytes()
    async with opened_database(plain_empty_url) as database:
        file.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(ProgramError, match=r"failed: "):
            await restore(database, file)
        assert await query(plain_empty_url, "SELECT to_regclass('candles')::text") == [(None,)]
        file.write_bytes(whole)
        await restore(database, file)
    assert await query(plain_empty_url, "SELECT count(*) FROM candles") == [(20_000,)]


# --- a pg_dump that fails ---


StandIn = Callable[..., None]
"""Puts a script in the place of pg_dump."""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    def write_it(script: str, mode: int = 0o755) -> None:
        program = write(tmp_path, "bin/pg_dump", f"#!/bin/sh\n{script}\n")
        program.chmod(mode)
        monkeypatch.setattr(dumping, "find", lambda *_, **__: Program(program, 18))

    return write_it


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    """A folder for dumps alone."""
    (tmp_path / "dumps").mkdir()
    return tmp_path / "dumps"


def test_a_disk_that_is_full_is_told(plain_url: str, dumps: Path, stand_in: StandIn) -> None:
    stand_in("echo 'pg_dump: error: could not write to file: No space left on device' >&2; exit 1")
    done = run(plain_url, "db", "dump", str(dumps / "kraken.dump"))
    assert done.exit_code == 1
    assert done.stderr.endswith(
        "Error: pg_dump: no space left on the disk. Make room there, and run it again\n"
    )
    assert list(dumps.iterdir()) == []


async def test_a_program_that_may_not_be_started_is_told(
    plain_url: str, dumps: Path, stand_in: StandIn
) -> None:
    stand_in("exit 0", 0o644)
    async with opened_database(plain_url) as database:
        with pytest.raises(ProgramError, match=r"bin/pg_dump cannot be started: Permission denied"):
            await dump(database, dumps / "kraken.dump")


async def test_a_dump_that_is_cancelled_leaves_nothing(
    plain_url: str, dumps: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("exec sleep 600")
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    listen = dumping._said

    async def said(process: asyncio.subprocess.Process) -> str:
        begun.set_result(process.pid)
        return await listen(process)

    monkeypatch.setattr(dumping, "_said", said)
    async with opened_database(plain_url) as database:
        dumping_it = asyncio.create_task(dump(database, dumps / "kraken.dump"))
        process = await begun
        os.kill(process, 0)
        dumping_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dumping_it
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert list(dumps.iterdir()) == []  # noqa: ASYNC240
