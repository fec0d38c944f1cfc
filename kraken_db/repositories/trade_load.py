"""Trades of a file straight into their table, by COPY: right where nothing is stored around them.

As with candles (``candle_load``): each line becomes one of the table on its way. Its ids are followed at the
same time, for that they rise without a hole is what the line has to show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.errors import DataRefusedError
from kraken_db.id_runs import MOST_MISSING, IdHole
from kraken_db.models import TRADES
from kraken_db.repositories.candle_merge import MinutesOf
from kraken_db.repositories.staging import Rule, broken
from kraken_db.repositories.stamp_texts import DAY, EPOCH, day_of, times_of_day

TABLE_COLUMNS = {"time": "timestamp", "trade_id": "id"}
"""Columns of a file that have another name in the table."""
_WORDS = (
    (b",b,l,", b",buy,limit,"), (b",b,m,", b",buy,market,"),
    (b",s,l,", b",sell,limit,"), (b",s,m,", b",sell,market,"),
)  # fmt: skip
_SECONDS, _STAMP = 10, 17
"""Characters of whole seconds, and of those with a point and microseconds: true from 2001 to 2286."""
_POINT = ord(".")
_SLICE = 2**17
_ASIDE_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS trades_aside (LIKE trades INCLUDING DEFAULTS) ON COMMIT DELETE ROWS
"""
_ASIDE = TRADES.to_metadata(MetaData(), name="trades_aside")
_IS_FREE = text("""
    SELECT NOT EXISTS (SELECT 1 FROM trades
                       WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
                         AND (id BETWEEN :first AND :last OR id < 0))
""")
_HAS_ANONYMOUS = text("""
    SELECT EXISTS (SELECT 1 FROM trades
                   WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end AND id < 0)
""")
_SAME = text("""
    SELECT count(*) FROM trades_aside a
    JOIN trades t ON t.symbol = :symbol AND t.timestamp >= :start AND t.timestamp <= :end
         AND t.timestamp = a.timestamp AND t.id = a.id
    WHERE t.price = a.price AND t.volume = a.volume AND t.side = a.side AND t.misc IS NOT DISTINCT FROM a.misc
      AND t.order_type IS NOT DISTINCT FROM a.order_type
""")
# Of each row as text: the hash of a record is a sum over its columns, which values that have changed places
# in two rows leave as it is.
_DIGEST = """
    SELECT count(*), sum(hashtextextended(CAST(ROW(
        id, extract(epoch FROM timestamp), price, volume, side, misc, order_type) AS text), 0))
    FROM {table} WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
        AND id BETWEEN :first AND :last
"""
_BROKEN = """
    SELECT count(*) FILTER (WHERE {broken}) FROM {table}
    WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
"""


ASIDE_MINUTES = MinutesOf.table(_ASIDE)
"""From trades that were put aside."""


def stamp_of(field: bytes) -> datetime:
    """The time of a file's field in seconds, cut off to microseconds.

    Raises ValueError, OverflowError and decimal.InvalidOperation for what is none.
    """
    seconds = Decimal(field.decode("ascii"))
    if not seconds.is_finite():
        raise ValueError(field)
    return EPOCH + timedelta(microseconds=int(seconds * 1_000_000))


async def make_room_aside(connection: AsyncConnection) -> None:
    """Make the table of the connection that rows are put aside in; what was there is gone."""
    await connection.execute(text(_ASIDE_TABLE))
    await connection.execute(text("TRUNCATE trades_aside"))


class TradeLoad:
    """Rows with ids of one symbol into the table, inside the caller's transaction; never commits.

    ``columns`` of a row, as ``staged_trades`` names them; the last is ``trade_id``. ``before``: the id and
    the time of the row that these follow upon. ``aside``: not into ``trades``, but into a table of the
    connection, where their candles are made from (``ASIDE_MINUTES``).
    """

    def __init__(
        self,
        connection: AsyncConnection,
        symbol: str,
        columns: Sequence[str],
        before: tuple[int, datetime] | None = None,
        *,
        aside: bool = False,
    ) -> None:
        self._connection = connection
        self._symbol = symbol
        self._table = _ASIDE if aside else TRADES
        self._columns = [*(TABLE_COLUMNS.get(name, name) for name in columns), "symbol"]
        self._time_at = list(columns).index("time")
        self._end = f",{symbol}\n".encode()
        self._day = day_of(0)
        self._newest = b""
        self._last = before
        self.holes: list[IdHole] = []
        """The ids that are missing between those of the rows, and before them."""

    async def is_free(self, start: datetime, end: datetime, first_id: int, last_id: int) -> bool:
        """Whether none of these ids is stored in ``[start, end]``, and no trade without an id."""
        values = {"symbol": self._symbol, "start": start, "end": end, "first": first_id, "last": last_id}
        return bool(await self._connection.scalar(_IS_FREE, values))

    async def are_stored(
        self, rows: bytes, start: datetime, end: datetime, between: tuple[int, int] | None = None
    ) -> bool:
        """Whether just these rows are stored, and beside them no trade without an id in ``[start, end]``.

        For a load that puts rows aside; they are there afterwards. ``between``: compare digests of all that
        is stored between two ids, where the two tables are not on one node. Raises as ``copy`` does.
        """
        values = {"symbol": self._symbol, "start": start, "end": end}
        if await self._connection.scalar(_HAS_ANONYMOUS, values):
            return False
        await make_room_aside(self._connection)
        count = await self.copy(rows)
        if between is not None:
            return await self._digest(_ASIDE, values, between) == await self._digest(TRADES, values, between)
        # Right after a bulk load the statistics say that there is next to nothing.
        await self._connection.execute(text("SET LOCAL enable_nestloop = off"))
        same = await self._connection.scalar(_SAME, values)
        await self._connection.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))
        return bool(same == count)

    async def _digest(
        self, table: Table, values: Mapping[str, object], ids: tuple[int, int]
    ) -> tuple[object, ...]:
        statement = text(_DIGEST.format(table=table.name))
        first, last = ids
        row = await self._connection.execute(statement, {**values, "first": first, "last": last})
        return tuple(row.one())

    async def copy(self, rows: bytes) -> int:
        """Write rows that are in order of id and time; returns how many.

        Raises DataRefusedError where a row is not as the others, or its trade is stored: nothing was written
        then, and the transaction is over.
        """
        return await copy_csv_in(
            self._connection, self._table.name, self._columns, self._lines(rows), nullable=["order_type"]
        )

    async def broken(self, rules: Sequence[Rule], start: datetime, end: datetime) -> int:
        """How many of the symbol's trades in ``[start, end]`` break a rule for the columns of ``trades``."""
        values = {"symbol": self._symbol, "start": start, "end": end}
        return (
            await self._connection.scalar(
                text(_BROKEN.format(broken=broken(rules), table=self._table.name)), values
            )
            or 0
        )

    async def _lines(self, rows: bytes) -> AsyncIterator[bytes]:
        start = 0
        while start < len(rows):
            end = rows.rfind(b"\n", start, start + _SLICE) + 1 or len(rows)
            lines = rows[start:end].splitlines()
            try:
                self._follow_ids(lines)
                yield self._table_lines(lines)
            except (ValueError, ArithmeticError, IndexError) as error:
                raise DataRefusedError("a line is not as the others") from error
            start = end

    def _follow_ids(self, lines: list[bytes]) -> None:
        ids = [int(line[line.rfind(b",") + 1 :]) for line in lines]
        before = self._last[0] if self._last else ids[0] - 1
        if ids[0] < 1:
            raise DataRefusedError("a trade has no id")
        if ids[0] != before + 1 or ids != list(range(ids[0], ids[0] + len(ids))):
            self._note_holes(ids, lines)
        self._last = ids[-1], self._stamp(lines[-1])

    def _note_holes(self, ids: list[int], lines: list[bytes]) -> None:
        before, line_before = None, b""
        if self._last is not None:
            before = self._last[0]
        for number, line in zip(ids, lines, strict=True):
            if before is not None and number <= before:
                raise DataRefusedError("ids go back")
            if before is not None and number > before + 1 + MOST_MISSING:
                raise DataRefusedError("ids jump")
            if before is not None and number > before + 1:
                after = self._stamp(line_before) if line_before or self._last is None else self._last[1]
                self.holes.append(IdHole(before + 1, number - 1, after, self._stamp(line)))
            before, line_before = number, line

    def _stamp(self, line: bytes) -> datetime:
        return stamp_of(line.split(b",", self._time_at + 1)[self._time_at])

    def _table_lines(self, lines: list[bytes]) -> bytes:
        heads = [b""] * len(lines)
        if self._time_at:
            parts = [line.split(b",", self._time_at) for line in lines]
            heads = [b",".join([*part[:-1], b""]) for part in parts]
            lines = [part[-1] for part in parts]
        made, times = [], times_of_day()
        start, day = self._day
        newest = self._newest
        for head, line in zip(heads, lines, strict=True):
            seconds = int(line[:_SECONDS])
            if not 0 <= seconds - start < DAY:
                start, day = day_of(seconds)
            comma = line.find(b",", _SECONDS)
            if comma != _SECONDS and line[_SECONDS] != _POINT:
                raise DataRefusedError("a time is none in seconds")
            stop = _STAMP if comma > _STAMP else comma
            # Texts have the same order. What lay outside of the first and the last would not be checked.
            if (stamp := line[:stop]) < newest:
                raise DataRefusedError("times go back")
            newest = stamp
            made.append(
                b"%b%b%b%bZ%b" % (head, day, times[seconds - start], line[_SECONDS:stop], line[comma:])
            )
        self._day, self._newest = (start, day), newest
        made.append(b"")
        block = self._end.join(made)
        for short, long in _WORDS:
            block = block.replace(short, long)
        return block
