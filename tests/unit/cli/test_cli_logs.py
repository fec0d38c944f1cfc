"""-v, --debug, --quiet and --log-file: what goes where."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kraken_db.cli import logs
from kraken_db.cli.base import LazyGroup
from kraken_db.cli.output import note

URL = "postgresql://bob:s3cr3t@localhost:1/db"


@click.group(cls=LazyGroup)
def group() -> None:
    pass


@group.command()
@click.option("--fail", is_flag=True)
def work(fail: bool) -> None:
    log = logging.getLogger("kraken_db.test")
    log.debug("detail")
    log.info("at work on %s", URL)
    log.warning("odd\nWARNING 1 kraken_db.test: forged")
    log.error("broken")
    note("Note: by the way")
    note("Failed: BTC/USD: no")
    click.echo("result")
    if fail:
        raise KeyError(URL)


def run(*words: str) -> Result:
    return CliRunner().invoke(group, list(words))


SHOWN = "at work on postgresql://bob:***@localhost:1/db"
WARNED = "warning: odd WARNING 1 kraken_db.test: forged"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [WARNED, "error: broken", "Note: by the way", "Failed: BTC/USD: no"]),
        (["-v"], [SHOWN, WARNED, "error: broken", "Note: by the way", "Failed: BTC/USD: no"]),
        (["-q"], ["error: broken", "Failed: BTC/USD: no"]),
        (["--quiet"], ["error: broken", "Failed: BTC/USD: no"]),
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
def test_what_is_said_on_stderr(words: list[str], expected: list[str], is_before: bool) -> None:
    done = run(*words, "work") if is_before else run("work", *words)
    assert (done.stdout, done.stderr.splitlines()) == ("result\n", expected)


def test_a_later_run_is_as_loud_as_ever() -> None:
    run("-q", "work")
    assert "Note: by the way" in run("work").stderr


def test_what_was_asked_for_on_both_sides_is_done(tmp_path: Path) -> None:
    done = run("--log-file", str(tmp_path / "log"), "work", "-v")
    assert SHOWN in done.stderr
    assert SHOWN in (tmp_path / "log").read_text()


def test_the_file_has_what_was_done_whatever_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    done = run("work", "-q", "-v", "--log-file", str(path), "--fail")
    assert done.exit_code == 70
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cr3t" not in text + done.output
    for line in (
        f"kraken_db.test: {SHOWN}",
        "kraken_db.said: Note: by the way",
        "Traceback",
        "internal error",
    ):
        assert line in text
    assert r"odd\nWARNING 1 kraken_db.test: forged" in text
    assert "detail" not in text
    run("work", "--debug", "--log-file", str(path))
    assert "DEBUG" in path.read_text()


def test_a_full_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_LARGEST_LOG", 400)
    path = tmp_path / "log"
    for _ in range(12):
        run("work", "--log-file", str(path))
    files = sorted(tmp_path.iterdir())
    names = ["log", "log.1", "log.2", "log.3", "log.4", "log.5", "log.lock"]
    assert [one.name for one in files] == names
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 and one.stat().st_size <= 400 for one in files)


def test_for_months_the_file_has_what_somebody_wants_to_know(tmp_path: Path) -> None:
    """Starts, ends, warnings, errors and what was printed; -v adds a line for each commit."""
    path = tmp_path / "log"
    run("work", "--log-file", str(path))
    said = [line.partition(" kraken_db.")[2] for line in path.read_text().splitlines()]
    assert said == [
        "commands: group work begins",
        r"test: odd\nWARNING 1 kraken_db.test: forged",
        "test: broken",
        "said: Note: by the way",
        "said: Failed: BTC/USD: no",
        "commands: ended with exit code 0",
    ]


def test_several_processes_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One puts it aside; the others go on in the new one, and nothing is lost."""
    monkeypatch.setattr(logs, "_LARGEST_LOG", 20_000)
    monkeypatch.setattr(logs, "_OLD_LOGS", 50)
    path = tmp_path / "log"
    script = (
        "import logging, sys; from pathlib import Path; from kraken_db.cli import logs;"
        "logs._LARGEST_LOG, logs._OLD_LOGS = 20_000, 50;"
        "logs.configure_logging(logs.Wishes(log_file=Path(sys.argv[1])));"
        "log = logging.getLogger('kraken_db.test');"
        "[log.error('%s line %d', sys.argv[2], number) for number in range(1_000)]"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name], stderr=subprocess.DEVNULL)
        for name in ("a", "b", "c")
    ]
    assert [one.wait(timeout=120) for one in several] == [0, 0, 0]
    lines = [line for one in tmp_path.glob("log*") for line in one.read_text().splitlines()]
    found = sorted(line.partition("kraken_db.test: ")[2] for line in lines)
    assert found == sorted(f"{name} line {number}" for name in "abc" for number in range(1_000))


@pytest.mark.parametrize("name", [".", "none/log", "~nobody_of_this_name/log"])
def test_a_file_that_cannot_be_written_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("work", "--log-file", name)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_said_once_and_the_work_goes_on() -> None:
    done = run("work", "--log-file", "/dev/full")
    assert (done.exit_code, done.stdout) == (0, "result\n")
    assert done.stderr.count("the log /dev/full cannot be written") == 1
    assert run("work").stdout == "result\n"
