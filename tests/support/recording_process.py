"""A recording as a process of its own, with the clock of the exchange in the test's process.

Usage: python -m tests.support.recording_process DATABASE REST JOURNAL BEGAN SYMBOL...
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from kraken_db.recorder import Recorder
from kraken_db.simulator import FastClock
from tests.support.recording import MINUTE, SPEED, START, is_live, recorder_of


async def main(url: str, base_url: str, journal: str, began: str, *symbols: str) -> None:
    clock = FastClock(START + MINUTE, SPEED, int(began))
    async with recorder_of(url, base_url, clock, symbols, Path(journal)) as recorder:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, recorder.request_stop)
        reporting = asyncio.create_task(_report(recorder))
        await recorder.run()
        reporting.cancel()


async def _report(recorder: Recorder) -> None:
    """A line when it is live: from then on the test counts."""
    while not is_live(recorder.status()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    sys.stdout.write("live\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
