"""``scripts/trace``: it runs, and what it counts is what it lists."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.support.archives import query

SCRIPT = Path(__file__).parents[2] / "scripts" / "trace_main.py"


async def test_a_live_trade(plain_url: str) -> None:
    command = [sys.executable, str(SCRIPT), "live_trade", "--json", "--db-url", plain_url]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout).values()
    counted, road = found["second"], found["road"]
    # It begins where the trade is handed over, and ends with the transaction that has stored it.
    assert next(iter(road["functions"])) == "database_writer/writer.py"
    assert "DatabaseWriter.write_trade" in road["functions"]["database_writer/writer.py"]
    assert any("INSERT INTO trades" in statement for statement in road["statements"])
    assert not any(file.startswith("simulator") for file in road["functions"])
    assert (counted["files"], counted["functions"]) == (
        len(road["functions"]),
        sum(map(len, road["functions"].values())),
    )
    assert (counted["statements"], counted["copies"]) == (len(road["statements"]), len(road["copies"]))
    assert counted["transactions"] >= 1
    # Nothing of it is left.
    assert (
        await query(plain_url, "SELECT datname FROM pg_database WHERE datname LIKE 'kraken_db_trace%'") == []
    )
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(0,)]
