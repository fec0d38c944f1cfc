"""Whatever the market and the exchange do, the tables hold the truth, row for row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kraken_db.simulator import Fault, Faults, Market, Scenario
from tests.support.downloading import assert_is_truth, download, download_one, in_order_of_the_store

ALL_AT_ONCE = Faults({Fault.MISSING_LAST: 0.2, Fault.REPEATED_PAGE: 0.2, Fault.OUT_OF_ORDER: 0.2}, seed=4)
ONE_BY_ONE = {
    "missing last": Faults({Fault.MISSING_LAST: 0.2}, seed=1),
    "repeated pages": Faults({Fault.REPEATED_PAGE: 0.2}, seed=2),
    "out of order": Faults({Fault.OUT_OF_ORDER: 0.2}, seed=3),
}
WITH_IDS = {
    "calm": Scenario.CALM,
    "quiet": Scenario.QUIET,
    "bursts": Scenario.BURSTS,
    "same stamps": Scenario.SAME_STAMPS,
    "lively": Scenario.LIVELY,
}
WITHOUT_IDS = {
    "zero ids": Scenario.ZERO_IDS,
    "zero ids counted": Scenario.ZERO_IDS_COUNTED,
    "lively zero ids": Scenario.ZERO_IDS | Scenario.LIVELY,
    "lively zero ids counted": Scenario.ZERO_IDS_COUNTED | Scenario.LIVELY,
}
_ZEROS = Scenario.ZERO_IDS | Scenario.ZERO_IDS_COUNTED
SMALL = 3_500
"""Trades: within them is a burst, a run of id 0, and every kind of same stamps."""


async def assert_downloads(url: str, market: Market, faults: Faults) -> None:
    report = await download_one(url, market, faults)
    size = market.size
    assert (report.outcome, report.new, report.removed) == ("caught up", size, 0)
    assert (report.holes, report.conflicts, report.error) == ([], 0, None)
    has_shuffled_zeros = market.scenario & _ZEROS and Fault.OUT_OF_ORDER in faults.rates
    await assert_is_truth(url, market, is_shuffled=bool(has_shuffled_zeros))


_either_since = pytest.mark.parametrize("exclusive", [False, True], ids=["inclusive", "exclusive"])


@_either_since
@pytest.mark.parametrize("faults", [Faults(), ALL_AT_ONCE], ids=["good pages", "odd pages"])
@pytest.mark.parametrize("scenario", WITH_IDS.values(), ids=WITH_IDS)
async def test_trades_with_ids(plain_url: str, scenario: Scenario, faults: Faults, exclusive: bool) -> None:
    market = Market("BTC/USD", seed=7, trades=6_000, scenario=scenario)
    assert in_order_of_the_store(market.truth_trades()) == list(market.truth_trades())
    await assert_downloads(plain_url, market, replace(faults, since_exclusive=exclusive))


@_either_since
@pytest.mark.parametrize("faults", [Faults(), ALL_AT_ONCE], ids=["good pages", "odd pages"])
@pytest.mark.parametrize("scenario", WITHOUT_IDS.values(), ids=WITHOUT_IDS)
async def test_runs_of_trades_without_ids(
    plain_url: str, scenario: Scenario, faults: Faults, exclusive: bool
) -> None:
    market = Market("ETH/USD", seed=8, trades=6_000, scenario=scenario)
    await assert_downloads(plain_url, market, replace(faults, since_exclusive=exclusive))


@pytest.mark.parametrize("scenario", [Scenario.LIVELY, Scenario.LIVELY | Scenario.ZERO_IDS_COUNTED])
@pytest.mark.parametrize("faults", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
async def test_one_kind_of_odd_pages(plain_url: str, scenario: Scenario, faults: Faults) -> None:
    await assert_downloads(plain_url, Market("LTC/USD", seed=9, trades=6_000, scenario=scenario), faults)


@pytest.mark.parametrize(
    ("scenario", "exclusive"),
    [
        (Scenario.LIVELY, False),
        (Scenario.LIVELY | Scenario.ZERO_IDS, True),
        (Scenario.LIVELY | Scenario.ZERO_IDS_COUNTED, False),
    ],
)
async def test_on_timescale(timescale_url: str, scenario: Scenario, exclusive: bool) -> None:
    market = Market("XRP/USD", seed=10, trades=SMALL, scenario=scenario)
    await assert_downloads(timescale_url, market, replace(ALL_AT_ONCE, since_exclusive=exclusive))


async def test_a_pair_that_does_not_begin_with_the_id_1(plain_url: str) -> None:
    market = Market("SOL/USD", seed=11, trades=SMALL, first_id=3)
    await assert_downloads(plain_url, market, Faults({Fault.REPEATED_PAGE: 0.2}, seed=5))


async def test_several_pairs_side_by_side(db_url: str) -> None:
    symbols = ("BTC/USD", "ETH/BTC", "DOGE/USD")
    markets = [Market(symbol, seed=12, trades=1_500 + 300 * n) for n, symbol in enumerate(symbols)]
    reports = await download(db_url, markets, Faults({Fault.REPEATED_PAGE: 0.2}, seed=6))
    assert [(report.symbol, report.new) for report in reports] == [
        ("BTC/USD", 1_500),
        ("ETH/BTC", 1_800),
        ("DOGE/USD", 2_100),
    ]
    for market in markets:
        await assert_is_truth(db_url, market)
