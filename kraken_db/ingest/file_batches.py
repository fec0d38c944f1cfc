"""Rows of a trade file that carry ids: batches of whole minutes, each a step as a page of a download is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import ClassVar, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.errors import DataRefusedError
from kraken_db.id_runs import MOST_MISSING, IdHole, IdSequence
from kraken_db.ingest.pages import ResumePoint, find_resume_point
from kraken_db.ingest.rules import LARGEST_ID, STORED_TRADE_RULES, RowRefusedError
from kraken_db.ingest.trades import ARCHIVE, TradeBatch, TradesWritten, stage_rows
from kraken_db.ingest.write_unit import WriteTransaction
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.candle_merge import MINUTES, MinutesOf
from kraken_db.repositories.coverage import Source
from kraken_db.repositories.trade_load import ASIDE_MINUTES, TradeLoad, make_room_aside, stamp_of
from kraken_db.repositories.trade_neighbours import TradeNeighbours
from kraken_db.times import FIRST_MOMENT
from kraken_db.tolerances import SAME_TRADE, STAMP_JITTER

NOT_A_ROW = (ValueError, ArithmeticError, IndexError)
_LATEST_BACK = 1
"""Seconds that a trade may be older than the one with the id before: clocks of one exchange."""


class FileRow(NamedTuple):
    """What a row says of its place. ``trade_id`` None: it has none of Kraken's."""

    trade_id: int | None
    timestamp: datetime


async def find_file_resume_point(
    connection: AsyncConnection,
    symbol: str,
    first: FileRow,
    start: datetime | None = None,
    *,
    is_first: bool = False,
) -> ResumePoint:
    """How a file that begins with ``first`` lies to what is stored.

    ``start``: from there on the file is said to have every trade. The trade with id 1 is the first of all;
    or another one, of which it is said.
    """
    if first.trade_id == 1 or is_first:
        return await find_resume_point(connection, symbol, 0)
    before = await TradeNeighbours(connection, symbol).before(first.timestamp + STAMP_JITTER)
    follows = before is not None and before.id > 0 and first.trade_id == before.id + 1
    if before is not None and follows and (start is None or before.timestamp < start):
        return await find_resume_point(connection, symbol, to_cursor(before.timestamp))
    known_from = first.timestamp if start is None else min(start, first.timestamp)
    is_whole = known_from == floor_to_interval(known_from, BASE_INTERVAL)
    # Far from what is stored: that is no reason for a download to go on from its end.
    return ResumePoint(to_cursor(known_from), IdSequence(), known_from, is_whole, None, None, is_repair=True)


@dataclass(slots=True)
class FileBatch:
    """Rows in order of id, whole lines. What comes before and behind them lies in other minutes."""

    rows: bytes
    columns: Sequence[str]
    line: int
    """Of its first row: the file's first row has line 1."""
    first: FileRow
    last: FileRow
    before: FileRow | None
    behind: FileRow | None
    end: datetime | None = None
    """Of the last batch: up to where the file is known to have every trade; exclusive."""
    force: bool = False
    """Whether other contents of stored trades are replaced."""
    keeps_trades: bool = True
    is_straight: bool = True
    """Whether the rows go straight into the table where nothing is stored."""
    holes: list[IdHole] = field(default_factory=list, init=False)
    source: ClassVar[Source] = ARCHIVE.source

    @property
    def size(self) -> int:
        """How many rows it has."""
        return self.rows.count(b"\n")

    @property
    def span(self) -> TimeRange:
        return self.first.timestamp, self.last.timestamp

    @property
    def cursor(self) -> int:
        return to_cursor(self.last.timestamp)

    @property
    def known_until(self) -> datetime:
        if self.behind is not None:
            return floor_to_interval(self.behind.timestamp, BASE_INTERVAL)
        return self.end or self.last.timestamp + TICK

    @property
    def is_cut(self) -> bool:
        return self.before is None or self.behind is None

    @property
    def minutes(self) -> MinutesOf:
        return MINUTES if self.keeps_trades else ASIDE_MINUTES

    def between(self, since: datetime | None, until: datetime | None) -> FileBatch | None:
        """Only its rows of ``[since, until)``; None if there are none."""
        first, last = self.span
        if (since is None or first >= since) and (until is None or last < until):
            return self
        lines = self.rows.splitlines(keepends=True)
        rows = [row_of(line, self.columns) for line in lines]
        wanted = [
            number
            for number, row in enumerate(rows)
            if (since is None or row.timestamp >= since) and (until is None or row.timestamp < until)
        ]
        if not wanted:
            return None
        start, stop = wanted[0], wanted[-1]
        is_cut = stop + 1 < len(rows)
        return replace(
            self,
            rows=b"".join(lines[start : stop + 1]),
            line=self.line + start,
            first=rows[start],
            last=rows[stop],
            before=rows[start - 1] if start else self.before,
            behind=None if is_cut else self.behind,
            end=until if is_cut else self.end,
        )

    async def write(self, transaction: WriteTransaction, symbol: str, cursor: int | None) -> TradesWritten:
        """Raises RowRefusedError with the line in the file; DataRefusedError where the rows cannot go
        straight into the table: set ``is_straight`` to False then, and write them again."""
        before = self.before and self.before.trade_id and (self.before.trade_id, self.before.timestamp)
        into = partial(TradeLoad, transaction.connection, symbol, self.columns, before or None)
        if not self.keeps_trades:
            return await self._put_aside(transaction, symbol, into(aside=True))
        start, end = self.first.timestamp - SAME_TRADE, self.last.timestamp + SAME_TRADE
        ids = self.first.trade_id or 0, self.last.trade_id or LARGEST_ID
        if not self.is_straight:
            return await self._merge(transaction, symbol, cursor)
        unit = transaction.unit(symbol, DataType.TRADES)
        load = into()
        if await load.is_free(start, end, *ids):
            written = await self._load(transaction, load)
            await unit.begin(self.first.timestamp, self.last.timestamp + TICK, was_empty=True)
        else:
            load = into(aside=True)
            is_apart = transaction.backend.shards is not None
            if not await load.are_stored(self.rows, start, end, ids if is_apart else None):
                return await self._merge(transaction, symbol, cursor)
            written = TradesWritten()
            await unit.begin(self.first.timestamp, self.last.timestamp + TICK)
        unit.wrote(*self.span, written.added, cursor=cursor)
        self.holes = [*load.holes, *self._hole_behind()]
        return written

    async def _put_aside(self, transaction: WriteTransaction, symbol: str, load: TradeLoad) -> TradesWritten:
        if self.is_straight:
            await make_room_aside(transaction.connection)
            await self._load(transaction, load)
            self.holes = [*load.holes, *self._hole_behind()]
        else:
            with self._lines_of_file():
                await self._stage(transaction, symbol)
            await put_aside(transaction, symbol)
        return TradesWritten()

    async def _load(self, transaction: WriteTransaction, load: TradeLoad) -> TradesWritten:
        rows = await load.copy(self.rows)
        if self.first.timestamp < FIRST_MOMENT or self.last.timestamp > transaction.latest:
            raise DataRefusedError("a trade is too old, or of the future")
        if (self.last.trade_id or 0) > LARGEST_ID or await load.broken(STORED_TRADE_RULES, *self.span):
            raise DataRefusedError("a trade cannot be")
        return TradesWritten(new=rows)

    async def _merge(self, transaction: WriteTransaction, symbol: str, cursor: int | None) -> TradesWritten:
        with self._lines_of_file():
            batch = await self._stage(transaction, symbol)
            return await batch.store(force=self.force, cursor=cursor)

    async def _stage(self, transaction: WriteTransaction, symbol: str) -> TradeBatch:
        self.holes = self._follow_ids()
        batch, _ = await stage_rows(
            transaction, symbol, ARCHIVE, [*self.columns], _once(self.rows), latest_back=_LATEST_BACK
        )
        assert batch is not None, "a batch has rows"
        return batch

    @contextmanager
    def _lines_of_file(self) -> Iterator[None]:
        try:
            yield
        except RowRefusedError as error:
            line = error.line + self.line - 1
            raise RowRefusedError(line, error.reason, error.count, hint=error.hint) from error

    def _follow_ids(self) -> list[IdHole]:
        """The holes. Raises RowRefusedError where ids go back."""
        rows: list[_Numbered] = []
        newest = self.before.trade_id or 0 if self.before else 0
        for line, row in enumerate(self.rows.splitlines(), 1):
            try:
                one = _Numbered(*row_of(row, self.columns))
            except NOT_A_ROW:
                return []  # the staging says what is wrong
            if 0 < (one.trade_id or 0) < newest:
                raise RowRefusedError(line, f"the trade id goes back: {one.trade_id} behind {newest}")
            if 0 < newest < (one.trade_id or 0) - 1 - MOST_MISSING:
                raise RowRefusedError(
                    line, f"no trade of the pair has this id: {one.trade_id} behind {newest}"
                )
            newest = one.trade_id or newest
            rows.append(one)
        if self.behind is not None:
            rows.append(_Numbered(*self.behind))
        sequence = IdSequence(*self.before) if self.before else IdSequence()
        return list(sequence.follow(rows)[1])

    def _hole_behind(self) -> list[IdHole]:
        if self.behind is None:
            return []
        return list(IdSequence(*self.last).follow([_Numbered(*self.behind)])[1])


@dataclass(frozen=True, slots=True)
class _Numbered:
    trade_id: int | None
    timestamp: datetime


async def put_aside(transaction: WriteTransaction, symbol: str) -> None:
    """Have the staged trades where ``ASIDE_MINUTES`` are made from; they are not stored."""
    await make_room_aside(transaction.connection)
    await transaction.trades.put_aside(symbol)


def row_of(line: bytes, columns: Sequence[str]) -> FileRow:
    """The place of a line. Raises one of ``NOT_A_ROW`` for what is none."""
    fields = line.split(b",")
    number = int(fields[columns.index("trade_id")] or 0)
    return FileRow(number or None, stamp_of(fields[columns.index("time")]))


async def _once(block: bytes) -> AsyncIterator[bytes]:
    yield block
