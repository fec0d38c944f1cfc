"""Minutes whose trades are asked for again, and whose rows become what Kraken says, with their candles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import StaleRange
from kraken_db.data_types import DataType
from kraken_db.db.locks import lock_job
from kraken_db.id_runs import IdHole, IdSequence
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval, interval_length
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenOhlc, KrakenTrade
from kraken_db.kraken.page_walk import Step, to_cursor
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_candles
from kraken_db.repositories.audit import TradeAudit
from kraken_db.repositories.candle_building import CandleBuilder
from kraken_db.repositories.candle_merge import CandlesWritten, delete_minutes, take_new
from kraken_db.repositories.candle_staging import CandleStaging
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.official_record import OfficialRecord, Replaced, another_market
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.staging import RowProblem
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_batch import SAME_TRADE
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retention import RetentionPause
from kraken_db.retry import CONFLICT
from kraken_db.store import Store
from kraken_db.verification.certificate import minute, plural
from kraken_db.verification.scope import Scope, whole_minutes

_AT_ONCE = 10_000
"""Trades of one transaction, more or less."""
_MINUTE = interval_length(BASE_INTERVAL)
_T = TypeVar("_T")


class MinuteReplacement:
    """Asks Kraken as a download does, with its proofs, and replaces what it has shown in full."""

    def __init__(self, store: Store, retention: RetentionPause, scope: Scope, exchange: Exchange) -> None:
        self._store = store
        self._retention = retention
        self._scope = scope
        self._symbol = scope.symbol
        self._exchange = exchange
        self._deleted = self._new = self._changed = self._candles = 0
        self._unserved: list[str] = []

    def told(self) -> list[str]:
        """What was done, in words."""
        counts = (
            (self._new, "trade", "taken from Kraken"),
            (self._changed, "trade", "given Kraken's time stamp"),
            (self._deleted, "trade", "deleted that Kraken does not have, or not so"),
            (self._candles, "candle", "made anew from trades"),
        )
        return [f"{plural(count, noun)} {what}" for count, noun, what in counts if count] + self._unserved

    async def require_same_market(self) -> None:
        """Raises ConflictingTradesError where this is not the exchange that the store was filled from."""
        if not self._scope.trades.complete:
            return
        name = await self._exchange.rest_name(self._symbol)
        pager = await self._exchange.pager(name, to_cursor(self._scope.trades.complete[0][0]), None)
        try:
            step = await pager.next()
        finally:
            await pager.close()
        async with self._store.database.read() as connection:
            if not await OfficialRecord(connection, self._symbol).agrees(step.trades):
                raise another_market(self._symbol)

    async def run(self, minutes: Sequence[TimeRange]) -> None:
        """Replace these minutes, which are near to each other."""
        end = minutes[-1][1]
        name = await self._exchange.rest_name(self._symbol)
        since = to_cursor(minutes[0][0] - SAME_TRADE)
        pager = await self._exchange.pager(name, since, end + SAME_TRADE)
        trades: list[KrakenTrade] = []
        holes: list[IdHole] = []
        begun = minutes[0][0]
        before: IdSequence | None = await self._before(begun - SAME_TRADE)
        async with aclosing(pager.steps(auto_stop=True)) as steps:
            async for step in steps:
                trades += [item for item in step.trades if item.timestamp >= begun - SAME_TRADE]
                holes += step.holes
                if before is not None and step.trades:
                    # Nothing of the walk itself says that it has begun where the stored trades end.
                    holes += before.follow(step.trades[:1])[1]
                    before = None
                known = self._known(step, end)
                if known is None:
                    continue
                if len(trades) >= _AT_ONCE or known == end:
                    await self._save(intersection(minutes, [(begun, known)]), trades, holes)
                    begun = max(begun, known)
                    trades = [item for item in trades if item.timestamp >= begun - SAME_TRADE]
        if left := intersection(minutes, [(begun, end)]):
            self._unserved.append(f"Kraken serves no trades of {minute(left[0][0])} to {minute(left[-1][1])}")

    async def _before(self, moment: datetime) -> IdSequence:
        """Where the ids of the stored trades stand, if all trades since the last of them are known."""
        async with self._store.database.read() as connection:
            newest = await TradeRepository(connection).newest_until(self._symbol, moment)
        if newest is None or difference([(newest[1], moment)], self._scope.trades.complete):
            return IdSequence()
        return IdSequence(*newest)

    def _known(self, step: Step, end: datetime) -> datetime | None:
        """Up to which whole minute everything has been shown, a second beyond it too; None: of nothing."""
        if step.reached_end:
            return end
        if step.known_until is None:
            return None
        if step.caught_up and self._store.clock() - _MINUTE > end:
            return end  # there is nothing newer, and it is long past
        return min(end, floor_to_interval(step.known_until - SAME_TRADE, BASE_INTERVAL))

    async def _save(
        self, minutes: Sequence[TimeRange], trades: Sequence[KrakenTrade], holes: Sequence[IdHole]
    ) -> None:
        if not minutes:
            return
        ordered = sorted(trades, key=lambda item: (item.timestamp, item.trade_id or -1))
        unserved = [(hole.first, hole.last) for hole in holes]
        missing = whole_candles(((hole.after, hole.before) for hole in holes), BASE_INTERVAL)
        for table in ("trades", "candles"):
            await self._retention.before_writing(table, minutes[0][0])

        async def both(connection: AsyncConnection) -> tuple[Replaced, int]:
            done = await self._save_trades(connection, minutes, ordered, unserved, missing)
            return done, await self._save_candles(connection, difference(minutes, missing))

        done, candles = await in_transaction(
            self._store, self._symbol, both, DataType.TRADES, DataType.CANDLES_1M
        )
        self._deleted += done.deleted
        self._new += done.new
        self._changed += done.changed
        self._candles += candles

    async def _save_trades(
        self,
        connection: AsyncConnection,
        minutes: Sequence[TimeRange],
        trades: Sequence[KrakenTrade],
        unserved: Sequence[tuple[int, int]],
        missing: Sequence[TimeRange],
    ) -> Replaced:
        start, end = minutes[0][0], minutes[-1][1]
        uncounted = difference(
            minutes, await CoverageRepository(connection).covered(self._symbol, DataType.TRADES)
        )
        audit = TradeAudit(connection, self._symbol)
        before = await audit.count(uncounted)
        async with self._store.writing(connection, self._symbol, DataType.TRADES, start, end) as write:
            done = await OfficialRecord(connection, self._symbol).replace(trades, minutes, unserved)
        # What was covered has been counted when it was stored.
        added = await audit.count(uncounted) - before
        inside = [item for item in trades if any(a <= item.timestamp < b for a, b in minutes)]
        if inside:
            await SyncStatusRepository(connection).record(
                self._symbol,
                DataType.TRADES,
                oldest=inside[0].timestamp,
                newest=inside[-1].timestamp,
                added=added,
            )
        await write.shows("rest_trades", difference(minutes, missing))
        return done

    async def _save_candles(self, connection: AsyncConnection, minutes: Sequence[TimeRange]) -> int:
        """Where there are candles, and in the gaps between them."""
        data = self._scope.minutes
        wanted = intersection(minutes, whole_minutes(union(data.complete, data.gaps), self._scope.bounds))
        return await rebuild(self._store, self._symbol, wanted, connection)


async def in_transaction(
    store: Store,
    symbol: str,
    work: Callable[[AsyncConnection], Awaitable[_T]],
    *jobs: str,
) -> _T:
    """Do ``work`` in a transaction of its own, with the locks of these jobs; again where one was given up."""

    async def once() -> _T:
        async with store.database.begin() as connection:
            await store.backend.prepare_bulk_write(connection)
            await lock_job(connection, *jobs, of=symbol)
            return await work(connection)

    return await CONFLICT.run(once)


async def rebuild(
    store: Store, symbol: str, minutes: Sequence[TimeRange], connection: AsyncConnection
) -> int:
    """Make the candles of minutes what their trades say; returns how many were not. The caller commits.

    All trades of these minutes must be stored.
    """
    if not minutes:
        return 0
    start, end = minutes[0][0], minutes[-1][1]
    # What was covered has been counted when it was stored.
    uncounted = difference(minutes, await CoverageRepository(connection).covered(symbol, DataType.CANDLES_1M))
    builder = CandleBuilder(connection, symbol)
    before = await builder.count(uncounted)
    written: list[CandlesWritten] = []
    deleted = 0
    async with store.writing(connection, symbol, DataType.CANDLES_1M, start, end) as write:
        for first, last in minutes:
            written.append(await builder.build(first, last, take_new))
            deleted += await builder.delete_unfounded(first, last)
    added = await builder.count(uncounted) - before
    oldest = min((one.oldest for one in written if one.oldest), default=None)
    newest = max((one.newest for one in written if one.newest), default=None)
    if oldest is not None and newest is not None:
        await SyncStatusRepository(connection).record(
            symbol, DataType.CANDLES_1M, oldest=oldest, newest=newest, added=added
        )
    await write.shows("rest_trades", minutes)
    done = deleted + sum(one.new + one.changed for one in written)
    for first, last in minutes if done else ():
        await PendingRefreshRepository(connection).add(StaleRange(symbol, first, last))
    return done


async def take_minutes(
    store: Store, symbol: str, rows: Sequence[KrakenOhlc], connection: AsyncConnection
) -> None:
    """Make some minutes what Kraken's own candles of them are. The caller commits."""
    start, end = rows[0].timestamp, rows[-1].timestamp + _MINUTE
    quiet = [row.timestamp for row in rows if not row.trade_count]
    minutes = union((row.timestamp, row.timestamp + _MINUTE) for row in rows)
    async with store.writing(connection, symbol, DataType.CANDLES_1M, start, end) as write:
        await delete_minutes(connection, symbol, quiet)
        if len(quiet) < len(rows):
            staging = CandleStaging(connection, symbol, BASE_INTERVAL)
            read = await staging.copy(_lines(rows))
            staged = await staging.inspect(store.clock())
            assert not isinstance(staged, RowProblem), staged.reason
            await staging.merge(staged, read, force=True)
    await write.shows("rest_ohlc", minutes)
    for first, last in minutes:
        await PendingRefreshRepository(connection).add(StaleRange(symbol, first, last))


async def _lines(rows: Sequence[KrakenOhlc]) -> AsyncIterator[bytes]:
    for row in rows:
        if row.trade_count:
            numbers = (row.open, row.high, row.low, row.close, row.volume, row.trade_count)
            yield f"{int(row.timestamp.timestamp())},{','.join(f'{n}' for n in numbers)}\n".encode()
