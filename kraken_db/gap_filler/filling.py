"""Fills the gaps of one symbol, each in the cheapest way that closes it, and looks whether it is closed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import ExchangeError, ExchangeRequestError, UnknownPairError
from kraken_db.gap_filler.by_candles import SERVED, CandleFiller
from kraken_db.gap_filler.by_trades import TradeFiller
from kraken_db.gap_filler.gaps import Filled, FillReport, FoundGap, GapDetector
from kraken_db.historical_backfill.delisted import with_advice
from kraken_db.ingest.missing import build_missing
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval, interval_length
from kraken_db.progress import PairTask
from kraken_db.ranges import TimeRange, difference
from kraken_db.retry import unless_set
from kraken_db.store import Store
from kraken_db.tolerances import SETTLED
from kraken_db.types import DataGap

_MINUTE = interval_length(BASE_INTERVAL)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SymbolFiller:
    """Works on one symbol whose download lock it is given; ``report`` says how far it came."""

    store: Store
    candles: CandleFiller
    trades: TradeFiller
    lock: JobLock
    task: PairTask
    report: FillReport
    min_gap: timedelta

    @property
    def symbol(self) -> str:
        return self.report.symbol

    async def fill_all(self) -> None:
        """Gap after gap, the newest first: before OHLC stops to serve it, and because it is wanted first.

        One that cannot be filled stays; once Kraken gives no answer, all others do.
        """
        gaps = self.report.gaps.found[::-1]
        if any(found.kind == "not built" for found in gaps):
            await self._build()
        for number, found in enumerate(gaps, 1):
            if self.trades.stop.is_set():
                self.report.was_stopped = True
                return
            self.task.update(note=f"gap {number} of {len(gaps)}, {found}")
            try:
                problems = await self._fill(found)
            except ExchangeError as failure:
                error = await self._with_advice(failure)
                left = len(gaps) - number
                more = f"; {left} more of its gaps were not tried" if left else ""
                self.report.errors.append(f"{self.symbol}: {found} stays a gap: {error}{more}")
                return
            if problems and self.trades.stop.is_set():
                self.report.was_stopped = True
                return
            self.report.errors += [f"{self.symbol}: {found}: {problem}" for problem in problems]
            self.report.filled += not problems
            self.task.count()

    async def _with_advice(self, error: ExchangeError) -> ExchangeError:
        if not isinstance(error, UnknownPairError):
            return error
        base_url, clock = self.trades.client.base_url, self.store.clock
        return await with_advice(error, self.symbol, base_url, clock, is_stored=self.report.gaps.has_data)

    async def _build(self) -> None:
        """The candles of trades that are stored: nobody has to be asked for them."""
        building = build_missing(self.candles.ingest, self.symbol)
        for built in await unless_set(self.trades.stop, building) or ():
            self.report.written.add(Filled(candles_new=built.new, candles_changed=built.changed))

    async def _fill(self, found: FoundGap) -> list[str]:
        """What is wrong afterwards, one line each; nothing where the gap is closed."""
        gap = found.gap
        if found.kind == "ids" or found.kind == "not built":
            return await self._close(gap)
        end = min(gap.end_time, await self._settled_minute())
        while gap.start_time < end:
            gap = DataGap(gap.symbol, gap.data_type, gap.start_time, end, end - gap.start_time)
            problems = await self._close(gap)
            now = await self._settled_minute()
            if problems or found.kind == "inside" or now - end < max(self.min_gap, _MINUTE):
                return problems
            # What has passed meanwhile is short, and filled at once.
            gap, end = DataGap(gap.symbol, gap.data_type, end, now, now - end), now
        return []

    async def _close(self, gap: DataGap) -> list[str]:
        """Fill what of a gap is still one: what was built or stored since is not."""
        left = [(gap.start_time, gap.end_time)]
        if gap.data_type == DataType.CANDLES_1M:
            async with self._detector() as detector:
                left = difference(left, (await detector.known(self.symbol)).closed(DataType.CANDLES_1M))
            if gap.is_small and left and left[-1][1] > await self._settled_minute() - SERVED:
                left = difference(left, await self._fill_by_candles(left[0][0], left[-1][1]))
        problems: list[str] = []
        for start, end in left:
            problems += await self.trades.fill(
                self.symbol, start, end, self.lock, self.task, self.report.written
            )
        return problems or await self._what_is_left(gap)

    async def _fill_by_candles(self, start: datetime, end: datetime) -> list[TimeRange]:
        """Which part of it OHLC has closed. A pair that is not listed any more may have its trades still."""
        try:
            name = await self.trades.exchange.rest_name(self.symbol)
            written, reached = await self.candles.fill(self.symbol, name, start, end)
        except ExchangeRequestError as error:
            _log.info("%s: no OHLC (%s): trades are tried", self.symbol, error.message)
            return []
        self.report.written.add(written)
        return reached

    async def _what_is_left(self, gap: DataGap) -> list[str]:
        """What coverage and ids say of a gap that was filled."""
        async with self._detector() as detector:
            known = await detector.known(self.symbol)
            ends = (gap.start_time, gap.end_time)
            missing = dict.fromkeys(await detector.missing_at(self.symbol, known, ends))
        problems = [f"{ids.trades} are missing" for ids in missing]
        for start, end in difference([ends], known.closed(gap.data_type)):
            span = f"{start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC"
            problems.append(f"Kraken's answers do not reach all of it: {span} stays a gap")
        return problems

    async def _settled_minute(self) -> datetime:
        """The end of the last minute of which nothing more will come."""
        now = await self.trades.exchange.now()
        return floor_to_interval(now - SETTLED, BASE_INTERVAL)

    @asynccontextmanager
    async def _detector(self) -> AsyncIterator[GapDetector]:
        async with self.store.database.read() as connection:
            yield GapDetector(connection, self.store.backend, self.store.clock())
