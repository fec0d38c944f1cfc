"""Every fault of Kraken's: what passes by itself is waited for, what does not ends the run at once."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import ClassVar

import pytest

from kraken_db.errors import ExchangeError, ExchangeLockoutError, ExchangeRequestError, UnknownPairError
from kraken_db.historical_backfill import BackfillReport, KrakenTradesBackfill
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.simulator import PERMANENT, Fault, Faults, Market, RateLimit, SimulatedExchange
from tests.support.downloading import (
    ShortTime,
    assert_is_truth,
    download_one,
    downloading,
    quick_client,
    stored,
)

REASONS: dict[Fault, tuple[type[ExchangeError], str]] = {
    Fault.LOCKOUT: (ExchangeLockoutError, "EGeneral:Temporary lockout"),
    Fault.UNKNOWN_PAIR: (UnknownPairError, "EQuery:Unknown asset pair"),
    Fault.INVALID_PAIR: (UnknownPairError, "EQuery:Invalid asset pair"),
    Fault.INVALID_ARGUMENTS: (ExchangeRequestError, "EGeneral:Invalid arguments"),
    Fault.UNKNOWN_METHOD: (ExchangeRequestError, "EGeneral:Unknown method"),
}


@pytest.mark.parametrize("seed", range(3))
async def test_one_request_in_five_fails_in_every_way_that_passes(plain_url: str, seed: int) -> None:
    market = Market("BTC/USD", seed=seed, trades=20_000)
    exchange = SimulatedExchange([market], Faults.transient(0.2, seed))
    async with downloading(plain_url, exchange, hang_after=0.3) as service:
        (report,) = await service.backfill([market.symbol])
    assert (report.outcome, report.new, report.error) == ("caught up", 20_000, None)
    failed = [request.answer for request in exchange.requests if request.answer != "ok"]
    assert len(failed) >= 3
    await assert_is_truth(plain_url, market)


async def test_transient_faults_on_timescale(timescale_url: str) -> None:
    market = Market("BTC/USD", seed=1, trades=5_000)
    report = await download_one(timescale_url, market, Faults.transient(0.2, 1), hang_after=0.3)
    assert (report.outcome, report.new) == ("caught up", 5_000)
    await assert_is_truth(timescale_url, market)


@pytest.mark.parametrize("fault", sorted(PERMANENT))
async def test_what_does_not_pass_ends_it_at_once(plain_url: str, fault: Fault) -> None:
    market = Market("BTC/USD", seed=2, trades=9_000)
    faults = Faults({fault: 1.0}, after=4)
    exchange = SimulatedExchange([market], faults)
    async with downloading(plain_url, exchange) as service:
        (report,) = await service.backfill([market.symbol])
    kind, reason = REASONS[fault]
    assert report.outcome == "failed"
    assert type(report.error) is kind
    assert reason in str(report.error)
    # Prefetch that were on their way aside: the look for the newest trade is one of its own.
    assert [request.answer for request in exchange.requests].count(str(fault)) <= 2
    found = await stored(plain_url, market.symbol)
    count = len(found.trades)
    assert 0 < count == report.new < 9_000
    assert found.trades == list(market.truth_trades())[:count]
    # The same command on a better day.
    again = await download_one(plain_url, market, resume=True)
    assert again.new == 9_000 - count
    await assert_is_truth(plain_url, market)


class _Noting(RateLimiter):
    """Notes when each request was let go, by the limiter's own clock: some arrive a little late."""

    def __init__(self) -> None:
        clock = ShortTime()
        super().__init__(clock=clock, sleep=clock.sleep)
        self.started: dict[Hashable, list[float]] = {}

    async def acquire(self, key: Hashable, delay: float) -> float:
        started = await super().acquire(key, delay)
        self.started.setdefault(key, []).append(started)
        return started


async def test_the_pace_of_each_pair_is_kept(plain_url: str) -> None:
    """Of two pairs side by side; and no request goes past the limiter."""
    markets = [Market(symbol, seed=3, trades=12_000) for symbol in ("BTC/USD", "ETH/USD")]
    exchange, limiter = SimulatedExchange(markets), _Noting()
    async with exchange.serve() as base_url:
        client = KrakenRestClient(base_url, rate_limit_delay=1.1, limiter=limiter)
        async with KrakenTradesBackfill(plain_url, client=client) as service:
            await service.backfill([market.symbol for market in markets])
    for market in markets:
        started = limiter.started[base_url, market.symbol]
        assert min(later - earlier for earlier, later in pairwise(started)) >= 1.1 - 1e-9
        came = [request for request in exchange.requests if request.pair == market.symbol]
        assert 13 <= len(came) <= len(started)
        await assert_is_truth(plain_url, market)


async def test_being_refused_for_its_pace_slows_it_down(plain_url: str) -> None:
    market = Market("BTC/USD", seed=4, trades=8_000)
    exchange = SimulatedExchange([market], Faults(rate_limit=RateLimit(per_second=8.0)))
    async with exchange.serve() as base_url:
        client = KrakenRestClient(base_url, rate_limit_delay=0.02, backoff=0.01, limiter=RateLimiter())
        async with KrakenTradesBackfill(plain_url, client=client) as service:
            (report,) = await service.backfill([market.symbol])
    answers = [request.answer for request in exchange.requests]
    assert answers.count("too-many-requests") >= 1
    assert (report.outcome, report.new) == ("caught up", 8_000)
    await assert_is_truth(plain_url, market)


async def test_a_lockout_is_not_knocked_at(plain_url: str) -> None:
    market = Market("BTC/USD", seed=5, trades=8_000)
    limit = RateLimit(per_second=0.001, burst=3, lockout_after=2)
    exchange = SimulatedExchange([market], Faults(rate_limit=limit))
    async with downloading(plain_url, exchange) as service:
        (report,) = await service.backfill([market.symbol])
    assert isinstance(report.error, ExchangeLockoutError)
    assert 0 < report.new < 8_000


class _Waits:
    """Counts the pauses, and lets them pass."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await ShortTime().sleep(seconds)


async def test_an_exchange_that_is_down_for_longer_is_waited_for(plain_url: str) -> None:
    """More failures in a row than one request is tried: the pauses grow."""
    market = Market("BTC/USD", seed=6, trades=4_000)

    class OutOfOrder(SimulatedExchange):
        down: ClassVar[range] = range(4, 30)

        def _fault(self, client: str, call: str, symbol: str) -> Fault | None:
            return Fault.UNAVAILABLE if len(self.requests) in self.down else None

    exchange, waits = OutOfOrder([market]), _Waits()
    async with downloading(plain_url, exchange, sleep=waits) as service:
        (report,) = await service.backfill([market.symbol])
    assert (report.outcome, report.new) == ("caught up", 4_000)
    assert len(waits.seconds) >= 3
    await assert_is_truth(plain_url, market)


async def test_an_exchange_that_never_answers_is_told_at_once(plain_url: str) -> None:
    waits = _Waits()
    client = quick_client("http://127.0.0.1:9")
    async with KrakenTradesBackfill(plain_url, client=client, sleep=waits) as service:
        report: BackfillReport
        (report,) = await service.backfill(["BTC/USDT"])
    assert isinstance(report.error, ExchangeError)
    assert waits.seconds == []
