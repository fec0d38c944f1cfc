"""A silent feed while it records: a new connection, nothing missing afterwards, and one line about it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest

from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.recorder import Recorder
from kraken_db.simulator import FeedFaults, feed_url
from tests.support.downloading import download_one, floor
from tests.support.recording import (
    MINUTE,
    START,
    all_is_there,
    assert_candles,
    assert_recorded,
    exchange_of,
    has_come_to,
    market,
    recording,
    until,
)
from tests.support.tcp_proxy import DroppingProxy

SHORT = Watch(quiet_after=60, ping_after=0.3, dead_after=0.8)


@pytest.mark.parametrize("silence", ["answers only", "no heartbeats", "dropped"])
async def test_silence(
    plain_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    silence: Literal["answers only", "no heartbeats", "dropped"],
) -> None:
    """The first connection falls silent, from the start, after a trade, or when much has been recorded."""
    caplog.set_level(logging.WARNING, "kraken_db.recorder")
    wanted = market(trades=2_500)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    faults = {
        "answers only": FeedFaults(answers_only=1),
        "no heartbeats": FeedFaults(no_heartbeats=1, mute=1),
        "dropped": FeedFaults(),
    }[silence]
    exchange, clock = exchange_of(wanted, faults=faults)
    async with AsyncExitStack() as stack:
        base_url = await stack.enter_async_context(exchange.serve())
        address = urlsplit(base_url)
        assert address.hostname and address.port
        proxy = DroppingProxy((address.hostname, address.port))
        port = await stack.enter_async_context(proxy.serve())
        recorder = Recorder(
            plain_url,
            [wanted.symbol],
            client=KrakenRestClient(base_url, rate_limit_delay=0, backoff=0.01),
            feed=KrakenWebSocketClient(feed_url(f"http://127.0.0.1:{port}"), watch=SHORT, now=clock.now),
            clock=clock.now,
            journal_dir=tmp_path / "journal",
            grace=clock.speed / 2,
            flush_interval=0.1,
        )
        running = await stack.enter_async_context(recording(recorder))
        await until(recorder, lambda status: status.pairs[0].is_subscribed, running)
        clock.go()
        exchange.feed.set_faults(FeedFaults())
        if silence == "dropped":
            await until(recorder, has_come_to(1_000), running)
            proxy.drop()
        await until(recorder, all_is_there(wanted), running)
        closed = datetime.fromtimestamp(wanted.stamp(2_499) // 10**9, UTC) + 3 * MINUTE
        await until(recorder, lambda _status: clock.now() >= closed, running)
        assert recorder.status().reconnects == 1
    found = await assert_recorded(plain_url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the live feed was lost at ")
    told = "nothing came for 0." if silence == "dropped" else "no heartbeat came for 0."
    assert told in line


async def test_nothing_is_live_without_a_connection(plain_url: str, tmp_path: Path) -> None:
    wanted = market()
    exchange, clock = exchange_of(wanted)
    async with AsyncExitStack() as stack:
        base_url = await stack.enter_async_context(exchange.serve())
        address = urlsplit(base_url)
        assert address.hostname and address.port
        proxy = DroppingProxy((address.hostname, address.port))
        port = await stack.enter_async_context(proxy.serve())
        recorder = Recorder(
            plain_url,
            [wanted.symbol],
            client=KrakenRestClient(base_url, rate_limit_delay=0),
            feed=KrakenWebSocketClient(feed_url(f"http://127.0.0.1:{port}"), now=clock.now),
            clock=clock.now,
            journal_dir=tmp_path / "journal",
        )
        running = await stack.enter_async_context(recording(recorder))
        clock.go()
        await until(recorder, lambda status: status.pairs[0].state == "live", running)
        await proxy.stop()
        await until(recorder, lambda status: not status.is_connected, running)
        (pair,) = recorder.status().pairs
        assert (pair.state, pair.is_subscribed) == ("not subscribed", False)
