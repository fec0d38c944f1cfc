"""What of a recording a webhook is told: outages of the feed and of the database, pairs that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kraken_db.alarms import Alarms, Webhook
from kraken_db.db.engine import Database
from kraken_db.errors import DatabaseUnavailableError
from kraken_db.policies import BackgroundJob
from tests.support.recording import (
    MINUTE,
    START,
    StartedClock,
    exchange_of,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)
from tests.support.tcp_proxy import DroppingProxy
from tests.support.webhooks import Hook, webhook


def alarms_of(hook: Hook, url: str, clock: StartedClock, folder: Path) -> Alarms:
    return Alarms(Webhook.parse(hook.url), url, "record", folder=folder / "alarms", clock=clock.now)


async def told(hook: Hook, text: str) -> list[str]:
    """All that was told until then."""
    async with asyncio.timeout(30):
        while not any(text in body["text"] for body in hook.received):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return hook.texts


async def test_the_exchange_is_away_and_comes_back(plain_url: str, tmp_path: Path) -> None:
    """Told when it has been away for half a minute of the fast clock, and once when it is back."""
    wanted = market(trades=60_000)
    exchange, clock = exchange_of(wanted)
    async with webhook() as hook, exchange.serve() as base_url:
        address = urlsplit(base_url)
        assert address.hostname and address.port
        proxy = DroppingProxy((address.hostname, address.port))
        async with AsyncExitStack() as line:
            port = await line.enter_async_context(proxy.serve())
            there = f"http://127.0.0.1:{port}"
            recorder = recorder_of(plain_url, there, clock, [wanted.symbol, "NOPE/USD"], tmp_path)
            alarms = alarms_of(hook, plain_url, clock, tmp_path)
            async with recording(recorder) as running:
                watching = asyncio.create_task(alarms.watch(recorder.problems, every=0.02))
                await until(recorder, lambda status: status.pairs[1].state == "refused", running)
                clock.go()
                await until(recorder, lambda status: status.pairs[0].received > 100, running)
                (refused,) = await told(hook, "NOPE/USD")
                assert refused.startswith("- NOPE/USD is not recorded: ")
                await proxy.stop()
                (down,) = await told(hook, "no live feed")
                await line.enter_async_context(proxy.serve(port))
                (back,) = await told(hook, "over, after")
                assert watching.cancel(), "it goes on and on"
    assert down.startswith("- no live feed since 10:0")
    assert back.startswith("- over, after ")
    assert back.endswith(down.removeprefix("- "))


async def test_a_database_that_is_away_and_its_jobs(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away, nothing is known of its jobs: the last that was known counts."""
    wanted = market()
    exchange, clock = exchange_of(wanted)
    failing = BackgroundJob("trades", "retention", None, MINUTE, None, START, False, 3, False, "no room")

    class Jobs:
        async def all(self, _connection: object) -> list[BackgroundJob]:
            return [failing]

    @asynccontextmanager
    async def away(_self: object) -> AsyncIterator[None]:
        raise DatabaseUnavailableError("nobody answers at db.example")
        yield

    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            assert await recorder.problems() == []
            with monkeypatch.context() as patch:
                patch.setattr(recorder._connected().backend, "jobs", Jobs(), raising=False)
                known = await recorder.problems()
                assert [(one.key, one.text) for one in known] == [
                    ("job retention of trades", "retention of trades is failing (3 failures): no room")
                ]
                patch.setattr(Database, "read", away)
                found = await recorder.problems()
                assert [one.key for one in found] == ["database", "job retention of trades"]
                assert found[0].text == "the database cannot be used: nobody answers at db.example"
            assert await recorder.problems() == []
