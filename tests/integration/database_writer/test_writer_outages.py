"""The database goes away, and processes are killed: nothing is lost or twice, and the order is kept."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from kraken_db import DatabaseWriter, integrate_db_writer
from kraken_db.db.locks import lock_job
from kraken_db.db.migrations import upgrade
from kraken_db.ranges import TICK
from tests.support.archives import query
from tests.support.downloading import coverage
from tests.support.live_writing import BTC, Gateway, ids, total, trade, write, writing
from tests.support.shell import forked
from tests.support.stores import opened

RATE = 5_000
ROOT = Path(__file__).parents[3]


async def feed(writer: DatabaseWriter, first: int, seconds: float) -> int:
    """5,000 trades a second; returns the next number. Memory is looked at meanwhile."""
    began, number = time.monotonic(), first
    while (passed := time.monotonic() - began) < seconds:
        while number < first + passed * RATE:
            await writer.write_trade(trade(number))
            number += 1
        assert writer.get_stats()["trade_buffer_size"] <= writer.MAX_TRADE_BUFFER_SIZE
        await asyncio.sleep(0.005)
    return number


async def insertion_order(url: str) -> list[int]:
    """By when they were committed, not by their times."""
    rows = await query(url, "SELECT id FROM trades ORDER BY ctid")
    return [row[0] for row in rows]


async def test_three_outages_at_five_thousand_trades_a_second(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short ones, with small buffers; ``scripts/bench_live.py`` does the same at full size."""
    monkeypatch.setattr(DatabaseWriter, "MAX_TRADE_BUFFER_SIZE", 1000)
    # On a busy machine it comes by, and later rows take the places of those that were rolled back.
    await query(plain_url, "ALTER TABLE trades SET (autovacuum_enabled = false)")
    async with Gateway(plain_url) as gateway:
        async with writing(gateway.url, tmp_path, trade_buffer_size=100) as writer:
            number = await feed(writer, 1, 0.4)
            for _ in range(3):
                gateway.close()
                number = await feed(writer, number, 0.6)
                assert writer.get_stats()["journal_records"] > 0
                gateway.open()
                number = await feed(writer, number, 0.4)
                await writer.flush()
            statistics = writer.get_stats()
        assert (statistics["dropped_count"], statistics["journal_bytes"]) == (0, 0)
        assert statistics["error_count"] >= 3
        assert statistics["trades_written"] == number - 1
    assert await insertion_order(plain_url) == list(range(1, number))
    assert await total(plain_url) == number - 1
    assert await coverage(plain_url, BTC) == [(trade(1).timestamp + TICK, trade(number - 1).timestamp)]
    assert not any(path.is_file() for path in (tmp_path / "journal").rglob("*"))


@pytest.mark.parametrize("has_id", [True, False])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_that_is_lost_at_the_commit(
    plain_url: str, tmp_path: Path, moment: str, has_id: bool
) -> None:
    """Whether the server has committed cannot be known at once; nothing is doubled by that."""
    async with Gateway(plain_url) as gateway, writing(gateway.url, tmp_path) as writer:
        for first in (1, 11):
            gateway.cut_at_commit = moment
            equal = [trade(first, has_id=has_id and number == 0) for number in range(2)]
            more = [trade(number, has_id=has_id) for number in range(first + 1, first + 10)]
            await write(writer, [*(equal if not has_id else equal[:1]), *more])
        assert gateway.cuts == 2
        expected = 20 if has_id else 22
        assert writer.get_stats()["error_count"] == 2
        assert writer.get_stats()["trades_written"] == expected
    assert len(await ids(plain_url)) == expected == await total(plain_url)


async def test_stop_while_the_database_is_away(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Gateway(plain_url) as gateway:
        async with writing(gateway.url, tmp_path) as writer:
            await write(writer, map(trade, range(1, 4)))
            gateway.close()
            for number in range(4, 9):
                await writer.write_trade(trade(number, has_id=number % 2 == 0))
        assert "5 trades and 0 candles are left in the journal in" in caplog.text
        assert await ids(plain_url) == [1, 2, 3]
        gateway.open()
        async with writing(gateway.url, tmp_path) as writer:
            await write(writer, [trade(9)])
            assert writer.get_stats()["recovered_count"] == 5
    assert await query(plain_url, "SELECT timestamp FROM trades ORDER BY timestamp") == [
        (trade(number).timestamp,) for number in range(1, 10)
    ]
    assert await query(plain_url, "SELECT count(*) FROM flush_positions") == [(0,)]


async def test_another_database_does_not_get_what_was_left(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    await upgrade(plain_empty_url)
    async with Gateway(plain_url) as gateway, writing(gateway.url, tmp_path) as writer:
        gateway.close()
        await writer.write_trade(trade(1))
    async with writing(plain_empty_url, tmp_path) as writer:
        await writer.flush()
        assert writer.get_stats()["recovered_count"] == 0
    assert await ids(plain_empty_url) == []


async def test_a_locked_database_does_not_hold_the_caller_up(plain_url: str, tmp_path: Path) -> None:
    """Somebody imports an archive of the pair, and holds its lock all the while."""
    async with (
        opened(plain_url) as store,
        writing(plain_url, tmp_path, trade_buffer_size=10, stop_timeout=0.2) as writer,
        store.database.begin() as connection,
    ):
        await lock_job(connection, "trades", of=BTC)
        for number in range(1, 101):
            await writer.write_trade(trade(number))
        await asyncio.sleep(0.05)
        assert writer.get_stats()["trade_buffer_size"] == 100
        await writer.stop()  # gives up waiting, and leaves it to the journal
    async with writing(plain_url, tmp_path) as writer:
        await writer.flush()
    assert await ids(plain_url) == list(range(1, 101))


async def test_trading_goes_on_while_the_database_is_away(plain_url: str, tmp_path: Path) -> None:
    class Client:
        seen = 0

        async def on_trade(self, symbol: str, data: dict[str, object]) -> int:
            self.seen += 1
            return self.seen

    async with Gateway(plain_url) as gateway, writing(gateway.url, tmp_path, trade_buffer_size=1) as writer:
        client = Client()
        integration = integrate_db_writer(client, writer)
        gateway.close()
        for number in range(1, 51):
            data = {
                "price": 100.5,
                "qty": 0.1,
                "side": "buy",
                "trade_id": number,
                "timestamp": f"2024-01-01T00:00:{number:02}Z",
            }
            async with asyncio.timeout(1):
                assert await client.on_trade(BTC, data) == number
        assert integration.error_count == 0
        gateway.open()
        await writer.flush()
    assert await ids(plain_url) == list(range(1, 51))
    assert await query(plain_url, "SELECT DISTINCT price::text, volume::text FROM trades") == [
        ("100.5000000000", "0.1000000000")
    ]


async def test_start_says_that_nobody_answers(tmp_path: Path) -> None:
    writer = DatabaseWriter("postgresql://me:secret@127.0.0.1:1/kraken", journal_dir=tmp_path)
    with pytest.raises(Exception, match="no PostgreSQL answers there") as caught:
        await writer.start()
    assert "secret" not in str(caught.value)
    await writer.stop()


_CHILD = """
import asyncio, sys
from pathlib import Path
from kraken_db import DatabaseWriter
from tests.support.live_writing import trade

async def main(url, folder, journal, first):
    async with DatabaseWriter(url, trade_buffer_size=50, journal=journal, journal_dir=folder) as writer:
        number = int(first)
        while True:
            # Every third one has no id, and two of these are equal in all fields.
            await writer.write_trade(trade(number, has_id=number % 3 != 0))
            if number % 30 == 0:
                await writer.write_trade(trade(number, has_id=False))
            if journal == "overflow":
                await writer.flush()
            elif number % 20 == 0:
                await asyncio.sleep(0.001)
            print(number, flush=True)
            number += 1

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("journal", ["always", "overflow"])
async def test_killed_again_and_again(plain_url: str, tmp_path: Path, journal: str) -> None:
    """Stored once is what a killed process has taken with ``always``, and has flushed with ``overflow``."""
    taken: list[int] = []
    unsure: set[int] = set()
    for lines in (30, 140, 333, 451) if journal == "always" else (10, 31):
        first = str(taken[-1] + 2 if taken else 1)
        command = [*forked(), "-c", _CHILD, plain_url, str(tmp_path / "journal"), journal, first]
        with subprocess.Popen(  # noqa: ASYNC220
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as child:
            assert child.stdout is not None
            taken += [int(child.stdout.readline()) for _ in range(lines)]
            child.kill()
            taken += map(int, child.stdout)
        unsure.add(taken[-1] + 1)  # it may have been taken, and not been told
    async with writing(plain_url, tmp_path) as writer:
        await writer.flush()
    rows = await query(plain_url, "SELECT timestamp, count(*) FROM trades GROUP BY timestamp")
    counts = dict(tuple(row) for row in rows)
    expected = {trade(number).timestamp: 2 if number % 30 == 0 else 1 for number in taken}
    for number in unsure:
        counts.pop(trade(number).timestamp, None)
    assert counts == expected
    assert await query(plain_url, "SELECT count(*) FROM flush_positions") == [(0,)]
