"""Kernel locks: held by a process, released by the kernel, whatever ends that process; and private files."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kraken_db.db.embedded.keeper import try_lock
from kraken_db.errors import EmbeddedServerError

_POLL_SECONDS = 0.01
_WAIT_SECONDS = 900.0  # longer than a slow disk needs for initdb, or a crash recovery


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
        deadline = time.monotonic() + _WAIT_SECONDS
        while not try_lock(fd, exclusive=True):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"another process has been starting or stopping the embedded PostgreSQL for"
                    f" {_WAIT_SECONDS / 60:.0f} minutes",
                    hint=f"the lock is {path}; end the process that holds it (fuser {path})",
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


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
            while not try_lock(hold.fd, exclusive=False):
                time.sleep(_POLL_SECONDS / 10)
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
