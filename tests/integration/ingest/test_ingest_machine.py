"""Pages, archives, live trades and Kraken's candles, in any order, repeated and overlapping.

The model is plain Python over one tape of trades: which ids have come, which of them with Kraken's own stamp,
what each bringer has proven, and which candles follow. After each step the tables are compared with it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.data_types import DataType
from kraken_db.gap_filler.by_candles import CandleFiller
from kraken_db.ingest.live import QueuedTrade, SymbolState, store_trades
from kraken_db.ingest.missing import build_missing
from kraken_db.ingest.pages import Pages, PageStore, find_resume_point, store_rows
from kraken_db.ingest.write_unit import Ingest, keys_with_trades, write_transaction
from kraken_db.kraken.messages import KrakenOhlc, KrakenTrade, OhlcPage
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.ranges import TICK
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.store import Store
from tests.support.archives import write
from tests.support.downloading import MINUTE, floor
from tests.support.gap_filling import START

SYMBOL = "BTC/USD"
SIZE = 60
TABLES = (
    "trades",
    "candles",
    "data_coverage",
    "data_sync_status",
    "unproven_ranges",
    "dropped_ranges",
    "pending_refresh",
)
Candle = tuple[Decimal, Decimal, Decimal, Decimal, Decimal, int]


def make_tape() -> list[KrakenTrade]:
    """Sixty trades of about a dozen minutes: some in one microsecond, some at the border of a minute."""
    steps = [0, 10, 250_000, 3_000_000, 0, 20_000_000, 7, 59_000_000, 1_500_000, 0]
    tape, moment = [], START + MINUTE - timedelta(seconds=2)
    for number in range(1, SIZE + 1):
        moment += timedelta(microseconds=steps[number * 7 % len(steps)])
        if number % 13 == 0:
            moment = floor(moment) + MINUTE  # at the very border
        price, volume = Decimal(100 + number * 11 % 9), Decimal(1 + number % 4) / 8
        tape.append(KrakenTrade(price, volume, moment, "bs"[number % 2], "m", "", number))  # type: ignore[arg-type]
    return tape


TAPE = make_tape()
MINUTES = sorted({floor(one.timestamp) for one in TAPE})


def candle(trades: Sequence[KrakenTrade]) -> Candle:
    prices = [one.price for one in trades]
    return (
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum((one.volume for one in trades), Decimal(0)),
        len(prices),
    )


TRUTH = {at: candle([one for one in TAPE if floor(one.timestamp) == at]) for at in MINUTES}


def live_stamp(one: KrakenTrade) -> datetime:
    """A microsecond early, but never in another minute, as the feed's is."""
    return one.timestamp - TICK if one.timestamp != floor(one.timestamp) else one.timestamp


class Tables:
    """One store for all examples, emptied for each."""

    def __init__(self, url: str, store: Store, importer: BulkCSVImporter, folder: Path) -> None:
        self.url, self.store, self.importer, self.folder = url, store, importer, folder

    async def clear(self) -> None:
        async with self.store.database.begin() as connection:
            for table in TABLES:
                await connection.execute(text(f"DELETE FROM {table}"))

    async def rows(self, statement: str) -> list[Any]:
        async with self.store.database.read() as connection:
            return [tuple(row) for row in await connection.execute(text(statement))]

    async def pages(self, first: int, last: int, size: int) -> None:
        """As a download goes on from a moment: page after page."""
        since = to_cursor(TAPE[first].timestamp)
        # A walk begins with all trades of its first moment.
        begin = next(at for at, one in enumerate(TAPE) if one.timestamp >= TAPE[first].timestamp)
        async with self.store.database.read() as connection:
            resume_point = await find_resume_point(connection, SYMBOL, since)
        async with Ingest(self.store) as ingest:
            pages = PageStore(ingest, SYMBOL, resume_point)
            for at in range(begin, last + 1, size):
                trades = TAPE[at : min(at + size, last + 1)]
                await pages.save(Pages(trades, to_cursor(trades[-1].timestamp), trades[-1].timestamp, ()))

    async def live(self, trades: Sequence[KrakenTrade], states: dict[str, SymbolState]) -> None:
        queued = [
            QueuedTrade(
                SYMBOL, live_stamp(one), one.price, one.volume, one.side, one.trade_id, "market", None, False
            )
            for one in trades
        ]
        async with write_transaction(self.store, keys_with_trades(SYMBOL)) as transaction:
            flushed = await store_trades(transaction, queued, states)
        states.update(flushed.states)
        assert flushed.conflicts == []

    async def archive(self, first: int, last: int) -> None:
        lines = "".join(
            f"{one.timestamp.timestamp():.6f},{one.price},{one.volume},{one.side_code},m,,{one.trade_id}\n"
            for one in TAPE[first : last + 1]
        )
        header = "timestamp,price,volume,type,order_type,misc,trade_id\n"
        path = write(self.folder, "XBTUSD.csv", header + lines)
        (done,) = (await self.importer.run(self.importer.plan([path]))).files
        assert done.error is None, done.error

    async def official(self, first: datetime, last: datetime) -> None:
        """OHLC of some minutes, quiet ones among them, and the running one behind."""
        opens = [first + MINUTE * at for at in range((last - first) // MINUTE + 2)]
        nothing = Decimal(0)
        rows = []
        for at in opens:
            one = TRUTH.get(at, (Decimal(100),) * 4 + (nothing, 0))
            mean = one[2] if one[5] else nothing
            rows.append(KrakenOhlc(at, *one[:4], mean, one[4], one[5]))
        page = OhlcPage("XXBTZUSD", 1, rows[:-1], rows[-1], None)

        async def ohlc(*_: object) -> OhlcPage:
            return page

        async with Ingest(self.store) as ingest:
            filler = CandleFiller(ingest, cast("Any", SimpleNamespace(ohlc=ohlc)))
            await filler.fill(SYMBOL, "XBTUSD", first, last + MINUTE)

    async def build(self) -> None:
        async with Ingest(self.store) as ingest:
            await build_missing(ingest, SYMBOL)


POSITIONS = st.tuples(st.integers(0, SIZE - 1), st.integers(0, 25)).map(
    lambda one: (one[0], min(one[0] + one[1], SIZE - 1))
)


class IngestMachine(RuleBasedStateMachine):
    """``tables`` and ``runner`` are given by the test."""

    tables: Tables
    runner: asyncio.Runner

    @initialize()
    def begin(self) -> None:
        self.runner.run(self.tables.clear())
        self.ids: set[int] = set()
        self.official: set[int] = set()
        self.states: dict[str, SymbolState] = {}
        self.shown: list[tuple[datetime, datetime]] = []
        """What must be covered: all between two trades whose ids follow each other."""

    def _came(self, trades: Sequence[KrakenTrade], *, is_official: bool) -> None:
        numbers = sorted({one.trade_id or 0 for one in trades})
        self.ids.update(numbers)
        if is_official:
            self.official.update(numbers)
        for one, other in pairwise(numbers):
            if one + 1 == other:
                self.shown.append((TAPE[one - 1].timestamp + TICK, live_stamp(TAPE[other - 1])))

    @rule(span=POSITIONS, size=st.integers(1, 9))
    def pages(self, span: tuple[int, int], size: int) -> None:
        first, last = span
        self.runner.run(self.tables.pages(first, last, size))
        begin = next(at for at, one in enumerate(TAPE) if one.timestamp >= TAPE[first].timestamp)
        self._came(TAPE[begin : last + 1], is_official=True)

    @rule(chosen=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=12), repeat=st.booleans())
    def rows_of_somebody(self, chosen: list[int], repeat: bool) -> None:
        trades = [TAPE[at] for at in chosen]
        for _ in range(1 + repeat):
            self.runner.run(
                store_rows(self.tables.store, SYMBOL, list({t.trade_id: t for t in trades}.values()))
            )
        self._came(trades, is_official=True)

    @rule(span=POSITIONS, lost=st.sets(st.integers(0, SIZE - 1), max_size=3), again=st.booleans())
    def live_trades(self, span: tuple[int, int], lost: set[int], again: bool) -> None:
        trades = [TAPE[at] for at in range(span[0], span[1] + 1) if at not in lost]
        if not trades:
            return
        for batch in ([*trades, *trades[:2]], trades[::-1])[: 1 + again]:
            self.runner.run(self.tables.live(batch, self.states))
        self._came(trades, is_official=False)

    @rule()
    def another_writer(self) -> None:
        """A process that knows nothing of what the one before has stored."""
        self.states = {}

    @rule(span=POSITIONS)
    def archive(self, span: tuple[int, int]) -> None:
        """Kraken's files end between two moments."""
        begins, ends = (TAPE[at].timestamp for at in span)
        inside = [at for at, one in enumerate(TAPE) if begins <= one.timestamp <= ends]
        self.runner.run(self.tables.archive(inside[0], inside[-1]))
        self._came(TAPE[inside[0] : inside[-1] + 1], is_official=True)

    @rule(first=st.integers(0, len(MINUTES) - 1), length=st.integers(0, 4))
    def official_candles(self, first: int, length: int) -> None:
        self.runner.run(self.tables.official(MINUTES[first], MINUTES[min(first + length, len(MINUTES) - 1)]))

    @rule()
    def build(self) -> None:
        self.runner.run(self.tables.build())

    @invariant()
    def trades_are_those_that_came(self) -> None:
        if not hasattr(self, "ids"):
            return
        rows = self.runner.run(
            self.tables.rows("SELECT id, timestamp, price, volume FROM trades ORDER BY id")
        )
        expected = [TAPE[number - 1] for number in sorted(self.ids)]
        stamps = [one.timestamp if one.trade_id in self.official else live_stamp(one) for one in expected]
        assert rows == [
            (one.trade_id, stamp, one.price, one.volume) for one, stamp in zip(expected, stamps, strict=True)
        ]
        counted = self.runner.run(
            self.tables.rows("SELECT total_records FROM data_sync_status WHERE data_type = 'trades'")
        )
        assert counted == ([(len(rows),)] if rows else [])

    @invariant()
    def covered_is_what_is_there(self) -> None:
        """Nothing is missing in what is covered, and what was shown is covered."""
        if not hasattr(self, "ids"):
            return
        covered = self.runner.run(self._covered(DataType.TRADES))
        for one in TAPE:
            stamps = (one.timestamp, live_stamp(one))
            # A hole among trades of one moment is the microsecond before it or behind it.
            if any(start < min(stamps) and max(stamps) + TICK < end for start, end in covered):
                assert one.trade_id in self.ids, one
        for first, last in self.shown:
            assert first >= last or any(start <= first and last <= end for start, end in covered)

    @invariant()
    def candles_are_the_truth(self) -> None:
        """Where minutes are covered; elsewhere what OHLC says, or what the stored trades of then made."""
        if not hasattr(self, "ids"):
            return
        covered = self.runner.run(self._covered(DataType.CANDLES_1M))
        rows = self.runner.run(
            self.tables.rows("SELECT timestamp, open, high, low, close, volume, trade_count FROM candles")
        )
        stored = {row[0]: row[1:] for row in rows}
        for at, truth in TRUTH.items():
            if any(start <= at and at + MINUTE <= end for start, end in covered):
                assert stored.get(at) == truth, at
        assert stored.keys() <= TRUTH.keys()
        assert all(found[5] <= TRUTH[at][5] for at, found in stored.items())
        counted = self.runner.run(
            self.tables.rows("SELECT total_records FROM data_sync_status WHERE data_type = 'candles_1m'")
        )
        assert counted in ([(len(rows),)], []) and (counted or not rows)

    async def _covered(self, data_type: DataType) -> list[tuple[datetime, datetime]]:
        async with self.tables.store.database.read() as connection:
            return list(await CoverageRepository(connection).covered(SYMBOL, data_type))


def test_any_order_of_sources(plain_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:

        async def make() -> Tables:
            store = await Store.open(plain_url, pool_max_size=4)
            importer = BulkCSVImporter(plain_url, workers=1)
            await importer.connect()
            return Tables(plain_url, store, importer, Path(folder))

        tables = runner.run(make())
        try:
            machine = type("Machine", (IngestMachine,), {"tables": tables, "runner": runner})
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=25,
                    stateful_step_count=12,
                    derandomize=True,
                    deadline=None,
                    phases=[
                        Phase.generate
                    ],  # to shrink what it finds takes minutes: add Phase.shrink by hand
                ),
            )
        finally:
            runner.run(tables.importer.close())
            runner.run(tables.store.close())
