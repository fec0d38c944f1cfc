"""Trades of many symbols that are newer than what is stored: one COPY and one INSERT for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.repositories.trade_batch import SAME_TRADE, StorableTrade, csv_line

_COLUMNS = ["symbol", "line", "timestamp", "price", "volume", "side", "order_type", "misc", "id"]
_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS live_trades (
        symbol text, line integer, timestamp timestamptz, price numeric, volume numeric, side text,
        order_type text, misc text, id bigint
    ) ON COMMIT DELETE ROWS
"""
# A question for each symbol, not a join: right after a start the statistics say nothing.
_FREE = """
    SELECT symbol, EXISTS (SELECT FROM trades t WHERE t.symbol = new.symbol AND t.timestamp >= new.start
                           AND t.timestamp <= new.finish AND t.timestamp >= :start AND t.timestamp <= :end
                           AND (t.id < 0 OR t.id >= new.first_id))
    FROM unnest(CAST(:symbols AS text[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]),
                CAST(:ids AS bigint[])) AS new(symbol, start, finish, first_id)
"""
_INSERT = """
    WITH done AS (
        INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)
        SELECT id, symbol, timestamp, price, volume, side, NULLIF(order_type, ''), misc
        FROM (SELECT * FROM live_trades WHERE symbol = ANY(CAST(:symbols AS text[])) ORDER BY line) l
        ON CONFLICT DO NOTHING
        RETURNING symbol
    )
    SELECT symbol, count(*) FROM done GROUP BY symbol
"""


async def insert_new(
    connection: AsyncConnection, trades: Mapping[str, Sequence[StorableTrade]]
) -> dict[str, int]:
    """Write the trades of those symbols around whose trades nothing is stored; how many rows, by symbol.

    Trades are in order of time, have ids, each once, and fit the columns. Where there are stored ones that
    may be the same, none is written: ``TradeBatch`` decides about them. Never commits.
    """
    bounds = [
        (
            symbol,
            own[0].timestamp - SAME_TRADE,
            own[-1].timestamp + SAME_TRADE,
            min(one.trade_id or 0 for one in own),
        )
        for symbol, own in trades.items()
        if own
    ]
    if not bounds:
        return {}
    symbols, starts, ends, ids = map(list, zip(*bounds, strict=True))
    found = await connection.execute(
        text(_FREE),
        {
            "symbols": symbols,
            "starts": starts,
            "ends": ends,
            "ids": ids,
            "start": min(starts),
            "end": max(ends),
        },
    )
    wanted = [symbol for symbol, has_stored in found if not has_stored]
    if not wanted:
        return {}
    await connection.execute(text(_TABLE))
    await connection.execute(text("DELETE FROM live_trades"))
    lines = _lines({symbol: trades[symbol] for symbol in wanted})
    await copy_csv_in(connection, "live_trades", _COLUMNS, lines)
    rows = await connection.execute(text(_INSERT), {"symbols": wanted})
    return {symbol: count for symbol, count in rows}  # noqa: C416


async def _lines(trades: Mapping[str, Sequence[StorableTrade]]) -> AsyncIterator[bytes]:
    for symbol, own in trades.items():
        yield "".join([f"{symbol},{csv_line(line, trade)}" for line, trade in enumerate(own)]).encode()
