"""What is done to a recorder's database, disk and clock while it runs; each is told, with its time."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
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


@dataclass
class Disturbances:
    """``folder`` lies on the disk that the server writes to."""

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
            with suppress(KrakenDBError):
                async with database.begin() as connection:
                    cut += len((await connection.execute(text(_CUT))).all())
        _say(f"{cut} sessions were cut")

    async def _end_server(self, number: signal.Signals) -> None:
        pid = self.server.status().pid
        if pid is not None:
            _say(f"{number.name} to the server")
            os.kill(pid, number)

    async def _fill_disk(self) -> None:
        usage = shutil.disk_usage(self.folder)
        if usage.total > _LARGEST_DISK:
            _say(f"the disk of {self.folder} is too large to be filled: name a small one with TMPDIR")
            return
        ballast = self.folder / "ballast"
        _say("the disk is full")
        try:
            with ballast.open("wb") as file:
                for _ in range(30):
                    with suppress(OSError):
                        while file.write(bytes(1 << 20)):
                            pass
                    await asyncio.sleep(1)
        finally:
            ballast.unlink()
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
