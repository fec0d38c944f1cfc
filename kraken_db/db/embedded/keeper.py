"""Stops the embedded server after its last user has ended, also when that user was killed.

A program of its own, run by path with ``python -I -S``: the standard library only, nothing of kraken_db.
It waits for an exclusive lock on ``users.lock``, which the kernel grants when no process holds the
shared one any more. The rest of the package imports the few functions that both need from here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_POLL_SECONDS = 0.02
_ASK_AGAIN_SECONDS = 5.0
ORPHAN_GRACE_SECONDS = 1.0


def try_lock(fd: int, *, exclusive: bool) -> bool:
    """Take a lock if nobody is in the way."""
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(fd: int) -> bool:
    """Whether no other open file holds a lock, found by taking it for a moment."""
    if not try_lock(fd, exclusive=True):
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def note_holder(fd: int) -> None:
    """Write into the file of a lock who has it now, for those that wait."""
    with contextlib.suppress(OSError):  # a full disk: then nobody knows
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {time.time():.0f}\n".encode(), 0)


def holder_of(fd: int) -> tuple[int, float] | None:
    """The process that has a lock, and since when (in seconds since 1970), by its own word."""
    try:
        pid, since = os.pread(fd, 100, 0).split()
        return int(pid), float(since)
    except (OSError, ValueError):
        return None


def recorded_pid(data: Path) -> int | None:
    """The process id in ``postmaster.pid``, which may be long out of date."""
    try:
        pid = int((data / "postmaster.pid").read_text(errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 1 else None


def postmaster_pid(data: Path) -> int | None:
    """The living main process of the server, or None. A process id used anew by another is not it."""
    pid = recorded_pid(data)
    return pid if pid is not None and _works_in(pid, data) else None


def _works_in(pid: int, data: Path) -> bool:
    """Whether a process is a PostgreSQL on this data directory: all of them work inside it."""
    if Path("/proc/self/cwd").exists():
        try:
            process = Path("/proc", str(pid))
            same_owner = process.stat().st_uid == data.stat().st_uid
            return same_owner and (process / "cwd").samefile(data)
        except OSError:
            return False
    shown = subprocess.run(["/bin/ps", "-p", str(pid), "-o", "comm="], capture_output=True, check=False)
    return Path(os.fsdecode(shown.stdout).strip()).name.startswith("postgres")


def _orphans(data: Path) -> Iterator[int]:
    """What is left of a server whose main process was killed (found where there is a /proc)."""
    for entry in Path("/proc").glob("[0-9]*"):
        if _works_in(int(entry.name), data):
            yield int(entry.name)


def quit_orphans(data: Path) -> None:
    """End what a killed postmaster left behind: a busy session would go on for the length of its query."""
    if Path("/proc/self/cwd").exists() and postmaster_pid(data) is None:
        for pid in _orphans(data):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGQUIT)


def shut_down(data: Path, server_lock: int, timeout: float) -> bool:
    """Fast shutdown: sessions end, everything is written, the server goes. False when it did not in time."""
    begin = time.monotonic()
    asked = -_ASK_AGAIN_SECONDS
    seen = 0.0
    while not is_free(server_lock):
        waited = time.monotonic() - begin
        if waited > timeout:
            return False
        pid = postmaster_pid(data)
        if pid is not None:
            seen = waited
            if waited - asked >= _ASK_AGAIN_SECONDS:
                asked = waited
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
        elif waited - seen > ORPHAN_GRACE_SECONDS:
            quit_orphans(data)
        time.sleep(_POLL_SECONDS)
    return True


def _drop_privileges(uid: int, gid: int) -> None:
    """As root, become the server's user: it is all that is needed to stop it."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def keep(root: Path, uid: int, gid: int, keeper_lock: int, linger: float) -> None:
    """Wait until nobody uses the server, then stop it, unless ``start`` asked for it to stay."""
    users, start, server = (
        os.open(root / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        for name in ("users.lock", "start.lock", "server.lock")
    )
    _drop_privileges(uid, gid)
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_UN)  # at once: the next command must not wait for it
        time.sleep(linger)
        fcntl.flock(start, fcntl.LOCK_EX)
        note_holder(start)
        if try_lock(users, exclusive=True):
            break
        fcntl.flock(start, fcntl.LOCK_UN)
    # Nobody can come in now: attaching needs start.lock.
    if not (root / "keep").exists():
        while not shut_down(root / "data", server, timeout=3600):
            pass
    os.close(keeper_lock)  # before start.lock, so that whoever comes next finds no keeper
    os.close(users)
    os.close(start)


if __name__ == "__main__":
    _root, _uid, _gid, _lock, _linger = sys.argv[1:]
    keep(Path(_root), int(_uid), int(_gid), int(_lock), float(_linger))
