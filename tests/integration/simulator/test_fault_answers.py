"""What each fault looks like on the wire."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from kraken_db.simulator import TRANSIENT, Fault, Faults, Market, RateLimit, Scenario, SimulatedExchange
from kraken_db.simulator.faults import MESSAGES
from tests.support.simulator_requests import ask, page


def exchange(faults: Faults, trades: int = 3_000) -> SimulatedExchange:
    return SimulatedExchange([Market("BTC/USD", trades=trades, scenario=Scenario.CALM)], faults)


async def only(fault: Fault, **options: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a request that meets the fault."""
    simulated = exchange(Faults({fault: 1.0}, **options))
    async with (
        simulated.serve() as url,
        aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=5)) as http,
        http.get("/0/public/Trades", params={"pair": "XBTUSD", "since": "0"}) as response,
    ):
        assert [request.answer for request in simulated.requests] == [str(fault)]
        return response.status, dict(response.headers), await response.read()


@pytest.mark.parametrize("fault", sorted(MESSAGES))
async def test_errors_as_http_200(fault: Fault) -> None:
    status, _, body = await only(fault)
    assert (status, json.loads(body)) == (200, {"error": [MESSAGES[fault]]})


async def test_throttled() -> None:
    _, _, body = await only(Fault.THROTTLED, wait_seconds=5)
    text, _, until = json.loads(body)["error"][0].rpartition(": ")
    assert text == "EService: Throttled"
    assert 3 < int(until) - time.time() < 7


async def test_http_errors() -> None:
    status, headers, _ = await only(Fault.HTTP_429, wait_seconds=7)
    assert (status, headers["Retry-After"]) == (429, "7")
    for fault, allowed in ((Fault.HTTP_5XX, range(500, 505)), (Fault.CLOUDFLARE, range(520, 526))):
        status, headers, body = await only(fault)
        assert status in allowed
        assert headers["Content-Type"].startswith("text/html")
        assert body.startswith(b"<!DOCTYPE html>")


async def test_broken_connections() -> None:
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await only(Fault.RESET)
    with pytest.raises(aiohttp.ClientPayloadError):
        await only(Fault.TRUNCATED)
    with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
        await only(Fault.HANG, hang_seconds=0.1)


async def test_the_end_does_not_wait_for_a_hang() -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as http:  # the hang would last an hour
        async with exchange(Faults({Fault.HANG: 1.0})).serve() as url:
            asking = asyncio.create_task(http.get(f"{url}/0/public/Time"))
            await asyncio.sleep(0.1)
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_odd_pages() -> None:
    simulated = exchange(Faults())
    async with simulated.serve() as url, aiohttp.ClientSession(url) as http:
        good, last = await page(http, "XBTUSD", "0")

    _, _, body = await only(Fault.MISSING_LAST)
    assert list(json.loads(body)["result"]) == ["XXBTZUSD"]

    _, _, body = await only(Fault.OUT_OF_ORDER)
    result = json.loads(body)["result"]
    ids = [row[6] for row in result["XXBTZUSD"]]
    assert ids != sorted(ids)
    assert sorted(ids) == [row.trade_id for row in good]
    assert result["last"] == last

    simulated = exchange(Faults({Fault.REPEATED_PAGE: 1.0}, after=1))
    async with simulated.serve() as url, aiohttp.ClientSession(url) as http:
        assert await page(http, "XBTUSD", "0") == await page(http, "XBTUSD", last) == (good, last)


async def test_a_share_of_the_requests_the_same_for_the_same_seed() -> None:
    logs = []
    for _ in range(2):
        rates = {fault: 0.2 / len(TRANSIENT) for fault in sorted(TRANSIENT)}
        simulated = exchange(Faults(rates, seed=4, hang_seconds=0), trades=10)
        async with simulated.serve() as url, aiohttp.ClientSession(url) as http:
            for _ in range(400):
                try:
                    async with http.get("/0/public/Trades", params={"pair": "XBTUSD"}) as response:
                        await response.read()
                except aiohttp.ClientError:
                    pass
        logs.append([request.answer for request in simulated.requests])
    # aiohttp's client itself asks again when a kept connection turns out to be dead.
    assert logs[0][:400] == logs[1][:400]
    assert sum(answer != "ok" for answer in logs[0]) == pytest.approx(0.2 * len(logs[0]), rel=0.25)


async def test_rate_limit_by_pair() -> None:
    simulated = exchange(Faults(rate_limit=RateLimit(per_second=0.1)))
    async with simulated.serve() as url, aiohttp.ClientSession(url) as http:
        for pair in ("XBTUSD", "ETHUSD"):
            assert (await ask(http, "Trades", pair=pair))["error"] == []
        # Another name of the same pair is the same pair.
        assert (await ask(http, "Trades", pair="XXBTZUSD"))["error"] == ["EGeneral:Too many requests"]
        assert (await ask(http, "OHLC", pair="XBTUSD"))["error"] == []
    assert [request.answer for request in simulated.requests] == ["ok", "ok", "too-many-requests", "ok"]


async def test_maintenance_and_a_delisted_pair() -> None:
    async with exchange(Faults(state="maintenance")).serve() as url, aiohttp.ClientSession(url) as http:
        assert (await ask(http, "SystemStatus"))["result"]["status"] == "maintenance"
        assert (await ask(http, "Trades", pair="XBTUSD"))["error"] == ["EService:Unavailable"]
    async with exchange(Faults(delisted={"BTC/USD"})).serve() as url, aiohttp.ClientSession(url) as http:
        assert len((await page(http, "XBTUSD", "0"))[0]) == 1_000
        for call in ("OHLC", "AssetPairs"):
            assert (await ask(http, call, pair="XBTUSD"))["error"] == ["EQuery:Unknown asset pair"]
