"""Answers of REST that no exchange gives: the pair ends with an error that says what, and nothing wrong is
stored; the other pair is downloaded, and the same command on an honest exchange brings all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from kraken_db.cli.backfill import show_reports
from kraken_db.errors import ExchangeFormatError, ExchangeThrottledError, ImpossibleRowError
from kraken_db.kraken.messages import TradesPage
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.simulator import Market, SimulatedExchange
from tests.support.downloading import MINUTE, assert_is_truth, downloading, stored
from tests.support.spoiling import Spoil, SpoilingExchange, rows_of

TRADES = 3_000
MONTH_AHEAD = time.time() + 30 * 86_400
BTC, ETH = Market("BTC/USD", seed=1, trades=TRADES), Market("ETH/USD", seed=2, trades=TRADES)
LAST = list(BTC.truth_trades())[-1].timestamp


@dataclass(frozen=True)
class Field:
    """One field of one trade of the answers, by its id."""

    trade_id: int
    column: int
    value: Any

    def __call__(self, result: dict[str, Any], _params: Mapping[str, str]) -> None:
        for row in rows_of(result):
            if row[6] == self.trade_id:
                row[self.column] = self.value


def body(text: str) -> Spoil:
    return lambda _result, _params: text


def errors(*texts: str) -> Spoil:
    return body(json.dumps({"error": texts}))


def other_key(key: str) -> Spoil:
    return lambda result, _params: {key: rows_of(result), "last": result["last"]}


def many_keys(result: dict[str, Any], _params: Mapping[str, str]) -> Any:
    return {**{str(number): [] for number in range(40_000)}, **result}


def a_month_ahead(result: dict[str, Any], _params: Mapping[str, str]) -> None:
    for row in rows_of(result):
        row[2] = MONTH_AHEAD + row[6]


class OnePage:
    """The first page, whatever is asked for."""

    def __init__(self) -> None:
        self._page: dict[str, Any] | None = None

    def __call__(self, result: dict[str, Any], params: Mapping[str, str]) -> Any:
        if "since" not in params:
            return None
        self._page = self._page or result
        return self._page


PRICE, TIME, MISC, ID = 0, 2, 5, 6
NO_ID = r"\[499\]\[6\]: expected `int` <= 4611686018427387904"
REFUSED: dict[str, tuple[Spoil, str]] = {
    "an id of 2^63": (Field(500, ID, 2**63), NO_ID),
    "an id of 400 digits": (Field(500, ID, 10**400), NO_ID),
    "an id of 2^62": (Field(500, ID, 2**62), "the ids jump from 4611686018427387904 to "),
    "the first id of 2^62": (Field(1, ID, 2**62), "the ids jump from 4611686018427387904 to 2"),
    "an id of 5 million more": (Field(500, ID, 5_000_500), "the ids jump from 5000500 to "),
    "an id of a million less": (Field(1_500, ID, 1), r"the ids jump from \d+ to 1$"),
    "NUL in misc": (Field(500, MISC, "\x00"), r"misc is not printable: '\\x00'"),
    "an escape in misc": (Field(500, MISC, "\x1b]52;c;x"), "misc is not printable"),
    "half a character": (Field(500, MISC, "\ud800"), "no whole JSON"),
    "a long misc": (Field(500, MISC, "x" * 51), "longer than 50 characters"),
    "a price of 7 MB": (Field(500, PRICE, "1" * 7_000_000), "larger than 1,000,000 bytes"),
    "a price of 700 kB": (Field(500, PRICE, "1." + "1" * 700_000), "is not a number"),
    "a price of 1e99": (Field(500, PRICE, "1e99"), "does not fit"),
    "a stamp 30 days ahead": (Field(500, TIME, MONTH_AHEAD), "in the future"),
    "a stamp of 9998": (Field(500, TIME, 253_300_000_000), "9996-10-03T23:06:40.*, in the future"),
    "the last second of 9999": (Field(500, TIME, 253_402_300_799), "9999-12-31T23:59:59.*, in the future"),
    "all stamps ahead": (a_month_ahead, "in the future"),
    "last of 30 digits": (lambda result, _: result.update(last="9" * 30), "result.last: expected"),
    "last of Arabic digits": (lambda result, _: result.update(last="١" * 19), "result.last: expected"),
    "last of 19 nines": (lambda result, _: result.update(last="9" * 19), "result.last is no cursor"),
    "last below zero": (lambda result, _: result.update(last=-1), "result.last: expected"),
    "null": (body('{"error":[],"result":null}'), "expected `object`, got `null`"),
    "a null body": (body("null"), "expected `object`, got `null`"),
    "a list": (body("[]"), "expected `object`, got `array`"),
    "another pair": (other_key("XETHZUSD"), "another pair"),
    "a key of 400 kB": (other_key("X" * 400_000), "a key that is no pair's: 'XXXX"),
    "many keys": (many_keys, "result has 40001 keys"),
    "an error of 700 kB": (errors("E" + "x" * 700_000), r"Kraken says 'Exxx"),
    "many errors": (errors(*["EX"] * 100_000), "Kraken says 'EX'"),
    "deep": (body("[" * 100_000), "the answer: expected `object`"),
    "the same page": (OnePage(), "begin before what was asked for"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused(plain_url: str, name: str) -> None:
    spoil, reason = REFUSED[name]
    exchange = SpoilingExchange(BTC, ETH, spoil=spoil)
    async with downloading(plain_url, exchange) as service:
        one, other = await service.backfill([BTC.symbol, ETH.symbol])
        assert (other.outcome, other.new) == ("caught up", TRADES)
        assert one.outcome == "failed"
        assert one.error is not None
        if name not in ("half a character", "an error of 700 kB", "many errors"):
            assert isinstance(one.error, ExchangeFormatError)
        with pytest.raises(type(one.error), match=reason):
            raise one.error
        assert len(str(one.error)) < 1_000
        assert len(exchange.requests) < 120
        found = await stored(plain_url, BTC.symbol)
        assert found.trades == list(BTC.truth_trades())[: len(found.trades)]
        assert all(end <= LAST + MINUTE for _, end in found.coverage["trades"])
        exchange.spoil = None
        one, _ = await service.backfill([BTC.symbol, ETH.symbol], resume=True)
        assert (one.error, one.outcome) == (None, "caught up")
    await assert_is_truth(plain_url, BTC)


def ago(result: dict[str, Any], params: Mapping[str, str]) -> None:
    result["last"] = str(max(0, int(params.get("since", 0)) - 1_500 * 10**9))


@pytest.mark.parametrize("last", ["0", str(2**62), "a month ahead", 17, "1500 s back"])
async def test_a_cursor_that_is_not_of_the_last_trade_counts_as_missing(
    plain_url: str, last: int | str
) -> None:
    value = str(int(MONTH_AHEAD * 10**9)) if last == "a month ahead" else last
    spoil = ago if last == "1500 s back" else lambda result, _: result.update(last=value)
    exchange = SpoilingExchange(BTC, ETH, spoil=spoil)
    async with downloading(plain_url, exchange) as service:
        one, _ = await service.backfill([BTC.symbol, ETH.symbol])
    assert (one.outcome, one.new, one.error) == ("caught up", TRADES, None)
    await assert_is_truth(plain_url, BTC)


async def test_another_beginning_each_time_comes_to_an_end(plain_url: str) -> None:
    """The first pages never begin with the same trade, and say to go on 1,500 s before."""
    asked = 0

    def spoil(result: dict[str, Any], params: Mapping[str, str]) -> None:
        nonlocal asked
        asked += 1
        del rows_of(result)[:asked]
        ago(result, params)

    exchange = SpoilingExchange(BTC, ETH, spoil=spoil)
    async with downloading(plain_url, exchange) as service:
        one, other = await service.backfill([BTC.symbol, ETH.symbol])
    assert isinstance(one.error, ExchangeFormatError)
    assert "100 answers in a row brought nothing new" in str(one.error)
    assert 100 <= asked <= 110
    assert (other.outcome, other.new) == ("caught up", TRADES)


@pytest.mark.parametrize(
    ("spoil", "row"),
    [
        (Field(1_700, MISC, "\x00"), r"XXBTZUSD\[\d+\]: misc is not printable"),
        (Field(1_700, PRICE, "1e99"), r"trade 1700 of BTC/USD at 2024-.*: price .* does not fit"),
        (Field(1_700, ID, "x"), r"XXBTZUSD\[\d+\]\[6\]: expected `int`"),
    ],
    ids=["misc", "price", "id"],
)
async def test_a_row_that_cannot_be_is_asked_for_again(
    plain_url: str, spoil: Spoil, row: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once or a few times spoilt: all is there. For ever: the pair ends, and what was before it is stored."""
    times, asked = 3, 0

    def for_a_while(result: dict[str, Any], params: Mapping[str, str]) -> None:
        nonlocal asked
        if any(one[6] == 1_700 for one in rows_of(result)) and asked < times:
            asked += 1
            spoil(result, params)

    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(round(seconds))

    exchange = SpoilingExchange(BTC, ETH, spoil=for_a_while)
    async with downloading(plain_url, exchange, sleep=sleep) as service:
        times = 10**9
        one, other = await service.backfill([BTC.symbol, ETH.symbol])
        assert (one.outcome, other.outcome) == ("failed", "caught up")
        assert isinstance(one.error, ImpossibleRowError)
        with pytest.raises(ImpossibleRowError, match=row):
            raise one.error
        assert pauses[-4:] == [1, 2, 4, 8]
        found = await stored(plain_url, BTC.symbol)
        spoilt = list(BTC.truth_trades())[1_699].timestamp
        assert all(end <= spoilt for _, end in found.coverage["trades"])
        asked, times = 0, 3
        one, _ = await service.backfill([BTC.symbol, ETH.symbol], resume=True)
        assert (one.error, one.outcome, asked) == (None, "caught up", 3)
    assert "trying again in 4 s" in caplog.text
    await assert_is_truth(plain_url, BTC)


async def test_an_estimate_that_cannot_be_is_none(plain_url: str) -> None:
    """The newest trade is asked for to say how much is left: on a small disk it would end the download."""

    def spoil(result: dict[str, Any], params: Mapping[str, str]) -> None:
        if "since" not in params:
            rows_of(result)[-1][ID] = 2**62

    exchange = SpoilingExchange(BTC, ETH, spoil=spoil)
    async with downloading(plain_url, exchange) as service:
        found = await service.estimate([BTC.symbol, ETH.symbol])
        assert [pair.by_rest for pair in found.pairs] == [0, TRADES]
        one, _ = await service.backfill([BTC.symbol, ETH.symbol])
    assert (one.outcome, one.new, one.error) == ("caught up", TRADES, None)


async def test_a_mistake_of_ours_at_one_pair_leaves_the_others(
    plain_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = KrakenRestClient.trades_page

    async def wrong(self: KrakenRestClient, pair: str, since: int | None = None) -> TradesPage:
        if pair == "XBTUSD" and since:
            raise OverflowError("date value out of range")
        return await right(self, pair, since)

    monkeypatch.setattr(KrakenRestClient, "trades_page", wrong)
    async with downloading(plain_url, SimulatedExchange([BTC, ETH])) as service:
        reports = await service.backfill([BTC.symbol, ETH.symbol])
    one, other = reports
    assert (one.outcome, one.new, one.is_flawed) == ("failed", 1_000, True)
    assert (other.outcome, other.new) == ("caught up", TRADES)
    show_reports(reports, as_json=True)
    shown = capsys.readouterr()
    reason = "BTC/USD: internal error OverflowError: date value out of range; the others went on"
    assert [pair["error"] and pair["error"]["reason"] for pair in json.loads(shown.out)["pairs"]] == [
        reason,
        None,
    ]
    assert f"Failed: {reason}. Run it again with --debug" in shown.err


async def test_a_wait_of_31_years_is_an_error(plain_url: str) -> None:
    exchange = SpoilingExchange(BTC, ETH, spoil=errors("EService: Throttled: 2700000000"))
    async with downloading(plain_url, exchange) as service:
        one, other = await service.backfill([BTC.symbol, ETH.symbol])
    assert isinstance(one.error, ExchangeThrottledError)
    assert "it asks to wait for " in str(one.error)
    assert "no more than 15 minutes are waited for" in str(one.error)
    assert (other.outcome, other.new) == ("caught up", TRADES)
