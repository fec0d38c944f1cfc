"""The command line, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
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


Done = subprocess.CompletedProcess[str]


class Shell:
    """Runs kraken-db with a fixed environment."""

    def __init__(self, cwd: Path, **environment: str) -> None:
        self.cwd = cwd
        inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "KRAKEN_DB_DATA_DIR")}
        self.environment = inherited | environment

    def run(self, *arguments: object, program: tuple[str, ...] = KRAKEN_DB) -> Done:
        return subprocess.run(
            [*program, *map(str, arguments)],
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
