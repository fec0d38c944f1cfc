"""Locks and private files: who holds what, also after a fork."""

import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kraken_db.db.embedded import locks
from kraken_db.db.embedded.keeper import is_free, try_lock
from kraken_db.db.embedded.locks import exclusive, open_private, register
from kraken_db.errors import EmbeddedServerError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.lock"


def free(path: Path) -> bool:
    fd = open_private(path)
    try:
        return is_free(fd)
    finally:
        os.close(fd)


def test_a_new_file_is_private(path: Path) -> None:
    os.close(open_private(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(path)
    assert not (tmp_path / "elsewhere").exists()


def test_registrations_of_one_process_share_a_lock(path: Path) -> None:
    first, second = register(path), register(path)
    first.release()
    first.release()
    assert not free(path)
    second.release()
    assert free(path)


def test_a_forked_child_holds_nothing_and_takes_nothing_away(path: Path) -> None:
    registration = register(path)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        registration.release()
        os.write(ready[1], b"1" if not registration.holds else b"0")
        os.read(go[0], 1)
        os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"1"
        assert not free(path)  # the child's release did not unlock the parent's
        registration.release()
        assert free(path)  # the living child keeps nothing
    finally:
        os.write(go[1], b"1")
        os.waitpid(child, 0)
        for fd in (*ready, *go):
            os.close(fd)


def test_exclusive_waits_for_the_other(path: Path) -> None:
    order: list[str] = []
    inside = threading.Event()

    def other() -> None:
        inside.wait()
        with exclusive(path):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with exclusive(path):
        inside.set()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_locks_of_two_opened_files_exclude_each_other(path: Path) -> None:
    one, two = open_private(path), open_private(path)
    try:
        assert try_lock(one, exclusive=False)
        assert try_lock(two, exclusive=False)
        assert not try_lock(two, exclusive=True)
        os.close(one)
        one = open_private(path)
        assert try_lock(two, exclusive=True)
    finally:
        os.close(one)
        os.close(two)


def test_who_waits_for_a_stopped_process_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_PATIENT_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_WAIT_SECONDS", 0.5)
    caplog.set_level(logging.INFO, "kraken_db.notices")
    program = (
        "import sys, time, pathlib\n"
        "from kraken_db.db.embedded.locks import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"held\n"
            other.send_signal(signal.SIGSTOP)
            with pytest.raises(EmbeddedServerError, match=rf"process {other.pid} \(.*fuser") as refused:
                exclusive(path).__enter__()
        finally:
            other.kill()
    (message,) = caplog.messages
    stopped = "stopped; " if Path("/proc").exists() else ""
    for text in (message, str(refused.value)):
        assert f"process {other.pid} ({stopped}since 20" in text
        assert str(path) in text
    with exclusive(path):
        pass
