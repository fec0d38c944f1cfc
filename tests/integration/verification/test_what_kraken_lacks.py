"""Stored trades that Kraken does not serve any more: they stay, and stay reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from kraken_db import KrakenTradesBackfill
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.verification import StoreVerifier
from tests.support.archives import query
from tests.support.fake_kraken import Reply, serve, text
from tests.support.verifying import wrong

NOON = int(datetime(2024, 1, 1, 12, tzinfo=UTC).timestamp())
# Seconds after noon, and ids: the third is in the minute of the second.
TRADES = [(10, 1), (70, 2), (90, 3), (190, 4), (250, 5), (310, 6)]


def kraken(trades: Sequence[tuple[int, int]]) -> Reply:
    """Serves these trades from ``since`` on, and the time; no candles."""

    async def answer(request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("since", 0))
        rows: list[list[Any]] = [
            ["100.0", "1.0", NOON + seconds, "b", "l", "", number]
            for seconds, number in trades
            if (NOON + seconds) * 10**9 >= since
        ]
        result: dict[str, object] = {
            "XBTUSDT": rows,
            "last": str(rows[-1][2] * 10**9 if rows else since),
        }
        if request.path.endswith("Time"):
            result = {"unixtime": int(datetime.now(UTC).timestamp()), "rfc1123": ""}
        if request.path.endswith("OHLC"):
            result = {"XBTUSDT": [], "last": 0}
        return await text(json.dumps({"error": [], "result": result}))(request)

    return answer


async def test_a_trade_that_kraken_lacks_stays(plain_url: str) -> None:
    async with serve() as fake:
        fake.script(kraken(TRADES))
        client = KrakenRestClient(fake.url, rate_limit_delay=0, limiter=RateLimiter())
        async with KrakenTradesBackfill(plain_url, client=client) as service:
            await service.backfill(["BTC/USDT"])
        await query(plain_url, "UPDATE trades SET price = 99 WHERE id = 2")

        fake.script(kraken([trade for trade in TRADES if trade[1] != 3]))
        async with StoreVerifier(plain_url, client=client) as service:
            (found,) = await service.verify(all_trades=True, repair=True)
    assert wrong(found) == {"Kraken's trades": {"trade unknown to Kraken": 1}}
    assert found.findings[-1].text.startswith("trade 3 at 2024-01-01 12:01:30 UTC")
    prices = await query(plain_url, "SELECT id, price FROM trades ORDER BY id")
    assert prices == [(number, 100) for number in range(1, 7)]
