"""The numbers of a recording, as a real Prometheus has them, against the market's and the database's own."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kraken_db.metrics.endpoint import StoreSource, serving
from kraken_db.metrics.families import of_recorder
from kraken_db.recorder import Recorder
from kraken_db.simulator import FeedFaults
from tests.support.archives import query
from tests.support.downloading import download_one
from tests.support.prometheus import DEPLOY, prometheus, promtool
from tests.support.recording import (
    all_is_there,
    exchange_of,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)

BOARDS = DEPLOY / "grafana" / "dashboards"


def board(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((BOARDS / f"{name}.json").read_text())
    return document


def sources(recorder: Recorder) -> dict[str, Any]:
    async def own() -> Any:
        return of_recorder(recorder)

    return {"recorder": own, "store": StoreSource(lambda: recorder.store)}


async def test_a_real_prometheus_has_the_numbers(plain_url: str, tmp_path: Path) -> None:
    one = market()
    exchange, clock = exchange_of(one, faults=FeedFaults(lost=0.05))
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [one.symbol], tmp_path)
        async with (
            recording(recorder) as running,
            serving("127.0.0.1", 0, sources(recorder)) as url,
            prometheus(tmp_path / "prometheus", url.split("/")[2]) as server,
        ):
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, all_is_there(one), running)
            await until(recorder, lambda status: not status.buffer, running)
            (stored,) = (await query(plain_url, "SELECT count(*) FROM trades"))[0]
            symbol = (("symbol", one.symbol),)
            of_trades = (("data_type", "trades"), *symbol)
            await server.has(f"kraken_db_store_records == {stored}")
            received = recorder.status().received
            assert received > 0
            assert recorder.status().pairs[0].holes > 0
            await server.has(f"kraken_db_recorder_trades_received_total == {received}")
            assert (await server.query("kraken_db_store_records"))[of_trades] == stored
            assert await server.query("kraken_db_recorder_connected") == {(): 1.0}
            assert await server.query('kraken_db_recorder_pairs{state="live"}') == {(("state", "live"),): 1.0}
            assert await server.query("kraken_db_source_up") == {
                (("source", "recorder"),): 1.0,
                (("source", "store"),): 1.0,
            }
            asked = await server.query("sum by (method) (kraken_db_rest_requests_total)")
            paths = Counter(request.path.rpartition("/")[2] for request in exchange.requests)
            assert paths
            assert asked == {(("method", method),): count for method, count in paths.items()}
            last = f"{one.stamp(1999) / 1e9:.3f}"
            newest = await server.query("kraken_db_recorder_last_trade_timestamp_seconds")
            assert newest[symbol] == pytest.approx(float(last), abs=0.01)
            await assert_queries_work(server)
            alerts = await server.get("rules")
            assert [rule["lastError"] for rule in alerts["groups"][0]["rules"] if "lastError" in rule] == []
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                text = await answer.text()
    promtool("check", "metrics", standard_input=text)


async def assert_queries_work(server: Any) -> None:
    """Each query of the board gives something here, but for what is of another job or another server."""
    silent = {
        "kraken_db_disk",
        "kraken_db_job_",
        "kraken_db_store_table",
        "> 0",
        "kraken_db_recorder_feed_lag",
    }
    seen = 0
    for panel in board("health")["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "10s")
            await server.query(text)
            seen += 1
            if not any(part in text for part in silent):
                await server.has(text)
    assert seen >= 25


async def test_the_board_of_the_market_asks_what_the_database_has(plain_url: str) -> None:
    one = market(trades=3_000)
    await download_one(plain_url, one)
    rows = {}
    variables = {
        "${symbol:sqlstring}": f"'{one.symbol}'",
        "${interval}": "5m",
        "$__timeFrom()": "'2020-01-01T00:00:00Z'",
        "$__timeTo()": "'2030-01-01T00:00:00Z'",
    }
    for panel in board("market")["panels"]:
        for target in panel["targets"]:
            text = target["rawSql"]
            for name, value in variables.items():
                text = text.replace(name, value)
            assert "$" not in text
            rows[panel["title"]] = await query(plain_url, text)
    assert all(rows.values()), {title: len(found) for title, found in rows.items()}
    assert [row[0] for row in rows["$symbol, $interval"]] == sorted(
        row[0] for row in rows["$symbol, $interval"]
    )
    (symbols,) = await query(plain_url, board("market")["templating"]["list"][0]["query"])
    assert symbols == (one.symbol,)


def test_each_query_of_a_board_is_limited_and_escaped() -> None:
    for panel in board("market")["panels"]:
        for target in panel["targets"]:
            assert not re.search(r"\$symbol|\$\{symbol\}", target["rawSql"])
            assert (
                "LIMIT" in target["rawSql"]
                or "__timeFrom" in target["rawSql"]
                or "data_sync" in target["rawSql"]
            )
