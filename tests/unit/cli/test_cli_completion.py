"""What a shell offers at Tab: fast, without a database, in the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kraken_db.cli import cli, completing
from kraken_db.cli.completion import script
from kraken_db.errors import KrakenDBError
from tests.support.sandbox import Sandbox, new_sandbox
from tests.support.shell import MAIN


def offered(line: str, **environment: str) -> list[str]:
    """The values for the last word of a line, as bash is told them."""
    words = line.split(" ")
    asked = {
        "_KRAKEN_DB_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "XDG_CACHE_HOME": "/nowhere",
        # Whoever asked a database would hang or fail.
        "DATABASE_URL": "postgresql://10.255.255.1:1/none",
    }
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        env=os.environ | asked | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [found.partition(",")[2] for found in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kraken-db backf", ["backfill"]),
        ("kraken-db gaps ", ["fill", "list"]),
        ("kraken-db -v gaps f", ["fill"]),
        ("kraken-db backfill --si", ["--since"]),
        ("kraken-db backfill --source a", ["auto", "archive"]),
        ("kraken-db candles BTC/", ["BTC/USD", "BTC/EUR", "BTC/USDT"]),
        ("kraken-db candles xbt/", ["xbt/usd", "xbt/eur", "xbt/usdt"]),
        ("kraken-db chart XDG/", ["XDG/USD", "XDG/EUR"]),
        ("kraken-db backfill --symbols BTC/USD eth/u", ["eth/usd", "eth/usdt"]),
        ("kraken-db backfill BTC/USD,ETH/E", ["BTC/USD,ETH/EUR"]),
        ("kraken-db status --exclude SOL/", ["SOL/USD", "SOL/EUR", "SOL/USDT"]),
        ("kraken-db candles BTC/USD --interval 1", ["1m", "15m", "1h", "12h", "1d", "1w"]),
        ("kraken-db candles BTC/USD --since to", ["today"]),
        ("kraken-db verify --start y", ["yesterday"]),
        ("kraken-db status --max-lag 1", ["15min", "1h", "1d", "1y"]),
        ("kraken-db config set data", ["database", "data-dir"]),
        ("kraken-db config set symbols LTC/", ["LTC/USD", "LTC/USDT"]),
        ("kraken-db completion install z", ["zsh"]),
    ],
)
def test_what_is_offered(line: str, expected: list[str]) -> None:
    found = offered(line)
    if "--interval" in line:  # there may be more of them
        assert set(expected) <= set(found)
    else:
        assert found == expected


def test_a_wrong_config_file_does_not_spoil_the_prompt(tmp_path: Path) -> None:
    wrong = tmp_path / "config.toml"
    wrong.write_text("= nonsense")
    assert offered("kraken-db backf", KRAKEN_DB_CONFIG=str(wrong)) == ["backfill"]
    assert offered("kraken-db backfill --jo", KRAKEN_DB_CONFIG=str(wrong)) == ["--jobs"]


def test_the_pairs_are_those_of_the_last_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    completing.remember_pairs(["NEW/USD", "NEW/EUR", "OLD/USD"])
    assert [found.value for found in completing.pairs("NE")] == ["NEW/USD", "NEW/EUR"]
    # Those of another exchange are others.
    monkeypatch.setenv("KRAKEN_BASE_URL", "http://127.0.0.1:8710")
    assert completing.pairs("NE") == []


def test_nothing_that_takes_long_is_loaded() -> None:
    code = (
        "import os, sys\nfrom kraken_db.cli import complete\n"
        "try:\n    complete()\nexcept SystemExit: pass\n"
        "slow = {'asyncpg', 'sqlalchemy', 'alembic', 'rich', 'aiohttp', 'polars', 'pandas', 'tomllib'}\n"
        "print(slow & set(sys.modules), file=sys.stderr)"
    )
    asked = {
        "_KRAKEN_DB_COMPLETE": "bash_complete",
        "COMP_WORDS": "kraken-db backfill BTC",
        "COMP_CWORD": "2",
    }
    # What measures coverage loads more.
    own = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=own | asked, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "set()"
    assert "BTC/USD" in done.stdout


# --- where it is written ---


def install(shell: str, home: Path, **environment: str) -> Result:
    own = {"HOME": str(home), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "ZDOTDIR": ""}
    return CliRunner().invoke(
        cli, ["completion", "install", shell], env=own | environment, prog_name="kraken-db"
    )


def test_fish_finds_its_script_by_itself(tmp_path: Path) -> None:
    done = install("fish", tmp_path)
    path = tmp_path / ".config" / "fish" / "completions" / "kraken-db.fish"
    assert (done.exit_code, done.stderr) == (0, f"written: {path}\n")
    assert path.read_text() == script("fish") + "\n"
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]


@pytest.mark.parametrize(
    ("shell", "start", "environment"),
    [("bash", ".bashrc", {}), ("zsh", ".zshrc", {}), ("zsh", "mine/.zshrc", {"ZDOTDIR": "mine"})],
)
def test_a_line_at_the_end_takes_the_place_of_an_earlier_one(
    tmp_path: Path, shell: str, start: str, environment: dict[str, str]
) -> None:
    file = tmp_path / start
    file.parent.mkdir(exist_ok=True)
    file.write_text(". /old/place # kraken-db completion\nalias ll='ls -l'")  # without an end of the line
    moved = {name: str(tmp_path / value) for name, value in environment.items()}
    path = tmp_path / ".local" / "share" / "kraken-db" / f"completion.{shell}"
    line = f'[ -r "{path}" ] && . "{path}" # kraken-db completion'
    for told in (f"added at the end of {file}: {line}\n", ""):  # the second time it is there
        done = install(shell, tmp_path, PATH="", **moved)
        assert done.exit_code == 0
        assert done.stderr == (
            f"written: {path}\n{told}It works in new shells; here at once with: . {path}\n"
            "Warning: kraken-db is not on the PATH: the shell has to find it\n"
        )
        assert file.read_text() == f"alias ll='ls -l'\n{line}\n"
    assert path.read_text() == script(shell) + "\n"


@pytest.mark.parametrize(("in_the_way", "told"), [(".bashrc", ".bashrc"), (".local", "completion.bash")])
def test_what_cannot_be_written_is_told(tmp_path: Path, in_the_way: str, told: str) -> None:
    """A folder in the place of the file, or a file in the place of a folder."""
    place = tmp_path / in_the_way
    place.mkdir() if told == in_the_way else place.touch()
    done = install("bash", tmp_path)
    assert done.exit_code == 1
    assert f"{told} cannot be written: " in done.stderr
    assert done.stderr.endswith("kraken-db completion show prints the script\n")


def test_there_is_no_script_for_another_shell() -> None:
    with pytest.raises(KrakenDBError, match="there is no completion for tcsh"):
        script("tcsh")


# --- in the shells ---


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        found.add_commands()
        yield found


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


def type_at(shell: str, sandbox: Sandbox, keys: str, awaited: str) -> str:
    """What an interactive shell shows after some keys, until what is awaited is there."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(sandbox.root)
        os.execvpe(shell, [shell, "-i"], sandbox.environment | {"TERM": "dumb", "PS1": "$ "})
    shown = ""
    try:
        deadline = time.monotonic() + 60
        os.write(terminal, b"echo re''ady\r")
        for typed, wanted in (("", "ready"), (keys, awaited)):
            os.write(terminal, typed.encode())
            while wanted not in shown and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.5)[0]:
                    shown += os.read(terminal, 65536).decode(errors="replace")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    return shown


@pytest.mark.parametrize("shell", [pytest.param(name, marks=needs(name)) for name in ("bash", "zsh")])
def test_tab_in_a_shell(shell: str, sandbox: Sandbox) -> None:
    start = sandbox.root / f".{shell}rc"
    start.write_text("# mine\n")
    for _ in range(2):
        done = sandbox.run("kraken-db", "completion", "install", shell)
        assert done.returncode == 0, done.stdout
    assert start.read_text().startswith("# mine\n[ -r ")
    assert start.read_text().count("kraken-db completion") == 1
    shown = type_at(shell, sandbox, "kraken-db backf\tDOGE/U\t", "DOGE/USD")
    assert "kraken-db backfill " in shown and "DOGE/USD" in shown


@needs("fish")
def test_tab_in_fish(sandbox: Sandbox) -> None:
    done = sandbox.run("kraken-db", "completion", "install", "fish")
    assert done.returncode == 0, done.stdout
    done = sandbox.run("fish", "-c", "complete -C 'kraken-db backf'; complete -C 'kraken-db chart DOGE/U'")
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["backfill", "DOGE/USD"]


def test_without_a_known_shell_one_is_asked_for(sandbox: Sandbox) -> None:
    sandbox.environment["SHELL"] = "/bin/tcsh"
    done = sandbox.run("kraken-db", "completion", "show")
    assert done.returncode == 2
    assert "which shell? Name one: bash, zsh, fish" in done.stdout
    sandbox.environment["SHELL"] = "/usr/bin/zsh"
    assert sandbox.run("kraken-db", "completion", "show").stdout.startswith("#compdef kraken-db")
