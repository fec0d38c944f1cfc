"""Candles and trades over HTTP: every row of a range once, exactly, however it is cut into answers."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc

from kraken_db.web import rows
from tests.support.archives import START, import_file, minutes, query, write
from tests.support.serving import Served, served

# Twenty digits: no float holds so many.
CANDLES = "".join(
    f"{START + 60 * m},1234567890.0000000{m + 1:03},1234567891,999999.9999999999,1000000.5,"
    f"{m + 1}.1234567891,{m + 1}\n"
    for m in range(10)
)


def trades(*moments: str) -> str:
    return "".join(
        f"{100 + n}.1,0.0000000{n + 1},{moment},{'bs'[n % 2]},{'ml'[n % 2]},,{n + 1}\n"
        for n, moment in enumerate(moments)
    )


async def all_pages(server: Served, path: str, **query: Any) -> tuple[list[list[Any]], int]:
    """The rows of all answers, one after the other by ``next``, and how many answers there were."""
    found: list[list[Any]] = []
    asked = 0
    start: dict[str, str] = {}
    while True:
        answer = (await server.get(path, **(query | start))).json
        asked += 1
        found += answer["rows"]
        if answer["next"] is None:
            return found, asked
        start = {"start": answer["next"]}


async def test_candles_are_exact(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", CANDLES))
    async with served(db_url) as server:
        answer = await server.get("/api/v1/candles", symbol="xbtusd", interval="1m", limit="2")
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/json"
        assert answer.json == {
            "symbol": "BTC/USD",
            "interval": "1m",
            "start": "2023-01-01T00:00:00Z",
            "end": "2023-01-01T00:10:00Z",
            "columns": ["time", "open", "high", "low", "close", "vwap", "volume", "trade_count"],
            "rows": [
                [
                    *("2023-01-01T00:00:00Z", "1234567890.0000000001", "1234567891", "999999.9999999999"),
                    *("1000000.5", None, "1.1234567891", 1),
                ],
                [
                    *("2023-01-01T00:01:00Z", "1234567890.0000000002", "1234567891", "999999.9999999999"),
                    *("1000000.5", None, "2.1234567891", 2),
                ],
            ],
            "next": "2023-01-01T00:02:00Z",
        }
        found = (await server.get("/api/v1/candles", symbol="BTC/USD", interval="5m", numbers="float")).json
        assert found["rows"][0][:2] == ["2023-01-01T00:00:00Z", 1234567890.0]
        assert found["rows"][0][6:] == [15.6172839455, 15]


async def test_pages_of_candles_are_the_whole(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PAGE", 3)
    await import_file(
        plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(20) + minutes(5, start=START + 86400))
    )
    async with served(plain_url) as server:
        # Seven minutes are counted from 1970: they open at 23:59, 0:06, 0:13, and at 23:54 and 0:01.
        for interval, count in (("1m", 25), ("5m", 5), ("7m", 5), ("1h", 2)):
            whole = (await server.get("/api/v1/candles", symbol="BTC/USD", interval=interval)).json["rows"]
            assert len(whole) == count
            for limit in ("1", "2", "3", "4", "25"):
                found, _ = await all_pages(
                    server, "/api/v1/candles", symbol="BTC/USD", interval=interval, limit=limit
                )
                assert found == whole, (interval, limit)


async def test_trades_of_one_moment_are_never_divided(
    db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen trades: one, then seven of one moment, then two, then five of another."""
    monkeypatch.setattr(rows, "PAGE", 3)
    moments = [
        f"{START}.5",
        *[f"{START + 1}.25"] * 7,
        f"{START + 2}",
        f"{START + 3}",
        *[f"{START + 9}.125"] * 5,
    ]
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", trades(*moments)))
    async with served(db_url) as server:
        whole = (await server.get("/api/v1/trades", symbol="BTC/USD")).json
        assert [row[1] for row in whole["rows"]] == list(range(1, 16))
        assert whole["rows"][0] == [
            *("2023-01-01T00:00:00.500000Z", 1, "100.1", "0.00000001", "buy", "market", ""),
        ]
        for limit, answers in (("1", 5), ("2", 4), ("8", 2), ("15", 1)):
            found, asked = await all_pages(server, "/api/v1/trades", symbol="BTC/USD", limit=limit)
            assert found == whole["rows"], limit
            assert asked == answers, limit
        part = await server.get(
            "/api/v1/trades", symbol="BTC/USD", start="2023-01-01T00:00:01.25Z", end="2023-01-01T00:00:03Z"
        )
        assert [row[1] for row in part.json["rows"]] == list(range(2, 10))


async def test_csv_and_arrow_have_all_rows_exactly(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PAGE", 4)
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", CANDLES))
    async with served(plain_url) as server:
        answer = await server.get("/api/v1/candles", symbol="BTC/USD", format="csv")
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="BTC-USD_1m.csv"'
        read = list(csv.DictReader(io.StringIO(answer.body.decode())))
        assert [row["open"] for row in read] == [
            f"1234567890.0000000{m + 1:03}".rstrip("0") for m in range(10)
        ]
        assert read[0]["time"] == "2023-01-01T00:00:00Z" and read[0]["vwap"] == ""
        exact = await server.get("/api/v1/candles", symbol="BTC/USD", format="arrow")
        table = ipc.open_stream(exact.body).read_all()
        assert table.num_rows == 10 and table.schema.field("open").type == pa.decimal128(20, 10)
        assert table["volume"].to_pylist()[9] == Decimal("10.1234567891")
        floats = await server.get("/api/v1/candles", symbol="BTC/USD", format="arrow", numbers="float")
        assert ipc.open_stream(floats.body).read_all()["volume"].to_pylist()[9] == 10.1234567891
        nothing = await server.get(
            "/api/v1/candles", symbol="BTC/USD", format="arrow", start="2024", end="2025"
        )
        assert ipc.open_stream(nothing.body).read_all().num_rows == 0


async def test_the_finest_interval_that_fits(plain_url: str, tmp_path: Path) -> None:
    """A day has 1,440 minutes, 288 times five of them, 96 quarters of an hour, 48, 24, 6, 2 and 1."""
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(1440)))
    async with served(plain_url) as server:
        for points, interval, count in (
            ("1440", "1m", 1440),
            ("1439", "5m", 288),
            ("288", "5m", 288),
            ("96", "15m", 96),
            ("50", "30m", 48),
            ("24", "1h", 24),
            ("6", "4h", 6),
            ("2", "12h", 2),
            ("1", "1d", 1),
        ):
            found = (
                await server.get(
                    "/api/v1/candles", symbol="BTC/USD", points=points, start="2023-01-01", end="2023-01-02"
                )
            ).json
            assert (found["interval"], len(found["rows"]), found["next"]) == (interval, count, None), points


async def test_an_etag_is_that_of_the_data(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    await import_file(db_url, write(tmp_path, "ETHUSD.csv", trades(f"{START}.5", f"{START + 1}.5")))
    async with served(db_url) as server:
        for path, symbol, asked in (
            ("/api/v1/candles", "BTC/USD", {"interval": "5m"}),
            ("/api/v1/trades", "ETH/USD", {}),
        ):
            first = await server.get(path, symbol=symbol, **asked)
            tag = first.headers["ETag"]
            again = await server.get(path, symbol=symbol, **asked, headers={"If-None-Match": tag})
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
            other = await server.get(path, symbol=symbol, **asked, limit="1", headers={"If-None-Match": tag})
            assert other.status == 200 and other.headers["ETag"] != tag
        candles = {"symbol": "BTC/USD", "interval": "5m", "start": "2023-01-01", "end": "2023-01-01T00:10"}
        tag = (await server.get("/api/v1/candles", **candles)).headers["ETag"]
        await query(
            db_url,
            "UPDATE candles SET close = 101.5 WHERE symbol = 'BTC/USD' AND timestamp = '2023-01-01 00:04+00'",
        )
        changed = await server.get("/api/v1/candles", **candles, headers={"If-None-Match": tag})
        assert changed.status == 200 and changed.headers["ETag"] != tag


async def test_head_says_what_get_says(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    async with served(plain_url) as server:
        for path in ("/api/v1/symbols", "/api/v1/candles", "/healthz", "/api/v1/openapi.json"):
            asked = {"params": {"symbol": "BTC/USD"}} if "candles" in path else {}
            got, head = await server.ask("GET", path, **asked), await server.ask("HEAD", path, **asked)
            assert (head.status, head.body) == (200, b""), path
            assert head.headers.get("ETag") == got.headers.get("ETag"), path


async def test_zones_and_ends_of_ranges(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(120)))
    async with served(plain_url) as server:
        berlin = await server.get(
            "/api/v1/candles", symbol="BTC/USD", start="2023-01-01T01:30", tz="Europe/Berlin", limit="1"
        )
        assert berlin.json["rows"][0][0] == "2023-01-01T00:30:00Z"
        empty = await server.get("/api/v1/candles", symbol="BTC/USD", start="2023-01-01", end="2023-01-01")
        assert (empty.json["rows"], empty.json["next"]) == ([], None)
        wrong = await server.get("/api/v1/candles", symbol="BTC/USD", start="2024", end="2023")
        assert (wrong.status, wrong.error) == (
            400,
            "start is after end: 2024-01-01T00:00:00Z and 2023-01-01T00:00:00Z",
        )


async def test_an_answer_is_json_to_its_end(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(6_001)))
    async with served(plain_url) as server:
        answer = await server.get("/api/v1/candles", symbol="BTC/USD", limit="50000")
        found = json.loads(answer.body)
        assert len(found["rows"]) == 6_001 and found["next"] is None
        assert [row[0] for row in found["rows"]] == sorted({row[0] for row in found["rows"]})
