"""Live trades for tests, a writer with a journal of its own, and a database that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from kraken_db import DatabaseWriter
from kraken_db.types import TradeRecord
from tests.support.archives import query
from tests.support.factories import EPOCH

BTC = "BTC/USD"


def trade(number: int, *, symbol: str = BTC, has_id: bool = True, **fields: Any) -> TradeRecord:
    """Trade ``number`` of a market with ten trades a second, none of them at a whole one."""
    stamp = EPOCH + timedelta(milliseconds=100 * number + 37)
    values = {"price": Decimal(100 + number % 7), "volume": Decimal("0.25"), "side": "buy", **fields}
    return TradeRecord(symbol, stamp, trade_id=number if has_id else None, order_type="limit", **values)


@asynccontextmanager
async def writing(url: str, folder: Path, **options: Any) -> AsyncIterator[DatabaseWriter]:
    """A writer that flushes when it is asked to."""
    defaults = {"trade_buffer_size": 10_000, "trade_flush_interval": 600.0, "candle_flush_interval": 600.0}
    async with DatabaseWriter(url, journal_dir=folder / "journal", **(defaults | options)) as writer:
        yield writer


async def write(writer: DatabaseWriter, trades: Iterable[TradeRecord], **options: Any) -> None:
    for one in trades:
        await writer.write_trade(one, **options)
    await writer.flush()


async def ids(url: str, symbol: str = BTC) -> list[int]:
    rows = await query(
        url, "SELECT id FROM trades WHERE symbol = :symbol ORDER BY timestamp, id", symbol=symbol
    )
    return [row[0] for row in rows]


async def total(url: str, data_type: str = "trades", symbol: str = BTC) -> int:
    rows = await query(
        url,
        "SELECT total_records FROM data_sync_status WHERE symbol = :symbol AND data_type = :type",
        symbol=symbol,
        type=data_type,
    )
    return int(rows[0][0])


class Gateway:
    """The way to the database: it can be closed, and cut at a COMMIT.

    ``cut_at_commit``: ``"before"`` the server has it, or ``"after"`` the server has done it and before its
    answer is heard.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._is_closed = False
        self.cut_at_commit: str | None = None
        self.cuts = 0
        self.url = ""

    async def __aenter__(self) -> Gateway:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        user = self._target.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._target._replace(netloc=f"{user}@{host}:{port}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.close()
        self._server.close()
        await asyncio.sleep(0.01)

    def close(self) -> None:
        """The database is away: every connection ends, and none is made."""
        self._is_closed = True
        for one in list(self._open):
            one.transport.abort()

    def open(self) -> None:
        self._is_closed = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed:
            writer.transport.abort()
            return
        other_reader, other_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._open |= {writer, other_writer}
        is_committing = asyncio.Event()
        ways = {
            asyncio.create_task(self._there(reader, other_writer, is_committing)),
            asyncio.create_task(self._back(other_reader, writer, is_committing)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._open -= {writer, other_writer}
        writer.transport.abort()
        other_writer.transport.abort()

    async def _there(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_committing: asyncio.Event
    ) -> None:
        while data := await source.read(1 << 16):
            if self.cut_at_commit and b"COMMIT" in data:
                self.cuts += 1
                if self.cut_at_commit == "before":
                    self.cut_at_commit = None
                    return
                self.cut_at_commit = None
                is_committing.set()
            sink.write(data)
            await sink.drain()

    async def _back(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_committing: asyncio.Event
    ) -> None:
        while data := await source.read(1 << 16):
            if is_committing.is_set():
                return
            sink.write(data)
            await sink.drain()
