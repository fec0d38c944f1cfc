"""A backfill as a process of its own, against an exchange in the test's event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kraken_db.simulator import SimulatedExchange

BACKFILL = (sys.executable, "-W", "error", "-m", "kraken_db.historical_backfill")
_NOT_INHERITED = ("DATABASE_URL", "KRAKEN_DB_DATA_DIR", "KRAKEN_BASE_URL")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@asynccontextmanager
async def backfilling(
    *arguments: str, environment: Mapping[str, str], program: tuple[str, ...] = BACKFILL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """It is killed if the block is left while it runs."""
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    process = await asyncio.create_subprocess_exec(
        *program,
        *arguments,
        env=inherited | dict(environment),
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


async def ended(process: asyncio.subprocess.Process, seconds: float = 120) -> Ended:
    """Wait for its end, and take what it printed."""
    async with asyncio.timeout(seconds):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def run_backfill(
    *arguments: str, environment: Mapping[str, str], program: tuple[str, ...] = BACKFILL
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
