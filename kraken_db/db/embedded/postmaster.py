"""The running server: start it, wait for it, stop it. The caller holds start.lock.

Whether it lets us in is asked over its Unix socket: the start of PostgreSQL's protocol, nothing more.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from kraken_db.db.embedded.account import Account, spawn
from kraken_db.db.embedded.cluster import failure, find_binaries, prepare_cluster, write_config
from kraken_db.db.embedded.keeper import (
    ORPHAN_GRACE_SECONDS,
    is_free,
    postmaster_pid,
    quit_orphans,
    recorded_pid,
    shut_down,
    try_lock,
)
from kraken_db.db.embedded.layout import Layout, check_reachable, make_socket_dir, socket_name
from kraken_db.db.embedded.locks import is_stopped, open_private
from kraken_db.errors import EmbeddedServerError

_POLL_SECONDS = 0.005  # and longer the longer it takes: each look at a busy server is a line in its log
_POLL_LONGEST = 0.5
_SILENT_SECONDS = 20.0  # listening comes early in a start, before recovery
_BUSY_SECONDS = 600.0  # replaying up to max_wal_size after a crash
_STOP_SECONDS = 120.0
_LOG_LIMIT = 10_000_000
_LOG_KEPT = 1_000_000


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The server of one data directory."""

    layout: Layout
    account: Account

    def probe(self) -> Probe:
        return probe(self.layout.socket_dir(self.account.uid) / socket_name())

    def is_running(self) -> bool:
        """Whether any process of it is alive, by the lock that they all inherited."""
        try:
            lock = os.open(self.layout.lock("server"), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            return not is_free(lock)
        finally:
            os.close(lock)

    def ensure(self, *, alone: bool) -> None:
        """Return when the server accepts connections; start it if it does not run.

        ``alone``: nobody else uses it, so it may be restarted where that helps.
        """
        self._refuse_stopped()  # it would let each question wait for its whole time
        if self.probe().answer is Answer.READY:
            return
        if self._lost_its_socket():
            self._restart(alone)
        log_begin: int | None = None
        lock = open_private(self.layout.lock("server"))
        begin = time.monotonic()
        try:
            while not self._accepts(time.monotonic() - begin):
                if try_lock(lock, exclusive=True):  # nothing of a server is alive
                    if log_begin is not None:
                        raise failure("did not start", self.layout, self._log_since(log_begin))
                    log_begin = self._launch(lock)
                    begin = time.monotonic()
                    os.close(lock)  # the lock itself is the server's now
                    lock = open_private(self.layout.lock("server"))
                elif log_begin is None and time.monotonic() - begin > ORPHAN_GRACE_SECONDS:
                    quit_orphans(self.layout.data)
                time.sleep(min(_POLL_SECONDS + (time.monotonic() - begin) / 20, _POLL_LONGEST))
        finally:
            os.close(lock)

    def _accepts(self, waited: float) -> bool:
        """One look at a server that is on its way up or down."""
        found = self.probe()
        if found.answer is Answer.REFUSED:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {self.layout.root} refuses this user: {found.text}",
                hint="it is being used by another user, or stop it with: kraken-db db stop",
            )
        if found.answer is not Answer.READY:
            self._refuse_stopped()
        limit = _BUSY_SECONDS if found.answer is Answer.BUSY else _SILENT_SECONDS
        if found.answer is not Answer.READY and waited > limit:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {self.layout.root} runs, but accepted no connection in"
                f" {limit:.0f} s: {found.text or 'it does not answer on its socket'}",
                hint=f"see {self.layout.log}; 'kraken-db db stop' stops it, the next command starts it again",
            )
        return found.answer is Answer.READY

    def _refuse_stopped(self) -> None:
        """One that is stopped does nothing until somebody lets it go on, whatever it is asked."""
        pid = postmaster_pid(self.layout.data)
        if pid is not None and is_stopped(pid):
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {self.layout.root} is stopped (process {pid}, by SIGSTOP or"
                " a terminal)",
                hint=f"kill -CONT {pid} lets it go on; then run the command again",
            )

    def _lost_its_socket(self) -> bool:
        """A running, ready server whose socket was swept away, for example by a cleaner of /tmp."""
        if (self.layout.socket_dir(self.account.uid) / socket_name()).exists():
            return False
        try:
            lines = (self.layout.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready" and self.is_running()

    def _restart(self, alone: bool) -> None:
        if not alone:
            raise EmbeddedServerError(
                f"the socket in {self.layout.socket_dir(self.account.uid)} is gone, so nobody can connect",
                hint="other processes still use the server: end them, or run 'kraken-db db stop', and repeat",
            )
        self.stop()

    def _launch(self, lock: int) -> int:
        """Start the server, which inherits the lock. Returns where its part of the log begins."""
        layout, account = self.layout, self.account
        binaries = find_binaries(account)
        check_reachable(layout.root, account)
        prepare_cluster(layout, account, binaries, lock)
        make_socket_dir(layout.socket_dir(account.uid), account)
        arguments = write_config(layout, account)
        # After a reboot the recorded process id may be another program's, which PostgreSQL takes for a
        # server. It lets its grandparent's pass: so tell it that this one is, having looked for ourselves.
        stale = recorded_pid(layout.data) if postmaster_pid(layout.data) is None else None
        log = open_private(layout.log, os.O_RDWR | os.O_APPEND)
        try:
            begin = os.fstat(log).st_size
            spawn(
                [binaries.bin / "postgres", "-D", layout.data, *arguments],
                account=account,
                output=log,
                pass_fd=lock,
                environment={"PG_GRANDPARENT_PID": str(stale)} if stale else None,
            )
        finally:
            os.close(log)
        return begin

    def stop(self) -> bool:
        """Fast shutdown. False if nothing was running."""
        if not self.is_running():
            return False
        self._refuse_stopped()
        lock = open_private(self.layout.lock("server"))
        try:
            if shut_down(self.layout.data, lock, _STOP_SECONDS):
                return True
        finally:
            os.close(lock)
        raise EmbeddedServerError(
            f"the embedded PostgreSQL in {self.layout.root} has not ended within {_STOP_SECONDS:.0f} s",
            hint=f"it may be writing to a slow disk: wait and repeat, and see {self.layout.log}",
        )

    def _log_since(self, begin: int) -> str:
        with self.layout.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")

    def trim_log(self) -> None:
        """Keep server.log small; the end of the old one goes to server.log.1. The server just goes on."""
        log = open_private(self.layout.log)
        try:
            found = os.fstat(log)
            if not stat.S_ISREG(found.st_mode) or found.st_size <= _LOG_LIMIT:
                return
            end = os.pread(log, _LOG_KEPT, found.st_size - _LOG_KEPT)
            old = open_private(self.layout.log.with_name("server.log.1"), os.O_WRONLY | os.O_TRUNC)
            os.write(old, end)
            os.close(old)
            os.ftruncate(log, 0)  # it is written in append mode
        finally:
            os.close(log)


_STARTUP = b"user\0kraken\0database\0kraken\0application_name\0kraken-db probe\0\0"
_PROTOCOL = 3 << 16
_TERMINATE = b"X\0\0\0\4"
_CANNOT_CONNECT_NOW = "57P03"
_TOO_MANY_CONNECTIONS = "53300"


class Answer(enum.Enum):
    """``SILENT``: nobody listens. ``BUSY``: it is starting up, recovering or shutting down."""

    SILENT = enum.auto()
    BUSY = enum.auto()
    READY = enum.auto()
    REFUSED = enum.auto()


@dataclass(frozen=True, slots=True)
class Probe:
    """``text``: the server's version when it is ready, its message when it is not."""

    answer: Answer
    text: str | None = None


def probe(path: Path, timeout: float = 5.0) -> Probe:
    """Log in and out again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(struct.pack("!ii", 8 + len(_STARTUP), _PROTOCOL) + _STARTUP)
            return _read_answer(connection)
        except (OSError, EOFError):
            return Probe(Answer.SILENT)


def _read_answer(connection: socket.socket) -> Probe:
    version: str | None = None
    while True:
        kind, body = _message(connection)
        if kind == b"E":
            return _refusal(body)
        if kind == b"S":
            name, value, _ = body.split(b"\0", 2)
            version = value.decode() if name == b"server_version" else version
        elif kind == b"R" and body != b"\0\0\0\0":
            return Probe(Answer.REFUSED, "it asks for a password")
        elif kind == b"Z":
            with contextlib.suppress(OSError):
                connection.sendall(_TERMINATE)
            return Probe(Answer.READY, version)


def _refusal(body: bytes) -> Probe:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    code = fields.get(b"C", "")
    if code == _TOO_MANY_CONNECTIONS:
        return Probe(Answer.READY)
    return Probe(Answer.BUSY if code == _CANNOT_CONNECT_NOW else Answer.REFUSED, fields.get(b"M", code))


def _message(connection: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(connection, 5)
    return head[:1], _exactly(connection, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
