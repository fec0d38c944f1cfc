"""EmbeddedServer: a PostgreSQL that starts with its first user and stops after its last one."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kraken_db.db.embedded import keeper
from kraken_db.db.embedded.account import server_account, spawn
from kraken_db.db.embedded.cluster import data_version, failure
from kraken_db.db.embedded.layout import OTHER_DIRECTORY, Layout, make_root, refuse_foreign
from kraken_db.db.embedded.locks import Registration, exclusive, open_private, register
from kraken_db.db.embedded.postmaster import Answer, Postmaster
from kraken_db.errors import ConfigurationError, EmbeddedServerError

LINGER_SECONDS = 1.0
"""How long the server outlives its last user, so that a row of commands does not restart it each time."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What is known about the server of one data directory.

    ``running``: a process of it is alive; ``ready``: it accepts connections. ``version``: the server's
    when it is ready, else the major version of the data, None without data. ``kept``: it stays until
    ``stop``. ``in_use``: at least one process is attached.
    """

    running: bool
    ready: bool
    pid: int | None
    version: str | None
    data_dir: Path
    socket_dir: Path
    url: str
    kept: bool
    in_use: bool
    log_file: Path


class EmbeddedServer:
    """The embedded PostgreSQL of one data directory (None: the platform's default).

    All methods block; asynchronous callers use ``asyncio.to_thread``. Several objects, in one process or
    many, share one server. A forked child is not attached: it makes its own ``attach()``.
    """

    def __init__(self, data_dir: Path | None = None) -> None:
        if sys.platform == "win32":
            raise EmbeddedServerError(
                "the embedded PostgreSQL does not run on Windows",
                hint="name a PostgreSQL server with --db-url or DATABASE_URL, or use WSL",
            )
        self._layout = Layout.at(data_dir)
        self._registration: Registration | None = None

    @property
    def cluster_dir(self) -> Path:
        """Where PostgreSQL keeps its files."""
        return self._layout.data

    def attach(self, *, creates: bool = True) -> str:
        """Use the server: start it if it is not running. It runs at least until ``detach`` or our end.

        Raises ConfigurationError where there is no database and ``creates`` says not to make one.
        """
        if not creates:
            self.require_data()
        with self._changing() as postmaster:
            users = self._layout.lock("users")
            alone = _is_unused(users)
            before = self._registration if self._registration and self._registration.holds else None
            registration = before or register(users)
            try:
                if not self._layout.keep.exists():
                    self._ensure_keeper(postmaster)
                postmaster.ensure(alone=alone)
            except BaseException:
                if before is None:
                    registration.release()
                raise
            self._registration = registration
            return self._layout.url(postmaster.account.uid)

    def detach(self) -> None:
        """Be a user no longer. The server stops by itself when it was the last one."""
        if self._registration is not None:
            self._registration.release()
            self._registration = None

    def start(self) -> str:
        """Start the server if it is not running, and let it stay until ``stop``."""
        with self._changing() as postmaster:
            keep = self._layout.keep
            was_kept = keep.exists()
            os.close(open_private(keep))
            try:
                postmaster.ensure(alone=_is_unused(self._layout.lock("users")))
            except BaseException:
                if not was_kept:
                    keep.unlink(missing_ok=True)
                raise
            return self._layout.url(postmaster.account.uid)

    def stop(self) -> bool:
        """Stop the server, whoever uses it. False if it was not running."""
        with self._explained():
            if not self._layout.lock("start").exists():
                return False
        with self._changing() as postmaster:
            self._layout.keep.unlink(missing_ok=True)
            return postmaster.stop()

    def status(self) -> ServerStatus:
        """Look, and change nothing."""
        with self._explained():
            account = server_account(self._layout.data)
            postmaster = Postmaster(self._layout, account)
            found = postmaster.probe()
            running = postmaster.is_running()
            ready = running and found.answer is Answer.READY
            return ServerStatus(
                running=running,
                ready=ready,
                pid=keeper.postmaster_pid(self._layout.data) if running else None,
                version=(found.text if ready else None) or data_version(self._layout.data),
                data_dir=self._layout.root,
                socket_dir=self._layout.socket_dir(account.uid),
                url=self._layout.url(account.uid),
                kept=self._layout.keep.exists(),
                in_use=not _is_unused(self._layout.lock("users")),
                log_file=self._layout.log,
            )

    def require_data(self) -> None:
        """Raises ConfigurationError where there is no database yet, and changes nothing."""
        with self._explained():
            root = self._layout.root
            if data_version(self._layout.data) is not None:
                return
            if root.is_dir():
                refuse_foreign(root, root.stat().st_uid)
        raise ConfigurationError(
            f"there is no database yet in {root}",
            hint="get history first: kraken-db backfill --symbols BTC/USD, or kraken-db import-csv --help;"
            " DATABASE_URL or KRAKEN_DB_DATA_DIR name a database that is elsewhere",
        )

    def url(self) -> str:
        """The address, whether the server runs or not."""
        with self._explained():
            return self._layout.url(server_account(self._layout.data).uid)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Postmaster]:
        """Make the directory, and keep every other starter, stopper and the keeper out of it."""
        with self._explained():
            make_root(self._layout.root)
            with exclusive(self._layout.lock("start")):
                postmaster = Postmaster(self._layout, server_account(self._layout.data))
                postmaster.trim_log()
                yield postmaster

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the operating system says into an error that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise failure("cannot write", self._layout, "No space left on device") from error
            place = error.filename or self._layout.root
            raise EmbeddedServerError(
                f"the embedded PostgreSQL cannot use {os.fsdecode(place)}: {error.strerror or error}",
                hint=OTHER_DIRECTORY,
            ) from error

    def _ensure_keeper(self, postmaster: Postmaster) -> None:
        """Start a keeper unless there is one. It inherits its lock, so there is never a second."""
        lock = open_private(self._layout.lock("keeper"))
        try:
            if not keeper.try_lock(lock, exclusive=True):
                return
            for name in ("server", "users"):
                os.close(open_private(self._layout.lock(name)))
            if not sys.executable:
                raise EmbeddedServerError("cannot find the Python interpreter that should watch the server")
            account = postmaster.account
            arguments = (self._layout.root, account.uid, account.gid, lock, LINGER_SECONDS)
            log = open_private(self._layout.log, os.O_RDWR | os.O_APPEND)
            try:
                command = [sys.executable, "-I", "-S", keeper.__file__, *map(str, arguments)]
                spawn(command, account=None, output=log, pass_fd=lock)
            finally:
                os.close(log)
        finally:
            os.close(lock)


def _is_unused(users: Path) -> bool:
    """Whether no process is attached."""
    try:
        fd = os.open(users, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        return keeper.is_free(fd)
    finally:
        os.close(fd)
