"""The running server: start it, wait for it, stop it. The caller holds start.lock."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass

from kraken_db.db.embedded.account import Account, spawn
from kraken_db.db.embedded.binaries import find_binaries
from kraken_db.db.embedded.cluster import failure, prepare_cluster
from kraken_db.db.embedded.config import write_config
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
from kraken_db.db.embedded.locks import open_private
from kraken_db.db.embedded.probe import Answer, Probe, probe
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
        patience = _BUSY_SECONDS if found.answer is Answer.BUSY else _SILENT_SECONDS
        if found.answer is not Answer.READY and waited > patience:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {self.layout.root} runs, but accepted no connection in"
                f" {patience:.0f} s: {found.text or 'it does not answer on its socket'}",
                hint=f"see {self.layout.log}; 'kraken-db db stop' stops it, the next command starts it again",
            )
        return found.answer is Answer.READY

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
