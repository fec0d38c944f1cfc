"""What cannot be stored harms only itself: it is counted and told, and its neighbours are stored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kraken_db import WebSocketDBIntegration
from kraken_db.types import CandleRecord, TradeRecord
from tests.support.archives import query
from tests.support.live_writing import BTC, ids, trade, writing

HUGE = Decimal("1E+100000")
MILLION = 10**6


class Liar:
    def __repr__(self) -> str:
        raise RuntimeError("no")


BAD: dict[str, list[Any]] = {
    "trade_id": [HUGE, 2**63, 10**5000, -1, "x", 1.5, float("inf"), True, Liar(), Decimal("sNaN")],
    "price": [HUGE, Decimal("NaN"), 10**5000, "1" * MILLION, float("inf"), True, Liar(), "0x10", 0, -1],
    "volume": [HUGE, Decimal("1." + "0" * MILLION), float("nan"), None, "1_0", [], Liar(), " 2", "0", 1e300],
    "timestamp": [
        HUGE,
        10**5000,
        "yesterday" * MILLION,
        float("inf"),
        True,
        None,
        Liar(),
        "2025-01-01",
        0,
        -5,
    ],
    "side": [Liar(), "hold", 7, "b" * MILLION, [], {}],
    "ord_type": ["; DROP TABLE trades", "x" * MILLION, 5, Liar()],
    "misc": ["a\0b", "x" * 51, "\ud800", 5, "\x1b]52;c;"],
}


def message(number: int, **fields: Any) -> dict[str, Any]:
    one = trade(number)
    known = {"price": str(one.price), "qty": "0.25", "timestamp": one.timestamp.isoformat(), "side": "buy"}
    return {**known, "trade_id": number, "ord_type": "limit", **fields}


async def test_each_message_alone(plain_url: str, tmp_path: Path) -> None:
    """One list, in which every second trade is bad in one field."""
    messages: list[Any] = []
    bad = [(field, value) for field, values in BAD.items() for value in values]
    for number, (field, value) in enumerate(bad, 1):
        name = "qty" if field == "volume" else field
        messages += [message(number), {**message(500 + number), name: value}]
    messages += [None, 7, "text", Liar(), {}, {"price": 1}, message(len(bad) + 1)]
    async with asyncio.timeout(20), writing(plain_url, tmp_path) as writer:
        integration = WebSocketDBIntegration(writer)
        await integration.on_trade("BTC/USD", messages)
        # From another thread, too: the same ones, which are stored already.
        await asyncio.to_thread(integration.take_trade, "BTC/USD", messages)
        await asyncio.sleep(0)
        await writer.flush()
        statistics = writer.get_stats()
    assert await ids(plain_url) == list(range(1, len(bad) + 2))
    told = integration.error_count + statistics["rejected_count"]
    assert told == 2 * (len(bad) + 6)
    assert all(len(text) < 500 for text in statistics["rejections"])


@pytest.mark.parametrize("field", [name for name in BAD if name != "ord_type"])
async def test_each_record_alone(plain_url: str, tmp_path: Path, field: str) -> None:
    records: list[Any] = [trade(1)]
    for value in BAD[field]:
        records.append(trade(2))
        setattr(records[-1], field, value)
    liars: list[Any] = [Liar()] * 5
    records += [None, Liar(), TradeRecord(*liars), trade(3)]
    async with asyncio.timeout(20), writing(plain_url, tmp_path) as writer:
        for one in records:
            await writer.write_trade(one)
        await writer.flush()
        statistics = writer.get_stats()
    assert await ids(plain_url) == [1, 3]
    assert statistics["rejected_count"] == len(records) - 2


async def test_each_candle_alone(plain_url: str, tmp_path: Path) -> None:
    opens = datetime(2024, 1, 1, tzinfo=UTC)
    one = Decimal(1)
    fields = (
        "open",
        "high",
        "low",
        "close",
        "volume",
        "vwap",
        "trade_count",
        "interval_minutes",
        "timestamp",
    )
    bad = [HUGE, 10**5000, float("nan"), Decimal("1." + "0" * MILLION), True, Liar(), "x" * MILLION, [], b"1"]
    async with asyncio.timeout(20), writing(plain_url, tmp_path) as writer:
        for field in fields:
            for value in bad:
                record = CandleRecord(BTC, opens, 1, one, one, one, one, one, 3, one)
                setattr(record, field, value)
                await writer.write_candle(record)
        await writer.write_candle(CandleRecord(BTC, opens, 1, one, one, one, one, one, 3, one))
        await writer.flush()
        statistics = writer.get_stats()
    assert statistics["rejected_count"] == len(fields) * len(bad)
    assert await query(plain_url, "SELECT trade_count FROM candles") == [(3,)]
