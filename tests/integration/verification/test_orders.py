"""Whatever filled a store, in whatever order and however often: it is what one plain download gives.

A source is a function in ``STEPS``: new ones belong in there. What is expected is the market's own truth.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.database_writer.writer import DatabaseWriter
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.ranges import TICK
from kraken_db.simulator import ManualClock, Market, Scenario, SimulatedExchange
from kraken_db.types import TradeRecord
from tests.support.archives import as_kraken_rows, query, read_candles, write
from tests.support.downloading import MINUTE, assert_same, candles_of, downloading, floor, stored
from tests.support.gap_filling import World
from tests.support.lanes import Lane
from tests.support.verifying import verify

SYMBOL = "BTC/USD"
MARKET = Market(SYMBOL, seed=61, trades=900, trades_per_minute=1, scenario=Scenario.CALM)
TRADES = list(MARKET.truth_trades())
NOW = floor(TRADES[-1].timestamp) + MINUTE + timedelta(seconds=20)
"""15 hours after the first trade: Kraken serves the candles of twelve of them."""
PARTS = 10


@dataclass(frozen=True)
class Part:
    """From one tenth of the market's trades to another: the moments, and whole minutes around them."""

    first: int
    last: int

    @property
    def start(self) -> datetime:
        return TRADES[self.first * len(TRADES) // PARTS].timestamp

    @property
    def end(self) -> datetime | None:
        at = self.last * len(TRADES) // PARTS
        return TRADES[at].timestamp if at < len(TRADES) else None

    def has(self, moment: datetime) -> bool:
        """Whether it lies in the minutes of the part: archives have whole ones."""
        return floor(self.start) <= floor(moment) and (self.end is None or floor(moment) < floor(self.end))


def clock() -> datetime:
    return NOW


Step = Callable[[str, SimulatedExchange, Path, Part], Awaitable[None]]


async def import_rows(url: str, folder: Path, name: str, rows: Sequence[str]) -> None:
    async with BulkCSVImporter(url, workers=1, clock=clock) as importer:
        report = await importer.run(importer.plan([write(folder, name, "".join(rows))]))
    assert not report.errors


async def archive_of_candles(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    rows = [
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
        for c in MARKET.truth_candles()
        if part.has(c.timestamp)
    ]
    if rows:
        await import_rows(url, folder, "XBTUSD_1.csv", rows)


async def archive_of_trades(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    rows = [
        f"{row.price},{row.volume},{row.time},{row.side},{row.order_type},,{row.trade_id}\n"
        for row, trade in zip(MARKET.texts(0, len(TRADES)), TRADES, strict=True)
        if part.has(trade.timestamp)
    ]
    if rows:
        await import_rows(url, folder, "XBTUSD.csv", rows)


async def archive_without_ids(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    rows = [
        f"{row.time.partition('.')[0]},{row.price},{row.volume}\n"
        for row, trade in zip(MARKET.texts(0, len(TRADES)), TRADES, strict=True)
        if part.has(trade.timestamp)
    ]
    if rows:
        await import_rows(url, folder, "XBTUSD.csv", rows)


async def download(url: str, exchange: SimulatedExchange, **options: Any) -> None:
    async with downloading(url, exchange, clock=clock) as service:
        (report,) = await service.backfill([SYMBOL], **options)
    assert report.error is None


async def part_of_a_download(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    await download(url, exchange, since=to_cursor(part.start), end_timestamp=part.end)


async def download_without_candles(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    since = to_cursor(part.start)
    await download(url, exchange, since=since, end_timestamp=part.end, build_candles=False)


async def resumed(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    await download(url, exchange, resume=True)


async def plain_download(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    await download(url, exchange)


async def gaps_filled(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    result = await World(MARKET, now=NOW).fill(url)
    assert result["errors"] == []


async def live(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    """What was heard of the feed, whose stamps are a microsecond early."""
    async with DatabaseWriter(url, journal_dir=folder / "journal", clock=clock) as writer:
        for trade in TRADES:
            if part.has(trade.timestamp):
                early = trade.timestamp - TICK
                await writer.write_trade(
                    TradeRecord(
                        SYMBOL, early, trade.price, trade.volume, trade.side, trade.id, trade.order_type
                    )
                )


async def repaired(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    """What is missing by then is downloaded; nothing else may change."""
    if await query(url, "SELECT FROM data_sync_status"):
        assert (await verify(url, exchange, clock=clock, repair=True)).error is None


STEPS: list[Step] = [
    archive_of_candles,
    archive_of_trades,
    archive_without_ids,
    part_of_a_download,
    download_without_candles,
    resumed,
    gaps_filled,
    live,
    repaired,
]
parts = st.tuples(st.integers(0, PARTS - 1), st.integers(1, PARTS)).map(
    lambda ends: Part(min(ends), max(*ends, min(ends) + 1))
)


def runs(steps: list[Step]) -> st.SearchStrategy[list[tuple[Step, Part]]]:
    return st.lists(st.tuples(st.sampled_from(steps), parts), min_size=1, max_size=5)


@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=6,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(before=runs(STEPS), after=runs(STEPS))
async def test_any_order(
    lanes: dict[str, Lane], before: list[tuple[Step, Part]], after: list[tuple[Step, Part]]
) -> None:
    """The whole history is downloaded at some time; what comes before it and after it is drawn."""
    with lanes["postgres"].migrated_database() as url, TemporaryDirectory() as folder:
        exchange = SimulatedExchange([MARKET], clock=ManualClock(NOW))
        for step, part in [*before, (plain_download, Part(0, PARTS)), *after]:
            await step(url, exchange, Path(folder), part)
        await holds_the_truth(url, exchange)


@pytest.mark.parametrize("order", [1, -1])
async def test_both_orders_on_timescale(timescale_url: str, tmp_path: Path, order: int) -> None:
    exchange = SimulatedExchange([MARKET], clock=ManualClock(NOW))
    sources: list[tuple[Step, Part]] = [
        (archive_without_ids, Part(2, 6)),
        (archive_of_candles, Part(0, 8)),
        (part_of_a_download, Part(3, 7)),
        (live, Part(4, 8)),
        (gaps_filled, Part(0, PARTS)),
        (archive_of_trades, Part(5, 9)),
        (plain_download, Part(0, PARTS)),
    ]
    for step, part in sources[::order]:
        await step(timescale_url, exchange, tmp_path, part)
    await holds_the_truth(timescale_url, exchange)


async def holds_the_truth(url: str, exchange: SimulatedExchange) -> None:
    """Rows, counters and coverage are the market's, every interval too, and a verification agrees."""
    found = await stored(url, SYMBOL)
    candles = candles_of(TRADES)
    assert_same(found.trades, TRADES)
    assert_same(found.candles, candles)
    for name, rows in (("trades", found.trades), ("candles_1m", found.candles)):
        oldest, newest, count = found.status[name]
        # A live stamp, which Kraken's took the place of, is off by a microsecond: the counters keep it.
        assert oldest is not None and rows[0].timestamp - oldest in (timedelta(), TICK)
        assert (newest, count) == (rows[-1].timestamp, len(rows))
        # A gap filler has looked at the time before the first trade as well.
        ((start, end),) = found.coverage[name]
        assert start <= candles[0].timestamp
        assert end == candles[-1].timestamp + MINUTE, name
    for interval in (5, 60, 1440):
        assert as_kraken_rows(await read_candles(url, SYMBOL, interval)) == [
            (int(c.timestamp.timestamp()), c.open, c.high, c.low, c.close, c.volume, c.trade_count)
            for c in MARKET.truth_candles(interval)
        ]
    certificate = await verify(url, exchange, clock=clock, all_trades=True)
    assert certificate.is_clean, certificate.findings
