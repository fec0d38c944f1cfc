"""The lines for crontabs in docs/: as cron runs them, with its small PATH and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import minutes, write
from tests.support.sandbox import Done, Sandbox, new_sandbox

DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = "/opt/kraken-db/bin/kraken-db"
_LINE = re.compile(r"^(?:[\d*/,-]+ ){5} *(\S.*)$", re.MULTILINE)
LINES = [line for page in ("server.md", "status.md") for line in _LINE.findall((DOCS / page).read_text())]
CHECKS = sorted({line for line in LINES if " status " in line})
WORK = [line for line in LINES if " status " not in line]
NOTHING_THERE = "http://127.0.0.1:9"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        found.add_commands()
        config = found.root / ".config" / "kraken-db" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'data-dir = "{found.data}"\nbase-url = "{NOTHING_THERE}"\n')
        config.chmod(0o600)
        yield found


def as_cron(sandbox: Sandbox, line: str) -> Done:
    """What it prints, cron mails."""
    line = line.replace(PROGRAM, str(sandbox.root / "bin" / "kraken-db"))
    clean = ("env", "-i", f"HOME={sandbox.root}", "PATH=/usr/bin:/bin", "LOGNAME=me", "SHELL=/bin/sh")
    return sandbox.run(*clean, "/bin/sh", "-c", line)


def test_there_are_lines_and_each_names_the_whole_path() -> None:
    assert CHECKS and len(WORK) == 2
    assert all(line.startswith(PROGRAM) for line in LINES)
    assert not any("hooks." in line or "HOOK" in line for line in LINES), "ps would show it"


def test_they_say_nothing_while_all_is_well(sandbox: Sandbox) -> None:
    """A delisted pair is never behind, and has no gap: there is nothing to do, and nothing to tell."""
    write(sandbox.root, "XBTUSD_1.csv", minutes(60))
    assert sandbox.run("kraken-db", "import-csv", "XBTUSD_1.csv").returncode == 0
    ended = "UPDATE data_sync_status SET ended_at = newest_timestamp + interval '1 minute'"
    done = sandbox.run("kraken-db", "sql", "--write", ended)
    assert done.returncode == 0, done.stdout
    for line in (*CHECKS, *WORK):
        done = as_cron(sandbox, line)
        assert (done.returncode, done.stdout) == (0, ""), line


def test_they_mail_what_is_wrong_and_make_no_database(sandbox: Sandbox) -> None:
    for line in LINES:
        done = as_cron(sandbox, line)
        assert done.returncode == 1, line
        (mail,) = done.stdout.splitlines()
        assert "there is no database yet in" in mail
    assert not sandbox.data.exists()
    write(sandbox.root, "XBTUSD_1.csv", minutes(60))
    assert sandbox.run("kraken-db", "import-csv", "XBTUSD_1.csv").returncode == 0
    for line in CHECKS:
        done = as_cron(sandbox, line)
        assert done.returncode == 1
        assert done.stdout.startswith("Error: check failed: BTC/USD ")


def test_python_is_not_on_crons_path_here() -> None:
    """Or these tests would show nothing."""
    assert Path(sys.executable).parent not in (Path("/usr/bin"), Path("/bin"))
