"""What is done to a database, a disk and a clock while programs use them: for the soak and the storm."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.engine import Database
from kraken_db.errors import KrakenDBError
from kraken_db.times import utc_now

_FAKE = "FAKETIME_TIMESTAMP_FILE"
_LARGEST_DISK = 8 * 2**30
"""Bytes: a larger one is not filled up."""
_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


async def cut_sessions(database: Database) -> int:
    """End all sessions of clients but this one; returns how many they were, 0 where the server is away."""
    with suppress(KrakenDBError):
        async with database.begin() as connection:
            return len((await connection.execute(text(_CUT))).all())
    return 0


def end_server(server: EmbeddedServer, number: signal.Signals) -> bool:
    """Whether it ran."""
    pid = server.status().pid
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return True


def can_fill(folder: Path) -> bool:
    """Whether the disk is small enough to be filled."""
    return shutil.disk_usage(folder).total <= _LARGEST_DISK


async def fill_disk(folder: Path, seconds: float) -> None:
    """Leave no room where the folder is, for so long."""
    ballast = folder / "ballast"
    ends = time.monotonic() + seconds
    try:
        with ballast.open("wb") as file:
            while time.monotonic() < ends:
                with suppress(OSError):
                    while file.write(bytes(1 << 20)):
                        pass
                await asyncio.sleep(0.5)
    finally:
        ballast.unlink(missing_ok=True)


@dataclass
class Disturbances:
    """Of a recorder; each is told, with its time. ``folder`` lies on the disk that the server writes to."""

    server: EmbeddedServer
    folder: Path

    async def run(self, seconds: float, database: Database) -> None:
        """All of them, spread over so many seconds: sessions are cut all the time, every ten seconds."""
        steps: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.15, lambda: self._end_server(signal.SIGINT)),
            (0.25, lambda: self._end_server(signal.SIGKILL)),
            (0.4, self._fill_disk),
            (0.6, self._set_clock_back),
            (0.8, lambda: self._end_server(signal.SIGKILL)),
            (0.9, lambda: self._end_server(signal.SIGINT)),
        ]
        await asyncio.gather(
            self._cut_sessions(seconds, database), *(self._at(seconds * at, do) for at, do in steps)
        )

    async def _at(self, seconds: float, do: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(seconds)
        await do()

    async def _cut_sessions(self, seconds: float, database: Database) -> None:
        cut = 0
        for _ in range(int(seconds // 10)):
            await asyncio.sleep(10)
            cut += await cut_sessions(database)
        _say(f"{cut} sessions were cut")

    async def _end_server(self, number: signal.Signals) -> None:
        if end_server(self.server, number):
            _say(f"{number.name} to the server")

    async def _fill_disk(self) -> None:
        if not can_fill(self.folder):
            _say(f"the disk of {self.folder} is too large to be filled: name a small one with TMPDIR")
            return
        _say("the disk is full")
        await fill_disk(self.folder, 30)
        _say("the disk has room again")

    async def _set_clock_back(self) -> None:
        path = os.environ.get(_FAKE)
        if path is None:
            _say(f"the clock is not set: that needs libfaketime, and {_FAKE}")
            return
        _say("the clock is set back by two hours")
        _write(path, "-7200")
        await asyncio.sleep(60)
        _write(path, "+0")
        _say("the clock is right again")


def _write(path: str, offset: str) -> None:
    Path(path).write_text(offset)


def _say(what: str) -> None:
    print(f"{utc_now():%H:%M:%S} {what}", flush=True)
