"""The simulated exchange over a real socket: shapes, paging, time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import (
    DEFAULT_START,
    Faults,
    ManualClock,
    Market,
    Scenario,
    SimulatedExchange,
    TradeText,
)
from tests.support.simulator_requests import ask, download, page

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


@asynccontextmanager
async def served(exchange: SimulatedExchange) -> AsyncIterator[aiohttp.ClientSession]:
    async with exchange.serve() as url, aiohttp.ClientSession(url) as http:
        yield http


# --- paging ---


@pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize(
    "scenario",
    [
        Scenario.CALM,
        Scenario.QUIET,
        Scenario.BURSTS,
        Scenario.SAME_STAMPS,
        Scenario.LIVELY,
        Scenario.LIVELY | Scenario.ZERO_IDS,
    ],
    ids=str,
)
async def test_paging_by_hand_reaches_every_trade(scenario: Scenario, exclusive: bool) -> None:
    market = Market("ETH/BTC", seed=5, trades=12_345, scenario=scenario, first_id=3)
    async with served(SimulatedExchange([market], Faults(since_exclusive=exclusive))) as http:
        found, again = await download(http, "ETHXBT")
    assert found == list(market.texts(0, 12_345))
    if not exclusive:
        assert again == 0
    elif Scenario.SAME_STAMPS in scenario:
        assert again > 0  # pages end within a run of identical stamps: last would lose the rest of it


async def test_last_is_the_stamp_of_the_last_trade_and_since_is_compared_with_it() -> None:
    rows = [TradeText("1.0", "1.00000000", f"1704067200.00000000{n}", "b", "l", "", 0) for n in (1, 2, 2, 3)]
    for exclusive, left in ((False, [2, 3, 4]), (True, [4])):
        exchange = SimulatedExchange([Market.scripted("BTC/USD", rows)], Faults(since_exclusive=exclusive))
        async with served(exchange) as http:
            first, last = await page(http, "XBTUSD", "0", count=2)
            assert ([row.trade_id for row in first], last) == ([1, 2], "1704067200000000002")
            rest, end = await page(http, "XXBTZUSD", last)
            assert ([row.trade_id for row in rest], end) == (left, "1704067200000000003")


async def test_since_in_seconds_no_since_and_an_empty_page() -> None:
    market = Market("BTC/USD", trades=3_000)
    async with served(SimulatedExchange([market])) as http:
        assert (await page(http, "XBTUSD", "1704067200"))[0] == list(market.texts(0, 1_000))
        assert await page(http, "XBTUSD", "1800000000") == ([], "1800000000")
        newest = (await ask(http, "Trades", pair="XBT/USD"))["result"]["XXBTZUSD"]
        assert [TradeText(*row) for row in newest] == list(market.texts(2_000, 3_000))
        assert await page(http, "ETHUSD", "0") == ([], "0")  # listed, never traded


async def test_trades_happen_as_the_clock_advances() -> None:
    clock = ManualClock(DEFAULT_START - timedelta(seconds=1))
    market = Market("BTC/USD", scenario=Scenario.CALM, trades_per_minute=600)
    async with served(SimulatedExchange([market], clock=clock)) as http:
        assert await page(http, "XBTUSD", "0") == ([], "0")
        clock.advance(1)
        (one,), last = await page(http, "XBTUSD", "0")
        assert (one.trade_id, last) == (1, "1704067200000000000")
        clock.advance(60)
        rows, _ = await page(http, "XBTUSD", last)
        assert 100 < len(rows) < 1_000
        assert len(rows) == market.count_at(clock())
        assert (await ask(http, "Time"))["result"]["unixtime"] == 1704067260


# --- candles ---


def as_row(candle: Any) -> list[Any]:
    def text(value: Any) -> str:
        return f"{value:.1f}"

    vwap = int(candle.quote_volume / candle.volume * 10) / 10  # cut off
    prices = [text(value) for value in (candle.open, candle.high, candle.low, candle.close)]
    opened = int(candle.timestamp.timestamp())
    return [opened, *prices, f"{vwap:.1f}", f"{candle.volume:.8f}", candle.trade_count]


@pytest.mark.parametrize("interval", [1, 5, 60])
async def test_candles_are_those_of_the_trades(interval: int) -> None:
    market = Market("BTC/USD", seed=3, scenario=Scenario.LIVELY)
    now = DEFAULT_START + timedelta(hours=30, seconds=17)
    async with served(SimulatedExchange([market], clock=ManualClock(now))) as http:
        result = (await ask(http, "OHLC", pair="XBTUSD", interval=interval))["result"]
    rows, running = result["XXBTZUSD"], int(now.timestamp()) // (interval * 60) * interval * 60
    steps = min(720, (running - int(DEFAULT_START.timestamp())) // (interval * 60))
    assert [row[0] for row in rows] == [running - back * interval * 60 for back in range(steps, -1, -1)]
    assert result["last"] == rows[-2][0]
    true = {row[0]: row for row in map(as_row, market.truth_candles(interval, now))}
    close = None
    for row in rows:
        if row[-1]:
            assert row == true[row[0]]
        else:
            assert row[0] not in true
            assert row[1] in (close, row[1] if close is None else None)
            assert row[1:] == [row[1]] * 4 + ["0.0", "0.00000000", 0]
        close = row[4]
    assert any(row[-1] for row in rows)


async def test_candles_since_and_as_time_goes_by() -> None:
    clock = ManualClock(NOON)
    market = Market("BTC/USD", scenario=Scenario.CALM)
    async with served(SimulatedExchange([market], clock=clock)) as http:
        await ask(http, "OHLC", pair="XBTUSD")
        clock.advance(3600)
        rows = (await ask(http, "OHLC", pair="XBTUSD", since=int(NOON.timestamp())))["result"]["XXBTZUSD"]
        assert [row[0] for row in rows] == [int(NOON.timestamp()) + 60 * n for n in range(1, 61)]
        true = [as_row(candle) for candle in market.truth_candles(1, NOON + timedelta(hours=1))]
        assert [row for row in rows if row[-1]] == [row for row in true if row[0] > NOON.timestamp()]
        far_back = (await ask(http, "OHLC", pair="XBTUSD", since=0))["result"]["XXBTZUSD"]
        assert len(far_back) == 721


# --- shapes ---


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value)


async def test_shapes_of_the_recordings(real_data: Path) -> None:
    market = Market("BTC/USD", scenario=Scenario.CALM)
    recorded = {path.stem: json.loads(path.read_text()) for path in (real_data / "rest").glob("*.json")}
    async with served(SimulatedExchange([market], clock=ManualClock(NOON))) as http:
        assert shape(await ask(http, "Time")) == shape(recorded["time"])
        status = await ask(http, "SystemStatus")
        assert status["result"] == {"status": "online", "timestamp": "2024-01-01T12:00:00Z"}
        assert shape(status) == shape(recorded["system_status"])
        ours, theirs = await ask(http, "OHLC", pair="XBTUSD"), recorded["ohlc_XBTUSD_1m"]
        assert set(ours["result"]) == set(theirs["result"])
        assert shape(ours["result"]["XXBTZUSD"][0]) == shape(theirs["result"]["XXBTZUSD"][0])
        assert type(ours["result"]["last"]) is int
        assert await ask(http, "OHLC", pair="*") == recorded["error_invalid_pair"]
        rfc1123 = datetime.fromtimestamp(recorded["time"]["result"]["unixtime"], UTC)
    exchange = SimulatedExchange([], clock=ManualClock(rfc1123))
    async with served(exchange) as http:
        assert await ask(http, "Time") == recorded["time"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("Trades", "EGeneral:Invalid arguments"),
        ("Trades?pair=", "EGeneral:Invalid arguments"),
        ("Trades?pair=NOPEUSD", "EQuery:Unknown asset pair"),
        ("Trades?pair=%00%ff", "EQuery:Invalid asset pair"),
        ("Trades?pair=XBTUSD&since=yesterday", "EGeneral:Invalid arguments:since"),
        ("Trades?pair=XBTUSD&since=-1", "EGeneral:Invalid arguments:since"),
        ("Trades?pair=XBTUSD&since=" + "9" * 5000, "EGeneral:Invalid arguments:since"),
        ("Trades?pair=XBTUSD&count=0", "EGeneral:Invalid arguments:count"),
        ("Trades?pair=XBTUSD&count=1001", "EGeneral:Invalid arguments:count"),
        ("OHLC?pair=XBTUSD&interval=720", "EGeneral:Invalid arguments:interval"),
        ("OHLC?pair=XBTUSD&interval=1.5", "EGeneral:Invalid arguments:interval"),
        ("AssetPairs?pair=XBTUSD,NOPE", "EQuery:Unknown asset pair"),
        ("AssetPairs?pair=AAPLxUSD", "EQuery:Unknown asset pair"),
        ("AssetPairs?pair=XBTUSD&aclass_base=tokenized_asset", "EQuery:Unknown asset pair"),
        ("AssetPairs?aclass_base=shares", "EGeneral:Invalid arguments:aclass_base"),
        ("Trades?pair=AAPLxUSD", "EQuery:Unknown asset pair"),
        ("Trades?pair=AAPLSPVUSD", "EQuery:Unknown asset pair"),
        ("OHLC?pair=AAPLxUSD", "EQuery:Unknown asset pair"),
        ("Trades?pair=XBTUSD&asset_class=tokenized_asset", "EQuery:Unknown asset pair"),
        ("Nothing", "EGeneral:Unknown method"),
        ("../../etc/passwd", "EGeneral:Unknown method"),
    ],
)
async def test_odd_requests(path: str, error: str) -> None:
    exchange = SimulatedExchange([Market("BTC/USD", trades=10)])
    async with served(exchange) as http, http.get(f"/0/public/{path}") as response:
        assert response.status == 200
        assert await response.json() == {"error": [error]}
    assert [request.answer for request in exchange.requests] == [error]


async def test_asset_pairs() -> None:
    market = Market("DOGE/AED", trades=1)  # not in the list, but traded here
    async with served(SimulatedExchange([market], Faults(delisted={"BTC/USD"}))) as http:
        pairs = (await ask(http, "AssetPairs"))["result"]
        assert pairs["XXDGXXBT"]["wsname"] == "XDG/XBT"
        assert "wsname" not in pairs["XXBTZUSD.d"]
        assert "XDGAED" in pairs
        assert "XXBTZUSD" not in pairs
        two = (await ask(http, "AssetPairs", pair="ETHXBT,SOLUSD"))["result"]
        assert list(two) == ["XETHXXBT", "SOLUSD"]


async def test_tokenized_assets_have_a_list_of_their_own_and_two_keys() -> None:
    async with served(SimulatedExchange([Market("AAPLx/USD", trades=10)])) as http:
        currencies = (await ask(http, "AssetPairs"))["result"]
        assert {"XBTUSD:BTNL", "XXBTZUSD.d"} <= set(currencies)
        assert {pair["aclass_base"] for pair in currencies.values()} == {"currency"}
        shares = (await ask(http, "AssetPairs", aclass_base="tokenized_asset"))["result"]
        assert {pair["aclass_base"] for pair in shares.values()} == {"tokenized_asset"}
        assert "BRK.BxUSD" in shares and not set(shares) & set(currencies)
        for key in ("AAPLxUSD", "AAPLSPVUSD"):
            assert (shares[key]["altname"], shares[key]["wsname"]) == ("AAPLxUSD", "AAPLx/USD")
            for call in ("Trades", "OHLC"):
                answer = await ask(http, call, pair=key, asset_class="tokenized_asset")
                assert set(answer["result"]) == {"AAPLSPVUSD", "last"}
        one = await ask(http, "AssetPairs", pair="AAPLxUSD", aclass_base="tokenized_asset")
        assert len(one["result"]) == 2


async def test_request_log_and_delay() -> None:
    exchange = SimulatedExchange([Market("BTC/USD", trades=10)], delay=0.05)
    async with served(exchange) as http:
        await ask(http, "Trades", pair="XBTUSD", since=0)
        await ask(http, "Time")
    trades, time = exchange.requests
    assert (trades.pair, trades.path, dict(trades.params)) == (
        "BTC/USD",
        "/0/public/Trades",
        {"pair": "XBTUSD", "since": "0"},
    )
    assert (time.pair, time.answer, time.client) == (None, "ok", "127.0.0.1")
    assert time.at - trades.at >= 0.05


async def test_a_port_that_is_taken() -> None:
    async with SimulatedExchange([]).serve() as url:
        with pytest.raises(ConfigurationError, match="is taken"):
            async with SimulatedExchange([]).serve(int(url.rpartition(":")[2])):
                pass
