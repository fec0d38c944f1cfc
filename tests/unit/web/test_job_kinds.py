"""What a request may start: nothing of its texts is an option, a path or anything that a shell would read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from kraken_db.cli import cli
from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.web.job_kinds import KINDS, command_of

NOW = datetime(2024, 1, 1, tzinfo=UTC)
FOLDER = Path("/srv/exports")


def words(kind: str, **arguments: Any) -> list[str]:
    return command_of({"kind": kind, "arguments": arguments}, NOW, FOLDER)[2]


def test_each_kind_in_our_own_spelling() -> None:
    assert words("backfill", symbols=["xbtusd", "ETH-USD"], since="7d", resume=False, source="rest") == [
        *("backfill", "--json", "--symbols", "BTC/USD", "ETH/USD"),
        *("--since", "2023-12-25T00:00:00Z", "--source", "rest"),
    ]
    assert words("gaps-fill", symbols="*/USD") == ["gaps", "fill", "--json", "--symbols", "*/USD"]
    assert words("verify", symbols=["BTC/USD"], offline=True, until="2024")[-3:] == [
        *("--until", "2024-01-01T00:00:00Z", "--offline"),
    ]
    assert words("export", symbols=["BTC/USD"], intervals=["60", "1d"], format="csv", folder="mine") == [
        *("export", "--json", "--symbols", "BTC/USD", "--interval", "1h,1d"),
        *("--format", "csv", "--out", "/srv/exports/mine"),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_the_command_line_has_each_option(name: str) -> None:
    command: click.Command | None = cli
    for word in KINDS[name].words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    values: dict[str, Any] = {"symbols": ["BTC/USD"], "since": "2023", "until": "2024", "intervals": ["1h"]}
    for key, argument in KINDS[name].arguments.items():
        value = values.get(key, argument.schema.get("enum", [True])[0])
        assert argument.words(value, NOW)[0] in known, key


@pytest.mark.parametrize(
    "arguments",
    [
        {"symbols": ["--db-url=postgresql://evil/x"]},
        {"symbols": ["-q"]},
        {"symbols": ["BTC/USD; rm -rf /"]},
        {"symbols": ["$(id)"]},
        {"symbols": ["../../etc/passwd"]},
        {"symbols": ["BTC/USD\n--repair"]},
        {"symbols": ["<script>alert(1)</script>"]},
        {"symbols": []},
        {"symbols": [1]},
        {"symbols": {"a": "BTC/USD"}},
        {"symbols": None},
        {"symbols": ["BTC/USD"] * 2001},
        {"symbols": ["A" * 10_000_000]},
        {},
        {"symbols": ["BTC/USD"], "since": "--json"},
        {"symbols": ["BTC/USD"], "since": "yesterday; id"},
        {"symbols": ["BTC/USD"], "since": 10**400},
        {"symbols": ["BTC/USD"], "resume": "yes"},
        {"symbols": ["BTC/USD"], "source": "ftp"},
        {"symbols": ["BTC/USD"], "source": ["rest"]},
        {"symbols": ["BTC/USD"], "archive": "/etc"},
        {"symbols": ["BTC/USD"], "db_url": "postgresql://evil/x"},
        {"symbols": ["BTC/USD"], "--stored": True},
    ],
)
def test_what_no_job_may_be_asked(arguments: dict[str, Any]) -> None:
    with pytest.raises(KrakenDBError):
        words("backfill", **arguments)


@pytest.mark.parametrize(
    "folder",
    [
        *("..", ".", "", "a/b", "/etc", "~", "a\\b", "-x", "a b", "a\0b", "a\n", "ä", "s3:", "x" * 65),
        *(None, 1, ["a"]),
    ],
)
def test_an_export_stays_below_its_folder(folder: Any) -> None:
    with pytest.raises(KrakenDBError):
        words("export", symbols=["BTC/USD"], folder=folder)


def test_an_export_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to("/etc")
    content = {"kind": "export", "arguments": {"symbols": ["BTC/USD"], "folder": "there"}}
    with pytest.raises(ConfigurationError, match="it is a link"):
        command_of(content, NOW, tmp_path)
    with pytest.raises(ConfigurationError, match="switched off"):
        command_of(content, NOW, None)


@pytest.mark.parametrize(
    "content",
    [
        *(None, [], "backfill", 1, {}, {"kind": "sql"}, {"kind": ["backfill"]}),
        {"kind": "backfill", "arguments": []},
        {"kind": "verify", "arguments": {"symbols": ["BTC/USD"]}, "program": "/bin/sh"},
    ],
)
def test_what_is_no_job(content: Any) -> None:
    with pytest.raises(KrakenDBError):
        command_of(content, NOW, FOLDER)
