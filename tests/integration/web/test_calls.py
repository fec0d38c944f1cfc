"""Every call of the document is answered, and what it answers is what the document says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kraken_db.web.app import ROUTES
from kraken_db.web.openapi import openapi
from tests.support.archives import START, import_file, minutes, query, write
from tests.support.serving import Served, served

DAY = {"start": "2023-01-01", "end": "2023-01-02"}


def schema_of(document: dict[str, Any], path: str, method: str = "get", status: str = "200") -> Any:
    content = document["paths"][path][method]["responses"][status]["content"]
    return {**content["application/json"]["schema"], "components": document["components"]}


def test_the_document_has_every_route() -> None:
    document = openapi(ROUTES, has_token=True)
    told = {(method.upper(), path) for path, found in document["paths"].items() for method in found}
    assert told == {(route.method, route.path) for route in ROUTES}
    ids = [one["operationId"] for found in document["paths"].values() for one in found.values()]
    assert len(ids) == len(set(ids)) == len(ROUTES)
    for path, found in document["paths"].items():
        for operation in found.values():
            assert bool(operation.get("security")) is (path not in ("/healthz", "/api/v1/openapi.json"))
            for answer in operation["responses"].values():
                for media, content in answer["content"].items():
                    if media == "application/json":
                        jsonschema.Draft202012Validator.check_schema(content["schema"])


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", fail)
    assert openapi(ROUTES, has_token=False)["info"]["version"] == "0"


async def test_every_answer_fits_the_document(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(120)))
    async with served(db_url) as server:
        document = (await server.get("/api/v1/openapi.json")).json
        for route in ROUTES:
            if route.method != "GET" or "{" in route.path or route.is_long:
                continue
            names = {one.name for one in route.parameters}
            asked = {"symbol": "BTC/USD", "resolution": "60", "to": "1700000000", "query": "b"} | DAY
            answer = await server.get(route.path, **{key: asked[key] for key in names & set(asked)})
            assert answer.status == 200, (route.path, answer.body)
            if "application/json" in route.media:
                jsonschema.validate(answer.json, schema_of(document, route.path))
        for path in ("/api/v1/candles", "/udf/history", "/api/v1/nothing"):
            wrong = await server.get(path)
            jsonschema.validate(wrong.json, document["components"]["schemas"]["Error"])


async def test_numbers_for_prometheus(plain_url: str, tmp_path: Path) -> None:
    for start in (START, START + 7200):
        await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=start)))
    async with served(plain_url) as server:
        lines = (await server.get("/metrics")).body.decode().splitlines()
    labels = '{data_type="candles_1m",symbol="BTC/USD"}'
    for name, value in (("records", 120), ("gaps", 1), ("missing_seconds", 3600)):
        assert f"kraken_db_store_{name}{labels} {value:.1f}" in lines
    assert 'kraken_db_source_up{source="store"} 1.0' in lines


async def test_the_overview_by_hand(plain_url: str, tmp_path: Path) -> None:
    """Two hours of one pair a gap of an hour apart; of the other one nothing but an old day."""
    hours = minutes(60) + minutes(60, start=START + 7200)
    first = write(tmp_path, "XBTUSD_1.csv", hours)
    await import_file(plain_url, first)
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10, row="7,9,6,8.25,2.5,7")))
    now = datetime.now(UTC)
    async with served(plain_url) as server:
        found = (await server.get("/api/v1/overview")).json
        assert found["totals"] == {**found["totals"], "pairs": 2, "trades": 0, "candles": 130}
        eth, btc = sorted(found["pairs"], key=lambda pair: str(pair["symbol"]), reverse=True)
        assert (eth["symbol"], eth["price"], eth["candles"], eth["status"]) == (
            "ETH/USD",
            "8.25",
            10,
            "behind",
        )
        assert (btc["price"], btc["newest_candle"]) == ("101", "2023-01-01T02:59:00Z")
        assert btc["newest_trade"] is None and btc["spark"] == []
        lag = timedelta(seconds=btc["lag_seconds"])
        assert abs(now - lag - datetime(2023, 1, 1, 3, tzinfo=UTC)) < timedelta(minutes=2)
        assert eth["size"] > 0 and btc["size"] > eth["size"]
        one = (await server.get("/api/v1/overview", symbol="ethusd")).json
        assert [pair["symbol"] for pair in one["pairs"]] == ["ETH/USD"] and one["totals"]["pairs"] == 2
        # Two days of hours, the newest ones.
        recent = int(now.timestamp()) // 3600 * 3600 - 7200
        rows = "".join(f"{recent + 60 * m},1,99,1,{m + 1},1,1\n" for m in range(61))
        await import_file(plain_url, write(tmp_path, "XRPUSD_1.csv", rows))
    async with served(plain_url) as server:
        pairs = (await server.get("/api/v1/overview", symbol="XRP/USD")).json["pairs"]
        assert (pairs[0]["spark"], pairs[0]["price"], pairs[0]["trouble"]) == ([60.0, 61.0], "61", [])


async def test_coverage_and_gaps(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(60)))
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=START + 7200)))
    async with served(plain_url) as server:
        found = (await server.get("/api/v1/stretches", symbol="BTC/USD", **DAY)).json
        assert [(one["kind"], one["start"][11:16]) for one in found] == [
            *(("covered", "00:00"), ("gap", "01:00"), ("covered", "02:00"), ("gap", "03:00")),
        ]
        days = (await server.get("/api/v1/calendar", symbol="BTC/USD", data_type="candles")).json["days"]
        assert days[0] == {
            **{"day": "2023-01-01", "covered": round(2 / 24, 6), "sources": ["csv"]},
            "gap": True,
        }
        gaps = (await server.get("/api/v1/gaps", symbol="BTC/USD")).json
        assert [(one["kind"], one["start"], one["fill"]) for one in gaps] == [
            ("inside", "2023-01-01T01:00:00Z", "kraken-db gaps fill BTC/USD"),
            ("end", "2023-01-01T03:00:00Z", "kraken-db gaps fill BTC/USD"),
        ]
        assert (await server.get("/api/v1/gaps")).json == gaps
        status = (await server.get("/api/v1/status")).json
        assert status["symbols"][0]["data"][0]["gaps"] == 1
        assert "where" not in status["database"]


async def test_the_protocol_of_tradingview(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(120)))
    async with served(plain_url) as server:
        assert abs(int((await server.get("/udf/time")).body) - datetime.now(UTC).timestamp()) < 60
        config = (await server.get("/udf/config")).json
        assert config["supported_resolutions"] == ["1", "5", "15", "30", "60", "240", "720", "1D", "1W"]
        symbol = (await server.get("/udf/symbols", symbol="Kraken:BTC/USD")).json
        assert (symbol["ticker"], symbol["pricescale"], symbol["session"]) == ("BTC/USD", 100, "24x7")
        assert (await server.get("/udf/symbols", symbol="XRP/USD")).json == {
            "s": "error",
            "errmsg": "unknown symbol",
        }
        assert [one["symbol"] for one in (await server.get("/udf/search", query="btc-u")).json] == ["BTC/USD"]
        hours = {"symbol": "BTC/USD", "resolution": "60"}
        found = await server.get("/udf/history", **hours, **{"from": str(START), "to": str(START + 7200)})
        assert found.json == {
            **{"s": "ok", "t": [START, START + 3600], "o": [100.5, 100.5], "h": [102.0, 102.0]},
            **{"l": [99.5, 99.5], "c": [101.0, 101.0], "v": [150.0, 150.0]},
        }
        counted = await server.get("/udf/history", **hours, countback="1", to=str(START + 7200))
        assert counted.json["t"] == [START + 3600]
        later = {"from": str(START + 90_000), "to": str(START + 99_000)}
        assert (await server.get("/udf/history", **hours, **later)).json == {
            "s": "no_data",
            "nextTime": START + 3600,
        }
        before = {"from": "0", "to": "1000"}
        assert (await server.get("/udf/history", **hours, **before)).json == {"s": "no_data"}


async def listened(server: Served, seconds: float, **headers: str) -> list[tuple[str, str, Any]]:
    """Id, name and content of the events that come."""
    import json

    found: list[tuple[str, str, Any]] = []
    fields: dict[str, str] = {}
    try:
        async with (
            asyncio.timeout(seconds),
            server.session.get(server.base + "/api/v1/events", headers=headers) as response,
        ):
            assert response.headers["Content-Type"] == "text/event-stream"
            async for raw in response.content:
                line = raw.decode().rstrip("\n")
                if not line and "event" in fields:
                    found.append((fields["id"], fields["event"], json.loads(fields["data"])))
                name, _, value = line.partition(": ")
                fields = {} if not line else fields | {name: value}
    except TimeoutError:
        pass
    return found


async def test_what_is_stored_is_told(plain_url: str) -> None:
    """By another process, as it were: rows and counters of the last minute."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    counters = (
        "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp, total_records)"
        " VALUES ('BTC/USD', :kind, :moment, :moment, 1) ON CONFLICT (symbol, data_type)"
        " DO UPDATE SET newest_timestamp = excluded.newest_timestamp, total_records = 2"
    )

    async def store() -> None:
        await query(
            plain_url,
            "INSERT INTO trades (timestamp, symbol, id, price, volume, side)"
            " VALUES (:moment, 'BTC/USD', 5, 100.25, 1, 'buy')",
            moment=now,
        )
        await query(
            plain_url,
            "INSERT INTO candles (timestamp, symbol, interval_minutes, open, high, low, close, volume,"
            " trade_count) VALUES (:moment, 'BTC/USD', 1, 100, 101, 99, 100.25, 1.5, 3)",
            moment=now,
        )
        await query(plain_url, counters, kind="trades", moment=now)
        await query(plain_url, counters, kind="candles_1m", moment=now)

    await query(plain_url, counters, kind="candles_1h", moment=now)
    async with served(plain_url) as server:
        listening = asyncio.create_task(listened(server, 12))
        await asyncio.sleep(4)
        await store()
        found = await listening
        moment = now.isoformat().replace("+00:00", "Z")
        assert [(name, content) for _, name, content in found] == [
            ("trade-price", {"symbol": "BTC/USD", "price": "100.25", "time": moment}),
            (
                "candle",
                {
                    **{"symbol": "BTC/USD", "interval": "1m"},
                    "row": [moment, "100", "101", "99", "100.25", None, "1.5", 3],
                },
            ),
        ]
        # Who comes back gets what came after the last one, and nothing twice.
        again = await listened(server, 2, **{"Last-Event-ID": found[0][0]})
        assert again == found[1:]
        assert await listened(server, 2, **{"Last-Event-ID": found[1][0]}) == []
        for unknown in ("x", "1-2-3", f"{found[0][0]}9", "\u00e9", "9" * 400):
            (reset,) = await listened(server, 1, **{"Last-Event-ID": unknown})
            assert reset[1:] == ("reset", {})
