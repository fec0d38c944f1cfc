"""What a live writer needs beside ``TradeBatch``: trades without ids, and what is next to a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.repositories.trade_batch import INSERT_STAGED, SAME_TRADE, StorableTrade, stage_trades

_LOOK = """
    SELECT EXISTS (SELECT FROM trades WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
                   AND id > 0)
"""
# Two equal trades are two trades, also of one moment: so each stored one accounts for one of the new ones. A
# moment are equal trades whose stamps are next to each other, as in ``trade_merge``.
_KNOWN = """
    DELETE FROM batch_trades WHERE line IN (
        WITH seen AS (
            SELECT line, timestamp, price, volume, false AS stored FROM batch_trades
            UNION ALL
            SELECT NULL, timestamp, price, volume, true FROM trades
            WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end AND id > 0
        ), gaps AS (
            SELECT *, timestamp - lag(timestamp) OVER (PARTITION BY price, volume ORDER BY timestamp)
                      < INTERVAL '5 microseconds' AS goes_on
            FROM seen
        ), moments AS (
            SELECT *, count(*) FILTER (WHERE goes_on IS NOT TRUE)
                      OVER (PARTITION BY price, volume ORDER BY timestamp) AS moment
            FROM gaps
        ), numbered AS (
            SELECT line, stored,
                   row_number() OVER (PARTITION BY price, volume, moment, stored ORDER BY line) AS number,
                   count(*) FILTER (WHERE stored) OVER (PARTITION BY price, volume, moment) AS accounted
            FROM moments
        )
        SELECT line FROM numbered WHERE NOT stored AND number <= accounted)
"""
# The moment (microsecond) of the trade next to a run is known up to that trade if the ids of the stored
# trades of that moment go on without a hole to one of another moment.
_BESIDE = """
    SELECT run.symbol, run.first, before.id, before.timestamp, after.id, after.timestamp,
           down.count = before.id - down.lowest + 1 AND EXISTS (
               SELECT FROM trades
               WHERE symbol = run.symbol AND id = down.lowest - 1
                 AND timestamp < before.timestamp AND timestamp >= :oldest),
           up.count = up.highest - after.id + 1 AND EXISTS (
               SELECT FROM trades
               WHERE symbol = run.symbol AND id = up.highest + 1
                 AND timestamp > after.timestamp AND timestamp <= :newest)
    FROM unnest(CAST(:symbols AS text[]), CAST(:firsts AS bigint[]), CAST(:first_times AS timestamptz[]),
                CAST(:lasts AS bigint[]), CAST(:last_times AS timestamptz[]))
         AS run(symbol, first, first_time, last, last_time)
    LEFT JOIN LATERAL (
        SELECT id, timestamp FROM trades
        WHERE symbol = run.symbol AND id > 0 AND id < run.first
          AND timestamp >= :oldest AND timestamp <= run.first_time + CAST(:slack AS interval)
        ORDER BY timestamp DESC, id DESC LIMIT 1
    ) before ON true
    LEFT JOIN LATERAL (
        SELECT id, timestamp FROM trades
        WHERE symbol = run.symbol AND id > run.last
          AND timestamp >= run.last_time - CAST(:slack AS interval) AND timestamp <= :newest
        ORDER BY timestamp, id LIMIT 1
    ) after ON true
    LEFT JOIN LATERAL (
        SELECT min(id) AS lowest, count(*) AS count FROM trades
        WHERE symbol = run.symbol AND timestamp = before.timestamp AND id > 0 AND id <= before.id
          AND timestamp >= :oldest AND timestamp <= :newest
    ) down ON true
    LEFT JOIN LATERAL (
        SELECT max(id) AS highest, count(*) AS count FROM trades
        WHERE symbol = run.symbol AND timestamp = after.timestamp AND id >= after.id
          AND timestamp >= :oldest AND timestamp <= :newest
    ) up ON true
"""
_COUNT = """
    SELECT count(*) FROM trades
    WHERE symbol = :symbol AND id >= :first AND id <= :last AND timestamp >= :start AND timestamp <= :end
"""
_NEAR = timedelta(days=1)
_SLACK = timedelta(microseconds=5)


@dataclass(frozen=True, slots=True)
class Run:
    """Trades whose ids follow each other: all of them are stored, or are being stored."""

    first: int
    first_time: datetime
    last: int
    last_time: datetime


@dataclass(frozen=True, slots=True)
class Beside:
    """The stored trades next to a run, by time; None: there is none."""

    before: tuple[int, datetime] | None
    after: tuple[int, datetime] | None
    is_known_before: bool
    """Whether no trade of the moment of ``before`` is missing up to it."""
    is_known_after: bool
    """Whether no trade of the moment of ``after`` is missing from it on."""


async def beside(
    connection: AsyncConnection, runs: Mapping[str, Sequence[Run]], newest: Mapping[str, datetime | None]
) -> dict[str, dict[int, Beside]]:
    """What is stored next to each run of each symbol, by the run's first id.

    ``newest``: the times of the newest trades that were stored before. What lies before is looked for within
    a day, and as far back as a day before these where they are older.
    """
    every = [(symbol, run) for symbol, own in runs.items() for run in own]
    if not every:
        return {}
    known = [moment for moment in newest.values() if moment is not None]
    first, last = min(run.first_time for _, run in every), max(run.last_time for _, run in every)
    rows = await connection.execute(
        text(_BESIDE),
        {
            "symbols": [symbol for symbol, _ in every],
            "firsts": [run.first for _, run in every],
            "first_times": [run.first_time for _, run in every],
            "lasts": [run.last for _, run in every],
            "last_times": [run.last_time for _, run in every],
            "oldest": min([first, *known]) - _NEAR,
            "newest": max([last, *known]) + _SLACK,
            "slack": _SLACK,
        },
    )
    found: dict[str, dict[int, Beside]] = {symbol: {} for symbol in runs}
    for symbol, number, low, low_time, high, high_time, is_known_before, is_known_after in rows:
        found[symbol][number] = Beside(
            None if low is None else (low, low_time),
            None if high is None else (high, high_time),
            bool(is_known_before),
            bool(is_known_after),
        )
    return found


class LiveTradeRepository:
    """Works on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def write_anonymous(self, trades: Sequence[StorableTrade]) -> int:
        """Write trades without ids, in order of time; returns how many were written.

        What a stored trade with an id of the same moment, price and volume accounts for is known already.
        Nothing else is compared: two trades that are equal in all fields are two trades.
        """
        await stage_trades(self._connection, trades)
        bounds = {
            "symbol": self._symbol,
            "start": trades[0].timestamp - SAME_TRADE,
            "end": trades[-1].timestamp + SAME_TRADE,
        }
        if await self._connection.scalar(text(_LOOK), bounds):
            await self._connection.execute(text(_KNOWN), bounds)
        return (await self._connection.execute(text(INSERT_STAGED), {"symbol": self._symbol})).rowcount

    async def count(self, first: int, last: int, start: datetime, end: datetime) -> int:
        """How many of the ids ``first`` to ``last`` are stored, with times in ``[start, end]``."""
        found: int = await self._connection.scalar(
            text(_COUNT),
            {"symbol": self._symbol, "first": first, "last": last, "start": start, "end": end},
        )
        return found
