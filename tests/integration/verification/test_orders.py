"""Whatever filled a store, in whatever order and however often: it is what one plain download gives.

A source is a function in ``STEPS``: new ones belong in there. What is expected is the market's own truth.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kraken_db.historical_backfill.cursor import to_cursor
from kraken_db.simulator import Market, Scenario, SimulatedExchange
from tests.archives import as_kraken_rows, import_file, query, read_candles, write
from tests.integration.backfill.downloading import assert_is_truth, downloading, floor
from tests.integration.verification.verifying import verify
from tests.lanes import Lane

SYMBOL = "BTC/USD"
MARKET = Market(SYMBOL, seed=61, trades=900, trades_per_minute=30, scenario=Scenario.SAME_STAMPS)
TRADES = list(MARKET.truth_trades())
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


Step = Callable[[str, SimulatedExchange, Path, Part], Awaitable[None]]


async def archive_of_candles(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    rows = [
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
        for c in MARKET.truth_candles()
        if part.has(c.timestamp)
    ]
    if rows:
        assert (await import_file(url, write(folder, "XBTUSD_1.csv", "".join(rows)))).error is None


async def archive_of_trades(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    rows = [
        f"{row.price},{row.volume},{row.time},{row.side},{row.order_type},,{row.trade_id}\n"
        for row, trade in zip(MARKET.texts(0, len(TRADES)), TRADES, strict=True)
        if part.has(trade.timestamp)
    ]
    if rows:
        assert (await import_file(url, write(folder, "XBTUSD.csv", "".join(rows)))).error is None


async def archive_without_ids(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    rows = [
        f"{row.time.partition('.')[0]},{row.price},{row.volume}\n"
        for row, trade in zip(MARKET.texts(0, len(TRADES)), TRADES, strict=True)
        if part.has(trade.timestamp)
    ]
    if rows:
        assert (await import_file(url, write(folder, "XBTUSD.csv", "".join(rows)))).error is None


async def part_of_a_download(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    async with downloading(url, exchange) as service:
        (report,) = await service.backfill([SYMBOL], since=to_cursor(part.start), end_timestamp=part.end)
    assert report.error is None


async def download_without_candles(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    async with downloading(url, exchange) as service:
        (report,) = await service.backfill(
            [SYMBOL], since=to_cursor(part.start), end_timestamp=part.end, build_candles=False
        )
    assert report.error is None


async def resumed(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    async with downloading(url, exchange) as service:
        (report,) = await service.backfill([SYMBOL], resume=True)
    assert report.error is None


async def plain_download(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    async with downloading(url, exchange) as service:
        (report,) = await service.backfill([SYMBOL])
    assert report.error is None


async def repaired(url: str, exchange: SimulatedExchange, folder: Path, part: Part) -> None:
    """What is missing by then is downloaded; nothing else may change."""
    if await query(url, "SELECT FROM data_sync_status"):
        assert (await verify(url, exchange, repair=True)).error is None


STEPS: list[Step] = [
    archive_of_candles,
    archive_of_trades,
    archive_without_ids,
    part_of_a_download,
    download_without_candles,
    resumed,
    repaired,
]
parts = st.tuples(st.integers(0, PARTS - 1), st.integers(1, PARTS)).map(
    lambda ends: Part(min(ends), max(*ends, min(ends) + 1))
)
runs = st.lists(st.tuples(st.sampled_from(STEPS), parts), min_size=1, max_size=5)


@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=6,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(before=runs, after=runs)
async def test_any_order(
    lanes: dict[str, Lane], before: list[tuple[Step, Part]], after: list[tuple[Step, Part]]
) -> None:
    """The whole history is downloaded at some time; what comes before it and after it is drawn."""
    with lanes["postgres"].migrated_database() as url, TemporaryDirectory() as folder:
        exchange = SimulatedExchange([MARKET])
        for step, part in [*before, (plain_download, Part(0, PARTS)), *after]:
            await step(url, exchange, Path(folder), part)
        await holds_the_truth(url, exchange)


@pytest.mark.parametrize("order", [1, -1])
async def test_both_orders_on_timescale(timescale_url: str, tmp_path: Path, order: int) -> None:
    exchange = SimulatedExchange([MARKET])
    sources: list[tuple[Step, Part]] = [
        (archive_without_ids, Part(2, 6)),
        (archive_of_candles, Part(0, 8)),
        (part_of_a_download, Part(3, 7)),
        (archive_of_trades, Part(5, 9)),
        (plain_download, Part(0, PARTS)),
    ]
    for step, part in sources[::order]:
        await step(timescale_url, exchange, tmp_path, part)
    await holds_the_truth(timescale_url, exchange)


async def holds_the_truth(url: str, exchange: SimulatedExchange) -> None:
    """Rows, counters and coverage are the market's, every interval too, and a verification agrees."""
    await assert_is_truth(url, MARKET)
    for interval in (5, 60, 1440):
        assert as_kraken_rows(await read_candles(url, SYMBOL, interval)) == [
            (int(c.timestamp.timestamp()), c.open, c.high, c.low, c.close, c.volume, c.trade_count)
            for c in MARKET.truth_candles(interval)
        ]
    found = await verify(url, exchange, all_trades=True)
    assert found.is_clean, found.findings
