"""Wrong usage of ``kraken-db chart``: told in a line before any database is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from kraken_db.cli import cli


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["BTC/USD", "--out", "x.pdf"], 2, "x.pdf is neither a page nor a picture. End its name in .html or"),
        (["BTC/USD", "--out", "png"], 2, "png is neither a page nor a picture"),
        (["BTC/USD", "--out", ".png"], 2, ".png is neither a page nor a picture"),
        (["BTC/USD", "--out", "no/x.png"], 1, "there is no folder no. Make it, or name another"),
        (["BTC/USD", "--out", "x" * 300 + ".png"], 1, ".png cannot be written: File name too long"),
        (["BTC/USD", "--out", ""], 2, "is neither a page nor a picture"),
        (["BTC/USD", "--out", "there.png"], 1, "there.png exists already. --force writes over it"),
        (["BTC/USD", "--out", "folder.png"], 2, "File 'folder.png' is a directory"),
        (["BTC/USD", "--last", "0"], 2, "0 is not in the range: at least 1"),
        (
            ["BTC/USD", "--last", "5", "--until", "now"],
            2,
            "--last cannot be combined with --since and --until",
        ),
        (["BTC/USD", "--start", "24", "--end", "now"], 2, "'24' is not a time"),
        (["BTC/USD", "--since", "now", "--until", "2024-01-01"], 2, "is not before --until"),
        (["BTC/USD", "-i", "7x"], 2, "there is no interval '7x'"),
        (["BTC"], 2, "BTC"),
        ([], 2, "Missing argument 'SYMBOL'"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.png").touch()
    Path("folder.png").mkdir()
    done = CliRunner().invoke(cli, ["chart", *arguments, "--db-url", "postgresql://localhost:1/none"])
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
