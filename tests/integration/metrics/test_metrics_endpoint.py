"""``/metrics`` when something is away, slow or asked too often, and ``--metrics-port`` of the commands."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from kraken_db.cli import backfill, record
from kraken_db.cli.metrics import Address, metrics_of
from kraken_db.errors import ConfigurationError, DatabaseUnavailableError
from kraken_db.metrics import endpoint
from kraken_db.metrics.endpoint import Source, StoreSource, serving
from kraken_db.recorder import Recorder
from kraken_db.simulator import Market, SimulatedExchange
from kraken_db.status import read_status
from kraken_db.store import Store
from tests.support.downloading import downloading
from tests.support.lanes.postgres import free_port
from tests.support.processes import running
from tests.support.shell import run


async def good() -> Iterable[Metric]:
    return [GaugeMetricFamily("kraken_db_good", "Good.", value=1)]


async def away() -> Iterable[Metric]:
    raise DatabaseUnavailableError("nobody answers at secret-host")


async def wrong() -> Iterable[Metric]:
    raise ZeroDivisionError


async def slow() -> Iterable[Metric]:
    await asyncio.sleep(60)
    return []


@asynccontextmanager
async def served(**sources: Source) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    async with serving("127.0.0.1", 0, sources) as url, aiohttp.ClientSession() as session:
        yield session, url


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


async def fetch(session: aiohttp.ClientSession, url: str) -> dict[Any, float]:
    async with session.get(url) as answer:
        assert answer.status == 200
        return samples(await answer.text())


async def test_what_fails_is_down_and_the_rest_is_there(caplog: pytest.LogCaptureFixture) -> None:
    async with served(good=good, away=away, wrong=wrong) as (session, url):
        found = await fetch(session, url)
    up = "kraken_db_source_up"
    assert found["kraken_db_good", ()] == 1.0
    assert {name: found[up, (("source", name),)] for name in ("good", "away", "wrong")} == {
        "good": 1.0,
        "away": 0.0,
        "wrong": 0.0,
    }
    assert "no metrics of the away: nobody answers" in caplog.text
    assert "no metrics of the wrong: internal error ZeroDivisionError" in caplog.text


async def test_a_source_that_takes_too_long_keeps_nobody_back() -> None:
    found = endpoint.MetricsEndpoint({"good": good, "slow": slow}, longest=0.2)
    families = [family async for family in found._families()]
    (up,) = (family for family in families if family.name == "kraken_db_source_up")
    assert {one.labels["source"]: one.value for one in up.samples} == {"good": 1.0, "slow": 0.0}


async def test_other_questions_are_refused() -> None:
    async with served(good=good) as (session, url):
        for method, path, status in (
            ("POST", url, 405),
            ("DELETE", url, 405),
            ("GET", url.replace("/metrics", "/"), 404),
            ("GET", f"{url}/..%2f..%2fetc/passwd", 404),
        ):
            async with session.request(method, path, data=b"x" * 100 if method == "POST" else None) as answer:
                assert answer.status == status, (method, path)
        async with session.get(url, headers={"Accept": "application/openmetrics-text"}) as answer:
            assert answer.content_type == "application/openmetrics-text"
            assert (await answer.text()).endswith("# EOF\n")


async def test_many_who_ask_share_one_look_at_the_store(
    plain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return await real(*arguments, **options)

    real = read_status
    monkeypatch.setattr(endpoint, "read_status", counted)
    store = await Store.open(plain_url)
    try:
        async with served(store=StoreSource(lambda: store)) as (session, url):
            found = await asyncio.gather(*(fetch(session, url) for _ in range(50)))
    finally:
        await store.close()
    assert looks == 1
    assert all(one["kraken_db_store_pending_refreshes", ()] == 0.0 for one in found)


async def test_a_port_that_is_taken() -> None:
    async with serving("127.0.0.1", 0, {}) as url:
        port = int(url.split(":")[2].partition("/")[0])
        with pytest.raises(ConfigurationError, match=rf"cannot be served on 127.0.0.1:{port}: "):
            async with serving("127.0.0.1", port, {}):
                pass
    with pytest.raises(ConfigurationError, match=r"cannot be served on 203\.0\.113\.1:0"):
        async with serving("203.0.113.1", 0, {}):
            pass


@pytest.mark.parametrize("value", ["", "x", "70000", "-1", "1.5", "localhost:", "٣٠٠٠", "1:2:x", "9464/x"])
def test_what_is_no_port(value: str) -> None:
    done = run("postgresql://nobody@127.0.0.1:1/x", "record", "BTC/USD", "--metrics-port", value)
    assert done.exit_code == 2
    assert "is no port: 9464, or with an address 0.0.0.0:9464" in done.stderr


async def test_a_backfill_tells_how_far_it_is(plain_url: str, tmp_path: Path) -> None:
    markets = [Market(symbol, seed=3, trades=30_000) for symbol in ("BTC/USD", "ETH/USD")]
    exchange, port = SimulatedExchange(markets, delay=0.3), free_port()
    async with exchange.serve() as base_url, aiohttp.ClientSession() as session:
        environment = {"DATABASE_URL": plain_url, "KRAKEN_BASE_URL": base_url}
        words = ("backfill", "BTC/USD", "ETH/USD", "NOPE/USD", "--source", "rest", "--rate-limit", "0")
        command = (sys.executable, "-m", "kraken_db", *words, "--metrics-port", str(port))
        async with running(*command, environment=environment, cwd=tmp_path) as process:
            found: dict[Any, float] = {}
            while not found.get(("kraken_db_job_records_total", (("job", "backfill"),))):
                assert process.returncode is None
                await asyncio.sleep(0.05)
                try:
                    found = await fetch(session, f"http://127.0.0.1:{port}/metrics")
                except aiohttp.ClientError:
                    continue
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in found.items()
        if name == "kraken_db_job_pairs"
    }
    assert sum(states.values()) == 3.0
    assert states["running"] >= 1.0
    asked = found["kraken_db_rest_requests_total", (("method", "Trades"), ("outcome", "answered"))]
    assert 0 < asked <= sum(request.path.endswith("Trades") for request in exchange.requests)
    assert found["kraken_db_source_up", (("source", "store"),)] == 1.0


async def test_the_numbers_of_a_backfill_at_its_end(plain_url: str) -> None:
    """And of none before it has begun: only the store and the requests are there."""
    market, told = Market("BTC/USD", seed=3, trades=2_500), list[str]()
    async with downloading(plain_url, SimulatedExchange([market])) as service:
        at = Address("127.0.0.1", 0)
        async with metrics_of(service, "backfill", lambda: backfill._families(service), at, told.append):
            (line,) = told
            assert line.startswith("metrics at http://127.0.0.1:")
            async with aiohttp.ClientSession() as session:
                before = await fetch(session, line.removeprefix("metrics at "))
                await service.backfill(["BTC/USD", "NOPE/USD"])
                found = await fetch(session, line.removeprefix("metrics at "))
    assert not any(name.startswith("kraken_db_job_") for name, _ in before)
    states = {
        state: found["kraken_db_job_pairs", (("job", "backfill"), ("state", state))]
        for state in ("waiting", "running", "done", "failed")
    }
    assert states == {"waiting": 0.0, "running": 0.0, "done": 1.0, "failed": 1.0}
    assert found["kraken_db_job_records_total", (("job", "backfill"),)] == 2_500.0
    assert found["kraken_db_job_expected_records", (("job", "backfill"),)] == 2_500.0
    limit = "kraken_db_database_connections_limit"
    assert found[limit, (("pool", "backfill"),)] >= 1.0


async def test_a_recording_that_has_not_begun_has_numbers(plain_url: str, tmp_path: Path) -> None:
    recorder, told = Recorder(plain_url, ["BTC/USD"], journal_dir=tmp_path), list[str]()
    at = Address("127.0.0.1", 0)
    async with (
        metrics_of(recorder, "recorder", lambda: record._families(recorder), at, told.append),
        aiohttp.ClientSession() as session,
    ):
        found = await fetch(session, told[0].removeprefix("metrics at "))
    assert found["kraken_db_source_up", (("source", "recorder"),)] == 1.0
    assert found["kraken_db_recorder_connected", ()] == 0.0
    assert found["kraken_db_source_up", (("source", "store"),)] == 0.0


async def test_without_an_address_nothing_is_served(plain_url: str) -> None:
    told = list[str]()
    async with metrics_of(Recorder(plain_url, ["BTC/USD"]), "recorder", away_families, None, told.append):
        assert told == []


def away_families() -> Iterable[Metric]:
    raise AssertionError("nobody asks")


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (" 0.0.0.0:9464 ", ("0.0.0.0", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65_535)),
    ],
)
def test_what_is_an_address(value: str, address: tuple[str, int]) -> None:
    (option,) = (one for one in record.record.params if one.name == "metrics")
    context = click.Context(record.record)
    converted = option.type_cast_value(context, value)
    assert converted == address
    assert option.type_cast_value(context, converted) == address, "one that is made already"
