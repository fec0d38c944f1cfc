"""Errors: one line on stderr, an exit code, no traceback, no password. And --help, which costs nothing."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.cli import cli
from kraken_db.cli.base import LazyCommand, LazyGroup
from kraken_db.cli.logs import redact
from kraken_db.errors import ConfigurationError, KrakenDBError

URL = "postgresql://bob:s3cr3t@localhost:1/db"


def fail_with(error: BaseException) -> LazyGroup:
    @click.group(cls=LazyGroup)
    def group() -> None:
        pass

    @group.command()
    def work() -> None:
        logging.getLogger("kraken_db.test").info("at work on %s", URL)
        raise error

    return group


def run(group: click.Group, *arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments), prog_name="kraken-db")


def test_an_error_is_one_line_with_what_to_do() -> None:
    done = run(fail_with(KrakenDBError("this\nis broken", hint="mend it")), "work")
    assert (done.stdout, done.stderr, done.exit_code) == ("", "Error: this is broken. Mend it\n", 1)


def test_a_hint_that_is_a_command_stays_as_it_is() -> None:
    done = run(fail_with(KrakenDBError("not installed", hint="pip install it")), "work")
    assert done.stderr == "Error: not installed. pip install it\n"


def test_a_bug_is_one_line_too() -> None:
    done = run(fail_with(KeyError("x")), "work")
    assert (done.stderr, done.exit_code) == ("internal error: KeyError: 'x'; run again with --debug\n", 70)


@pytest.mark.parametrize("arguments", [["--debug", "work"], ["work", "--debug"]])
def test_debug_shows_where_it_happened_and_no_password(arguments: list[str]) -> None:
    done = run(fail_with(ConfigurationError(f"bad {URL}")), *arguments)
    assert "Traceback" in done.stderr
    assert "at work on postgresql://bob:***@localhost" in done.stderr
    assert done.stderr.endswith("Error: bad postgresql://bob:***@localhost:1/db\n")
    assert "s3cr3t" not in done.output


def test_verbose_tells_what_is_done() -> None:
    done = run(fail_with(KrakenDBError("no")), "work", "-v")
    assert done.stderr == "at work on postgresql://bob:***@localhost:1/db\nError: no\n"


def test_a_later_run_is_quiet_again() -> None:
    group = fail_with(KrakenDBError("no"))
    run(group, "--debug", "work")
    assert run(group, "work").stderr == "Error: no\n"


def test_an_interrupt_is_130() -> None:
    done = run(fail_with(KeyboardInterrupt()), "work")
    assert (done.stderr.strip(), done.exit_code) == ("interrupted", 130)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql+asyncpg://u:p@ss@h/d", "postgresql+asyncpg://u:***@h/d"),
        ("at postgres://:p@h", "at postgres://:***@h"),
        ("postgresql://h/d?password=p&user=u", "postgresql://h/d?password=***&user=u"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("expected postgresql://user:password@host:5432/database",) * 2,
    ],
)
def test_passwords_are_taken_out(text: str, expected: str) -> None:
    assert redact(text) == expected


_ADDRESS = re.compile(r"([a-z0-9+]+://[^\s:/@]*:)(?!password@host)[^\s]*(?=@)", re.IGNORECASE)
_PARAMETER = re.compile(r"(\b(?:password|passwd)=)[^\s&]+", re.IGNORECASE)
_PIECES = ["a", "Z9", "+", "://", "/", ":", "@", " ", "\n", "password@host", "password=", "&", "é", "x:y@"]


@given(st.lists(st.sampled_from(_PIECES), max_size=16).map("".join))
def test_any_text_loses_what_the_two_patterns_say(text: str) -> None:
    """The patterns say it in one line each, and take a time that grows with the square of the length."""
    assert redact(text) == _PARAMETER.sub(r"\1***", _ADDRESS.sub(r"\1***", text))


@pytest.mark.parametrize(
    "piece", ["x", "a://", "a://b:", "a://b:@", "://", "password=", "@", "a:", "a ", "\n"]
)
def test_a_text_of_a_megabyte_takes_no_time(piece: str) -> None:
    began = time.process_time()
    shown = redact(piece * (1_000_000 // len(piece)))
    assert time.process_time() - began < 3
    assert max(map(len, shown.split("\n"))) < 4_050


def test_of_a_long_line_both_ends_are_left() -> None:
    shown = redact("begin " + "x" * 9_000 + f" {URL} end")
    assert shown.startswith("begin xxx")
    assert shown.endswith("postgresql://bob:***@localhost:1/db end")
    assert "characters left out" in shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("candles", "Missing argument 'SYMBOL'"),
        ("candles nonsense", "'NONSENSE' is not a pair"),
        ("candles BTC/USD -i 7x", "there is no interval '7x'; write 1m, 15m, 2h"),
        ("candles BTC/USD --start last-week", "'last-week' is not a time; write 2023-01-31"),
        ("candles BTC/USD --last 0", "0 is not in the range"),
        ("candles BTC/USD --last 5 --start 2023-01-01", "--last cannot be combined with --since and --until"),
        ("candles BTC/USD --start 2023-01-02 --end 2023-01-01", "is not before --end (2023-01-01T00:00:00Z)"),
        ("candles BTC/USD --since 2023-01-02 --until 2023-01-01", "--since is not before --until"),
        ("candels", "No such command 'candels'; did you mean kraken-db candles?"),
        ("import x.zip", "did you mean kraken-db import-csv?"),
        ("backfil", "did you mean kraken-db backfill?"),
        ("fill", "did you mean kraken-db gaps fill?"),
        ("migrate", "did you mean kraken-db db upgrade?"),
        ("plot BTC/USD", "did you mean kraken-db chart?"),
        ("gaps fil", "did you mean kraken-db gaps fill?"),
        ("help backfil", "did you mean kraken-db backfill?"),
        ("zzz", "No such command 'zzz'. Try: kraken-db --help"),
        ("status --what", "No such option: --what. Try: kraken-db status --help"),
        ("backfill --symbol BTC/USD", "No such option: --symbol; did you mean --symbols?"),
        ("backfill --from 2023", "No such option: --from; did you mean --since?"),
        ("candles BTC/USD --timeframe 1h", "did you mean --interval?"),
        ("candles BTC/USD --limit 5", "did you mean --last?"),
        ("status --database x", "did you mean --db-url?"),
        ("--symbols BTC/USD backfill", "options of a command come after its name"),
        ("candles BTC", "write BTC/USD, or see: kraken-db pairs BTC."),
        ("backfill xbt", "write BTC/USD, or 'BTC/*' for all its pairs."),
        ("export BTCUDS --out x", "did you mean BTC/USD"),
        ("candles BTC/USD ETH/USD", "candles takes one pair, not BTC/USD, ETH/USD"),
        ("candles BTC/USD --symbols ETH/USD", "candles takes one pair, not BTC/USD, ETH/USD"),
        ("candles BTC/*", "'BTC/*' is not a pair"),
        ("candles BTC/USD -i daily", "did you mean 1d?"),
        ("export BTC/USD --out x -i H1", "did you mean 1h?"),
        ("simulate nonsense", "'NONSENSE' is not a pair"),
        ("record --every 10x", "'10x' is not a number. Write it like 10, or like 10s, 5min or 1h"),
        ("gaps list BTC/USD --min-gap 90s", "'90s' is no multiple of 1 minute"),
        ("import-csv --symbols", "needs at least one symbol"),
        ("delete BTC/USD", "to remove a pair: kraken-db db remove-pair"),
        ("gaps BTC/USD", "did you mean kraken-db gaps list BTC/USD?"),
        ("BTC/USD", "did you mean kraken-db candles BTC/USD?"),
        ("candles BTC/USD --csv", "No such option: --csv; write --format csv."),
        ("candles BTC/USD --timezone UTC", "No such option: --timezone; did you mean --tz?"),
        ("candles BTC/USD --out x.csv", "No such option: --out; write --format csv > FILE."),
        ("candles BTC/USD -o x.csv", "No such option: -o; write --format csv > FILE."),
        ("candles BTC/USD --fill", "Option '--fill' requires an argument; write --fill previous."),
        ("candles BTC/USD --format", "write --format table or --format csv or --format json."),
        ("candles BTC/USD --last=-1", "-1 is not in the range: at least 1."),
        ("candles BTC/USD -i quarter", "did you mean 3M?"),
        ("candles BTC/*", "but a pattern; one pair is taken here"),
        ("backfill BTC/USD --since 2099-01-01", "--since is in the future: 2099-01-01T00:00:00Z."),
        ("export BTC/USD --out x.parquet", "--out is a folder for many files, and x.parquet reads as one"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(line: str, expected: str) -> None:
    done = run(cli, *line.split())
    assert done.exit_code == 2
    assert expected in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith("--help\n")
    assert done.stderr.count("\n") == 1


def test_a_wrong_address_is_one_line_without_the_password() -> None:
    done = run(cli, "status", "--db-url", "mysql://bob:s3cr3t@h/d")
    assert done.exit_code == 2
    assert done.stderr.startswith(
        "Error: the database URL cannot be used: it starts with 'mysql:'. Expected "
    )
    assert "s3cr3t" not in done.output


def test_a_folder_is_an_address_of_its_own_kind() -> None:
    done = run(cli, "status", "--db-url", "/data/kraken")
    assert done.exit_code == 2
    assert "it has no scheme; a folder is written embedded:///data/kraken" in done.stderr


def test_choices_are_taken_in_any_case() -> None:
    done = run(cli, "candles", "BTC/USD", "--format", "CSV", "--db-url", "embedded:///nowhere/at/all")
    assert "is not one of" not in done.stderr


COMMANDS = [
    "backfill",
    "cache",
    "candles",
    "chart",
    "completion",
    "config",
    "db",
    "export",
    "gaps",
    "help",
    "import-csv",
    "jobs",
    "pairs",
    "policies",
    "record",
    "serve",
    "simulate",
    "sql",
    "status",
    "verify",
    "version",
]
OF_DB = ["current", "maintain", "start", "status", "stop", "upgrade", "url"]


@pytest.mark.parametrize("path", [[name] for name in COMMANDS] + [["db", name] for name in OF_DB])
def test_every_command_has_help_and_the_common_options(path: list[str]) -> None:
    done = run(cli, *path, "-h")
    assert done.exit_code == 0
    assert "--debug" in done.output


@pytest.mark.parametrize(
    "path",
    [
        ["candles"],
        ["chart"],
        ["gaps", "fill"],
        ["import-csv"],
        ["pairs"],
        ["status"],
        ["db"],
        ["db", "upgrade"],
        ["db", "current"],
    ],
)
def test_help_has_an_example(path: list[str]) -> None:
    assert "Example: " in run(cli, *path, "--help").output


def test_all_commands_are_listed_with_a_summary() -> None:
    for arguments in ([], ["--help"]):
        done = run(cli, *arguments)
        assert done.exit_code == 0
        listed = done.output.partition("Commands:")[2]
        assert [line.split(None, 1)[0] for line in listed.strip().splitlines()] == COMMANDS


def test_help_loads_neither_drivers_nor_rich() -> None:
    code = (
        "import sys; from kraken_db.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "print({'asyncpg', 'sqlalchemy', 'alembic', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"


def test_a_missing_package_breaks_only_the_command_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "no_such_package", None)
    group = LazyGroup(lazy_commands={"chart": LazyCommand("no_such_package:chart", "Draw.")})
    assert "Draw." in run(group, "--help").output
    done = run(group, "chart")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: this command needs the Python package no_such_package")
    assert "pip install" in done.stderr


def test_version() -> None:
    assert run(cli, "--version").output.startswith("kraken-db ")
    assert run(cli, "version").output == run(cli, "--version").output


@pytest.mark.parametrize("words", [[], ["backfill"], ["gaps", "fill"], ["candles", "build"]])
def test_help_is_a_command_too(words: list[str]) -> None:
    done = run(cli, "help", *words)
    assert (done.exit_code, done.output) == (0, run(cli, *words, "--help").output)


@pytest.mark.parametrize(
    "number",
    [
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1e400",
        "1e999999999",
        "1_0",
        "0x10",
        "1,5",
        "1 0",
        "1e",
        "--1",
        "1" * 40,
        "x" * 5000,
        "\u0661\u0662",
        "\xbd",
        "\x1b[31m",
        "\u202e1",
        "5\n",
        "NULL",
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["backfill", "--symbols", "BTC/USD", "--rate-limit"],
        ["record", "--symbols", "BTC/USD", "--every"],
        ["candles", "BTC/USD", "--last"],
        ["simulate", "--port"],
        ["simulate", "--live", "--pace"],
    ],
    ids=lambda command: command[0] + command[-1],
)
def test_what_is_no_number_is_wrong_usage(command: list[str], number: str) -> None:
    done = CliRunner().invoke(cli, [*command, number], prog_name="kraken-db")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert len(line) < 4_200


@pytest.mark.parametrize("symbols", ["", " ", ",", ", ,"])
@pytest.mark.parametrize(
    "command",
    [
        ["record", "--symbols"],
        ["backfill", "--symbols"],
        ["status", "--symbols"],
        ["gaps", "list", "--symbols"],
        ["import-csv", "--symbols"],
        ["simulate", "--symbols"],
        ["pairs", "--symbols"],
        ["status"],
        ["candles", "build"],
    ],
    ids=" ".join,
)
def test_no_pair_at_all_is_not_all_pairs(command: list[str], symbols: str) -> None:
    done = CliRunner().invoke(cli, [*command, symbols], prog_name="kraken-db")
    assert (done.exit_code, "names no pair" in done.stderr) == (2, True)
