"""Coroutines called from synchronous code: an event loop in a thread of its own.

It works inside of a loop that runs already, as in a notebook, and from many threads at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_AWAKE_SECONDS = 0.5
"""On some systems a thread that waits hears of Ctrl-C only when it wakes up."""
_PATIENCE_SECONDS = 5.0


class BackgroundLoop:
    """Runs coroutines for any thread but its own. Ends with the process, or by ``close``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kraken-db", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What ``work`` returns or raises. Ctrl-C cancels it, and raises KeyboardInterrupt as ever."""
        future = asyncio.run_coroutine_threadsafe(_settled(work), self._loop)
        try:
            while not future.done():
                concurrent.futures.wait([future], timeout=_AWAKE_SECONDS)
        except BaseException:
            future.cancel()
            raise
        found, error = future.result()
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # without an error it is there

    def close(self, last: Coroutine[Any, Any, object]) -> None:
        """Await ``last``, for some seconds at most, and end the thread. Also right at the end of Python."""
        with contextlib.suppress(Exception):  # whoever leaves does not care
            self.run(_in_time(last))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


async def _settled(work: Coroutine[Any, Any, _T]) -> tuple[_T | None, Exception | None]:
    """Result or error: one that nobody waits for any more is then no error that nobody has seen."""
    try:
        return await work, None
    except Exception as error:
        return None, error


async def _in_time(last: Coroutine[Any, Any, object]) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await last
