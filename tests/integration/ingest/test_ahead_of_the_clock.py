"""Stamps that are ahead of our clock: a few seconds are taken, more are refused; coverage never ends later.

With coverage in the future no gap could be found until then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.data_types import DataType
from kraken_db.errors import ExchangeFormatError
from kraken_db.ingest.trades import REST, stage_trades
from kraken_db.ingest.write_unit import Ingest, WriteTransaction
from kraken_db.types import TradeRecord
from tests.support.archives import query, write
from tests.support.downloading import MINUTE, coverage, floor
from tests.support.gap_filling import DAY, HOUR, LATER, START, World, calm
from tests.support.live_writing import BTC, writing
from tests.support.stores import opened

SKEW = timedelta(seconds=5)
NOW = START + 2 * HOUR + LATER
SOURCES = ["file", "rest", "feed"]


def trades(*stamps: datetime) -> list[TradeRecord]:
    """Ids that nothing else has, and that follow each other."""
    return [
        TradeRecord(BTC, stamp, Decimal(100), Decimal(1), "buy", 10_000 + number, "limit", "")
        for number, stamp in enumerate(stamps)
    ]


async def bring(
    url: str, folder: Path, source: str, batch: list[TradeRecord], clock: Callable[[], datetime]
) -> str:
    """What is said of a batch that is refused; nothing of one that is stored."""
    if source == "feed":
        async with writing(url, folder, clock=clock) as writer:
            for one in batch:
                await writer.write_trade(one)
            await writer.flush()
            return " ".join(writer.get_stats()["rejections"])
    if source == "file":
        rows = "".join(
            f"{t.price},{t.volume},{t.timestamp.timestamp():.6f},b,l,,{t.trade_id}\n" for t in batch
        )
        async with BulkCSVImporter(url, workers=1, clock=clock) as importer:
            report = await importer.run(importer.plan([write(folder, "XBTUSD.csv", rows)]))
        return str(report.files[0].error or "")

    async def work(transaction: WriteTransaction) -> None:
        await (await stage_trades(transaction, BTC, REST, batch)).store()
        # A page that says more than it can know.
        transaction.unit(BTC, DataType.TRADES).mark_complete("rest_trades", [(batch[0].timestamp, NOW + DAY)])

    keys = [(BTC, data_type) for data_type in (DataType.TRADES, DataType.CANDLES_1M)]
    async with opened(url, clock=clock) as store, Ingest(store) as ingest:
        try:
            await ingest.write(keys, batch[0].timestamp, work)
        except ExchangeFormatError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("source", SOURCES)
async def test_a_few_seconds_ahead(db_url: str, tmp_path: Path, source: str) -> None:
    batch = trades(NOW - MINUTE, NOW, NOW + SKEW)
    assert await bring(db_url, tmp_path, source, batch, lambda: NOW) == ""
    assert await query(db_url, "SELECT max(timestamp) FROM trades") == [(NOW + SKEW,)]
    (known,) = await coverage(db_url, BTC)
    assert known[1] == NOW + SKEW
    later = trades(NOW - MINUTE, NOW, NOW + SKEW + timedelta(microseconds=1))
    assert "lies in the future" in await bring(db_url, tmp_path, source, later, lambda: NOW)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ahead", [30 * DAY, timedelta(days=365 * 7_974)])
async def test_thirty_days_ahead_hide_no_gap(
    plain_url: str, tmp_path: Path, source: str, ahead: timedelta
) -> None:
    """Nor does the year 9998."""
    world = World(calm(), now=NOW)
    await world.backfill(plain_url)
    before = await coverage(plain_url, BTC), await coverage(plain_url, BTC, "candles_1m")
    said = await bring(plain_url, tmp_path, source, trades(NOW + ahead), world.now)
    if source == "file":
        # It has no header line: nothing in it can be a time.
        assert "is a time between September 2013 and now" in said
    else:
        assert "lies in the future" in said or (ahead > 30 * DAY and "looks like milliseconds" in said)
    assert (await coverage(plain_url, BTC), await coverage(plain_url, BTC, "candles_1m")) == before
    assert await query(plain_url, "SELECT count(*) FROM trades WHERE id >= 10000") == [(0,)]
    world.advance(HOUR)
    async with world.filler(plain_url) as filler:
        (gap,) = await filler.detect_gaps()
    assert gap.data_type == "candles_1m"
    assert (gap.start_time, gap.end_time) == (floor(NOW), floor(world.now()))
    result = await world.fill(plain_url)
    assert (result["gaps_filled"], result["errors"]) == (1, [])
    await world.assert_nothing_left(plain_url)


async def test_a_candle_that_has_not_closed_is_in_no_file(plain_url: str, tmp_path: Path) -> None:
    """A minute closes at its end, not at its beginning."""
    row = "100,102,99,101,2.5,7"
    for ahead, new in ((0, 0), (60, 1)):
        opens = int(floor(NOW).timestamp()) - ahead
        path = write(tmp_path, "XBTUSD_1.csv", f"{opens},{row}\n")
        async with BulkCSVImporter(plain_url, workers=1, clock=lambda: NOW) as importer:
            (done,) = (await importer.run(importer.plan([path]))).files
        assert done.new == new
        if not new:
            assert "lies in the future, or its candle has not closed yet" in str(done.error)
    assert await coverage(plain_url, BTC, "candles_1m") == [(floor(NOW) - MINUTE, floor(NOW))]
