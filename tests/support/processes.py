"""Programs as processes of their own, a backfill above all, against an exchange in the test's event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kraken_db.simulator import SimulatedExchange
from tests.support.shell import forked, forked_module

_NOT_INHERITED = ("DATABASE_URL", "KRAKEN_DB_DATA_DIR", "KRAKEN_BASE_URL", "KRAKEN_ARCHIVE_URL")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@asynccontextmanager
async def running(
    *command: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that knows no store and no exchange but by its arguments.

    It is killed if the block is left while it runs.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=inherited | dict(environment or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def backfilling(
    *arguments: str, environment: Mapping[str, str], program: tuple[str, ...] | None = None
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return running(*(program or (*forked(), "backfill")), *arguments, environment=environment)


def backfill_in_small_batches() -> tuple[str, ...]:
    """A program, for ``backfilling``."""
    return (*forked_module("tests.support.small_batches"), "backfill")


async def ended(process: asyncio.subprocess.Process, seconds: float = 120) -> Ended:
    """Wait for its end, and take what it printed."""
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run_backfill(
    *arguments: str, environment: Mapping[str, str], program: tuple[str, ...] | None = None
) -> Ended:
    async with backfilling(*arguments, environment=environment, program=program) as process:
        return await ended(process)


async def requests_reach(
    exchange: SimulatedExchange, count: int, process: asyncio.subprocess.Process
) -> bool:
    """Wait until so many requests for trades came; False if the process ended before."""
    while sum(request.path.endswith("Trades") for request in exchange.requests) < count:
        if process.returncode is not None:
            return False
        await asyncio.sleep(0.002)
    return True


def keeper_pids(data_dir: Path) -> list[int]:
    """The processes that stop the embedded server of a directory when its last user ends (Linux)."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(data_dir) in words and any(word.endswith(b"keeper.py") for word in words):
            pids.append(int(process.name))
    return pids
