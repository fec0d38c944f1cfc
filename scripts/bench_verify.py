"""A verification of one pair, on the embedded server: its time beside that of one pass over the trades.
Its memory must be the same with a tenth of the rows.

The pass makes the minutes of all trades: with less nobody can know whether the candles are right.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import _bench as bench

DATA = """
    INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)
    SELECT i, 'BTC/USD', timestamptz '2020-01-01 00:00+00' + i * interval '2 seconds',
           30000 + i % 500 / 10.0, 0.01 + i % 7 / 100.0, 'buy', 'market', '' FROM generate_series(1, {rows}) i
"""
CANDLES = """
    INSERT INTO candles SELECT 'BTC/USD', date_bin('1 minute', timestamp, 'epoch'), 1,
        (array_agg(price ORDER BY timestamp, id))[1], max(price), min(price),
        (array_agg(price ORDER BY timestamp, id))[count(*)], sum(volume), sum(price * volume), count(*),
        sum(price * volume) / sum(volume)
    FROM trades GROUP BY 2
"""
COVERAGE = """
    INSERT INTO data_coverage SELECT 'BTC/USD', '{name}', 'rest_trades', tstzmultirange(tstzrange(
        date_bin('1 minute', min(timestamp), 'epoch'), date_bin('1 minute', max(timestamp), 'epoch')))
    FROM {table}
"""
STATUS = """
    INSERT INTO data_sync_status
    SELECT 'BTC/USD', '{name}', min(timestamp), max(timestamp), now(), NULL, count(*) FROM {table}
"""
PASS = f"SELECT count(minutes) FROM ({CANDLES.partition('candles')[2]}) minutes"
KRAKEN_DB = [sys.executable, "-c", "from kraken_db.cli import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it runs")
    options, _ = parser.parse_known_args()
    trades = 100_000 if options.quick else options.trades
    figures: dict[str, float] = {}
    bench.print_machine()
    for rows in (trades // 10, trades):
        figures |= measure(rows, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(rows: int, repeats: int) -> dict[str, float]:
    with bench.server() as (server, _folder):
        url = server.url()
        bench.say(f"filling a store: {rows:,} trades, {rows // 30:,} minutes ...")
        bench.run([*KRAKEN_DB, "db", "upgrade", "--db-url", url], {})
        bench.sql(url, DATA.format(rows=rows), CANDLES)
        for table, name in (("trades", "trades"), ("candles", "candles_1m")):
            bench.sql(url, COVERAGE.format(name=name, table=table), STATUS.format(name=name, table=table))
        bench.sql(url, "VACUUM ANALYZE")

        def one_pass() -> bench.Cost:
            began = time.perf_counter()
            bench.sql(url, PASS)
            return bench.Cost(time.perf_counter() - began, 0.0)

        command = [*KRAKEN_DB, "verify", "--offline", "--db-url", url]
        bare, verified = bench.repeat(repeats, one_pass, lambda: bench.run(command, {}))
    seconds, peak = bench.median(verified), max(cost.peak for cost in verified)
    ratio = seconds / bench.median(bare)
    print(f"{rows:>12,} trades: verified in {seconds:.1f} s, {ratio:.1f} times one pass; {peak:.0f} MiB")
    return {f"verify_{rows}_seconds": seconds, f"verify_{rows}_ratio": ratio, f"verify_{rows}_mib": peak}


if __name__ == "__main__":
    main()
