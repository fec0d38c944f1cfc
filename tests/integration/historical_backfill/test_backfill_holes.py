"""A trade that Kraken does not have, however it is asked: told, and nowhere claimed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from kraken_db import KrakenTradesBackfill
from kraken_db.historical_backfill import IdHole
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from tests.support.archives import query
from tests.support.fake_kraken import serve, text

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
# Seconds after noon, and ids: 3 is missing, between 12:01:10 and 12:03:10.
TRADES = [(10, 1), (70, 2), (190, 4), (250, 5), (310, 6)]


def at(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def kraken(request: web.Request) -> web.StreamResponse:
    """Trades from ``since`` on, and the time."""
    if request.path.endswith("Time"):
        result: dict[str, object] = {"unixtime": int(datetime.now(UTC).timestamp()), "rfc1123": ""}
    else:
        since = int(request.query.get("since", 0))
        begin = int(NOON.timestamp())
        rows: list[list[Any]] = [
            ["100.0", "1.0", begin + seconds, "b", "l", "", number]
            for seconds, number in TRADES
            if (begin + seconds) * 10**9 >= since
        ]
        last = rows[-1][2] * 10**9 if rows else since
        result = {"XBTUSDT": rows, "last": str(last)}
    return await text(json.dumps({"error": [], "result": result}))(request)


async def test_a_missing_trade_is_told_and_not_claimed(db_url: str) -> None:
    async with serve() as fake:
        fake.script(kraken)
        client = KrakenRestClient(fake.url, rate_limit_delay=0, limiter=RateLimiter())
        async with KrakenTradesBackfill(db_url, client=client) as service:
            (report,) = await service.backfill(["BTC/USDT"])
    assert report.holes == [IdHole(3, 3, at(70), at(190))]
    assert (report.error, report.is_flawed, report.new) == (None, True, 5)
    covered = await query(
        db_url,
        "SELECT data_type, lower(r), upper(r) FROM data_coverage, unnest(covered) r ORDER BY 1, 2",
    )
    tick = timedelta(microseconds=1)
    assert covered == [
        ("candles_1m", NOON, at(60)),
        ("candles_1m", at(240), at(360)),
        ("trades", NOON, at(70) + tick),
        ("trades", at(190), at(360)),
    ]
    # A candle of the minutes that lack a trade would be a wrong number that looks right.
    opens = await query(db_url, "SELECT timestamp FROM candles ORDER BY timestamp")
    assert not {at(60), at(180)} & {row[0] for row in opens} and len(opens) == 3
