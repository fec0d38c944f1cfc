"""``kraken-db`` with a clock that somebody else sets: ``_storm_worker.py OFFSET-FILE COMMAND...``.

The file has a number of seconds, positive where the clock is ahead; it is read at every look at the clock.
"""

from __future__ import annotations

import signal

# A signal before the command begins ends this file, not the command: no traceback of ours is to be seen.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys  # noqa: E402
from contextlib import suppress  # noqa: E402
from datetime import datetime, timedelta  # noqa: E402
from pathlib import Path  # noqa: E402

from kraken_db import times  # noqa: E402
from kraken_db.__main__ import main  # noqa: E402

_right, _steady = times.utc_now, times.steady_now
_offset = Path(sys.argv.pop(1))


def _now() -> datetime:
    with suppress(OSError, ValueError):  # it is just being written
        return _right() + timedelta(seconds=float(_offset.read_text()))
    return _right()


_first = _now() - _right()
# Before anything else is imported: they are the defaults of many arguments.
times.utc_now = _now
times.steady_now = lambda: _steady() + _first

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
