"""A mistake of ours at one pair, and answers of OHLC that cannot be: the other pair's gap is filled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from kraken_db.gap_filler.by_candles import CandleFiller
from kraken_db.gap_filler.gaps import Filled
from kraken_db.ranges import TimeRange
from kraken_db.simulator import Fault, SimulatedExchange
from tests.support.downloading import floor, stored
from tests.support.gap_filling import HOUR, LATER, START, World, assert_filled, calm


async def world_with_gaps(url: str) -> World:
    world = World(calm(), calm("ETH/USD"), now=START + 2 * HOUR + LATER)
    await world.backfill(url)
    world.advance(timedelta(minutes=30))
    return world


async def assert_other_is_filled(url: str, world: World) -> None:
    market = world.exchange.markets["ETH/USD"]
    end = floor(world.now())
    (known,) = (await stored(url, "ETH/USD")).coverage["trades"]
    await assert_filled(url, market, end, by_candles=[(known[1], end)])


async def test_a_mistake_of_ours_leaves_the_other_pair(
    plain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with_gaps(plain_url)
    right = CandleFiller.fill

    async def wrong(
        self: CandleFiller, symbol: str, pair: str, start: datetime, end: datetime
    ) -> tuple[Filled, list[TimeRange]]:
        if symbol == "BTC/USD":
            raise OverflowError("date value out of range")
        return await right(self, symbol, pair, start, end)

    monkeypatch.setattr(CandleFiller, "fill", wrong)
    result = await world.fill(plain_url)
    assert (result["gaps_detected"], result["gaps_filled"]) == (2, 1)
    assert result["errors"] == [
        "BTC/USD: internal error OverflowError: date value out of range; the others went on"
    ]
    await assert_other_is_filled(plain_url, world)
    monkeypatch.undo()
    assert (await world.fill(plain_url))["gaps_filled"] == 1


def column(number: int, value: Any) -> Callable[[dict[str, Any]], Any]:
    def spoil(result: dict[str, Any]) -> None:
        rows = next(value for key, value in result.items() if key != "last")
        next(row for row in rows[-2::-1] if row[COUNT])[number] = value

    return spoil


TIME, OPEN, VOLUME, COUNT = 0, 1, 6, 7
SPOILT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a time of 2^63": column(TIME, 2**63),
    "a time of 9998": column(TIME, 253_300_000_000),
    "a time below zero": column(TIME, -1),
    "a time of half a second": column(TIME, 1.5),
    "a price of 700 kB": column(OPEN, "1" * 700_000),
    "a price of 2 MB": column(OPEN, "1" * 2_000_000),
    "a price of 1e99": column(OPEN, "1e99"),
    "a price that is none": column(OPEN, "0x10"),
    "a price of Arabic digits": column(OPEN, "١٢"),
    "a price below zero": column(OPEN, "-1"),
    "NaN": column(VOLUME, "NaN"),
    "a number for a text": column(VOLUME, 1.5),
    "a count of 2^63": column(COUNT, 2**63),
    "a count below zero": column(COUNT, -1),
    "a count of 10^9": column(COUNT, 10**9),
    "last of 30 digits": lambda result: result.update(last=10**30),
    "last below zero": lambda result: result.update(last=-1),
    "another pair": lambda result: {"XETHZUSD": next(iter(result.values())), "last": result["last"]},
    "two keys": lambda result: result.update(other=[]),
    "null": lambda _result: {"XXBTZUSD": None},
}


class SpoilingOhlc(SimulatedExchange):
    spoil: Callable[[dict[str, Any]], Any]

    def _call(self, call: str, symbol: str, params: Mapping[str, str], odd: Fault | None) -> str:
        text = super()._call(call, symbol, params, odd)
        if call != "OHLC" or symbol != "BTC/USD":
            return text
        answer = json.loads(text)
        changed = self.spoil(answer["result"])
        return json.dumps(answer if changed is None else {"error": [], "result": changed})


@pytest.mark.parametrize("name", SPOILT)
async def test_an_answer_of_ohlc_that_cannot_be(plain_url: str, name: str) -> None:
    world = await world_with_gaps(plain_url)
    exchange = SpoilingOhlc(world.exchange.markets.values(), clock=world.clock)
    exchange.spoil = SPOILT[name]
    world.exchange = exchange
    before = await stored(plain_url, "BTC/USD")
    result = await world.fill(plain_url)
    (error,) = result["errors"]
    assert error.startswith("BTC/USD: ")
    assert len(error) < 1_000
    assert result["gaps_filled"] == 1
    found = await stored(plain_url, "BTC/USD")
    assert (found.candles, found.coverage) == (before.candles, before.coverage)
    await assert_other_is_filled(plain_url, world)
