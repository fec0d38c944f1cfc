"""Ctrl-C and SIGTERM while a download runs: what has been received is stored first."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KILLED = 128
"""What a shell adds to the number of the signal that ended a program."""


class Stoppable(Protocol):
    def request_stop(self) -> None: ...


class Signals:
    """Of one command: what it was told to end by, and the exit code that says so."""

    def __init__(self) -> None:
        self._came: list[int] = []

    @contextmanager
    def stopping(self, service: Stoppable) -> Iterator[None]:
        """The first signal lets what was received be stored, the second ends everything at once."""
        loop, work = asyncio.get_running_loop(), asyncio.current_task()
        assert work is not None

        def on_signal(number: int) -> None:
            if self._came:
                work.cancel()
            else:
                service.request_stop()
            self._came.append(number)

        for number in _SIGNALS:
            loop.add_signal_handler(number, on_signal, number)
        try:
            yield
        except asyncio.CancelledError:
            raise click.Abort from None
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def exit_code(self, *, is_flawed: bool) -> int:
        """130 or 143 where a signal came; else 1 for what is left to look at, or 0."""
        return _KILLED + self._came[0] if self._came else int(is_flawed)
