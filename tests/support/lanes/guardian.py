"""Runs a server until the process that asked for it ends, in whatever way.

Usage: python guardian.py DIRECTORY USER GROUP COMMAND...

USER and GROUP are numbers; they differ from ours only where we are root, as which PostgreSQL refuses to run.

The asking process holds the other end of our standard input. When it is closed, which the system does even
after ``kill -9``, the server is killed and its directory removed. Ctrl-C does not reach us: the servers
have to outlive the tests' own cleaning up.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any


def main(directory: str, user: int, group: int, command: list[str]) -> int:
    account: dict[str, Any] = {}
    if user != os.geteuid():
        account = {"user": user, "group": group, "extra_groups": []}
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **account)

    def end_with_parent() -> None:
        os.read(sys.stdin.fileno(), 1)  # returns when the other end is closed
        server.send_signal(signal.SIGQUIT)  # PostgreSQL: stop at once, and all children with it

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        return server.wait()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
