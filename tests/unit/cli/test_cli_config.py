"""The config file: below options and environment, above defaults; one line for what is wrong in it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kraken_db.cli import cli
from kraken_db.cli.base import LazyCommand, LazyGroup
from kraken_db.cli.options import (
    MultiValueCommand,
    db_url_option,
    notify_options,
    pair_options,
    rate_limit_option,
)
from kraken_db.errors import ConfigurationError
from kraken_db.settings import Settings, config_path, read_config

SECRET = "postgresql://bob:s3cr3t@db/kraken"


@click.command(cls=MultiValueCommand)
@pair_options("Which.")
@rate_limit_option
@click.option("--jobs", type=click.IntRange(1), default=10)
@click.option("--resume", is_flag=True)
@db_url_option
def backfill(
    symbols: tuple[str, ...] | None, rate_limit: float, jobs: int, resume: bool, db_url: str
) -> None:
    click.echo(json.dumps([symbols, rate_limit, jobs, resume, db_url]))


@click.command()
@click.option("--check", is_flag=True)
@notify_options
def status(check: bool, webhook: object, notify_test: bool) -> None:
    click.echo(f"{check} {webhook is not None}")


Run = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the config file is."""
    for name in ("DATABASE_URL", "KRAKEN_DB_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "kraken-db" / "config.toml"


@pytest.fixture
def run(path: Path) -> Run:
    """Runs a command of a few options: ``backfill`` prints what it was given."""
    group = LazyGroup("kraken-db")
    group.add_command(backfill, "backfill")
    group.add_command(status, "status")
    group._lazy["config"] = LazyCommand("kraken_db.cli.config:config", "")

    def invoke(*words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(group, list(words), prog_name="kraken-db", input=input)

    return invoke


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def given(done: Result) -> list[object]:
    assert done.exit_code == 0, done.output
    found: list[object] = json.loads(done.stdout)
    return found


def test_the_usual_place_is_that_of_xdg(path: Path, run: Run) -> None:
    assert config_path() == path
    assert run("config", "path").stdout == f"{path}\n"


def test_without_a_file_the_defaults_hold(run: Run) -> None:
    assert given(run("backfill")) == [None, 1.1, 10, False, "embedded:"]


def test_option_before_environment_before_file_before_default(
    path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        path,
        'database = "postgresql://file/x"\nsymbols = ["xbtusd", "ETH/USD"]\nrate-limit = 2\n'
        "[backfill]\njobs = 20\nresume = true\n",
    )
    assert given(run("backfill")) == [["BTC/USD", "ETH/USD"], 2.0, 20, True, "postgresql://file/x"]
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/x")
    words = ("backfill", "XRP/USD", "--rate-limit", "0.5", "--jobs", "3")
    assert given(run(*words)) == [["XRP/USD"], 0.5, 3, True, "postgresql://environment/x"]
    assert given(run(*words, "--db-url", "postgresql://option/x"))[-1] == "postgresql://option/x"
    assert given(run("backfill", "--symbols", "XRP/USD"))[0] == ["XRP/USD"]
    # An empty variable says nothing, as without a file.
    monkeypatch.setenv("DATABASE_URL", "")
    assert given(run("backfill"))[-1] == "postgresql://file/x"


@pytest.mark.parametrize("before", [True, False])
def test_another_file_by_option_and_by_environment(
    tmp_path: Path, path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    write(path, "[backfill]\njobs = 20\n")
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    other.write_text("[backfill]\njobs = 30\n")
    third.write_text("[backfill]\njobs = 40\n")
    option = ("--config", str(third))
    monkeypatch.setenv("KRAKEN_DB_CONFIG", str(other))
    assert given(run("backfill"))[2] == 30
    assert given(run(*option, "backfill") if before else run("backfill", *option))[2] == 40
    monkeypatch.setenv("KRAKEN_DB_CONFIG", str(tmp_path / "none.toml"))
    done = run("backfill")
    assert (done.exit_code, done.stderr) == (
        2,
        f"Error: there is no config file {tmp_path / 'none.toml'}; correct --config\n",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("databse = 'x'", "line 1: there is no key databse; did you mean database?"),
        ("# nothing\n\nzzz = 1", "line 3: there is no key zzz; known: database, data-dir, "),
        ("[backfil]\njobs = 1", "line 1: there is no key backfil; did you mean backfill?"),
        ("[backfill]\njob = 1", "line 2: there is no key backfill.job; did you mean jobs?"),
        ("[backfill]\n\njobs = 0", "line 3: backfill.jobs: 0 is not in the range: at least 1"),
        ("[backfill]\njobs = 'many'", "line 2: backfill.jobs: 'many' is not a number"),
        ("[backfill]\nresume = 'yes'", "line 2: backfill.resume: it is true or false, without quotes"),
        ("[backfill]\njobs = [1]", "line 2: backfill.jobs cannot be [1]"),
        ("rate-limit = 'fast'", "line 1: rate-limit: 'fast' is not a number"),
        ("symbols = ['BTC/USD', 'nonsense']", "line 1: symbols: 'NONSENSE' is not a pair"),
        ("symbols = []", "line 1: symbols: it is empty"),
        ("database = 5", "line 1: database is no text; write it in quotes"),
        ("color = 'pink'", "line 1: color is auto, always, never, not 'pink'"),
        ("color = [1]", "line 1: color is auto, always, never, not [1]"),
        ("symbols = [\n", ": this is no TOML"),
        ("a = 1\nb = = 2", "line 2: this is no TOML"),
        ("database = 'a'\ndatabase = 'b'", ": this is no TOML"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_line(path: Path, run: Run, text: str, told: str) -> None:
    write(path, text)
    for words in (["backfill"], ["config", "show"]):
        done = run(*words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(f"Error: {path}, ")
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
        assert "--help" not in done.stderr


def test_help_and_the_way_out_work_with_a_wrong_file(path: Path, run: Run) -> None:
    write(path, "[backfill]\njobs = 0\nresume = true\n")
    assert run("backfill", "--help").exit_code == 0
    assert run("config", "path").exit_code == 0
    done = run("config", "unset", "backfill.jobs")
    assert (done.exit_code, path.read_text()) == (0, "[backfill]\nresume = true\n")


def test_keys_are_set_and_everything_else_stays(path: Path, run: Run) -> None:
    write(path, "# ours\nsymbols = [\n  'BTC/USD',  # the first\n]\n\n[status]\ncheck = true\n")
    words = [
        ("symbols", "ETH/USD", "xrp/usd"),
        ("rate-limit", "1.5"),
        ("backfill.jobs", "20"),
        ("backfill.resume", "true"),
        ("database", SECRET),
    ]
    for one in words:
        done = run("config", "set", *one)
        assert done.exit_code == 0, done.output
        assert "s3cr3t" not in done.output
    assert path.read_text() == (
        '# ours\nsymbols = ["ETH/USD", "xrp/usd"]\n\n'
        f'rate-limit = 1.5\ndatabase = "{SECRET}"\n'
        "[status]\ncheck = true\n\n[backfill]\nresume = true\njobs = 20\n"
    )
    assert given(run("backfill")) == [["ETH/USD", "XRP/USD"], 1.5, 20, True, SECRET]
    for key in ("symbols", "backfill.jobs", "backfill.resume", "rate-limit", "database"):
        assert run("config", "unset", key).exit_code == 0
    assert read_config(path).values == {"status": {"check": True}, "backfill": {}}
    assert run("config", "unset", "symbols").exit_code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["databse", "x"], "there is no key databse; did you mean database?"),
        (["backfill.job", "3"], "did you mean backfill.jobs?"),
        (["backfill.jobs", "0"], "0 is not in the range"),
        (["backfill.jobs", "1", "2"], "backfill.jobs has one value, not 2"),
        (["rate-limit", "fast"], "'fast' is not a number"),
        (["symbols", "BTC"], "'BTC' is not a pair"),
        (["symbols", ","], "symbols: it is empty"),
        (["color", "pink"], "color is auto, always, never"),
        (["notify", "nonsense"], "notify: that is no address of a webhook; it begins with https://"),
        (["notify", "hooks.example/T0"], "that is no address of a webhook"),
    ],
)
def test_what_a_command_would_refuse_is_not_stored(path: Path, run: Run, words: list[str], told: str) -> None:
    done = run("config", "set", *words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr
    assert not path.exists()


def test_a_password_is_asked_for_kept_to_its_owner_and_not_shown(path: Path, run: Run) -> None:
    done = run("config", "set", "database", input=f"{SECRET}\n")
    assert done.exit_code == 0
    assert "s3cr3t" not in done.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = run("config", "show", "database")
    assert [line.split() for line in shown.stdout.splitlines()][1][:2] == [
        "database",
        "postgresql://bob:***@db/kraken",
    ]
    path.chmod(0o644)
    done = run("backfill")
    assert f"chmod 600 {path}" in done.stderr
    assert run("config", "set", "rate-limit", "2").exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_value_may_come_through_a_pipe(path: Path, run: Run) -> None:
    done = run("config", "set", "notify", input="https://hooks.example/T0/secret\n")
    assert (done.exit_code, done.stdout, done.stderr) == (
        0,
        "",
        f"{path}: notify is https://hooks.example/***\n",
    )
    for nothing in ("", "\n"):
        done = run("config", "set", "notify", input=nothing)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert "there is no value for notify: standard input is empty" in done.stderr


def test_a_wrong_webhook_is_told_with_the_file_and_not_shown(path: Path, run: Run) -> None:
    write(path, '\nnotify = "hooks.example/T0/s3cr3t"\n')
    for command in (["status", "--check"], ["backfill"]):
        done = run(*command)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.stderr
        assert f"{path}, line 2: notify: that is no address of a webhook" in done.stderr
        assert "s3cr3t" not in done.stderr


def test_where_each_value_comes_from(path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, '\nnotify = "https://hooks.example/T0/secret"\n[backfill]\njobs = 20\n')
    monkeypatch.setenv("DATABASE_URL", SECRET)
    done = run("config", "show", "--json")
    rows = {one["key"]: (one["value"], one["from"]) for one in json.loads(done.stdout)["settings"]}
    assert rows["database"] == ("postgresql://bob:***@db/kraken", "DATABASE_URL (environment)")
    assert rows["notify"] == ("https://hooks.example/***", f"{path}, line 2")
    assert rows["backfill.jobs"] == ("20", f"{path}, line 4")
    assert rows["rate-limit"] == ("1.1", "default")


def test_a_webhook_of_the_file_is_for_checks_alone(path: Path, run: Run) -> None:
    write(path, 'notify = "https://hooks.example/T0/secret"\n')
    assert run("status").stdout == "False False\n"
    assert run("status", "--check").stdout == "True True\n"


def test_what_is_no_file_is_never_written_over(run: Run) -> None:
    done = run("config", "--config", os.devnull, "set", "rate-limit", "2")
    assert done.exit_code == 1
    assert not Path(os.devnull).is_file()


def test_a_link_stays_a_link(path: Path, run: Run, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("")
    path.parent.mkdir()
    path.symlink_to(real)
    assert run("config", "set", "rate-limit", "2").exit_code == 0
    assert path.is_symlink()
    assert real.read_text().endswith("\nrate-limit = 2\n")


def test_the_library_reads_it_when_it_is_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, 'database = "postgresql://file/x"\nbase-url = "http://here"\n')
    assert Settings.from_environment().database_url == "embedded:"
    assert Settings.from_config().database_url == "postgresql://file/x"
    assert Settings.from_config().kraken_base_url == "http://here"
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/x")
    assert Settings.from_config().database_url == "postgresql://environment/x"
    with pytest.raises(ConfigurationError, match="there is no config file"):
        Settings.from_config(path.with_name("none.toml"))


def test_every_key_of_every_command_can_be_set(path: Path) -> None:
    """The names of commands in the table of keys exist, and their options do."""
    write(
        path,
        'interval = "4h"\nintervals = ["1h"]\nrate-limit = 2\nsymbols = "BTC/USD"\n[chart]\nforce = true\n',
    )
    done = CliRunner().invoke(cli, ["config", "show"], prog_name="kraken-db")
    assert done.exit_code == 0, done.output


def test_the_database_may_be_named_before_the_command(run: Run) -> None:
    done = CliRunner().invoke(cli, ["--db-url", "mysql://x", "status"], prog_name="kraken-db")
    assert "it starts with 'mysql:'" in done.stderr
