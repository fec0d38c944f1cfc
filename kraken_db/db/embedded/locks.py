"""Kernel locks: held by a process, released by the kernel, whatever ends that process; and private files."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kraken_db.db.embedded.keeper import holder_of, note_holder, try_lock
from kraken_db.errors import EmbeddedServerError

_POLL_SECONDS = 0.01
_PATIENT_SECONDS, _AGAIN_SECONDS = 5.0, 60.0  # before it is told who is in the way, and told again
_WAIT_SECONDS = 900.0  # longer than a slow disk needs for initdb, or a crash recovery


notices = logging.getLogger("kraken_db.notices")


def open_private(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file, made 0600 and owned like its directory when it is new; never through a link."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(fd, owner.st_uid, owner.st_gid)
            return fd


def make_directory(path: Path, mode: int) -> None:
    """Make a directory and those above it that are missing, each with ``mode``, whatever the umask is.

    Raises FileExistsError where it is there.
    """
    if not path.parent.exists():
        with contextlib.suppress(FileExistsError):  # another process was faster
            make_directory(path.parent, mode)
    path.mkdir(mode=mode)
    path.chmod(mode)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock alone; wait for those that have it."""
    fd = open_private(path)
    try:
        _wait_for(fd, path, exclusive=True)
        note_holder(fd)
        yield
    finally:
        os.close(fd)


def _wait_for(fd: int, path: Path, *, exclusive: bool) -> None:
    """Take a lock as soon as it is free; after some seconds it is told who has it."""
    began, tell_at = time.monotonic(), _PATIENT_SECONDS
    while not try_lock(fd, exclusive=exclusive):
        waited = time.monotonic() - began
        if waited > _WAIT_SECONDS:
            raise EmbeddedServerError(
                f"{_holder(fd)} has been starting or stopping the embedded PostgreSQL for"
                f" {_WAIT_SECONDS / 60:.0f} minutes",
                hint=f"the lock is {path}; end the process that holds it (fuser {path})",
            )
        if waited >= tell_at:
            tell_at += _AGAIN_SECONDS
            notices.info(
                "waiting for %s, which starts or stops the embedded PostgreSQL (%s)", _holder(fd), path
            )
        time.sleep(_POLL_SECONDS)


def _holder(fd: int) -> str:
    """``process 123 (stopped; since 2026-11-28 14:03:10 UTC)``."""
    found = holder_of(fd)
    if found is None:
        return "another process"
    pid, since = found
    stopped = "stopped; " if is_stopped(pid) else ""
    return f"process {pid} ({stopped}since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC)"


def is_stopped(pid: int) -> bool:
    """By SIGSTOP or a terminal; found where there is a /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


@dataclass(slots=True)
class _Hold:
    fd: int
    count: int = 0


@dataclass(eq=False, slots=True)
class Registration:
    """This process as a user of one server. Several in one process share one lock."""

    path: Path
    pid: int = field(default_factory=os.getpid)
    active: bool = True

    @property
    def holds(self) -> bool:
        """False after release, and in a forked child, which is no user until it attaches itself."""
        return self.active and self.pid == os.getpid()

    def release(self) -> None:
        with _guard:
            if not self.holds:
                return
            self.active = False
            hold = _holds[self.path]
            hold.count -= 1
            if hold.count == 0:
                os.close(_holds.pop(self.path).fd)


def register(path: Path) -> Registration:
    """Become a user. The caller holds start.lock, so nobody keeps the shared lock away for long."""
    with _guard:
        hold = _holds.get(path)
        if hold is None:
            hold = _Hold(open_private(path))
            _wait_for(hold.fd, path, exclusive=False)
            _holds[path] = hold
        hold.count += 1
        return Registration(path)


def _forget_after_fork() -> None:
    """A forked child lets go of its copies: it would otherwise keep the server up for its parent."""
    global _guard
    _guard = threading.Lock()
    for hold in _holds.values():
        os.close(hold.fd)  # closing, not unlocking: the lock is the parent's too
    _holds.clear()


_holds: dict[Path, _Hold] = {}
_guard = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
