"""Standard output and error as they may be: closed, on a full disk, or left by their reader."""

from __future__ import annotations

import io
import os
import sys
from typing import IO, Any

from kraken_db.errors import KrakenDBError

_INPUT, _OUTPUT, _ERROR = 0, 1, 2


class _Output(io.FileIO):
    """Standard output whose failure is an error of this package, raised once: what follows is lost anyway.

    An OSError would be taken for one of the database's connection, which is busy at that moment.
    """

    def __init__(self, failure: str | None) -> None:
        super().__init__(_OUTPUT, "wb", closefd=False)
        self._failure = failure
        self._is_lost = False

    def write(self, data: Any) -> int:
        if self._is_lost:
            return memoryview(data).nbytes
        try:
            if self._failure is None:
                return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failure = error.strerror
        self._is_lost = True
        raise KrakenDBError(f"cannot write to standard output: {self._failure}")


def guard_streams() -> None:
    """Make the standard streams of this process safe to use. For its very beginning.

    What was closed becomes /dev/null: or a file or a connection would get its number, and our words.
    """
    was_closed = sys.stdout is None
    for number in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(_ERROR, "w", closefd=False)  # noqa: SIM115 (until the process ends)
    writer = io.BufferedWriter(_Output("it is closed" if was_closed else None))
    encoding, errors = ("utf-8", "strict") if was_closed else (sys.stdout.encoding, sys.stdout.errors)
    is_terminal = writer.isatty()
    sys.stdout = io.TextIOWrapper(writer, encoding=encoding, errors=errors, line_buffering=is_terminal)


def discard(stream: IO[str]) -> None:
    """Nobody reads any more: what is still buffered must not raise again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
