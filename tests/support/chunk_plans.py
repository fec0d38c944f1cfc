"""A store of very many chunks, and over how many of them the statements of the application are planned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, Engine, event

from kraken_db.backends import StaleRange
from kraken_db.kraken.page_walk import to_cursor
from tests.support.archives import query
from tests.support.plans import nodes
from tests.support.stores import opened

_EXPLAINED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
_CHUNK = re.compile(r"_hyper_\d+_\d+_chunk")


@dataclass
class Planned:
    """A statement, and the chunks that its plan was made over."""

    statement: str
    chunks: int
    values: object = None

    def __str__(self) -> str:
        return f"{self.chunks} chunks: {' '.join(self.statement.split())[:700]} {self.values}"


@dataclass
class ChunkPlans:
    """What was seen of a piece of the application's work."""

    seen: list[Planned] = field(default_factory=list)

    def note(self, statement: str, values: object, found: Any) -> None:
        plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
        self.seen.append(Planned(statement, chunks_of(plan), values))

    def beyond(self, most: int) -> list[Planned]:
        return [one for one in self.seen if one.chunks > most]


def chunks_of(plan: dict[str, Any]) -> int:
    """How many chunks a plan was made over: those that only its start leaves out count too."""
    names: set[str] = set()
    excluded = 0
    for node in nodes(plan):
        names |= set(_CHUNK.findall(node.get("Relation Name", "")))
        excluded += node.get("Chunks excluded during startup", 0)
    return len(names) + excluded


@contextmanager
def chunk_plans() -> Iterator[ChunkPlans]:
    """The plan of every statement that is sent within it, made right before it on its own connection."""
    plans = ChunkPlans()
    is_explaining = False

    def look(
        connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        nonlocal is_explaining
        if is_explaining or not _EXPLAINED.match(statement):
            return
        is_explaining = True
        try:
            values = parameters[0] if many else parameters
            explained = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values)
            plans.note(statement, values, explained.scalar_one())
        finally:
            is_explaining = False

    fetch, copy = asyncpg.Connection.fetch, asyncpg.Connection.copy_from_query

    async def explain(connection: Any, statement: str, values: Sequence[Any]) -> None:
        if _EXPLAINED.match(statement):
            ((found,),) = await fetch(connection, f"EXPLAIN (FORMAT JSON) {statement}", *values)
            plans.note(statement, values, found)

    async def look_and_fetch(connection: Any, statement: str, *values: Any, **options: Any) -> Any:
        await explain(connection, statement, values)
        return await fetch(connection, statement, *values, **options)

    async def look_and_copy(connection: Any, statement: str, *values: Any, **options: Any) -> Any:
        await explain(connection, statement, values)
        return await copy(connection, statement, *values, **options)

    event.listen(Engine, "before_cursor_execute", look)
    try:
        # Long lists are read past SQLAlchemy.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncpg.Connection, "fetch", look_and_fetch)
            patch.setattr(asyncpg.Connection, "copy_from_query", look_and_copy)
            yield plans
    finally:
        event.remove(Engine, "before_cursor_execute", look)


# --- the store ---

BTC, ETH, XRP, LTC = "BTC/USD", "ETH/USD", "XRP/USD", "LTC/USD"
START = datetime(2022, 1, 3, tzinfo=UTC)
"""A Monday."""
DAYS, WEEKS_BEFORE = 1000, 300
PACKED = 19
"""Chunks of trades that are compressed, in the middle: each counts twice, as it is and compressed."""
DAY, WEEK, MINUTE = timedelta(days=1), timedelta(weeks=1), timedelta(minutes=1)
NOW = START + (DAYS - 1) * DAY + timedelta(hours=20)
_IN_ONE_GO = 100
"""Chunks that one transaction makes: each takes locks, and by default there are few."""


def stamp(number: int) -> datetime:
    """Of trade ``number``, from 1: one a day at noon, and of one second each on the last day."""
    last = max(number - DAYS, 0)
    return START + (min(number, DAYS) - 1) * DAY + timedelta(hours=12, seconds=last, microseconds=4)


async def fill_many_chunks(url: str) -> None:
    """A trade a day and its minute; minutes of the weeks before; two pairs that have only the first or the
    last month of that. All is known to be complete, refreshed, and no policy drops it; in the
    middle, trades are compressed.
    """
    for table in ("trades", "candles"):
        await query(url, f"SELECT remove_retention_policy('{table}', if_exists => true)")
    for first in range(1, DAYS + 1, _IN_ONE_GO):
        await query(
            url,
            "INSERT INTO trades SELECT n - s.skipped, s.symbol, CAST(:start AS timestamptz)"
            "   + (n - 1) * INTERVAL '1 day' + INTERVAL '12:00:00.000004', 100, 1, 'buy', 'limit', ''"
            " FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n"
            f" JOIN (VALUES ('{BTC}', 0, {DAYS}), ('{LTC}', 0, 30), ('{ETH}', {DAYS - 30}, {DAYS}))"
            "   AS s(symbol, skipped, until) ON n > skipped AND n <= until",
            start=START,
            first=first,
            last=first + _IN_ONE_GO - 1,
        )
        await query(
            url,
            "INSERT INTO candles SELECT symbol, date_bin('1 minute', timestamp, 'epoch'), 1,"
            " 100, 100, 100, 100, 1, 100, 1, 100 FROM trades WHERE timestamp >= :first AND timestamp < :end",
            first=stamp(first),
            end=stamp(first) + _IN_ONE_GO * DAY,
        )
    for first in range(1, WEEKS_BEFORE + 1, _IN_ONE_GO):
        await query(
            url,
            f"INSERT INTO candles SELECT '{BTC}', CAST(:start AS timestamptz) - n * INTERVAL '7 days', 1,"
            " 100, 100, 100, 100, 1, 100, 1, 100"
            " FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n",
            start=START,
            first=first,
            last=first + _IN_ONE_GO - 1,
        )
    await _say_what_is_known(url)
    async with opened(url) as store:
        everything = [StaleRange(symbol, START - WEEKS_BEFORE * WEEK, NOW) for symbol in (BTC, ETH, LTC)]
        await store.backend.refresh(store.database, NOW, everything)
    await query(
        url,
        "SELECT compress_chunk(c) FROM show_chunks('trades', CAST(:before AS timestamptz),"
        " CAST(:after AS timestamptz)) c",
        before=stamp(DAYS // 2 + PACKED // 2 + 1),
        after=stamp(DAYS // 2 - PACKED // 2 - 1),
    )
    await query(url, "ANALYZE trades")
    await query(url, "ANALYZE candles")


async def _say_what_is_known(url: str) -> None:
    before = START - WEEKS_BEFORE * WEEK
    for symbol, first, last in ((BTC, 1, DAYS), (LTC, 1, 30), (ETH, DAYS - 29, DAYS)):
        oldest, newest = stamp(first), stamp(last)
        minute = before if symbol == BTC else oldest.replace(microsecond=0)
        for data_type, start, rows in (("trades", oldest, last - first + 1), ("candles_1m", minute, 1)):
            end = newest if data_type == "trades" else newest.replace(microsecond=0)
            await query(
                url,
                "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp,"
                " last_kraken_since, total_records)"
                " VALUES (:symbol, :type, :oldest, :newest, :cursor, :rows)",
                symbol=symbol,
                type=data_type,
                oldest=start,
                newest=end,
                cursor=to_cursor(newest) if data_type == "trades" else None,
                rows=rows,
            )
            await query(
                url,
                "INSERT INTO data_coverage VALUES"
                " (:symbol, :type, 'rest_trades', tstzmultirange(tstzrange(:start, :end)))",
                symbol=symbol,
                type=data_type,
                start=start.replace(microsecond=0),
                end=end,
            )
