"""Which pairs a recording is of: patterns, what is stored, new listings and delistings while it runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kraken_db.data_types import DataType
from kraken_db.errors import ConfigurationError, UnknownPairError
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.recorder import RecorderStatus
from kraken_db.repositories.running_jobs import RunningJobRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.simulator import Fault, Faults, FeedFaults, SimulatedExchange
from tests.support.downloading import download_one
from tests.support.recording import (
    MINUTE,
    START,
    StartedClock,
    all_is_there,
    assert_recorded,
    exchange_of,
    has_come_to,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)
from tests.support.stores import opened


def states(status: RecorderStatus) -> dict[str, str]:
    return {pair.symbol: pair.state for pair in status.pairs}


async def test_patterns_and_what_is_excluded(plain_url: str, tmp_path: Path) -> None:
    exchange, clock = exchange_of(market("BTC/USD"), market("ETH/USD"), market("ETH/EUR"))
    async with exchange.serve() as base_url:
        # Kraken's spelling of BTC, too. ETH/PYUSD is listed and has no trades.
        names, without = ["ETH/*", "xbt/usd"], ["*/BTC", "ETH/US?T", "*/PYUSD"]
        recorder = recorder_of(plain_url, base_url, clock, names, tmp_path, exclude=without)
        async with recording(recorder) as running:
            await until(recorder, lambda status: len(status.pairs) > 1 and is_live(status), running)
            assert states(recorder.status()) == {"ETH/EUR": "live", "ETH/USD": "live", "BTC/USD": "live"}
    for symbol in ("BTC/USD", "ETH/USD", "ETH/EUR"):
        there = exchange.markets[symbol].count_at(clock())
        await assert_recorded(plain_url, exchange.markets[symbol], there - 49, there)


async def test_a_pattern_without_a_pair_and_nothing_left(plain_url: str, tmp_path: Path) -> None:
    exchange, clock = exchange_of(market())
    async with exchange.serve() as base_url:
        for names, without, error in (
            (["NOPE/*"], [], UnknownPairError),
            (["BTC/USD"], ["BTC/*"], ConfigurationError),
        ):
            async with recorder_of(plain_url, base_url, clock, names, tmp_path, exclude=without) as recorder:
                with pytest.raises(error):
                    await recorder.run()


async def test_all_that_is_stored_and_listed(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing is missing, the snapshot says so: REST is not asked for a trade."""
    markets = [market(symbol, trades=700) for symbol in ("BTC/USD", "ETH/USD", "SOL/USD")]
    for one in markets:
        await download_one(plain_url, one, end_timestamp=START + MINUTE)
    clock = StartedClock(START + MINUTE, 60.0)
    exchange = SimulatedExchange(markets[:2], Faults(unknown=["SOL/USD"]), clock=clock)
    exchange.feed.heartbeat_seconds = 0.1
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, (), tmp_path, stored=True)
        async with recording(recorder) as running:
            await until(recorder, lambda status: len(status.pairs) > 1 and is_live(status), running)
            assert states(recorder.status()) == {"BTC/USD": "live", "ETH/USD": "live"}
            assert not [request for request in exchange.requests if request.path.endswith("Trades")]
            clock.go()
            await until(recorder, all_is_there(*markets[:2]), running)
    for one in markets[:2]:
        await assert_recorded(plain_url, one, 1)


async def test_a_new_listing_is_taken_up_and_a_delisted_pair_ends(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kraken_db.recorder")
    markets = [market("BTC/USD", trades=3_000), market("ETH/USD", trades=9_000)]
    exchange, clock = exchange_of(*markets)
    async with exchange.serve() as base_url:
        recorder = recorder_of(
            plain_url,
            base_url,
            clock,
            ["BTC/USD", "ETH/USD", "*/JPY"],
            tmp_path,
            listings_every=0.3,
            watch=Watch(),
        )
        async with recording(recorder) as running:
            await until(recorder, lambda status: all(pair.last_id for pair in status.pairs[:2]), running)
            there = markets[0].count_at(clock())
            clock.go()
            await until(recorder, has_come_to(900), running)
            late = market("ETH/JPY", start=clock.now(), trades=40)
            exchange.list_market(late)
            exchange.delist("ETH/USD")
            await until(
                recorder,
                lambda status: states(status).get("ETH/USD") == "delisted" and "ETH/JPY" in states(status),
                running,
            )
            await until(
                recorder,
                lambda status: (
                    {pair.symbol: pair.last_id for pair in status.pairs}.get("ETH/JPY") == 40
                    and has_come_to(3_000)(status)
                ),
                running,
            )
            assert states(recorder.status())["BTC/USD"] == "live"
    lines = [record.getMessage() for record in caplog.records]
    assert sorted(lines) == [
        "ETH/USD: Kraken does not list it any more, its recording has ended",
        "recorded from now on, too: ETH/JPY",
    ]
    await assert_recorded(plain_url, late, 1)
    await assert_recorded(plain_url, markets[0], there - 49)
    async with opened(plain_url) as store, store.database.read() as connection:
        known = await SyncStatusRepository(connection).of_each(DataType.TRADES, states(recorder.status()))
        (job,) = await RunningJobRepository(connection).all()
    ended = known["ETH/USD"]
    assert ended.ended_at and ended.newest and ended.ended_at > ended.newest, "nothing more is expected"
    assert known["BTC/USD"].ended_at is known["ETH/JPY"].ended_at is None
    assert "ETH/JPY" in job.symbols, "others see that it is recorded"


async def test_a_delisted_pair_that_the_feed_refuses_first(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its list says so too, at once: it was delisted, and was not refused."""
    caplog.set_level(logging.WARNING, "kraken_db.recorder.recorder")
    exchange, clock = exchange_of(market("BTC/USD"), market("ETH/USD"))
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, ["BTC/USD", "ETH/USD"], tmp_path, watch=Watch())
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            exchange.delist("ETH/USD")
            exchange.feed.cut_all()
            await until(recorder, lambda status: states(status)["ETH/USD"] == "delisted", running)
            await until(recorder, lambda status: states(status)["BTC/USD"] == "live", running)
    (line,) = [record.getMessage() for record in caplog.records if record.name.endswith(".recorder")]
    assert line == "ETH/USD: Kraken does not list it any more, its recording has ended"


async def test_a_refusal_of_rest_ends_no_pair(plain_url: str, tmp_path: Path) -> None:
    """The first answers for each hole are errors that do not pass, the list of pairs included."""
    wanted = market(trades=1_500)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    clock = StartedClock(START + MINUTE, 60.0)
    exchange = SimulatedExchange(
        [wanted],
        Faults({Fault.INVALID_ARGUMENTS: 0.5, Fault.UNKNOWN_PAIR: 0.5}, in_a_row=1),
        clock=clock,
        feed_faults=FeedFaults(lost=0.02),
    )
    exchange.feed.heartbeat_seconds = 0.1
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, all_is_there(wanted), running)
            status = recorder.status()
    assert status.repaired > 0
    refused = [request.answer for request in exchange.requests if request.answer != "ok"]
    assert len(refused) > 2
    await assert_recorded(plain_url, wanted, 1)
