"""Asking the simulated exchange by hand, without the package's client."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from kraken_db.simulator import TradeText

PAGE = 1000


async def ask(http: aiohttp.ClientSession, call: str, **params: str | int) -> dict[str, Any]:
    async with http.get(f"/0/public/{call}", params=params) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        # The text of a number is what counts.
        answer: dict[str, Any] = json.loads(await response.read(), parse_float=str)
    return answer


async def page(
    http: aiohttp.ClientSession, pair: str, since: str, count: int = PAGE
) -> tuple[list[TradeText], str]:
    answer = await ask(http, "Trades", pair=pair, since=since, count=count)
    assert answer["error"] == []
    result = answer["result"]
    last = result.pop("last")
    (rows,) = result.values()
    return [TradeText(*row) for row in rows], last


async def download(http: aiohttp.ClientSession, pair: str, count: int = PAGE) -> tuple[list[TradeText], int]:
    """All trades, by the rules of KRAKEN.md; and how often a page had to be asked for again.

    The order and number of rows tell trades with id 0 apart: a page always ends where it ends in the market.
    """
    found: list[TradeText] = []
    seen: set[TradeText] = set()
    since, again, back = "0", 0, 1
    while True:
        rows, last = await page(http, pair, since, count)
        new = [row for row in rows if row not in seen]
        if not new:
            return found, again
        known = max((row.trade_id for row in found), default=new[0].trade_id - 1)
        first = next((row.trade_id for row in new if row.trade_id), known)
        if first > known + 1:
            since, again, back = str(int(since) - back), again + 1, back * 10
            continue
        found += new
        seen.update(new)
        since, back = last, 1
