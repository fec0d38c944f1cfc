"""The command line, in this process or in one of its own."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result

from kraken_db.cli import cli


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--db-url", url], prog_name="kraken-db")


MAIN = "from kraken_db.__main__ import main; main()"
"""What a Python runs that is to be the command line."""
KRAKEN_DB = (sys.executable, "-c", MAIN)
STRICT = (sys.executable, "-W", "error", "-c", MAIN)
"""The same, where a warning is an error."""


@functools.cache
def forked() -> tuple[str, ...]:
    """``STRICT`` without the half second of its start: see ``tests.support.forks``."""
    program = str(Path(__file__).with_name("forks.py"))
    address = str(Path(tempfile.mkdtemp(prefix="kraken-db-forks-"), "socket"))
    parent = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", program, "--serve", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(parent.communicate)  # it ends with its standard input
    assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
    return sys.executable, "-I", "-S", program, address


def forked_module(name: str) -> tuple[str, ...]:
    """As ``python -m``."""
    return (*forked(), "-c", f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)")


Done = subprocess.CompletedProcess[str]


class Shell:
    """Runs kraken-db with a fixed environment."""

    def __init__(self, cwd: Path, **environment: str) -> None:
        self.cwd = cwd
        inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "KRAKEN_DB_DATA_DIR")}
        self.environment = inherited | environment
        # Python reads these when it starts.
        at_start = any(name.startswith(("PYTHON", "LC_", "LANG")) for name in environment)
        self.program = KRAKEN_DB if at_start else forked()

    def run(self, *arguments: object, program: tuple[str, ...] | None = None) -> Done:
        return subprocess.run(
            [*(program or self.program), *map(str, arguments)],
            cwd=self.cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*KRAKEN_DB, *map(str, arguments)],
            cwd=self.cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
