"""Who stops the server after its last user: here in the process of the test, with a server that is none."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kraken_db.db.embedded import keeper
from kraken_db.db.embedded.keeper import (
    ORPHAN_GRACE_SECONDS,
    holder_of,
    is_free,
    keep,
    note_holder,
    postmaster_pid,
    shut_down,
    try_lock,
)
from kraken_db.db.embedded.locks import open_private

SERVER = 4_000_001
"""A process id that no process has: larger than any."""


class Machine:
    """Time that runs on when somebody sleeps, and the processes that are sent signals."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.signals: list[tuple[float, int, int]] = []
        self.at: dict[float, Callable[[], None]] = {}
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep, time=lambda: 1_700_000_000.4)
        monkeypatch.setattr(keeper, "time", clock)
        monkeypatch.setattr(os, "kill", self._kill)

    def _sleep(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 2)
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()

    def _kill(self, pid: int, number: int) -> None:
        self.signals.append((self.now, pid, number))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def opened() -> Iterator[Callable[[Path], int]]:
    """Opens files that are closed after the test."""
    files: list[int] = []

    def one(path: Path) -> int:
        files.append(open_private(path))
        return files[-1]

    yield one
    for file in files:
        os.close(file)


# --- who holds a lock ---


def test_the_holder_of_a_lock_is_in_its_file(
    tmp_path: Path, opened: Callable[[Path], int], machine: Machine
) -> None:
    lock = opened(tmp_path / "start.lock")
    os.write(lock, b"what was there is longer than what is written, and goes")
    note_holder(lock)
    assert holder_of(lock) == (os.getpid(), 1_700_000_000)


@pytest.mark.parametrize("text", [b"", b"123", b"1 2 3", b"one 1700000000"])
def test_a_file_that_names_no_holder(tmp_path: Path, opened: Callable[[Path], int], text: bytes) -> None:
    lock = opened(tmp_path / "start.lock")
    os.write(lock, text)
    assert holder_of(lock) is None


# --- whose process it is ---


@pytest.mark.parametrize(
    ("shown", "is_server"),
    [("/opt/pg/bin/postgres\n", True), ("postgres: checkpointer\n", True), ("zsh\n", False), ("", False)],
)
def test_where_there_is_no_proc_ps_says_what_a_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: str, is_server: bool
) -> None:
    asked: list[Any] = []

    def ps(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return SimpleNamespace(stdout=shown.encode())

    (tmp_path / "postmaster.pid").write_text(f"{SERVER}\n")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.parts[1] != "proc" and exists(path))
    monkeypatch.setattr(subprocess, "run", ps)
    assert postmaster_pid(tmp_path) == (SERVER if is_server else None)
    assert asked == [["/bin/ps", "-p", str(SERVER), "-o", "comm="]]


# --- the end of a server ---


@pytest.fixture
def servers(tmp_path: Path, opened: Callable[[Path], int]) -> int:
    """The lock that the server holds."""
    lock = opened(tmp_path / "server.lock")
    assert try_lock(lock, exclusive=True)
    return lock


@pytest.fixture
def ours(tmp_path: Path, opened: Callable[[Path], int]) -> int:
    """The same file, as who stops the server has it."""
    return opened(tmp_path / "server.lock")


def test_a_server_is_asked_again_every_five_seconds(
    tmp_path: Path, servers: int, ours: int, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it gives its lock back."""
    monkeypatch.setattr(keeper, "postmaster_pid", lambda _data: SERVER)
    machine.at[12] = lambda: fcntl.flock(servers, fcntl.LOCK_UN)
    assert shut_down(tmp_path, ours, timeout=60)
    assert machine.signals == [(moment, SERVER, signal.SIGINT) for moment in (0, 5, 10)]
    assert machine.now == 12


def test_a_server_that_does_not_end_in_time(
    tmp_path: Path, servers: int, ours: int, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "postmaster_pid", lambda _data: SERVER)
    assert not shut_down(tmp_path, ours, timeout=3)
    assert 3 < machine.now < 3.1
    assert not is_free(ours)


def test_what_a_killed_server_has_left_has_a_second(
    tmp_path: Path, servers: int, ours: int, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its main process is gone, and a session still holds the lock."""
    session = SERVER + 1
    monkeypatch.setattr(keeper, "_orphans", lambda _data: [session])
    ends_at = ORPHAN_GRACE_SECONDS + 0.02
    machine.at[ends_at + 0.02] = lambda: fcntl.flock(servers, fcntl.LOCK_UN)
    assert shut_down(tmp_path, ours, timeout=60)
    assert machine.signals == [(ends_at, session, signal.SIGQUIT)]


# --- the keeper ---


@pytest.mark.parametrize(
    ("own", "calls"),
    [(0, [("setgroups", []), ("setgid", 70), ("setuid", 26)]), (26, [])],
    ids=["root", "the user itself"],
)
def test_root_becomes_the_servers_user(
    monkeypatch: pytest.MonkeyPatch, own: int, calls: list[tuple[str, Any]]
) -> None:
    """The groups go first: nobody else may give them up."""
    made: list[tuple[str, Any]] = []
    monkeypatch.setattr(os, "geteuid", lambda: own)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: made.append((name, value)))
    keeper._drop_privileges(26, 70)
    assert made == calls


class Root:
    """A directory of a server whose main process ends when it is asked to."""

    def __init__(self, path: Path, opened: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.users, self.start, self.server, self.keeper = (
            opened(path / f"{name}.lock") for name in ("users", "start", "server", "keeper")
        )
        self.stopped: list[float] = []
        monkeypatch.setattr(keeper, "_drop_privileges", lambda _uid, _gid: None)
        monkeypatch.setattr(keeper, "shut_down", self._shut_down)

    def _shut_down(self, data: Path, _lock: int, timeout: float) -> bool:
        assert data == self.path / "data"
        # Nobody can come in now.
        assert not is_free(self.users) and not is_free(self.start)
        self.stopped.append(timeout)
        return len(self.stopped) == 2

    def keep(self) -> None:
        lock = open_private(self.path / "keeper.lock")
        assert try_lock(lock, exclusive=True)
        keep(self.path, 0, 0, lock, 1.5)
        assert is_free(self.users) and is_free(self.start) and is_free(self.keeper)


@pytest.fixture
def root(tmp_path: Path, opened: Callable[[Path], int], monkeypatch: pytest.MonkeyPatch) -> Root:
    return Root(tmp_path, opened, monkeypatch)


def test_it_stops_the_server_after_the_last_user(root: Root, machine: Machine) -> None:
    """However long that takes."""
    root.keep()
    assert root.stopped == [3600, 3600]
    assert machine.now == 1.5
    assert holder_of(root.start) == (os.getpid(), 1_700_000_000)


def test_a_user_that_comes_while_it_lingers(
    root: Root, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the end of that one, too, and lets others in meanwhile."""
    flock, waits = fcntl.flock, []

    def wait(file: int, mode: int) -> None:
        try:
            flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if mode != fcntl.LOCK_EX:
                raise
            waits.append((machine.now, is_free(root.start), root.stopped.copy()))
            flock(root.users, fcntl.LOCK_UN)
            flock(file, mode | fcntl.LOCK_NB)

    monkeypatch.setattr(fcntl, "flock", wait)
    machine.at[1.5] = lambda: flock(root.users, fcntl.LOCK_SH)
    root.keep()
    assert waits == [(1.5, True, [])]
    assert machine.now == 3
    assert root.stopped == [3600, 3600]


def test_a_server_that_was_asked_to_stay(root: Root, machine: Machine) -> None:
    (root.path / "keep").touch()
    root.keep()
    assert root.stopped == []
