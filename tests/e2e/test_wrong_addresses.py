"""Addresses, folders and times that cannot work, in the environment and in options: one line, exit 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from kraken_db.background import BackgroundLoop
from kraken_db.cli import cli
from kraken_db.simulator import Market, SimulatedExchange

# What is no address, whatever for; and what looks like one.
TEXTS = [
    " ", "nan", "inf", "-inf", "1e400", "x" * 5_000, "\u0661\u0662\u0663", "1_0", "0x10", "\t", "a\nb",
    "\x1b]52;c;AA==\x07", "\u202eevil", "\udcff", "-1", "99999999999999999999999999", "\U0001f600", "%00",
    "../../etc", "NULL", "%n%s", "1 OR 1=1", "//x", "http:x", "javascript:1", "ftp://x",
    "file:///etc/passwd", "http://", "https://[::1", "http://h:99999", "http://h:\u0663", "http://%00/",
    "http://a b/", "unix:///x",
]  # fmt: skip
DATABASES = [
    "postgresql://", "postgres:", "postgresql://h:99999/x", "postgresql://h:-1/x", "postgresql://[::1",
    "postgresql://u:p@ss@h/x", "mysql://h/x", "sqlite:///x", "embedded", "embedded:x", "embedded://x",
    "embedded:///%00", "embedded:///", "postgresql://h/x?a%00b=1", "postgresql://h/%00", "postgresql://po%00@h/x",
    "postgresql://h/x?connect_timeout=nan", "postgresql://h/x?connect_timeout=1e400", "user:pass@host/db",
    "postgresql://h/x#frag", "postgresql://h/x?target_session_attrs=x", "host=h dbname=x",
    "postgresql+psycopg2://h/x", "postgresql://h/x?sslrootcert=/nowhere",
    "postgresql://" + "h" * 300 + "/x?connect_timeout=2",
    "postgresql://.../x?connect_timeout=2", "postgresql://127.0.0.1:1/x", "postgresql://@/x?host=/dev/null",
]  # fmt: skip
TIMES = [
    "", " ", "nan", "inf", "1e400", "2023-13-45", "2023-01-31T99:99", "2023-01-31T00:00+99:99", "20230131",
    "\u0662\u0660\u0662\u0663-\u0660\u0661-\u0660\u0661", "1e400 days ago", "99999999999 years ago",
    "1d ago ago", "2023-W05", "now ago", "-5d", "1.5h ago", "5 centuries ago", "x" * 5_000,
    "\x1b[31m", "\udcff",
]  # fmt: skip


def refused(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """What it says. ``CliRunner`` has no terminal and no streams of its own; it is the program otherwise."""
    done = CliRunner().invoke(cli, command, prog_name="kraken-db", env=dict(environment or {}))
    assert done.exit_code in (1, 2), (done.exit_code, done.output[:500])
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert len(line) < 4_200
    assert "\x1b" not in line
    return line


@pytest.mark.parametrize("url", [*TEXTS, *DATABASES], ids=ascii)
def test_databases(url: str, tmp_path: Path) -> None:
    refused("db", "current", "--db-url", url)
    if "\x00" not in url:
        refused("status", environment={"DATABASE_URL": url} if url.strip() else {"DATABASE_URL": "x:"})


@pytest.mark.parametrize(
    "folder",
    ["~nobody-of-this-name/x", "/proc/x", "/dev/null", "/dev/null/x", "/etc/passwd", "b/" * 3000, "a" * 300],
    ids=ascii,
)
def test_data_directories(folder: str, tmp_path: Path) -> None:
    here = str(tmp_path / folder) if not folder.startswith(("/", "~")) else folder
    refused("db", "start", "--data-dir", here)
    refused("status", environment={"DATABASE_URL": "embedded:", "KRAKEN_DB_DATA_DIR": here})


@pytest.mark.parametrize("time", TIMES, ids=ascii)
def test_times_and_periods(time: str) -> None:
    for command in (
        ["backfill", "--symbols", "BTC/USD", "--since", time],
        ["candles", "BTC/USD", "--interval", time],
        ["export", "BTC/USD", "--out", "x", "--until", time],
        ["gaps", "list", "--window", time],
        ["policies", "set", "--trades-retention", time],
        ["status", "--check", "--max-lag", time],
    ):
        refused(*command)


@pytest.mark.parametrize("url", [url for url in TEXTS if url.strip()], ids=ascii)
def test_exchanges(url: str) -> None:
    refused("pairs", environment={"KRAKEN_BASE_URL": url})


@pytest.fixture(scope="module")
def exchange() -> Iterator[str]:
    """The address of one that answers, so that nobody waits for it."""
    background, running = BackgroundLoop(), AsyncExitStack()
    yield background.run(
        running.enter_async_context(SimulatedExchange([Market("BTC/USD", trades=1)]).serve())
    )
    background.close(running.aclose())


@pytest.mark.parametrize("place", [text for text in TEXTS if text.strip()], ids=ascii)
def test_places_of_archives(place: str, exchange: str) -> None:
    """What is no address is wrong usage; else there is a line that says why no more pairs are shown."""
    environment = {"KRAKEN_BASE_URL": exchange}
    done = CliRunner().invoke(cli, ("pairs", "--archive", place), prog_name="kraken-db", env=environment)
    is_wrong_usage = done.exit_code == 2
    assert is_wrong_usage or (done.exit_code == 0 and "BTC/USD" in done.stdout), done.output[:500]
    (line,) = done.stderr.splitlines()
    assert len(line) < 4_200
    assert "\x1b" not in line


@pytest.mark.parametrize(
    "host",
    ["", " ", "...", "h" * 64, "\u202e", "\udcff", "\x1b[31m", "256.256.256.256", "a b", "nan"],
    ids=ascii,
)
def test_hosts_to_listen_on(host: str) -> None:
    refused("simulate", "BTC/USD", "--trades", "1", "--port", "0", "--host", host)


@pytest.mark.parametrize(
    "command",
    [
        ["gaps", "list", "--min-gap", "9" * 23],
        ["simulate", "BTC/USD", "--start", "9999-12-31T23:59:59"],
        ["simulate", "BTC/USD", "--start", "0001-01-01"],
    ],
    ids=str,
)
def test_what_no_clock_can_count(command: list[str]) -> None:
    refused(*command)
