"""``kraken-db status`` on a large store: what it costs the server, beside the same asked of the rows.

Ten symbols, ten million trades, and coverage with ten thousand gaps, all made in the embedded server by SQL.
The time in the server is what EXPLAIN ANALYZE says of each statement, planning and execution together.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import _bench as bench
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.status import read_status
from kraken_db.store import Store

COMMAND = str(Path(sys.executable).with_name("kraken-db"))
SYMBOLS = "'{ADA,BTC,DOGE,DOT,ETH,LINK,LTC,SOL,TRX,XRP}'::text[]"
BEGIN = "'2024-01-01 00:00+00'::timestamptz"
KEY = "pk_trades PRIMARY KEY (timestamp, symbol, id)"
INDEX = "INDEX ix_trades_symbol_timestamp ON trades (symbol, timestamp DESC)"
COUNT = "SELECT symbol, count(*), min(timestamp), max(timestamp) FROM trades GROUP BY symbol"


def main() -> None:
    quick = {"status_trades": 100_000, "ranges": 1000, "repeats": 2}
    # ranges: of coverage, over all symbols.
    parser = bench.options(__doc__, quick=quick, status_trades=10_000_000, ranges=10_000, repeats=20)
    options, _ = parser.parse_known_args()
    bench.print_machine()
    with bench.server() as (server, _folder):
        url = server.url()
        bench.run([COMMAND, "db", "upgrade", "--db-url", url], {})
        bench.say(f"filling a store: ten symbols, {options.status_trades:,} trades ...")
        fill(url, options.status_trades // 10, options.ranges // 20)
        figures = asyncio.run(measure(url, options.repeats))
        command = bench.repeat(
            min(options.repeats, 5), lambda: bench.run([COMMAND, "status", "--json", "--db-url", url], {})
        )[0]
        figures["command_seconds"] = bench.median(command)
        counting = bench.run([bench.psql(), "-Xq", "-d", url, "-c", COUNT], {})
        figures["counting_seconds"] = counting.seconds
    server_ms = figures["server_ms"]
    print(f"{options.status_trades:,} trades of ten symbols, {options.ranges:,} ranges of coverage")
    print(f"  status, in the server      {server_ms:8.1f} ms  ({figures['statements']:.0f} statements)")
    print(f"  read_status, from Python   {figures['reading_ms']:8.1f} ms")
    print(f"  kraken-db status --json    {figures['command_seconds']:8.2f} s   ({bench.spread(command)})")
    print(
        f"  psql, counting the rows    {counting.seconds:8.2f} s   ratio"
        f" {counting.seconds * 1000 / server_ms:,.0f}"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def fill(url: str, trades: int, ranges: int) -> None:
    """``trades`` a symbol, one in ten seconds; ``ranges`` of trades and as many of minutes."""
    length = f"({trades} * interval '10 s')"
    part = f"{length} / {ranges}"
    bench.sql(
        url,
        f"ALTER TABLE trades DROP CONSTRAINT {KEY.split()[0]}",
        "DROP INDEX ix_trades_symbol_timestamp",
        "INSERT INTO trades SELECT n, s || '/USD', t, 100 + n % 1000, 1, 'buy', 'limit', ''"
        f" FROM generate_series(1, {trades}) n, unnest({SYMBOLS}) s,"
        f" LATERAL (SELECT {BEGIN} + n * interval '10 s' AS t) at",
        f"ALTER TABLE trades ADD CONSTRAINT {KEY}",
        f"CREATE {INDEX}",
        "INSERT INTO candles SELECT s || '/USD', m, 1, 100, 101, 99, 100, 1, NULL, 6, NULL"
        f" FROM generate_series({BEGIN}, {BEGIN} + {length}, interval '1 min') m, unnest({SYMBOLS}) s",
        "INSERT INTO data_sync_status SELECT s || '/USD', k,"
        f" {BEGIN}, {BEGIN} + {length}, now(), NULL, {trades}"
        f" FROM unnest({SYMBOLS}) s, unnest('{{trades,candles_1m}}'::text[]) k",
        "INSERT INTO data_coverage SELECT s || '/USD', k, 'rest_trades',"
        f" (SELECT range_agg(tstzrange({BEGIN} + n * {part}, {BEGIN} + (n + 0.9) * {part}))"
        f" FROM generate_series(0, {ranges} - 1) n)"
        f" FROM unnest({SYMBOLS}) s, unnest('{{trades,candles_1m}}'::text[]) k",
        "ANALYZE",
    )


async def measure(url: str, repeats: int) -> dict[str, float]:
    store = await Store.open(url)
    try:
        async with store.database.read() as connection:

            async def read() -> None:
                await read_status(connection, store.backend, store.clock())
                await store.backend.policies(connection)

            statements = await statements_of(connection, read)
            times: list[float] = []
            for _ in range(repeats):
                began = time.perf_counter()
                await read()
                times.append(time.perf_counter() - began)
            in_server = [await explain_all(connection, statements) for _ in range(repeats)]
    finally:
        await store.close()
    return {
        "statements": len(statements),
        "server_ms": statistics.median(in_server),
        "reading_ms": statistics.median(times) * 1000,
    }


async def statements_of(
    connection: AsyncConnection, read: Callable[[], Awaitable[None]]
) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    engine = connection.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await read()
    event.remove(engine, "before_cursor_execute", note)
    return seen


async def explain_all(connection: AsyncConnection, statements: list[tuple[str, Any]]) -> float:
    total = 0.0
    for statement, parameters in statements:
        found = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", parameters
        )
        document = found.scalar_one()
        plan = (json.loads(document) if isinstance(document, str) else document)[0]
        total += plan["Planning Time"] + plan["Execution Time"]
    return total


if __name__ == "__main__":
    main()
