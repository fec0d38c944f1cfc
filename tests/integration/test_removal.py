"""A pair is removed: nothing of it is left, and nothing else has changed."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from click.testing import Result

from kraken_db import HistoricalDataProvider
from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import JobRunningError
from kraken_db.heartbeat import Heartbeat
from kraken_db.ingest.write_unit import write_transaction
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.models import Base
from kraken_db.removal import PairRemoval
from kraken_db.repositories.removal import Removed
from tests.support.archives import checksums, import_file, minutes, query, write
from tests.support.retention import MONDAY, VALUES, WEEK, trades
from tests.support.shell import forked, run
from tests.support.stores import opened

# candle_versions: by these a cache learns that the candles are gone.
TABLES = [
    table.name
    for table in Base.metadata.sorted_tables
    if "symbol" in table.columns and table.name != "candle_versions"
]


async def left_of(url: str, symbol: str) -> list[str]:
    """The relations that have rows of a symbol."""
    return [
        relation
        for relation in sorted({*TABLES, *INTERVAL_VIEWS.values()})
        if await query(url, f"SELECT 1 FROM {relation} WHERE symbol = :symbol LIMIT 1", symbol=symbol)
    ]


async def remove(url: str, symbol: str) -> Removed:
    async with PairRemoval(url) as service:
        return await service.remove(symbol)


async def test_nothing_of_the_pair_is_left(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(3000)))
    before = await checksums(db_url)
    await import_file(db_url, write(tmp_path, "ETHUSD_1.csv", minutes(3000)))
    await import_file(db_url, write(tmp_path, "ETHUSD.csv", trades(MONDAY + 60 * WEEK, 100)))
    await query(
        db_url, "INSERT INTO unproven_ranges VALUES ('ETH/USD', 'trades', '{[2024-01-01, 2024-01-02)}')"
    )
    await query(
        db_url, "INSERT INTO dropped_ranges VALUES ('ETH/USD', 'trades', '{[2022-01-01, 2022-01-02)}')"
    )

    # 100 trades, 20 seconds apart: 33 whole minutes, and one that may go on.
    assert await remove(db_url, "ETH/USD") == Removed("ETH/USD", 100, 3033)

    assert await left_of(db_url, "ETH/USD") == []
    assert await checksums(db_url) == before
    # It can be stored again, as if it had never been there.
    await import_file(db_url, write(tmp_path, "ETHUSD_1.csv", minutes(10)))
    async with HistoricalDataProvider(db_url) as provider:
        assert await provider.get_symbols() == ["BTC/USD", "ETH/USD"]
        assert len(await provider.get_candles("ETH/USD", "1m")) == 10
    counted = "SELECT total_records FROM data_sync_status WHERE symbol = 'ETH/USD' AND data_type = :kind"
    assert [row[0] for row in await query(db_url, counted, kind=DataType.CANDLES_1M.value)] == [10]


async def test_candles_that_have_outlived_their_minutes_go_too(timescale_url: str, tmp_path: Path) -> None:
    """Of three weeks the first is dropped, the second is compressed."""
    for name in ("XBTUSD", "ETHUSD"):
        for count, week in ((1, 4), (300, 2), (300, 1), (300, 0)):  # merged, as what is older is
            file = write(tmp_path, f"{name}_1.csv", minutes(count, start=MONDAY + week * 60 * WEEK))
            await import_file(timescale_url, file)
    await query(
        timescale_url, "SELECT drop_chunks('candles', older_than => TIMESTAMPTZ '2023-01-10 00:00+00')"
    )
    old = "show_chunks('candles', older_than => TIMESTAMPTZ '2023-01-18 00:00+00')"
    assert await query(timescale_url, f"SELECT compress_chunk(c) FROM {old} c")
    rows = f"SELECT {VALUES} FROM candles_1h WHERE symbol = :symbol ORDER BY timestamp"
    kept = await query(timescale_url, rows, symbol="BTC/USD")
    assert len(kept) == 3 * 5 + 1
    assert len(await query(timescale_url, rows, symbol="ETH/USD")) == 3 * 5 + 1
    before = await checksums(timescale_url)

    await remove(timescale_url, "ETH/USD")

    assert await left_of(timescale_url, "ETH/USD") == []
    assert await query(timescale_url, rows, symbol="BTC/USD") == kept
    async with opened(timescale_url) as store:
        await store.refresh_pending()
    after = await checksums(timescale_url)
    assert await left_of(timescale_url, "ETH/USD") == []
    assert await query(timescale_url, rows, symbol="BTC/USD") == kept
    assert after.keys() == before.keys()


async def test_kept_candles_of_dropped_minutes_go_too(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(3000, start=MONDAY)))
    await query(plain_url, "UPDATE rolled_candles SET kept = true WHERE symbol = 'ETH/USD'")
    await remove(plain_url, "ETH/USD")
    assert await left_of(plain_url, "ETH/USD") == []


@pytest.mark.parametrize("job", ["recording", "download"])
async def test_who_records_or_downloads_a_pair_keeps_it(plain_url: str, tmp_path: Path, job: str) -> None:
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10)))
    async with opened(plain_url) as store, JobLock(store.database, job, "BTC/USD", "ETH/USD"):
        with pytest.raises(JobRunningError, match=f"another {job} of ETH/USD is running"):
            await remove(plain_url, "ETH/USD")
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(10,)]
    assert (await remove(plain_url, "ETH/USD")).candles == 10


async def test_an_import_that_is_at_work_keeps_its_pairs(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10)))
    async with opened(plain_url) as store, Heartbeat(store, "import", ["BTC/USD", "ETH/USD"]):
        with pytest.raises(JobRunningError, match=r"ETH/USD: import of 2 pairs on .* is at work on it"):
            await remove(plain_url, "ETH/USD")
    assert (await remove(plain_url, "ETH/USD")).candles == 10


async def test_a_write_that_has_begun_is_waited_for(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10)))
    async with opened(plain_url) as store:
        async with write_transaction(store, [("ETH/USD", DataType.TRADES)]):
            removal = asyncio.create_task(remove(plain_url, "ETH/USD"))
            await asyncio.sleep(1)
            assert not removal.done()
        assert (await removal).candles == 10


async def test_a_refresh_that_has_begun_is_waited_for(plain_url: str, tmp_path: Path) -> None:
    """It holds its notes; the candles that it stores at its end would be left behind."""
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(120, start=MONDAY)))
    await query(plain_url, "UPDATE candles SET volume = volume + 1 WHERE symbol = 'ETH/USD'")
    async with opened(plain_url) as store:
        async with store.database.begin() as connection:
            held = "SELECT id FROM pending_refresh WHERE symbol = 'ETH/USD' FOR UPDATE"
            driver = await connection.exec_driver_sql(held)
            assert len(driver.all()) == 1
            removal = asyncio.create_task(remove(plain_url, "ETH/USD"))
            await asyncio.sleep(1)
            assert not removal.done()
            late = "UPDATE rolled_candles SET volume = 0 WHERE symbol = 'ETH/USD'"
            await connection.exec_driver_sql(late)
        await removal
    assert await left_of(plain_url, "ETH/USD") == []


def command(url: str, *arguments: str) -> Result:
    return run(url, "db", "remove-pair", *arguments)


def test_the_command(plain_url: str, tmp_path: Path) -> None:
    for name in ("XBTUSD", "ETHUSD", "ETHEUR"):
        asyncio.run(import_file(plain_url, write(tmp_path, f"{name}_1.csv", minutes(3000))))
    shown = command(plain_url, "ETH/*", "--dry-run")
    assert (shown.exit_code, [line.split()[:3] for line in shown.stdout.splitlines()]) == (
        0,
        [["symbol", "trades", "candles"], ["ETH/EUR", "0", "3,000"], ["ETH/USD", "0", "3,000"]],
    )
    assert shown.stderr == "Would remove 2 pairs. Nothing was changed.\n"

    unasked = command(plain_url, "ETH/USD")
    assert (unasked.exit_code, "--yes removes without asking" in unasked.stderr) == (2, True)
    unknown = command(plain_url, "ETH/USD", "ETH/USDT", "--yes")
    assert unknown.exit_code == 1
    assert "nothing is stored of ETH/USDT; nothing was removed. Did you mean ETH/USD" in unknown.stderr
    assert command(plain_url, "--yes").exit_code == 2, "all pairs are never meant"
    assert asyncio.run(query(plain_url, "SELECT count(*) FROM candles")) == [(9000,)]

    done = command(plain_url, "eth-usd", "--yes")
    assert (done.exit_code, done.stderr) == (0, "ETH/USD: removed 0 trades and 3,000 candles\n")
    report = json.loads(command(plain_url, "*/EUR", "--yes", "--json").stdout)
    assert report == {
        "dry_run": False,
        "pairs": [{"symbol": "ETH/EUR", "trades": 0, "candles": 3000}],
        "failed": [],
    }
    assert asyncio.run(query(plain_url, "SELECT DISTINCT symbol FROM candles")) == [("BTC/USD",)]


def test_the_document_of_what_would_go(plain_url: str, tmp_path: Path) -> None:
    asyncio.run(import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10, start=MONDAY))))
    shown = command(plain_url, "ETH/*", "--dry-run", "--json")
    assert (shown.exit_code, json.loads(shown.stdout)) == (
        0,
        {
            "dry_run": True,
            "pairs": [
                {
                    "symbol": "ETH/USD",
                    "trades": 0,
                    "candles": 10,
                    "oldest": "2023-01-02T00:00:00Z",
                    "newest": "2023-01-02T00:09:00Z",
                }
            ],
            "failed": [],
        },
    )
    assert asyncio.run(query(plain_url, "SELECT count(*) FROM candles")) == [(10,)]


@pytest.mark.parametrize(
    ("answer", "code", "said", "left"),
    [
        ("y", 0, "ETH/USD: removed 0 trades and 10 candles\n", 0),
        ("n", 1, "Error: nothing was removed\n", 10),
        ("", 1, "Error: nothing was removed\n", 10),
    ],
)
def test_who_sits_at_a_terminal_is_asked(
    plain_url: str, tmp_path: Path, answer: str, code: int, said: str, left: int
) -> None:
    asyncio.run(import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10))))
    ours, its = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        arguments = ("db", "remove-pair", "ETH/USD", "--db-url", plain_url)
        done = subprocess.run([*forked(), *arguments], stdin=its, capture_output=True, text=True, timeout=60)
    finally:
        os.close(ours)
        os.close(its)
    assert (done.returncode, done.stderr) == (code, f"Remove 1 pair for good? [y/N]: {said}")
    assert asyncio.run(query(plain_url, "SELECT count(*) FROM candles")) == [(left,)]


async def test_a_pair_that_is_at_work_fails_and_the_others_go(plain_url: str, tmp_path: Path) -> None:
    for name in ("XBTUSD", "ETHUSD"):
        await import_file(plain_url, write(tmp_path, f"{name}_1.csv", minutes(10)))
    async with opened(plain_url) as store, Heartbeat(store, "import", ["BTC/USD"]):
        done = await asyncio.to_thread(command, plain_url, "BTC/USD", "ETH/USD", "--yes", "--json")
        again = await asyncio.to_thread(command, plain_url, "BTC/USD", "--yes")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["pairs"] == [{"symbol": "ETH/USD", "trades": 0, "candles": 10}]
    (failed,) = report["failed"]
    assert (failed["symbol"], failed["hint"]) == ("BTC/USD", "wait for it to end, or stop it")
    assert failed["reason"].startswith("BTC/USD: import of BTC/USD on ")
    assert again.exit_code == 1
    assert again.stderr.startswith("Failed: BTC/USD: import of BTC/USD on ")
    assert again.stderr.endswith(" is at work on it. Wait for it to end, or stop it\n")
    assert await query(plain_url, "SELECT DISTINCT symbol FROM candles") == [("BTC/USD",)]


def test_pairs_of_the_config_file_are_not_meant(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10))))
    (tmp_path / "config.toml").write_text('symbols = ["ETH/USD"]\n')
    monkeypatch.setenv("KRAKEN_DB_CONFIG", str(tmp_path / "config.toml"))
    done = command(plain_url, "--yes")
    assert (done.exit_code, "Missing argument 'SYMBOL...'" in done.stderr) == (2, True)
    assert "--stored" not in done.stderr
    assert asyncio.run(query(plain_url, "SELECT count(*) FROM candles")) == [(10,)]


def test_rows_of_another_program_go_too(plain_url: str) -> None:
    asyncio.run(query(plain_url, f"INSERT INTO candles ({VALUES}) VALUES {OTHERS}"))
    done = command(plain_url, "ETH/USD", "--yes")
    assert (done.exit_code, done.stderr) == (0, "ETH/USD: removed 0 trades and 1 candle\n")
    assert asyncio.run(left_of(plain_url, "ETH/USD")) == []


OTHERS = "('ETH/USD', '2024-01-01 00:00+00', 1, 1, 1, 1, 1, 1, 1, 1, 1)"
