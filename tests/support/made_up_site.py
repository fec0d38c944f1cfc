"""The API of ``kraken-db serve`` with made-up answers, for tests of its pages: any state can be had at once.

Prices are a function of time, so that candles of all intervals fit together.
"""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from kraken_db.intervals import parse_interval
from kraken_db.times import parse_time
from kraken_db.web.pages import Pages

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_FIRST = datetime(2016, 11, 1, tzinfo=UTC)
_BASES = [
    "BTC",
    "ETH",
    "SOL",
    "XRP",
    "ADA",
    "DOGE",
    "DOT",
    "LTC",
    "LINK",
    "AVAX",
    "ATOM",
    "UNI",
    "TRX",
    "XLM",
    "XMR",
    "ALGO",
    "AAVE",
    "FIL",
    "NEAR",
    "ARB",
]
_QUOTES = ["USD", "EUR", "USDT", "GBP", "BTC", "ETH"]


@dataclass
class MadeUpSite:
    """What the pages are shown. Change it, and they change."""

    pairs: int = 1_635
    token: str | None = None
    more: Sequence[dict[str, Any]] = ()
    """Pairs before all others."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    certificates: dict[str, Any] = field(default_factory=dict)
    posted: list[Any] = field(default_factory=list)
    gaps: list[tuple[datetime, datetime]] = field(default_factory=list)
    unknown: list[tuple[datetime, datetime]] = field(default_factory=list)
    quiet: list[tuple[datetime, datetime]] = field(default_factory=list)
    listeners: set[asyncio.Queue[str]] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    fails: bool = False

    def say(self, name: str, content: Any) -> None:
        """Send an event to every open page."""
        for queue in self.listeners:
            queue.put_nowait(f"event: {name}\ndata: {json.dumps(content)}\n\n")


SITE = web.AppKey("site", MadeUpSite)


@asynccontextmanager
async def serving(site: MadeUpSite) -> AsyncIterator[str]:
    """Its address, for as long as the block runs."""
    app = web.Application(middlewares=[_guard])
    app[SITE] = site
    Pages().add_to(app)
    for path, answer in _ANSWERS.items():
        app.router.add_get(f"/api/v1/{path}", answer)
    app.router.add_post("/api/v1/jobs", _start)
    app.router.add_delete("/api/v1/jobs/{id}", _stop)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/")).rstrip("/")


@web.middleware
async def _guard(request: web.Request, handler: Any) -> web.StreamResponse:
    site = request.app[SITE]
    if request.path.startswith("/api/"):
        site.asked.append(request.path_qs)
        if site.token and request.headers.get("Authorization") != f"Bearer {site.token}":
            return _refusal(401, "a token is needed")
        if site.fails:
            return _refusal(503, "the database does not answer", "is it running?")
    response: web.StreamResponse = await handler(request)
    if not response.prepared:
        response.headers["Content-Security-Policy"] = CSP
    return response


def _refusal(status: int, message: str, hint: str | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "hint": hint}}, status=status)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def price_at(symbol: str, moment: float) -> float:
    """Of a pair at a time in Unix seconds."""
    seed = zlib.crc32(symbol.encode()) % 1000
    day = moment / 86400 + seed
    slow = 1.1 * math.sin(day / 410) + 0.45 * math.sin(day / 97) + 0.12 * math.sin(day / 13)
    fast = 0.02 * math.sin(day * 2.1) + 0.012 * math.sin(day * 17) + 0.006 * math.sin(day * 131)
    noise = (zlib.crc32(f"{seed}{int(moment // 60)}".encode()) % 1000) / 1000 - 0.5
    return math.pow(10, seed % 6 - 1) * math.exp(slow + fast + 0.003 * noise) * 3


def _pair(symbol: str, number: int, now: datetime) -> dict[str, Any]:
    seconds = now.timestamp()
    has_gap, is_behind, has_ended = number % 131 == 7, number % 173 == 11, number % 37 == 5
    ended = now - timedelta(days=200) if has_ended else None
    gaps = number % 5 + 1 if has_gap else 0
    lag = 86400.0 * 3 if is_behind else 4.0 + number % 50
    trades = 900_000_000 // (number + 1) ** 1.1
    trouble = ([f"{gaps} gap" + ("s" if gaps > 1 else "")] if gaps else []) + (
        ["3 days behind"] if is_behind else []
    )
    spark = [] if has_ended else [price_at(symbol, seconds - 3600 * (48 - hour)) for hour in range(48)]
    return {
        "symbol": symbol,
        "status": "gaps"
        if gaps
        else "delisted"
        if ended
        else "behind"
        if is_behind
        else "live"
        if number < 40
        else "ok",
        "trouble": trouble,
        "newest_trade": _iso(now - timedelta(seconds=lag)),
        "newest_candle": _iso(now.replace(second=0, microsecond=0) - timedelta(minutes=1)),
        "price": f"{price_at(symbol, seconds):.6g}",
        "lag_seconds": None if ended else lag,
        "trades": int(trades),
        "candles": int(trades // 60) + 1000,
        "size": int(trades * 61),
        "coverage": {
            "share": 0.99213 if gaps else 0.71 if is_behind else 1.0,
            "start": _iso(_FIRST),
            "end": _iso(ended or now),
        },
        "gaps": gaps,
        "ended_at": ended and _iso(ended),
        "last_sync": _iso(now),
        "spark": spark,
    }


def _symbols(count: int) -> list[str]:
    first = [f"{base}/{quote}" for quote in _QUOTES for base in _BASES if base != quote]
    rest = [f"C{number:04d}/USD" for number in range(count)]
    return (first + rest)[:count]


def _all(site: MadeUpSite) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [*site.more, *(_pair(symbol, at, now) for at, symbol in enumerate(_symbols(site.pairs)))]


async def _overview(request: web.Request) -> web.Response:
    site = request.app[SITE]
    pairs = _all(site)
    if wanted := request.query.get("symbol"):
        pairs = [pair for pair in pairs if pair["symbol"] == wanted]
    totals = {
        "pairs": len(pairs),
        "trades": sum(pair["trades"] for pair in pairs),
        "candles": sum(pair["candles"] for pair in pairs),
        "size": sum(pair["size"] for pair in pairs),
        "problems": [],
    }
    return web.json_response({"now": _iso(datetime.now(UTC)), "totals": totals, "pairs": pairs})


async def _list(request: web.Request) -> web.Response:
    return web.json_response({"symbols": sorted(pair["symbol"] for pair in _all(request.app[SITE]))})


def _range(request: web.Request) -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return parse_time(request.query["start"], now), min(parse_time(request.query["end"], now), now)


def _inside(moment: datetime, ranges: Sequence[tuple[datetime, datetime]]) -> bool:
    return any(start <= moment < end for start, end in ranges)


def candle_row(symbol: str, opens: datetime, minutes: int) -> list[Any]:
    start, length = opens.timestamp(), minutes * 60
    prices = [price_at(symbol, start + length * part / 8) for part in range(9)]
    volume = abs(math.sin(start / 9000)) * 20 * minutes + 1
    numbers = (prices[0], max(prices), min(prices), prices[-1], sum(prices) / 9, volume)
    return [_iso(opens), *(float(f"{number:.6g}") for number in numbers), 3 * minutes]


async def _candles(request: web.Request) -> web.Response:
    site, symbol = request.app[SITE], request.query["symbol"]
    minutes = parse_interval(request.query["interval"])
    start, end = _range(request)
    rows: list[list[Any]] = []
    moment = max(start, _FIRST)
    while moment < end and len(rows) < int(request.query["limit"]):
        if not _inside(moment, [*site.gaps, *site.unknown, *site.quiet]):
            rows.append(candle_row(symbol, moment, minutes))
        moment += timedelta(minutes=minutes)
    return web.json_response({"symbol": symbol, "rows": rows, "next": None})


async def _trades(request: web.Request) -> web.Response:
    start, end = _range(request)
    count = min(int(request.query["limit"]), max(1, int((end - start).total_seconds() // 20)))
    step, symbol = (end - start) / count, request.query["symbol"]
    rows = [
        [_iso(start + step * at), 7_000_000 + at, f"{price_at(symbol, (start + step * at).timestamp()):.2f}",
         f"{abs(math.sin(at)) * 2:.8f}", "buy" if at % 3 else "sell", "market", ""]
        for at in range(count)
    ]  # fmt: skip
    return web.json_response({"rows": rows, "next": None})


async def _stretches(request: web.Request) -> web.Response:
    site = request.app[SITE]
    start, end = _range(request)
    cuts = [("gap", *one) for one in site.gaps] + [("unknown", *one) for one in site.unknown]
    cuts.append(("unknown", datetime(2013, 1, 1, tzinfo=UTC), _FIRST))
    found: list[dict[str, Any]] = []
    at = start
    for kind, first, last in sorted(cuts, key=lambda one: one[1]):
        first, last = max(first, at), min(last, end)
        if last <= first:
            continue
        if first > at:
            found.append({"kind": "covered", "start": _iso(at), "end": _iso(first), "source": "rest_trades"})
        found.append({"kind": kind, "start": _iso(first), "end": _iso(last), "source": None})
        at = last
    if at < end:
        found.append({"kind": "covered", "start": _iso(at), "end": _iso(end), "source": "rest_trades"})
    return web.json_response(found)


async def _calendar(request: web.Request) -> web.Response:
    site, now, days = request.app[SITE], datetime.now(UTC), []
    moment = _FIRST
    while moment < now:
        age = (now - moment).days
        sources = (
            ["csv"]
            if age > 700
            else ["rest_trades"]
            if age > 40
            else ["live", "rest_ohlc"]
            if age < 9
            else ["live"]
        )
        gap = any(start < moment + timedelta(days=1) and end > moment for start, end in site.gaps)
        lost = _inside(moment, site.unknown)
        covered = 0.0 if lost else 0.72 if gap else 1.0
        days.append(
            {
                "day": f"{moment:%Y-%m-%d}",
                "covered": covered,
                "sources": [] if lost else sources,
                "gap": gap,
            }
        )
        moment += timedelta(days=1)
    return web.json_response({"days": days})


async def _gaps(request: web.Request) -> web.Response:
    symbol = request.query["symbol"]
    found = [
        {"symbol": symbol, "data_type": kind, "start": _iso(start), "end": _iso(end), "kind": "hole",
         "why": "No source covers this time: nothing was recording, and no archive has it yet.",
         "fill": f"kraken-db gaps fill {symbol}"}
        for kind in ("candles_1m",) for start, end in request.app[SITE].gaps
    ]  # fmt: skip
    return web.json_response(found)


async def _jobs(request: web.Request) -> web.Response:
    return web.json_response(request.app[SITE].jobs)


async def _start(request: web.Request) -> web.Response:
    site, content = request.app[SITE], await request.json()
    site.posted.append(content)
    symbols = content["arguments"].get("symbols", [])
    if any("!" in symbol for symbol in symbols):
        return _refusal(400, f"symbols: {symbols[0]!r} is not a pair", "write it as BASE/QUOTE")
    job = made_up_job(f"job{len(site.posted)}", content["kind"], symbols=symbols)
    site.jobs.insert(0, job)
    return web.json_response(job, status=202)


def made_up_job(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name, "kind": kind, "origin": "page", "arguments": {},
        "symbols": ["BTC/USD"], "state": "running",
        "started": _iso(datetime.now(UTC) - timedelta(minutes=7)), "ended": None,
        "progress": {"share": 0.42, "text": "2 of 5 pairs · 12,345,678 trades · 3 min left"},
        "error": None, "log": ["BTC/USD: the archive has it up to 2024-06-30"],
        "has_result": False, "result": None,
        **more,
    }  # fmt: skip


def made_up_part(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "unit": "minutes", "compared": 1234, "problems": {}, "findings": [], "notes": [],
        "not_checked": None, "oldest": "2023-01-01T00:00:00Z", "newest": "2023-01-02T00:00:00Z", **more,
    }  # fmt: skip


def made_up_certificate(symbol: str, *, clean: bool, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "symbol": symbol, "clean": clean, "since": None, "until": None, "repaired": [], "dropped": {},
        "parts": parts, "error": None,
    }  # fmt: skip


async def _stop(request: web.Request) -> web.Response:
    for job in request.app[SITE].jobs:
        if job["id"] == request.match_info["id"]:
            job.update(state="stopped", ended=_iso(datetime.now(UTC)))
            return web.json_response(job)
    return _refusal(404, "there is no such job")


async def _certificate(request: web.Request) -> web.Response:
    found = request.app[SITE].certificates.get(request.match_info["job"])
    return _refusal(404, "there is no such certificate") if found is None else web.json_response(found)


async def _events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    queue: asyncio.Queue[str] = asyncio.Queue()
    listeners = request.app[SITE].listeners
    listeners.add(queue)
    try:
        await response.write(b": hello\n\n")
        while True:
            await response.write((await queue.get()).encode())
    finally:
        listeners.discard(queue)


_ANSWERS = {
    "overview": _overview,
    "symbols": _list,
    "candles": _candles,
    "trades": _trades,
    "stretches": _stretches,
    "calendar": _calendar,
    "gaps": _gaps,
    "jobs": _jobs,
    "certificates/{job}": _certificate,
    "events": _events,
}
