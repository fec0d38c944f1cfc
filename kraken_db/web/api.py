"""The calls of ``/api/v1``: what is asked for, and the answer of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.db.migrations import current_revision
from kraken_db.documents import intervals_of, job_document, status_document
from kraken_db.errors import PairError, WrongValueError
from kraken_db.intervals import INTERVAL_NAMES, Interval, as_interval
from kraken_db.json_values import iso
from kraken_db.pairs import known_spelling
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.candle_versions import CandleVersionRepository
from kraken_db.repositories.candles import CandleRepository, clip_range
from kraken_db.repositories.running_jobs import RunningJob, RunningJobRepository
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.status import problems
from kraken_db.times import FIRST_MOMENT
from kraken_db.web.answers import document, is_known, refusal, stream, unchanged
from kraken_db.web.coverage import days_of, find_gaps, spans, stretches
from kraken_db.web.job_kinds import KINDS
from kraken_db.web.jobs import TooManyJobsError
from kraken_db.web.openapi import openapi
from kraken_db.web.parameters import (
    INTERVAL,
    SYMBOL,
    TIME,
    ZONE,
    Given,
    Parameter,
    choice,
    count,
)
from kraken_db.web.routes import Route
from kraken_db.web.rows import CANDLES, TRADES, Reading, Rows, as_arrow, as_csv, as_json
from kraken_db.web.site import Site

MOST_ROWS = 50_000
"""Of one answer in JSON; ``next`` says where the following ones begin. Other formats are sent as a whole."""
_USUAL_ROWS = 1_000
MOST_POINTS = 10_000
_BODY_WITHIN = 10.0
_MEDIA = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
}


class NotStoredError(PairError):
    """Nothing is stored of a pair: a 404."""


async def _overview(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    if given["symbol"] is None:
        return document(request, await site.overview.packed())
    pair = await stored(site, given["symbol"])
    return document(request, await site.overview.document_of(pair.symbol))


async def _symbols(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    return document(request, {"symbols": await site.symbols()})


async def _status(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    status = await site.overview.status()

    async def read(connection: AsyncConnection) -> Mapping[str, Any]:
        policies = await site.store.backend.policies(connection)
        return {
            "kind": site.store.backend.name,
            "embedded": site.store.database.is_embedded,
            "schema_revision": await current_revision(connection),
            "retention_seconds": {policy.table: policy.retention for policy in policies},
        }

    content = status_document(await site.read(read), status)
    return document(request, {**content, "problems": [problem.text for problem in problems(status)]})


@dataclass(frozen=True, slots=True)
class StoredPair:
    """A pair of which something is stored, with its counters by data type."""

    symbol: str
    counters: Mapping[str, SyncStatus]

    @property
    def slug(self) -> str:
        """Its name in the name of a file."""
        return self.symbol.replace("/", "-")

    @property
    def intervals(self) -> list[Interval]:
        """The stored intervals that can be read, in order of length."""
        names: list[str] = []
        for data_type in self.counters:
            if data_type != DataType.TRADES:
                names = intervals_of(names, data_type)
        return [as_interval(name) for name in names or INTERVAL_NAMES.values()]

    def range_of(self, *data_types: str) -> TimeRange | None:
        """From the oldest record of these to behind the newest; None without any."""
        rows = [row for data_type, row in self.counters.items() if data_type in data_types]
        oldest = [row.oldest for row in rows if row.oldest is not None]
        newest = [row.newest for row in rows if row.newest is not None]
        return (min(oldest), max(newest) + TICK) if oldest and newest else None


async def stored(site: Site, symbol: str) -> StoredPair:
    """In our spelling. Raises NotStoredError."""

    async def read(connection: AsyncConnection) -> StoredPair:
        status = SyncStatusRepository(connection)
        if found := await status.of(symbol):
            return StoredPair(symbol, found)
        known = known_spelling(symbol, {row.symbol for row in await status.all()})
        return StoredPair(known, await status.of(known))

    pair = await site.read(read)
    if not pair.counters:
        raise NotStoredError(f"nothing is stored of {pair.symbol}", hint=f"kraken-db backfill {pair.symbol}")
    return pair


# --- rows ---


async def _candles(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    pair = await stored(site, given["symbol"])
    start, end = await _range_of_candles(site, pair, given)
    interval = _interval(given, pair, start, end)
    start, end = interval.next_open(start), interval.next_open(end)
    version = await _version_of_candles(site, pair.symbol, interval, start, end, request)
    limit = given["limit"] if given["points"] is not None else _limit(given)
    reading = Reading(site, pair.symbol, start, end, limit)
    head = {"symbol": pair.symbol, "interval": interval.name, "start": start, "end": end}
    name = f"{pair.slug}_{interval.name}"
    return await _send_rows(request, given, reading, reading.candles(interval), CANDLES, head, version, name)


async def _trades(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    pair = await stored(site, given["symbol"])
    start, end = _checked_range(given, pair.range_of(DataType.TRADES))
    counters = pair.counters.get(DataType.TRADES)
    version = None if counters is None else _tag(repr(counters), request, start, end)
    reading = Reading(site, pair.symbol, start, end, _limit(given))
    head = {"symbol": pair.symbol, "start": start, "end": end}
    name = f"{pair.slug}_trades"
    return await _send_rows(request, given, reading, reading.trades(), TRADES, head, version, name)


def _limit(given: Given) -> int | None:
    """Of JSON there is always one."""
    limit: int | None = given["limit"]
    return (limit or _USUAL_ROWS) if given["format"] == "json" else limit


async def _send_rows(
    request: web.Request,
    given: Given,
    reading: Reading,
    rows: Rows,
    columns: Sequence[str],
    head: dict[str, Any],
    version: str | None,
    name: str,
) -> web.StreamResponse:
    if version is not None and is_known(request, version):
        return unchanged(version)
    style, numbers = given["format"], given["numbers"]
    if style == "json":
        pieces = as_json(rows, head, columns, numbers, lambda: {"next": reading.next})
    elif style == "csv":
        pieces = as_csv(rows, columns)
    else:
        pieces = as_arrow(rows, columns, numbers)
    file_name = None if style == "json" else f"{name}.{style}"
    return await stream(request, pieces, _MEDIA[style], version=version, file_name=file_name)


async def _range_of_candles(site: Site, pair: StoredPair, given: Given) -> TimeRange:
    if given["start"] is not None and given["end"] is not None:
        return _checked_range(given, None)
    interval = given["interval"] or pair.intervals[0]

    async def read(connection: AsyncConnection) -> TimeRange | None:
        return await CandleRepository(connection, site.store.backend).extent(pair.symbol, interval)

    return _checked_range(given, await site.read(read))


def _checked_range(given: Given, stored_range: TimeRange | None) -> TimeRange:
    """From the oldest to the newest that is stored, where no end is given. Raises WrongValueError."""
    start, end = given["start"], given["end"]
    if start is not None and end is not None and start > end:
        raise WrongValueError(f"start is after end: {iso(start)} and {iso(end)}")
    if start is None:
        start = stored_range[0] if stored_range else end
    if end is None:
        end = stored_range[1] if stored_range else start
    if start is None or end is None:
        return FIRST_MOMENT, FIRST_MOMENT
    first, last = clip_range(start, max(start, end))
    return first, max(first, last)


def _interval(given: Given, pair: StoredPair, start: datetime, end: datetime) -> Interval:
    """The one that is named, or the finest of the pair of which at most ``points`` fit into the range."""
    if given["interval"] is not None and given["points"] is not None:
        raise WrongValueError("interval and points are not given together")
    if given["points"] is None:
        named: Interval | None = given["interval"]
        return as_interval("1m") if named is None else named
    every = pair.intervals
    fitting = (one for one in every if -((start - end) // one.length) <= given["points"])
    return next(fitting, every[-1])


async def _version_of_candles(
    site: Site, symbol: str, interval: Interval, start: datetime, end: datetime, request: web.Request
) -> str | None:
    """Of the candles of a range and of what was asked; None where the database does not say."""
    if start >= end or not await site.are_versioned():
        return None

    async def read(connection: AsyncConnection) -> str:
        versions = CandleVersionRepository(connection, site.store.backend)
        return (await versions.state(symbol, interval, start, end)).stamp(start, end)

    return _tag(await site.read(read), request, start, end)


def _tag(state: str, request: web.Request, *of: datetime) -> str:
    asked = sorted((key, value) for key, value in request.query.items())
    text = repr((state, request.path, asked, [iso(moment) for moment in of]))
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


# --- what is known ---


async def _stretches(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    pair = await stored(site, given["symbol"])
    coverage, gaps = await site.known.of(pair.symbol, _DATA_TYPES[given["data_type"]])
    wanted = _checked_range(given, _span_of(coverage, site.clock()))
    found = stretches(coverage, spans(gaps), wanted)
    return document(request, [stretch.document() for stretch in found])


def _span_of(coverage: Sequence[Any], now: datetime) -> TimeRange | None:
    ends = [span for item in coverage for span in item.ranges]
    return (min(start for start, _ in ends), max(now, *(end for _, end in ends))) if ends else None


async def _calendar(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    pair = await stored(site, given["symbol"])
    coverage, gaps = await site.known.of(pair.symbol, _DATA_TYPES[given["data_type"]])
    days = days_of(coverage, spans(gaps), site.clock())
    return document(request, {"symbol": pair.symbol, "data_type": given["data_type"], "days": days})


async def _gaps(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    symbol = None if given["symbol"] is None else (await stored(site, given["symbol"])).symbol
    found = await find_gaps(site, symbol)
    headers = {} if found["is_all"] else {"X-Incomplete": "true"}
    return document(request, found["gaps"], headers=headers)


# --- jobs ---


async def _jobs(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    running = await site.read(lambda connection: RunningJobRepository(connection).all())
    of_page = {job.process.pid for job in site.jobs.all if job.process is not None}
    others = [_of_database(job) for job in running if job.ended_at is None and job.pid not in of_page]
    return document(request, [*(job.document() for job in site.jobs.all), *others])


def _of_database(job: RunningJob) -> dict[str, Any]:
    found = job_document(job)
    return {
        "id": found["id"],
        "kind": job.kind,
        "origin": "elsewhere",
        "arguments": {},
        "symbols": found["symbols"],
        "state": "failed" if job.is_dead else "running",
        "started": job.started_at,
        "ended": job.ended_at,
        "progress": {"share": None, "text": job.state},
        "error": job.last_error or ("killed, or the database is out of its reach" if job.is_dead else None),
        "log": [],
        "has_result": False,
        "result": None,
        "host": job.host,
        "heard_at": job.heard_at,
    }


async def _job(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    job = site.jobs.get(request.match_info["id"])
    if job is None:
        return refusal(404, "there is no such job")
    return document(request, job.document(with_result=True))


async def _start_job(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            content = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise WrongValueError("the body is no JSON") from None
    except TimeoutError:
        return refusal(408, "the body does not come")
    try:
        job = await site.jobs.start(content)
    except TooManyJobsError as error:
        return refusal(409, error.message, error.hint)
    return document(request, job.document(), status=202, headers={"Location": f"/api/v1/jobs/{job.id}"})


async def _stop_job(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    job = site.jobs.get(request.match_info["id"])
    if job is None:
        return refusal(404, "there is no such job", "a job that was started elsewhere is stopped there")
    site.jobs.stop(job)
    return document(request, job.document())


async def _certificate(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    job = site.jobs.get(request.match_info["id"])
    if job is None or job.kind != "verify" or not job.has_result:
        return refusal(404, "there is no certificate of this job")
    return await stream(request, job.pieces(), "application/json")


async def _events(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    symbol = None if given["symbol"] is None else (await stored(site, given["symbol"])).symbol
    return await site.live.answer(request, symbol)


async def _health(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    await site.read(lambda connection: current_revision(connection))
    return document(request, {"ok": True})


async def _openapi(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    return document(request, openapi(site.routes, has_token=site.doorkeeper.has_token))


# --- the table ---

_DATA_TYPES = {"trades": DataType.TRADES, "candles": DataType.CANDLES_1M}
_SYMBOL = Parameter("symbol", SYMBOL, "A pair, by any of its names: BTC/USD, XBTUSD.", is_required=True)
_RANGE = (
    Parameter("start", TIME, "From then on. Default: the oldest that is stored."),
    Parameter("end", TIME, "Before then. Default: the newest that is stored."),
)
_ROWS = (
    Parameter(
        "limit",
        count(1, MOST_ROWS),
        f"The most rows. JSON: {_USUAL_ROWS:,} unless said otherwise; CSV and Arrow: all of them.",
    ),
    Parameter("tz", ZONE, "The zone of times that name none. Default: UTC."),
    Parameter("format", choice("json", "csv", "arrow"), "The format of the answer.", default="json"),
    Parameter("numbers", choice("decimal", "float"), "Exact texts, or the nearest floats.", "decimal"),
)
_TIME: Mapping[str, Any] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_TEXTS: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """All of them are there."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_INTEGER, _STRING, _NUMBER = {"type": "integer"}, {"type": "string"}, {"type": "number"}
_STRING_OR_NULL, _NUMBER_OR_NULL = {"type": ["string", "null"]}, {"type": ["number", "null"]}
_BOOLEAN = {"type": "boolean"}
_TABLE = {
    "columns": _TEXTS,
    "rows": _list({"type": "array"}),
    "next": {**_TIME_OR_NULL, "description": "Where the following rows begin."},
}
_PAIR = _object(
    symbol=_STRING,
    status={"type": "string", "enum": ["ok", "live", "gaps", "behind", "delisted"]},
    trouble=_TEXTS,
    newest_trade=_TIME_OR_NULL,
    newest_candle=_TIME_OR_NULL,
    price=_STRING_OR_NULL,
    lag_seconds=_NUMBER_OR_NULL,
    trades=_INTEGER,
    candles=_INTEGER,
    size={"type": "integer", "description": "About: the pair's share of the rows of each table, in bytes."},
    coverage=_object(share=_NUMBER, start=_TIME_OR_NULL, end=_TIME_OR_NULL),
    gaps=_INTEGER,
    ended_at=_TIME_OR_NULL,
    last_sync=_TIME_OR_NULL,
    spark={"type": "array", "items": _NUMBER, "maxItems": 48},
)
_JOB = _object(
    id=_STRING,
    kind=_STRING,
    origin={"type": "string", "enum": ["page", "elsewhere"]},
    arguments={"type": "object"},
    symbols={"type": ["array", "string"]},
    state={"type": "string", "enum": ["running", "done", "failed", "stopped"]},
    started=_TIME,
    ended=_TIME_OR_NULL,
    progress=_object(share=_NUMBER_OR_NULL, text=_STRING),
    error=_STRING_OR_NULL,
    log=_TEXTS,
    has_result=_BOOLEAN,
    result={},
)
_NEW_JOB = {
    "type": "object",
    "required": ["kind", "arguments"],
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "kind": {"const": name},
                "arguments": {
                    "type": "object",
                    "properties": {
                        **{key: argument.schema for key, argument in kind.arguments.items()},
                        **({"folder": _STRING} if kind.needs_folder else {}),
                    },
                    "required": [key for key, argument in kind.arguments.items() if argument.is_required],
                    "additionalProperties": False,
                },
            },
        }
        for name, kind in KINDS.items()
    ],
}
_V1 = "/api/v1"
_ALL_MEDIA = ("application/json", "text/csv", "application/vnd.apache.arrow.stream")

ROUTES: list[Route] = [
    Route(
        "GET",
        f"{_V1}/overview",
        _overview,
        "All pairs: newest price, lag, coverage, gaps, rows.",
        [Parameter("symbol", SYMBOL, "That pair alone. Default: all.")],
        schema=_object(
            now=_TIME,
            totals=_object(pairs=_INTEGER, trades=_INTEGER, candles=_INTEGER, size=_INTEGER, problems=_TEXTS),
            pairs=_list(_PAIR),
        ),
    ),
    Route("GET", f"{_V1}/symbols", _symbols, "The stored pairs.", schema=_object(symbols=_TEXTS)),
    Route("GET", f"{_V1}/status", _status, "As kraken-db status --json.", schema={"type": "object"}),
    Route(
        "GET",
        f"{_V1}/candles",
        _candles,
        "Candles of a pair, oldest first.",
        [
            _SYMBOL,
            Parameter("interval", INTERVAL, "1m, 5m, 2h, 1d, 1M (a month). Default: 1m."),
            Parameter(
                "points",
                count(1, MOST_POINTS),
                "Instead of interval: the finest stored interval of which no more fit the range.",
            ),
            *_RANGE,
            *_ROWS,
        ],
        _object(symbol=_STRING, interval=_STRING, start=_TIME, end=_TIME, **_TABLE),
        media=_ALL_MEDIA,
    ),
    Route(
        "GET",
        f"{_V1}/trades",
        _trades,
        "Trades of a pair, by time and id. Those of one moment are never divided.",
        [_SYMBOL, *_RANGE, *_ROWS],
        _object(symbol=_STRING, start=_TIME, end=_TIME, **_TABLE),
        media=_ALL_MEDIA,
    ),
    Route(
        "GET",
        f"{_V1}/stretches",
        _stretches,
        "What of a range is covered, a gap, or unknown.",
        [
            _SYMBOL,
            *_RANGE,
            Parameter("data_type", choice("trades", "candles"), "Of what.", "candles"),
        ],
        _list(
            _object(
                kind={"type": "string", "enum": ["covered", "unknown", "gap"]},
                start=_TIME,
                end=_TIME,
                source=_STRING_OR_NULL,
            )
        ),
    ),
    Route(
        "GET",
        f"{_V1}/calendar",
        _calendar,
        "How much of each day is covered, and by which source.",
        [_SYMBOL, Parameter("data_type", choice("trades", "candles"), "Of what.", "candles")],
        _object(
            symbol=_STRING,
            data_type=_STRING,
            days=_list(
                _object(
                    day=_STRING,
                    covered=_NUMBER,
                    sources=_TEXTS,
                    gap=_BOOLEAN,
                )
            ),
        ),
    ),
    Route(
        "GET",
        f"{_V1}/gaps",
        _gaps,
        "What is missing, and the command that fills it.",
        [Parameter("symbol", SYMBOL, "A pair. Default: all that have gaps.")],
        _list(
            _object(
                symbol=_STRING,
                data_type=_STRING,
                start=_TIME,
                end=_TIME,
                kind=_STRING,
                why=_STRING,
                fill=_STRING,
            )
        ),
    ),
    Route("GET", f"{_V1}/jobs", _jobs, "Jobs of this page, and of any machine.", schema=_list(_JOB)),
    Route("GET", f"{_V1}/jobs/{{id}}", _job, "A job of this page, with its result.", schema=_JOB),
    Route("POST", f"{_V1}/jobs", _start_job, "Start a job.", schema=_JOB, body=_NEW_JOB, status=202),
    Route(
        "DELETE",
        f"{_V1}/jobs/{{id}}",
        _stop_job,
        "Have a job store what it has and end; again, end it at once.",
        schema=_JOB,
    ),
    Route(
        "GET",
        f"{_V1}/certificates/{{id}}",
        _certificate,
        "What a job of kind verify has found, as kraken-db verify --json.",
        schema={"type": "object"},
    ),
    Route(
        "GET",
        f"{_V1}/events",
        _events,
        "What is new, as server-sent events: candle, trade-price, job, reset.",
        [Parameter("symbol", SYMBOL, "Candles and prices of that pair alone. Default: of all.")],
        media=("text/event-stream",),
        is_long=True,
    ),
    Route(
        "GET", f"{_V1}/openapi.json", _openapi, "This document.", schema={"type": "object"}, is_public=True
    ),
    Route(
        "GET",
        "/healthz",
        _health,
        "Whether the database answers.",
        schema=_object(ok=_BOOLEAN),
        is_public=True,
    ),
]
