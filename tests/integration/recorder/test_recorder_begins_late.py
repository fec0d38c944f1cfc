"""The database, or Kraken, is away when a recording starts: it waits, and says so."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from aiohttp import web

from kraken_db.errors import AuthenticationError, ConfigurationError, SchemaError, UnknownPairError
from kraken_db.recorder import Recorder
from kraken_db.simulator import SimulatedExchange
from tests.support.archives import query
from tests.support.live_writing import Gateway
from tests.support.recording import (
    all_is_there,
    assert_recorded,
    exchange_of,
    is_live,
    market,
    recorder_of,
    until,
)


class Unlisting(SimulatedExchange):
    """``status``: what its list of pairs answers, instead of a list."""

    status: int | None = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.status is not None and request.path.endswith("AssetPairs"):
            return web.Response(status=self.status)
        return await super()._handle(request)


async def test_the_database_comes_after_the_recorder(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, is a problem meanwhile, and all that came before is fetched."""
    caplog.set_level(logging.WARNING, "kraken_db.recorder")
    wanted = market(trades=700)
    exchange, clock = exchange_of(wanted)
    async with exchange.serve() as base_url, Gateway(plain_url) as gateway:
        gateway.close()
        recorder = recorder_of(gateway.url, base_url, clock, [wanted.symbol], tmp_path)
        assert await recorder.problems() == []
        connecting = asyncio.create_task(recorder.connect_patiently())
        async with asyncio.timeout(20):
            while not await recorder.problems():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        (problem,) = await recorder.problems()
        assert problem.key == "database"
        assert problem.text.startswith("the database cannot be used: ")
        await asyncio.sleep(1.5)  # a second attempt
        assert not connecting.done()
        gateway.open()
        async with asyncio.timeout(20):
            assert await connecting
        running = asyncio.create_task(recorder.run())
        await until(recorder, is_live, running)
        there = wanted.count_at(clock())
        clock.go()
        await until(recorder, all_is_there(wanted), running)
        recorder.request_stop()
        await running
        await recorder.close()
    said = [record.getMessage() for record in caplog.records if record.name.endswith(".beginning")]
    assert len(said) == 2, said
    assert said[0].endswith("; the recording waits for the database and begins when it is there")
    assert said[1].startswith("the database is there, after ")
    await assert_recorded(plain_url, wanted, there - 49)


async def test_a_stop_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder("postgresql://me@127.0.0.1:9/x", ["BTC/USD"], journal_dir=tmp_path)
    monkeypatch.setattr(recorder._beginning, "sleep", lambda _: asyncio.sleep(3600))
    connecting = asyncio.create_task(recorder.connect_patiently())
    await asyncio.sleep(0.3)
    recorder.request_stop()
    async with asyncio.timeout(30):  # the pause alone is an hour
        assert await connecting is False
    await recorder.close()


async def test_what_no_waiting_mends_is_an_error_at_once(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    nowhere = plain_url.replace(plain_url.rsplit("/", 1)[1].partition("?")[0], "no_such_database")
    for url, error in ((plain_empty_url, SchemaError), (nowhere, AuthenticationError)):
        recorder = Recorder(url, ["BTC/USD"], journal_dir=tmp_path)
        with pytest.raises(error):
            await recorder.connect_patiently()
        await recorder.close()


@pytest.mark.parametrize("status", [503, 403])
async def test_kraken_is_away_when_a_pattern_is_to_be_recorded(
    plain_url: str, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kraken_db.recorder.beginning._AFTER_A_REFUSAL", 1.0)
    _, clock = exchange_of(market())
    exchange = Unlisting([market()], clock=clock)
    exchange.feed.heartbeat_seconds = 0.1
    exchange.status = status
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, ["BTC/US?"], tmp_path)
        async with recorder:
            running = asyncio.create_task(recorder.run())
            async with asyncio.timeout(30):
                while not await recorder.problems():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            (problem,) = await recorder.problems()
            assert (problem.key, problem.patience) == ("feed", 30.0)
            assert f"HTTP {status}" in problem.text
            exchange.status = None
            await until(recorder, lambda seen: bool(seen.pairs) and is_live(seen), running)
            recorder.request_stop()
            await running
    assert await query(plain_url, "SELECT count(*) > 0 FROM trades") == [(True,)]


async def test_a_pair_that_is_not_listed_is_not_waited_for(plain_url: str, tmp_path: Path) -> None:
    exchange, clock = exchange_of(market())
    async with exchange.serve() as base_url:
        async with recorder_of(plain_url, base_url, clock, ["NOPE/*"], tmp_path) as recorder:
            with pytest.raises(UnknownPairError):
                await recorder.run()
        async with recorder_of(plain_url, base_url, clock, (), tmp_path, stored=True) as empty:
            with pytest.raises(ConfigurationError, match=r"nothing is stored .*name pairs"):
                await empty.run()
