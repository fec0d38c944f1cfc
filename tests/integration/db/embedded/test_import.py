"""The server goes away while an import works: it ends at once, says so once, and the next run does it all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import pytest

from kraken_db.db.embedded import EmbeddedServer
from tests.support.archives import minutes, write
from tests.support.shell import KRAKEN_DB

# Enough for a second or so in each phase.
ROWS = 600_000


def kraken_db(data_dir: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    return subprocess.Popen(
        [*KRAKEN_DB, *map(str, arguments)],
        env=environment | {"KRAKEN_DB_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in ("XBTUSD_1.csv", "ETHUSD_1.csv"):
        write(tmp_path, name, minutes(ROWS))
    return tmp_path


async def wait_for(url: str, words: str) -> None:
    """Until some session runs a statement that contains these words."""
    connection = await asyncpg.connect(url)
    try:
        deadline = time.monotonic() + 60
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE state = 'active' AND strpos(query, $1) > 0 AND pid <> pg_backend_pid()",
            words,
        ):
            assert time.monotonic() < deadline, f"no session ever ran {words}"
    finally:
        await connection.close()


@pytest.mark.parametrize("how", ["db stop", "kill -9"])
async def test_the_server_goes_away_in_the_middle(own_data_dir: Path, archive: Path, how: str) -> None:
    data_dir, embedded = own_data_dir, EmbeddedServer(own_data_dir)
    kraken_db(data_dir, "db", "start").communicate()
    command = ("import-csv", archive, "--jobs", 1)
    with kraken_db(data_dir, *command) as program:
        await wait_for(embedded.url(), 'COPY "candles"')
        if how == "db stop":
            kraken_db(data_dir, "db", "stop").communicate(timeout=30)
        else:
            pid = embedded.status().pid
            assert pid
            os.kill(pid, signal.SIGKILL)
        try:
            _, err = program.communicate(timeout=30)  # it ends within seconds, or never
        except subprocess.TimeoutExpired:
            program.kill()
            raise
    failed, line = [told for told in err.splitlines() if not told.startswith("import: ")]  # progress
    assert "/XBTUSD_1.csv: failed: the embedded database: the connection was lost: " in failed
    assert line.startswith("Error: the embedded database: the connection was lost: ")
    assert line.endswith(
        ". See that the server runs, and run the command again."
        " 2 of 2 files not imported; nothing of them is stored."
    )
    assert program.returncode == 1
    again = kraken_db(data_dir, *command)
    assert again.communicate(timeout=120)[1].count("Error") == 0
    assert again.returncode == 0
    connection = await asyncpg.connect(embedded.attach())
    try:
        counted = await connection.fetch("SELECT symbol, count(*) FROM candles GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in counted] == [("BTC/USD", ROWS), ("ETH/USD", ROWS)]
    finally:
        await connection.close()
        embedded.detach()
