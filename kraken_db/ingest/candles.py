"""One batch of candles, from wherever it comes: rows of files, of OHLC, of a feed, or the stored trades.

All columns, one merge: of two versions the one with more trades wins; with equal counts what is missing is
filled in, and exact numbers take the place of rounded ones. What is written of minutes is stale in the higher
intervals until their next refresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime

from kraken_db.data_types import DataType
from kraken_db.errors import DataRefusedError, DuplicateRowError, ExchangeFormatError
from kraken_db.ingest.rules import (
    EARLIEST_SECONDS,
    RowRefusedError,
    candle_number_rules,
    candle_rules,
)
from kraken_db.ingest.write_unit import WriteTransaction
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union, whole_candles, whole_minutes
from kraken_db.repositories.candle_load import CandleLoad
from kraken_db.repositories.candle_merge import (
    FILE_COLUMNS,
    MINUTES,
    STAGED,
    CandleMerge,
    CandlesWritten,
    MergeRule,
    Minutes,
    MinutesOf,
    Rows,
    StagedCandleFacts,
    StagedCandles,
    prefer_more_trades,
    take_new,
)
from kraken_db.repositories.coverage import Source
from kraken_db.repositories.staging import Problem, Rule
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.times import FIRST_MOMENT
from kraken_db.types import CandleRecord

_MINUTE = interval_length(BASE_INTERVAL)
_QUIET = Rule("trades = 0", "no trade")
_LARGE = 200
"""Rows from which on a batch is planned as a bulk load: a join row by row takes quadratic time."""


async def is_beyond_stored(
    transaction: WriteTransaction, symbol: str, interval: int, start: datetime
) -> bool:
    """Whether we have stored nothing of a series from ``start`` on."""
    status = await SyncStatusRepository(transaction.connection).get(symbol, DataType.candles(interval))
    return status is None or status.newest is None or status.newest < start


async def load_rows(
    transaction: WriteTransaction, symbol: str, interval: int, start: datetime, source: AsyncIterable[bytes]
) -> CandlesWritten:
    """Write the rows of an OHLCVT file, which rise in time, where nothing is stored from ``start`` on.

    Straight into the table: about twice as fast as by staging, and in all else the same. Raises
    DataRefusedError where a row is not accepted or has to be merged; staging says which, and why.
    """
    load = CandleLoad(transaction.connection, symbol, interval)
    unit = transaction.unit(symbol, DataType.candles(interval))
    async with AsyncExitStack() as stack:
        note = None
        if interval == BASE_INTERVAL:
            writing = transaction.backend.writing_minutes(
                transaction.connection, symbol, start, transaction.latest, are_new=True
            )
            note = await stack.enter_async_context(writing)
        rows = await load.copy(source)
        if not rows:
            raise DataRefusedError("there is no candle in it")
        first, last = load.bounds
        if note is not None:
            note.wrote(first, last + _MINUTE)
    length = interval_length(interval)
    if first < FIRST_MOMENT or last + length > transaction.now:
        raise DataRefusedError("a candle is too old, or has not closed yet")
    if await load.broken([*candle_number_rules(interval), _QUIET]):
        raise DataRefusedError("the numbers of a candle cannot be")
    await unit.begin(first, last + length, was_empty=True)
    unit.wrote(first, last, rows)
    return CandlesWritten(rows, 0, first, last)


async def stage_rows(
    transaction: WriteTransaction,
    interval: int,
    source: AsyncIterable[bytes],
    columns: list[str] = FILE_COLUMNS,
) -> StagedCandleFacts:
    """Stage the rows of a file of candles, and check them. Raises RowRefusedError and CopyRowError, with a
    line."""
    return await stage_file(transaction.candles, interval, source, transaction.now, columns)


async def stage_file(
    staged: StagedCandles,
    interval: int,
    source: AsyncIterable[bytes],
    now: datetime,
    columns: list[str] = FILE_COLUMNS,
) -> StagedCandleFacts:
    """The same, for whoever writes nothing. ``now``: no candle may still be open then."""
    await staged.copy_rows(source, columns)
    found = await _inspect(staged, interval, now, rounds=True)
    if isinstance(found, Problem):
        raise RowRefusedError(found.line, found.reason, found.count)
    return found


async def stage_records(
    transaction: WriteTransaction, symbol: str, interval: int, candles: Sequence[CandleRecord]
) -> StagedCandleFacts:
    """Stage candles of one series that Kraken's REST gave, each once. Raises ExchangeFormatError for one that
    cannot be, and where two of one time differ."""
    by_time = {one.timestamp: one for one in candles}
    for one in candles:
        if by_time[one.timestamp] != one:
            raise ExchangeFormatError(f"{symbol}: two candles of {one.timestamp.isoformat()} differ")
    candles = list(by_time.values())
    await transaction.candles.copy_records(candles)
    found = await _inspect(transaction.candles, interval, transaction.now, rounds=False)
    if isinstance(found, Problem):
        raise ExchangeFormatError(f"{symbol}: candle {found.line} of {len(candles)}: {found.reason}")
    return found


async def store_staged(
    transaction: WriteTransaction,
    symbol: str,
    interval: int,
    span: TimeRange,
    *,
    rows: int,
    rule: MergeRule = prefer_more_trades,
) -> CandlesWritten:
    """Write the staged candles of a series, all of which lie in ``span``, and count them."""
    return await _store(transaction, symbol, interval, span, STAGED, rule, rows=rows)


async def build_minutes(
    transaction: WriteTransaction,
    symbol: str,
    start: datetime,
    end: datetime,
    known: Mapping[Source, Sequence[TimeRange]],
    minutes: MinutesOf = MINUTES,
    *,
    inside: Sequence[TimeRange] | None = None,
) -> CandlesWritten:
    """Build the minutes of ``[start, end)``, two whole ones, from the stored trades, all of which are there.

    ``known``: where each source has shown them to be complete. ``minutes``: of other trades than those.
    ``inside``: only these minutes; of the others some trades are missing.
    """
    rows = minutes.whole if inside is None else minutes.inside
    written = await _store(
        transaction, symbol, BASE_INTERVAL, (start, end), rows, prefer_more_trades, rows=0, inside=inside
    )
    unit = transaction.unit(symbol, DataType.CANDLES_1M)
    for source, ranges in known.items():
        unit.mark_complete(source, ranges)
    return written


async def rebuild_minutes(
    transaction: WriteTransaction, symbol: str, opens: Sequence[datetime], source: Source
) -> None:
    """Make the candles that open at these times what their trades say, which have just changed.

    Where all trades are known, the candles that there are and those that there should be. Elsewhere only
    candles that were made of trades and that nobody calls complete: one of another source may know trades
    that are not stored. Nor does a candle change whose trades were dropped. The transaction has the locks of
    trades and minutes.
    """
    table = Minutes(transaction.connection, symbol)
    unit, trades = (transaction.unit(symbol, kind) for kind in (DataType.CANDLES_1M, DataType.TRADES))
    minutes = difference(_minutes_at(opens), whole_candles(trades.doubts.dropped, BASE_INTERVAL))
    known = intersection(minutes, whole_minutes(await trades.covered()))
    covered = await unit.covered()
    complete = union(intersection(known, covered), _minutes_at(await table.stored(known)))
    others = difference(minutes, union(known, covered))
    wanted = union(complete, _minutes_at(await table.stored(others, made_of_trades=True)))
    if not wanted:
        return
    written, deleted = await _overwrite(transaction, symbol, wanted)
    changed = _changed(written, deleted)
    if changed is not None:
        unit.wrote(*changed, written.new - len(deleted))
    unit.mark_complete(source, complete)


async def overwrite_from_trades(
    transaction: WriteTransaction, symbol: str, minutes: Sequence[TimeRange], source: Source
) -> int:
    """Make the candles of these minutes what the stored trades say, whatever is stored; how many were not.

    All trades of these minutes are stored: whoever calls knows that. They count as complete.
    """
    if not minutes:
        return 0
    table = Minutes(transaction.connection, symbol)
    unit = transaction.unit(symbol, DataType.CANDLES_1M)
    # What was covered has been counted when it was stored.
    uncounted = difference(minutes, await unit.covered())
    before = await table.count(uncounted)
    written, deleted = await _overwrite(transaction, symbol, minutes)
    added = await table.count(uncounted) - before
    if written.oldest is not None and written.newest is not None:
        unit.wrote(written.oldest, written.newest, added)
    unit.mark_complete(source, minutes)
    return written.new + written.changed + len(deleted)


async def overwrite_from_ohlc(
    transaction: WriteTransaction, symbol: str, candles: Sequence[CandleRecord], minutes: Sequence[TimeRange]
) -> None:
    """Make minutes what Kraken's own candles of them are, all columns, whatever is stored.

    ``candles``: those with trades; the other ``minutes`` are quiet.
    """
    start, end = minutes[0][0], minutes[-1][1]
    table = Minutes(transaction.connection, symbol)
    unit = transaction.unit(symbol, DataType.CANDLES_1M)
    quiet = difference(minutes, _minutes_at([one.timestamp for one in candles]))
    gone = await table.stored(quiet)
    if candles:
        await stage_records(transaction, symbol, BASE_INTERVAL, candles)
        await _store(transaction, symbol, BASE_INTERVAL, (start, end), STAGED, take_new, rows=len(candles))
    if gone:
        await unit.begin(start, end)
        async with transaction.backend.writing_minutes(transaction.connection, symbol, start, end) as note:
            await table.delete(gone)
            note.wrote(gone[0], gone[-1] + _MINUTE)
    unit.mark_complete("rest_ohlc", minutes)


async def delete_minutes(transaction: WriteTransaction, symbol: str, opens: Sequence[datetime]) -> int:
    """Delete rows of minutes that there cannot be; returns how many there were. Nothing is claimed."""
    table = Minutes(transaction.connection, symbol)
    transaction.unit(symbol, DataType.CANDLES_1M).looked()
    deleted = 0
    # They may be millennia apart: nothing in between is stale.
    for start, end in whole_candles([(moment, moment + TICK) for moment in opens], BASE_INTERVAL):
        async with transaction.backend.writing_minutes(transaction.connection, symbol, start, end) as note:
            deleted += await table.delete([moment for moment in opens if start <= moment < end])
            note.wrote(start, end)
    return deleted


async def _overwrite(
    transaction: WriteTransaction, symbol: str, minutes: Sequence[TimeRange]
) -> tuple[CandlesWritten, list[datetime]]:
    """What was written of these minutes, and the open times of those that have no trade any more."""
    start, end = minutes[0][0], minutes[-1][1]
    table = Minutes(transaction.connection, symbol)
    await transaction.unit(symbol, DataType.CANDLES_1M).begin(start, end)
    async with transaction.backend.writing_minutes(transaction.connection, symbol, start, end) as note:
        merge = _merging(transaction, symbol, BASE_INTERVAL, start, end)
        is_large = (end - start) // _MINUTE > _LARGE
        written = await merge.merge(MINUTES.inside, take_new, inside=minutes, is_large=is_large)
        unfounded = await table.without_trades(minutes)
        await table.delete(unfounded)
        oldest, newest = _changed(written, unfounded) or (None, None)
        note.wrote(oldest, newest and newest + _MINUTE)
    return written, unfounded


def _changed(written: CandlesWritten, deleted: Sequence[datetime]) -> TimeRange | None:
    """The open times of the first and the last minute that changed."""
    changed = [moment for moment in (written.oldest, written.newest, *deleted) if moment is not None]
    return (min(changed), max(changed)) if changed else None


def _minutes_at(opens: Sequence[datetime]) -> list[TimeRange]:
    return [(moment, moment + _MINUTE) for moment in opens]


async def _store(
    transaction: WriteTransaction,
    symbol: str,
    interval: int,
    span: TimeRange,
    fresh: Rows,
    rule: MergeRule,
    *,
    rows: int,
    inside: Sequence[TimeRange] | None = None,
) -> CandlesWritten:
    unit = transaction.unit(symbol, DataType.candles(interval))
    await unit.begin(*span)
    merge = _merging(transaction, symbol, interval, *span)
    # A small batch is merged as fast as it is inserted.
    are_new = rows > _LARGE and await merge.is_empty()
    if interval == BASE_INTERVAL:
        async with transaction.backend.writing_minutes(
            transaction.connection, symbol, *span, are_new=are_new
        ) as note:
            written = await _write(transaction, merge, fresh, rule, rows=rows, are_new=are_new, inside=inside)
            note.wrote(written.oldest, written.newest and written.newest + _MINUTE)
    else:
        written = await _write(transaction, merge, fresh, rule, rows=rows, are_new=are_new)
    if written.oldest is not None and written.newest is not None:
        unit.wrote(written.oldest, written.newest, written.new)
    else:
        unit.looked()
    return written


def _merging(
    transaction: WriteTransaction, symbol: str, interval: int, start: datetime, end: datetime
) -> CandleMerge:
    in_steps = transaction.backend.shards is not None
    return CandleMerge(transaction.connection, symbol, interval, start, end, in_steps=in_steps)


async def _write(
    transaction: WriteTransaction,
    merge: CandleMerge,
    fresh: Rows,
    rule: MergeRule,
    *,
    rows: int,
    are_new: bool,
    inside: Sequence[TimeRange] | None = None,
) -> CandlesWritten:
    if are_new:
        # Should another program have written in between, the merge sorts it out.
        with suppress(DuplicateRowError):
            async with transaction.savepoint():
                return CandlesWritten(await merge.insert(fresh), 0, *merge.bounds)
    start, end = merge.bounds
    is_large = (rows or (end - start) // _MINUTE) > _LARGE
    return await merge.merge(fresh, rule, inside=inside, is_large=is_large)


async def _inspect(
    staged: StagedCandles, interval: int, now: datetime, *, rounds: bool
) -> StagedCandleFacts | Problem:
    values = {"earliest": EARLIEST_SECONDS, "closed": int(now.timestamp()) - interval * 60}
    return await staged.inspect(candle_rules(interval, rounds=rounds), values)
