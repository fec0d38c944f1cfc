"""Jobs of the page: the command line in a process of its own, its progress, its result, its end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kraken_db.simulator import Market, SimulatedExchange
from tests.support.archives import import_file, minutes, query, write
from tests.support.recording import START
from tests.support.serving import Served, served


async def until(server: Served, number: str, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(120):
        while True:
            job: dict[str, Any] = (await server.get(f"/api/v1/jobs/{number}")).json
            if is_wanted(job):
                return job
            await asyncio.sleep(0.2)


def is_over(job: dict[str, Any]) -> bool:
    return bool(job["state"] != "running")


async def test_verify_and_export(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(90)))
    exports = tmp_path / "exports"
    async with served(plain_url, export_dir=exports) as server:
        asked = {"kind": "verify", "arguments": {"symbols": ["XBTUSD"], "offline": True}}
        started = await server.post("/api/v1/jobs", asked)
        assert started.status == 202 and started.json["state"] == "running"
        number = started.json["id"]
        assert started.headers["Location"] == f"/api/v1/jobs/{number}"
        assert (await server.get(f"/api/v1/certificates/{number}")).status == 404  # not yet
        verified = await until(server, number, is_over)
        certificate = (await server.get(f"/api/v1/certificates/{number}")).json
        assert certificate == verified["result"]
        assert "BTC/USD" in json.dumps(certificate)
        assert (verified["state"], verified["error"], verified["progress"]["share"]) == ("done", None, 1.0)
        asked = {
            "kind": "export",
            "arguments": {"symbols": ["BTC/USD"], "intervals": ["1h"], "format": "csv", "folder": "mine"},
        }
        number = (await server.post("/api/v1/jobs", asked)).json["id"]
        exported = await until(server, number, is_over)
        assert exported["state"] == "done", exported
        assert (await server.get(f"/api/v1/certificates/{number}")).status == 404  # of another kind
        assert [path.name for path in (exports / "mine").rglob("*.csv")] == ["XBTUSD_60.csv"]
        fails = {"kind": "export", "arguments": {"symbols": ["XRP/USD"], "folder": "other"}}
        failed = await until(server, (await server.post("/api/v1/jobs", fails)).json["id"], is_over)
        assert failed["state"] == "failed" and "nothing is stored of XRP/USD" in failed["error"]
        assert str(tmp_path) not in json.dumps(failed)
        jobs = (await server.get("/api/v1/jobs")).json
        assert [job["kind"] for job in jobs] == ["export", "export", "verify"]


async def test_a_backfill_is_followed_and_stopped(plain_url: str) -> None:
    market = Market("BTC/USD", seed=5, start=START, trades=60_000, trades_per_minute=600)
    async with SimulatedExchange([market], delay=0.2).serve() as exchange:
        environment = {"KRAKEN_BASE_URL": exchange, "KRAKEN_DB_CONFIG": os.devnull}
        async with served(plain_url, jobs=1, environment=environment) as server:
            asked = {"kind": "backfill", "arguments": {"symbols": ["BTC/USD"]}}
            number = (await server.post("/api/v1/jobs", asked)).json["id"]
            more = await server.post("/api/v1/jobs", asked)
            assert (more.status, more.error) == (409, "1 jobs are running, and no more are allowed at once")
            running = await until(server, number, lambda job: "trades" in job["progress"]["text"])
            assert running["state"] == "running" and running["progress"]["text"].startswith("BTC/USD")
            assert (await server.get("/api/v1/jobs")).json[0]["id"] == number
            assert (await server.ask("DELETE", f"/api/v1/jobs/{number}")).status == 200
            stopped = await until(server, number, is_over)
            assert (stopped["state"], stopped["error"]) == ("stopped", None)
    # What was received is stored: as Ctrl-C on a terminal.
    ((count,),) = await query(plain_url, "SELECT count(*) FROM trades")
    assert 0 < count < 60_000


async def test_the_end_of_the_server_is_the_end_of_its_jobs(plain_url: str) -> None:
    market = Market("BTC/USD", seed=5, start=START, trades=60_000, trades_per_minute=600)
    async with SimulatedExchange([market], delay=0.2).serve() as exchange:
        environment = {"KRAKEN_BASE_URL": exchange, "KRAKEN_DB_CONFIG": os.devnull}
        async with served(plain_url, environment=environment) as server:
            asked = {"kind": "backfill", "arguments": {"symbols": ["BTC/USD"]}}
            number = (await server.post("/api/v1/jobs", asked)).json["id"]
            await until(server, number, lambda job: "trades" in job["progress"]["text"])
    ((ended,),) = await query(plain_url, "SELECT ended_at IS NOT NULL FROM running_jobs")
    assert ended


async def test_what_is_switched_off(plain_url: str) -> None:
    async with served(plain_url, jobs=0) as server:
        asked = {"kind": "verify", "arguments": {"symbols": ["BTC/USD"]}}
        off = await server.post("/api/v1/jobs", asked)
        assert (off.status, off.error) == (400, "jobs are switched off here")
    async with served(plain_url) as server:
        asked = {"kind": "export", "arguments": {"symbols": ["BTC/USD"], "folder": "x"}}
        assert (await server.post("/api/v1/jobs", asked)).error == "exports are switched off here"
        assert (await server.get("/api/v1/jobs/1")).status == 404
        assert (await server.ask("DELETE", "/api/v1/jobs/1")).status == 404
