"""The archive, then REST: one history, whoever brought which part of it, and however often it was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from kraken_db.bulk_csv_importer import trade_batches
from kraken_db.db.embedded import EmbeddedServer
from kraken_db.errors import (
    ConflictingTradesError,
    DamagedFileError,
    DatabaseError,
    ImportFileError,
    UnknownPairError,
)
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import ManualClock, Market, SimulatedExchange, archive_url
from kraken_db.simulator.archive_faults import ArchiveFault, ArchiveFaults
from tests.support.archive_backfilling import backfill
from tests.support.archive_making import LATER, LATER_TRADES, NOW, ArchivedMarkets, archived_markets
from tests.support.archives import checksums, query
from tests.support.downloading import (
    assert_same,
    candles_of,
    in_order_of_the_store,
    stored,
)
from tests.support.lanes import Lane
from tests.support.processes import backfill_in_small_batches, backfilling, ended, run_backfill

SYMBOLS = ("BTC/USD", "ETH/USD", "MATIC/USD")


@pytest.fixture
def made(tmp_path: Path) -> ArchivedMarkets:
    markets = archived_markets()
    markets.write(tmp_path / "archives")
    return markets


async def assert_is_whole(url: str, made: ArchivedMarkets, symbol: str) -> None:
    """Trades, candles and counters are those of the market; coverage has no hole."""
    truth = in_order_of_the_store(made.truth(symbol))
    found = await stored(url, symbol)
    assert_same(found.trades, truth)
    candles = [one for one in candles_of(truth) if one.timestamp < found.coverage["candles_1m"][-1][1]]
    assert_same(found.candles, candles)
    assert found.status["trades"] == (truth[0].timestamp, truth[-1].timestamp, len(truth))
    assert found.status["candles_1m"][2] == len(candles)
    assert len(found.coverage["trades"]) == len(found.coverage["candles_1m"]) == 1
    assert len(candles_of(truth)) - len(candles) <= 1  # the last minute may not be over


async def test_archive_then_rest(db_url: str, made: ArchivedMarkets, tmp_path: Path) -> None:
    exchange = made.exchange(tmp_path / "archives")
    reports = await backfill(db_url, exchange, *SYMBOLS)
    assert [report.error for report in reports] == [None] * 3
    assert [report.outcome for report in reports] == ["caught up", "caught up", "delisted"]
    for symbol, report in zip(SYMBOLS, reports, strict=True):
        await assert_is_whole(db_url, made, symbol)
        archived = [trade for trade in made.truth(symbol) if trade.timestamp < LATER.end]
        assert report.archived == len(archived)
        assert report.new == len(made.truth(symbol))
    # All that REST was asked for the trades of one pair is what the archives do not have.
    assert reports[0].pages <= 3


async def test_again_nothing_changes(plain_url: str, made: ArchivedMarkets, tmp_path: Path) -> None:
    exchange = made.exchange(tmp_path / "archives")
    await backfill(plain_url, exchange, *SYMBOLS)
    before = await checksums(plain_url)
    reports = await backfill(plain_url, exchange, *SYMBOLS)
    assert [(report.new, report.changed, report.candles_new) for report in reports] == [(0, 0, 0)] * 3
    assert await checksums(plain_url) == before


@pytest.mark.parametrize("first", ["rest", "archive"])
async def test_in_any_order(plain_url: str, made: ArchivedMarkets, tmp_path: Path, first: str) -> None:
    """REST first: what it gave no id (0) takes its own from the archive."""
    exchange = made.exchange(tmp_path / "archives")
    (report,) = await backfill(plain_url, exchange, "ETH/USD", source=first)
    assert report.outcome == {"rest": "caught up", "archive": "archive read"}[first]
    if first == "rest":
        assert report.archived == 0
    (report,) = await backfill(plain_url, exchange, "ETH/USD")
    assert report.error is None
    await assert_is_whole(plain_url, made, "ETH/USD")


async def test_a_part_of_time(plain_url: str, made: ArchivedMarkets, tmp_path: Path) -> None:
    exchange = made.exchange(tmp_path / "archives")
    start, end = datetime(2024, 3, 3, 5, 7, 11, tzinfo=UTC), datetime(2024, 5, 5, 20, 0, 30, tzinfo=UTC)
    since = to_cursor(start)
    (report,) = await backfill(plain_url, exchange, "BTC/USD", since=since, end_timestamp=end)
    assert (report.error, report.outcome) == (None, "reached the end")
    truth = [trade for trade in made.truth("BTC/USD") if start <= trade.timestamp < end]
    found = await stored(plain_url, "BTC/USD")
    assert_same(found.trades, in_order_of_the_store(truth))
    assert found.coverage["trades"] == [(start, end)]
    # The file that it came from has trades before and behind.
    assert report.oldest is not None and report.newest is not None
    assert start <= report.oldest <= report.newest <= end
    first, last = start.replace(minute=8, second=0), end.replace(second=0)
    assert found.coverage["candles_1m"] == [(first, last)]
    assert_same(found.candles, [one for one in candles_of(truth) if first <= one.timestamp < last])


async def test_another_market_is_refused(plain_url: str, made: ArchivedMarkets, tmp_path: Path) -> None:
    """Of the same ids REST has other trades: nothing is stored."""
    other = Market("BTC/USD", seed="another", start=datetime(2024, 2, 1, tzinfo=UTC), trades=3_000)
    exchange = SimulatedExchange([other], None, ManualClock(NOW), archives=tmp_path / "archives")
    (report,) = await backfill(plain_url, exchange, "BTC/USD")
    assert isinstance(report.error, ConflictingTradesError)
    assert "is another one than Kraken's REST has" in report.error.message
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(0,)]


async def test_without_archives_rest_does_the_work(
    plain_url: str, made: ArchivedMarkets, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    exchange = made.exchange()
    (report,) = await backfill(plain_url, exchange, "BTC/USD", archive=str(tmp_path / "empty"))
    assert (report.outcome, report.archived, report.error) == ("caught up", 0, None)
    await assert_is_whole(plain_url, made, "BTC/USD")
    with pytest.raises(ImportFileError, match="there is no archive of Kraken's"):
        await backfill(plain_url, exchange, "BTC/USD", archive=str(tmp_path / "empty"), source="archive")


async def test_a_delisted_pair_needs_its_archive(
    plain_url: str, made: ArchivedMarkets, tmp_path: Path
) -> None:
    exchange = made.exchange(tmp_path / "archives")
    (report,) = await backfill(plain_url, exchange, "MATIC/USD", source="rest")
    assert isinstance(report.error, UnknownPairError)


@pytest.mark.parametrize(
    "fault", [ArchiveFault.CUT, ArchiveFault.HTTP_503, ArchiveFault.HTTP_429, ArchiveFault.SHORT_LENGTH]
)
async def test_faults_that_pass(
    plain_url: str, made: ArchivedMarkets, tmp_path: Path, fault: ArchiveFault
) -> None:
    faults = ArchiveFaults([None, fault, None, fault, fault, None, fault], wait_seconds=0)
    exchange = made.exchange(tmp_path / "archives", archive_faults=faults)
    (report,) = await backfill(plain_url, exchange, "BTC/USD")
    assert report.error is None
    await assert_is_whole(plain_url, made, "BTC/USD")


@pytest.mark.parametrize(
    "fault", [ArchiveFault.RANGE_IGNORED, ArchiveFault.REDIRECT, ArchiveFault.WRONG_BYTES]
)
async def test_faults_that_stay(
    plain_url: str, made: ArchivedMarkets, tmp_path: Path, fault: ArchiveFault
) -> None:
    """Nothing of the archive is stored; the next run is whole."""
    faults = ArchiveFaults(rates={fault: 1.0})
    exchange = made.exchange(tmp_path / "archives", archive_faults=faults)
    with suppress(ImportFileError):
        (report,) = await backfill(plain_url, exchange, "BTC/USD", source="archive")
        assert isinstance(report.error, ImportFileError)
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(0,)]
    assert await query(plain_url, "SELECT count(*) FROM data_coverage") == [(0,)]
    await backfill(plain_url, made.exchange(tmp_path / "archives"), "BTC/USD")
    await assert_is_whole(plain_url, made, "BTC/USD")


async def test_a_file_that_turns_out_to_be_damaged(
    plain_url: str, made: ArchivedMarkets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its check sum comes last, when most of it is stored: unproven then, and a right file heals it."""
    monkeypatch.setattr(trade_batches, "BATCH_SIZE", 20_000)
    folder = tmp_path / "archives"
    whole = folder / LATER_TRADES.name
    packed = whole.read_bytes()
    with zipfile.ZipFile(whole) as archive:
        crc = archive.getinfo("XBTUSD.csv").CRC.to_bytes(4, "little")
    whole.write_bytes(packed.replace(crc, b"abcd"))
    (report,) = await backfill(plain_url, made.exchange(folder), "BTC/USD", archive=str(folder))
    assert isinstance(report.error, DamagedFileError), report.error
    assert report.new > 0
    found = await stored(plain_url, "BTC/USD")
    assert all(ranges[-1][1] <= LATER.begin for ranges in found.coverage.values())
    whole.write_bytes(packed)
    (report,) = await backfill(plain_url, made.exchange(folder), "BTC/USD", archive=str(folder))
    assert report.error is None
    await assert_is_whole(plain_url, made, "BTC/USD")


async def rows_in(server: EmbeddedServer) -> int:
    """Trades that are stored; 0 where there is no table yet."""
    try:
        ((count,),) = await query(server.url(), "SELECT count(*) FROM trades")
        return int(count)
    except DatabaseError:
        return 0


async def test_the_database_goes_away_while_an_archive_is_read(
    made: ArchivedMarkets, tmp_path: Path, open_folder: Path
) -> None:
    """The embedded server is killed; whoever needs it starts it again."""
    server = EmbeddedServer(open_folder / "k")
    await asyncio.to_thread(server.start)
    exchange = made.exchange(tmp_path / "archives", archive_faults=ArchiveFaults(bytes_per_second=40_000))
    try:
        async with exchange.serve() as base_url:
            environment = {
                "KRAKEN_DB_DATA_DIR": str(open_folder / "k"),
                "KRAKEN_BASE_URL": base_url,
                "KRAKEN_ARCHIVE_URL": archive_url(base_url),
            }
            arguments = ("--symbols", "BTC/USD", "--rate-limit", "0")
            async with backfilling(
                *arguments, environment=environment, program=backfill_in_small_batches()
            ) as process:
                while await rows_in(server) < 500:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
                pid = server.status().pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                done = await ended(process)
        assert (done.code, "Traceback" in done.err) == (0, False), done.err
        await assert_is_whole(await asyncio.to_thread(server.attach), made, "BTC/USD")
    finally:
        await asyncio.to_thread(server.detach)


KILLS = int(os.environ.get("KRAKEN_DB_TEST_KILLS", "20"))


async def test_kills(plain_url: str, lanes: dict[str, Lane], made: ArchivedMarkets, tmp_path: Path) -> None:
    """At random moments: in the middle of a range, between batches, in the REST that follows."""
    random = Random(os.environ.get("KRAKEN_DB_TEST_SEED", "0"))
    faults = ArchiveFaults(bytes_per_second=150_000)
    exchange = made.exchange(tmp_path / "archives", archive_faults=faults)
    arguments = ("--symbols", *SYMBOLS, "--rate-limit", "0")
    killed = 0
    assert exchange.archive is not None
    async with exchange.serve() as base_url:
        environment = {
            "DATABASE_URL": plain_url,
            "KRAKEN_BASE_URL": base_url,
            "KRAKEN_ARCHIVE_URL": archive_url(base_url),
        }
        for _ in range(KILLS):
            async with backfilling(
                *arguments, environment=environment, program=backfill_in_small_batches()
            ) as process:
                asked = len(exchange.archive.requests)
                while len(exchange.archive.requests) == asked:
                    if process.returncode is not None:
                        break
                    await asyncio.sleep(0.01)
                await asyncio.sleep(random.random() * 2)
                killed += process.returncode is None
                if process.returncode is None:
                    process.send_signal(signal.SIGKILL)
                await ended(process)
        last = await run_backfill(*arguments, environment=environment, program=backfill_in_small_batches())
    assert last.code == 0, last.err
    assert killed > KILLS / 2
    for symbol in SYMBOLS:
        await assert_is_whole(plain_url, made, symbol)
    with lanes["postgres"].migrated_database() as undisturbed:
        await backfill(undisturbed, made.exchange(tmp_path / "archives"), *SYMBOLS)
        assert await checksums(plain_url) == await checksums(undisturbed)
