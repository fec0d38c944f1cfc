"""One frame from blocks of CSV, parsed while the next block is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from kraken_db.frames.builders import FrameBuilder
from kraken_db.types import Candle

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def read_frame(blocks: AsyncGenerator[bytes], builder: FrameBuilder) -> Any:
    """The frame of all blocks."""
    async with aclosing(blocks):
        async for block in blocks:
            await asyncio.to_thread(builder.add, block)
    return await asyncio.to_thread(builder.finish)


async def candle_blocks(candles: Iterable[Candle]) -> AsyncGenerator[bytes]:
    """Candles as the database would send them for a frame."""
    lines = [
        f"{(c.timestamp - _EPOCH) // _MICROSECOND},{c.open:f},{c.high:f},{c.low:f},{c.close:f},{c.volume:f},"
        f"{c.trade_count},{'' if c.vwap is None else format(c.vwap, 'f')}\n"
        for c in candles
    ]
    if lines:
        yield "".join(lines).encode()
