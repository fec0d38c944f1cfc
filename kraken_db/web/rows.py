"""Candles and trades of any range, page by page: no page holds a connection while a client reads another.

Each page is read in a moment of its own. What is stored in between appears as far as it lies ahead.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from kraken_db.extras import require
from kraken_db.frames import CANDLE_COLUMNS, TRADE_COLUMNS, FrameColumn, arrow_schema
from kraken_db.intervals import Interval
from kraken_db.json_values import iso, plain_number
from kraken_db.ranges import TICK
from kraken_db.repositories.candles import CandleRepository, clip_range
from kraken_db.repositories.trades import TradeRepository
from kraken_db.types import Candle, HistoricalTrade
from kraken_db.web.answers import text_of
from kraken_db.web.site import Site

PAGE = 5_000
"""Rows that are read, and are in memory, at a time."""
Row: TypeAlias = tuple[Any, ...]
Numbers: TypeAlias = Literal["decimal", "float"]
Rows: TypeAlias = AsyncIterator[Sequence[Row]]

CANDLES = ("time", "open", "high", "low", "close", "vwap", "volume", "trade_count")
TRADES = ("time", "id", "price", "amount", "side", "order_type", "misc")


@dataclass(slots=True)
class Reading:
    """A range that is being read. ``next``: where the following rows begin, once it stopped at its limit."""

    site: Site
    symbol: str
    start: datetime
    end: datetime
    limit: int | None = None
    next: datetime | None = None

    async def candles(self, interval: Interval) -> Rows:
        """In order of time, oldest first."""
        start, left = self.start, self.limit

        async def read(connection: Any) -> list[Candle]:
            candles = CandleRepository(connection, self.site.store.backend)
            return await candles.between(self.symbol, interval, start, self.end, count + 1)

        while start < self.end:
            count = PAGE if left is None else min(PAGE, left)
            found = await self.site.read(read)
            if found:
                yield [_candle(one) for one in found[:count]]
            if len(found) <= count:
                return
            start = found[count].timestamp
            left = None if left is None else left - count
            if left == 0:
                self.next = start
                return

    async def trades(self) -> Rows:
        """By time and id. Those of one moment come together, even if they are more than the limit."""
        start, left = self.start, self.limit
        while start < self.end:
            count = PAGE if left is None else min(PAGE, left)
            found, following = await self._page(start, count)
            if left is not None and self.limit != left and len(found) > left:
                self.next = start
                return
            if found:
                yield [_trade(one) for one in found]
            start = following
            left = None if left is None else max(left - len(found), 0)
            if left == 0 and start < self.end:
                self.next = start
                return

    async def _page(self, start: datetime, count: int) -> tuple[list[HistoricalTrade], datetime]:
        """About ``count`` trades, and where the next ones begin."""

        async def read(connection: Any) -> list[HistoricalTrade]:
            trades = TradeRepository(connection)
            first, end = clip_range(start, self.end)
            found = await trades.between(self.symbol, first, end, count + 1)
            if len(found) <= count or found[0].timestamp < found[-1].timestamp:
                return found
            moment = found[0].timestamp
            return await trades.between(self.symbol, moment, moment + TICK)

        found = await self.site.read(read)
        if len(found) <= count:
            return found, self.end
        last = found[-1].timestamp
        if found[0].timestamp == last:
            return found, last + TICK
        return [one for one in found if one.timestamp < last], last


def _candle(one: Candle) -> Row:
    return (
        *(one.timestamp, one.open, one.high, one.low, one.close),
        *(one.vwap, one.volume, one.trade_count),
    )


def _trade(one: HistoricalTrade) -> Row:
    return one.timestamp, one.id, one.price, one.volume, one.side, one.order_type, one.misc


# --- how they are written ---


def _number(value: Any, numbers: Numbers) -> Any:
    if isinstance(value, Decimal):
        return float(value) if numbers == "float" else plain_number(value)
    return iso(value) if isinstance(value, datetime) else value


async def as_json(
    rows: Rows, head: dict[str, Any], columns: Sequence[str], numbers: Numbers, tail: Callable[[], Any]
) -> AsyncIterator[bytes]:
    """``{..head, "columns": [..], "rows": [[..], ..], ..tail}``; ``tail`` is asked at the end."""
    yield text_of({**head, "columns": columns})[:-1].encode() + b',"rows":['
    separator = ""
    async for page in rows:
        texts = [text_of([_number(value, numbers) for value in row]) for row in page]
        yield (separator + ",".join(texts)).encode()
        separator = ","
    yield b"]," + text_of(tail())[1:].encode()


async def as_csv(rows: Rows, columns: Sequence[str]) -> AsyncIterator[bytes]:
    """With a header; numbers are exact, times as in JSON."""
    yield ",".join(columns).encode() + b"\r\n"
    async for page in rows:
        text = io.StringIO()
        csv.writer(text).writerows([_number(value, "decimal") for value in row] for row in page)
        yield text.getvalue().encode()


async def as_arrow(rows: Rows, columns: Sequence[str], numbers: Numbers) -> AsyncIterator[bytes]:
    """A stream of Arrow's IPC format: a record batch for each page. Raises ConfigurationError."""
    pa = require("pyarrow", "answers in Arrow's format")
    from pyarrow import ipc

    schema = arrow_schema([_frame_column(name) for name in columns], numbers)
    sink = io.BytesIO()

    def taken() -> bytes:
        data = sink.getvalue()
        sink.seek(0)
        sink.truncate()
        return data

    with ipc.new_stream(sink, schema) as writer:
        yield taken()
        async for page in rows:
            values = list(zip(*page, strict=True))
            arrays = [_array(pa, list(one), field) for one, field in zip(values, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            yield taken()
    yield taken()


def _array(pa: Any, values: list[Any], field: Any) -> Any:
    if pa.types.is_floating(field.type):
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, field.type)


_FRAME_NAMES = {"time": "timestamp", "amount": "volume"}
_KINDS = {column.name: column.kind for column in (*TRADE_COLUMNS, *CANDLE_COLUMNS)}


def _frame_column(name: str) -> FrameColumn:
    return FrameColumn(name, _KINDS[_FRAME_NAMES.get(name, name)])
