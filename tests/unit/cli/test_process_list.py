"""A password in --db-url must not stay in the list of processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kraken_db.cli.base import without_secrets

SECRET = "postgresql://trader:hunter2@127.0.0.1:{port}/kraken?connect_timeout=5"


@pytest.mark.parametrize(
    ("words", "kept", "has_url"),
    [
        (
            ["p", "k", "status", "--db-url", "postgresql://u:pw@h/d", "--json"],
            ["p", "k", "status", "--json"],
            True,
        ),
        (["p", "k", "status", "--db-url=postgresql://u:pw@h/d"], ["p", "k", "status"], True),
        (["p", "k", "--db-url", "postgresql://u@h/d"], ["p", "k", "--db-url", "postgresql://u@h/d"], False),
        (["p", "k", "--db-url", "embedded:"], ["p", "k", "--db-url", "embedded:"], False),
        (["p", "k", "--db-url"], ["p", "k", "--db-url"], False),
        (["p", "k", "--db-url", "postgresql://u:p[w@h/d"], ["p", "k"], True),
        (["p", "k", "--db-url", "postgresql://h/d?user=u&password=sec"], ["p", "k"], True),
        (["p", "k", "--db-url=postgresql://h/d?user=u&%70assword=sec"], ["p", "k"], True),
        (["p", "k", "--db-url", "postgresql://u@h/d?sslpassword=sec"], ["p", "k"], True),
        # The last one counts, for Click as well.
        (
            ["k", "--db-url", "postgresql://u:a@h/1", "x", "--db-url", "postgresql://u:b@h/2"],
            ["k", "x"],
            True,
        ),
        (["k", "--db-url", "postgresql://u@h/1", "x", "--db-url", "postgresql://u:b@h/2"], ["k", "x"], True),
        (
            ["k", "--db-url", "postgresql://u:a@h/1", "x", "--db-url=postgresql://u@h/2"],
            ["k", "x", "--db-url=postgresql://u@h/2"],
            False,
        ),
        (["k", "--db-url", "postgresql://u:a@h/1", "--db-url", ""], ["k", "--db-url", ""], False),
        (
            ["k", "--", "--db-url", "postgresql://u:a@h/1"],
            ["k", "--", "--db-url", "postgresql://u:a@h/1"],
            False,
        ),
    ],
)
def test_which_arguments_are_hidden(words: list[str], kept: list[str], has_url: bool) -> None:
    found, secrets = without_secrets(words)
    url = secrets.get("DATABASE_URL")
    assert found == kept
    assert (url is not None) == has_url
    last = [word for word in words if "://" in word][-1:]
    assert url is None or [url] == [word.removeprefix("--db-url=") for word in last]


@pytest.mark.parametrize(
    ("words", "kept", "secrets"),
    [
        (
            ["k", "record", "--notify", "https://hooks.example/T0/B0/xyz", "--every", "1"],
            ["k", "record", "--notify", "env:KRAKEN_DB_NOTIFY_URL", "--every", "1"],
            {"KRAKEN_DB_NOTIFY_URL": "https://hooks.example/T0/B0/xyz"},
        ),
        (
            [
                "k",
                "--notify=https://a/1",
                "--notify=https://a/2",
                "--db-url",
                "postgresql://u:p@h/d",
                "status",
            ],
            ["k", "--notify", "env:KRAKEN_DB_NOTIFY_URL", "status"],
            {"KRAKEN_DB_NOTIFY_URL": "https://a/2", "DATABASE_URL": "postgresql://u:p@h/d"},
        ),
        (["k", "record", "--notify-test"], ["k", "record", "--notify-test"], {}),
        (["k", "record", "--notify", "env:HOOK"], ["k", "record", "--notify", "env:HOOK"], {}),
        (["k", "record", "--notify", ""], ["k", "record", "--notify", ""], {}),
        (["k", "record", "--notify"], ["k", "record", "--notify"], {}),
        (
            ["k", "db", "copy", "postgresql://u:p@h/d", "embedded:", "--json"],
            ["k", "db", "copy", "env:KRAKEN_DB_COPY_1", "embedded:", "--json"],
            {"KRAKEN_DB_COPY_1": "postgresql://u:p@h/d"},
        ),
        (
            ["k", "db", "copy", "postgresql://h/d?password=x", "postgres://u:p@h/e"],
            ["k", "db", "copy", "env:KRAKEN_DB_COPY_1", "env:KRAKEN_DB_COPY_2"],
            {"KRAKEN_DB_COPY_1": "postgresql://h/d?password=x", "KRAKEN_DB_COPY_2": "postgres://u:p@h/e"},
        ),
        (["k", "db", "copy", "postgresql://u@h/d", "-"], ["k", "db", "copy", "postgresql://u@h/d", "-"], {}),
    ],
)
def test_other_addresses_are_hidden(words: list[str], kept: list[str], secrets: dict[str, str]) -> None:
    assert without_secrets(words) == (kept, secrets)


HOST = """
import sys
from kraken_db.cli import main
print("once", *sys.argv[1:], flush=True)
main(["--version"])
"""


def test_a_program_that_calls_us_is_not_started_again() -> None:
    """Its arguments are its own, also where they look like ours."""
    command = [sys.executable, "-c", HOST, "--db-url", "postgresql://u:pw@h/d"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "once --db-url postgresql://u:pw@h/d"
    assert done.stdout.count("once") == 1


KRAKEN_DB = [str(Path(sys.executable).with_name("kraken-db"))]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("command", "secret"),
    [
        ([*KRAKEN_DB, "status"], SECRET),
        ([*KRAKEN_DB, "status"], "postgresql://127.0.0.1:{port}/d?user=u&password=hunter2&connect_timeout=5"),
        ([*KRAKEN_DB, "status", "--db-url", "postgresql://u:hunter2@127.0.0.1:1/d"], SECRET),
        ([sys.executable, "-m", "kraken_db.bulk_csv_importer", "FILE"], SECRET),
    ],
)
def test_the_process_list(command: list[str], secret: str, tmp_path: Path) -> None:
    """The database never answers: the command is looked at while it waits for it."""
    if "-m" in command:
        (file := tmp_path / "XBTUSD_1.csv").write_text("1672531200,1,1,1,1,1,1\n")
        command = [*command[:-1], str(file)]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(20)
        url = secret.format(port=silent.getsockname()[1])
        with subprocess.Popen(
            [*command, "--db-url", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            connection, _ = silent.accept()
            shown = Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
            connection.close()
            process.kill()
            _, errors = process.communicate()
    assert command[-1] in shown or "status" in shown
    assert "hunter2" not in shown
    assert "hunter2" not in errors
