"""Nothing was traded up to the end of a gap: the newest trade of all proves it, or it stays a gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from kraken_db import DataGap
from kraken_db.errors import ExchangeFormatError, UnknownPairError
from kraken_db.gap_filler.by_trades import ROUNDS
from kraken_db.kraken.page_walk import QUIET
from kraken_db.simulator import Faults, Market, SimulatedExchange, TradeText
from tests.support.downloading import MINUTE, ended, stored
from tests.support.gap_filling import START, World, store_live
from tests.support.spoiling import Spoil, SpoilingExchange, rows_of

LAST, END = START + 10 * MINUTE, START + 50 * MINUTE
GAP = DataGap("BTC/USD", "candles_1m", LAST, END, END - LAST)


def market_of(minutes: int) -> Market:
    """A trade in each of its minutes, then none."""
    start = int(START.timestamp())
    rows = [TradeText("100.0", "1.0", str(start + 60 * n + 5), "b", "l", "", 0) for n in range(minutes)]
    return Market.scripted("BTC/USD", rows)


def world_of(market: Market) -> World:
    return World(market, now=END + timedelta(seconds=20))


async def quiet_world(url: str) -> World:
    """Ten minutes with a trade, which are stored, and forty without one."""
    world = world_of(market_of(10))
    await world.backfill(url)
    return world


async def known(url: str) -> list[Any]:
    return (await stored(url, "BTC/USD")).coverage["candles_1m"]


class NewestTrade:
    """Spoils what is answered where the newest trade of all is asked for."""

    def __init__(self, world: World, spoil: Spoil) -> None:
        self.asked = 0
        self._spoil = spoil
        (market,) = world.exchange.markets.values()
        world.exchange = SpoilingExchange(market, spoil=self, clock=world.clock)

    def __call__(self, result: dict[str, Any], params: Mapping[str, str]) -> Any:
        if "since" in params:
            return None
        self.asked += 1
        return self._spoil(result, params)


def none(result: dict[str, Any], _params: object) -> None:
    rows_of(result).clear()


def unknown(result: dict[str, Any], _params: object) -> None:
    rows_of(result)[-1][6] = 11


def without_id(result: dict[str, Any], _params: object) -> None:
    rows_of(result)[-1][6] = 0


def without_id_and_unknown(result: dict[str, Any], params: object) -> None:
    rows_of(result)[-1][0] = "101.0"
    without_id(result, params)


async def test_one_empty_answer_is_asked_for_again(plain_url: str) -> None:
    world = await quiet_world(plain_url)

    def at_first(result: dict[str, Any], params: object) -> None:
        if newest.asked == 1:
            none(result, params)

    newest = NewestTrade(world, at_first)
    async with world.filler(plain_url) as filler:
        assert await filler.fill_gap_trades(GAP) == 0
    assert newest.asked == 2
    assert await known(plain_url) == [(START, END)]


async def test_only_empty_answers(plain_url: str) -> None:
    world = await quiet_world(plain_url)
    newest = NewestTrade(world, none)
    async with world.filler(plain_url) as filler:
        with pytest.raises(ExchangeFormatError, match="Kraken has no trade of BTC/USD"):
            await filler.fill_gap_trades(GAP)
    assert newest.asked == QUIET
    assert await known(plain_url) == [(START, LAST)]


async def test_a_newest_trade_without_an_id_is_known_by_its_content(plain_url: str) -> None:
    world = await quiet_world(plain_url)
    newest = NewestTrade(world, without_id)
    async with world.filler(plain_url) as filler:
        await filler.fill_gap_trades(GAP)
    assert newest.asked == 1
    assert await known(plain_url) == [(START, END)]


@pytest.mark.parametrize("spoil", [unknown, without_id_and_unknown])
async def test_a_newest_trade_that_no_page_has(
    plain_url: str, spoil: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have come meanwhile: the pages are asked for again, and in the end it stays a gap."""
    world = await quiet_world(plain_url)
    newest = NewestTrade(world, spoil)
    async with world.filler(plain_url) as filler:
        await filler.fill_gap_trades(GAP)
    assert newest.asked == ROUNDS
    assert "BTC/USD: new trades kept coming; the next run goes on" in caplog.messages
    assert await known(plain_url) == [(START, LAST)]


async def test_a_stop_while_it_asks_for_the_newest_trade(
    plain_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The trade is one that no page has: the pages are not asked for again."""
    world = await quiet_world(plain_url)

    def stop(result: dict[str, Any], params: object) -> None:
        unknown(result, params)
        filler.request_stop()

    newest = NewestTrade(world, stop)
    async with world.filler(plain_url) as filler:
        await filler.fill_gap_trades(GAP)
    assert newest.asked == 1
    assert "new trades kept coming" not in caplog.text
    assert await known(plain_url) == [(START, LAST)]


async def test_a_delisted_pair_of_which_kraken_lacks_the_last_stored_trade(plain_url: str) -> None:
    """The feed had one more: nobody knows whether the last one that Kraken serves was the last of all."""
    world = await quiet_world(plain_url)
    (market,) = world.exchange.markets.values()
    *_, last = market.truth_trades()
    of_the_feed = replace(last, id=11, timestamp=START + 15 * MINUTE)
    await store_live(plain_url, [of_the_feed], (START + 15 * MINUTE, START + 16 * MINUTE))
    world.exchange = SimulatedExchange([market], Faults(delisted=["BTC/USD"]), clock=world.clock)
    async with world.filler(plain_url) as filler:
        with pytest.raises(UnknownPairError, match=r"after its last trade, at 2024-01-01 00:09:05 UTC"):
            await filler.fill_gap_trades(GAP)
    assert await ended(plain_url) is None
    assert await known(plain_url) == [(START, LAST)]


async def test_of_many_trades_that_contradict_twenty_are_told(
    plain_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are stored with other volumes, and stay so."""
    market = market_of(23)
    wrong = [replace(trade, volume=Decimal(2)) for trade in market.truth_trades()]
    await store_live(plain_url, wrong, (START, START + MINUTE))
    async with world_of(market).filler(plain_url) as filler:
        assert await filler.fill_gap_trades(replace(GAP, start_time=START, duration=END - START)) == 0
    told = [text for text in caplog.messages if text.endswith("; the stored one was left as it is")]
    assert told[0] == (
        "BTC/USD: trade 1 is stored as 100 2 buy limit, but came as 100 1 buy limit;"
        " the stored one was left as it is"
    )
    assert len(told) == 20
    assert "BTC/USD: and 3 more such trades" in caplog.messages
    assert {trade.volume for trade in (await stored(plain_url, "BTC/USD")).trades} == {Decimal(2)}
