"""A trade file of Kraken's archive against ``psql \\copy``: the same rows, server, key and index.

psql reads them in table layout already, and builds no candles. import-csv reads Kraken's own layout (schema
2: a header, ids, letters for side and type), checks every row and the ids, builds the minutes with their vwap
and quote volume, rolls them up, and keeps coverage and counters. Whole processes, empty tables each time.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import _bench as bench

COMMAND = str(Path(sys.executable).with_name("kraken-db"))
CANDLES_A_FILE = 100_000
FIRST_SECOND = 1_420_070_400
TABLES = (
    "trades, candles, rolled_candles, data_sync_status, data_coverage, pending_refresh, unproven_ranges,"
    " dropped_ranges"
)


def main() -> None:
    quick = {"rows": 100_000, "large_rows": 0, "candle_files": 4, "repeats": 1}
    # large_rows: of the test of growth, candle_files: of 100,000 rows each; 0 leaves either out.
    parser = bench.options(
        __doc__, quick=quick, rows=2_000_000, large_rows=10_000_000, candle_files=40, repeats=3
    )
    options, _ = parser.parse_known_args()
    with bench.server() as (server, folder):
        figures = measure(server.url(), folder, options.rows, options.repeats)
        if options.large_rows:
            figures |= measure_growth(server.url(), folder, options.large_rows, figures["import_seconds"])
        if options.candle_files:
            figures |= measure_candles(server.url(), folder, options.candle_files)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(url: str, folder: Path, rows: int, repeats: int) -> dict[str, float]:
    archive, other, layout = folder / "XBTUSD.csv", folder / "two" / "ETHUSD.csv", folder / "layout.csv"
    bench.say(f"writing {rows:,} trades in both layouts ...")
    write_trades(archive, rows)
    other.parent.mkdir()
    shutil.copy(archive, other)
    prepare(url)
    write_layout(url, archive, layout)

    def copy() -> bench.Cost:
        reset(url, "TRUNCATE copied")
        return bench.run([bench.psql(), "-Xq", "-d", url, "-c", f"\\copy copied from '{layout}' csv"], {})

    def first() -> bench.Cost:
        reset(url)
        return import_csv(url, archive)

    def second() -> bench.Cost:
        return import_csv(url, archive)

    def two() -> bench.Cost:
        reset(url)
        return import_csv(url, archive, other)

    def candles_only() -> bench.Cost:
        reset(url)
        return import_csv(url, archive, "--no-trades")

    bench.say(f"measuring, {repeats} rounds ...")
    costs = bench.repeat(repeats, copy, first, second, candles_only, two)
    base = bench.median(costs[0])
    bench.print_machine()
    print(f"{rows:,} trades of one pair, median of {repeats} (min .. max)")
    names = (
        "psql \\copy, table layout, no candles",
        "import-csv, with candles",
        "the same again",
        "--no-trades: the candles alone",
        "two pairs at once, twice the rows",
    )
    for name, cost in zip(names, costs, strict=True):
        seconds = bench.median(cost)
        print(
            f"{name:<38} {seconds:6.2f} s  ({bench.spread(cost)})  ratio {seconds / base:.2f}"
            f"  peak {max(one.peak for one in cost):.0f} MiB"
        )
    one, candles, pair = (bench.median(costs[n]) for n in (1, 3, 4))
    print(f"two pairs at once / one: {2 * one / pair:.2f} x as fast; candles alone: {one / candles:.2f} x")
    sizes(url)
    return {
        "rows": float(rows),
        "psql_copy_seconds": base,
        "import_seconds": one,
        "import_ratio": one / base,
        "again_ratio": bench.median(costs[2]) / base,
        "two_at_once": 2 * one / pair,
        "no_trades": one / candles,
        "peak_mib": max(cost.peak for cost in costs[1]),
    }


def measure_growth(url: str, folder: Path, rows: int, seconds: float) -> dict[str, float]:
    archive = folder / "SOLUSD.csv"
    bench.say(f"writing {rows:,} trades ...")
    write_trades(archive, rows)
    reset(url)
    bench.say("importing them ...")
    cost = import_csv(url, archive)
    archive.unlink()
    print(
        f"{rows:,} trades: {cost.seconds:.1f} s, {rows / cost.seconds:,.0f} a second,"
        f" peak {cost.peak:.0f} MiB"
    )
    return {"large_rows": float(rows), "large_seconds": cost.seconds, "large_peak_mib": cost.peak}


def measure_candles(url: str, folder: Path, files: int) -> dict[str, float]:
    """An OHLCVT archive, one zip of many pairs, against two psql that share the same rows."""
    bench.say(f"writing {files} files of {CANDLES_A_FILE:,} candles in both layouts ...")
    one, archive = folder / "one.csv", folder / "Kraken_OHLCVT.zip"
    bench.write_archive(one, CANDLES_A_FILE)
    halves = [folder / "half0.tsv", folder / "half1.tsv"]
    bench.write_table_layout(halves[0], CANDLES_A_FILE, "SYMBOL")
    rows = halves[0].read_text()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for number in range(files):
            packed.write(one, f"X{number}USD_1.csv")
    for at, half in enumerate(halves):
        with half.open("w") as out:
            for number in range(at, files, 2):
                out.write(rows.replace("SYMBOL", f"X{number}/USD"))
    bench.sql(url, "CREATE TABLE copied_candles (LIKE candles INCLUDING ALL)")
    reset(url)
    began = time.perf_counter()
    copying = [
        subprocess.Popen([bench.psql(), "-Xq", "-d", url, "-c", f"\\copy copied_candles from '{half}'"])
        for half in halves
    ]
    if any(process.wait() for process in copying):
        raise SystemExit("psql failed")
    copied = time.perf_counter() - began
    for half in halves:
        half.unlink()
    reset(url, "DROP TABLE copied_candles")
    cost = import_csv(url, archive)
    total = files * CANDLES_A_FILE
    print(
        f"OHLCVT, {files} files, {total:,} rows: two psql \\copy {copied:.1f} s,"
        f" import-csv {cost.seconds:.1f} s, ratio {cost.seconds / copied:.2f}, peak {cost.peak:.0f} MiB"
    )
    return {"candle_files": float(files), "candle_ratio": cost.seconds / copied, "candle_peak_mib": cost.peak}


def sizes(url: str) -> None:
    query = (
        "SELECT pg_total_relation_size('trades') / (SELECT count(*) FROM trades),"
        " (pg_total_relation_size('candles') + pg_total_relation_size('rolled_candles'))"
        " / (SELECT count(*) FROM candles)"
    )
    done = subprocess.run(
        [bench.psql(), "-XqAt", "-d", url, "-c", query], capture_output=True, text=True, check=True
    )
    trade, minute = done.stdout.strip().split("|")
    print(
        f"in the database, with indexes: {trade} bytes a trade, {minute} a minute with its higher intervals"
    )


def prepare(url: str) -> None:
    bench.run([COMMAND, "db", "upgrade", "--db-url", url], {})
    bench.sql(url, "CREATE TABLE copied (LIKE trades INCLUDING ALL)")


def write_layout(url: str, archive: Path, layout: Path) -> None:
    """The rows as the database has them, in its own order of columns."""
    import_csv(url, archive)
    bench.sql(url, f"\\copy (SELECT * FROM trades ORDER BY id) TO '{layout}' csv")


def write_trades(path: Path, rows: int) -> None:
    """About a trade a second, as Kraken's archives write them."""
    draw = random.Random(1)
    stamp, price = FIRST_SECOND * 10**7, 100_000
    with path.open("w", encoding="ascii") as file:
        file.write("timestamp,price,volume,type,order_type,misc,trade_id\n")
        for start in range(1, rows + 1, 10_000):
            lines = []
            for number in range(start, min(start + 10_000, rows + 1)):
                stamp += int(draw.expovariate(1) * 10**7)
                price = max(1000, price + draw.randint(-20, 20))
                side, kind = "bs"[number & 1], "ml"[draw.random() < 0.6]
                lines.append(
                    f"{stamp // 10**7}.{stamp % 10**7:07d},{price / 100:.5f},"
                    f"{draw.randint(1, 10**9) / 10**8:.8f},{side},{kind},,{number}\n"
                )
            file.write("".join(lines))


def reset(url: str, *statements: str) -> None:
    """Empty tables, and no measurement pays for the writes of the one before it."""
    bench.sql(url, *(statements or (f"TRUNCATE {TABLES}",)))
    bench.sql(url.replace("//kraken@", "//postgres@"), "CHECKPOINT")


def import_csv(url: str, *arguments: Path | str) -> bench.Cost:
    return bench.run([COMMAND, "import-csv", *map(str, arguments), "--db-url", url], {})


if __name__ == "__main__":
    main()
