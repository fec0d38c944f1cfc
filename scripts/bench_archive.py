"""A trade file of Kraken's archive against ``psql \\copy``: the same rows, server, key and index.

psql reads them in table layout already, and builds no candles. import-csv reads Kraken's own layout (schema
2: a header, ids, letters for side and type), checks every row and the ids, builds the minutes with their vwap
and quote volume, rolls them up, and keeps coverage and counters. Whole processes, empty tables each time.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import _bench as bench

COMMAND = str(Path(sys.executable).with_name("kraken-db"))
FIRST_SECOND = 1_420_070_400
TABLES = (
    "trades, candles, rolled_candles, data_sync_status, data_coverage, pending_refresh, unproven_ranges,"
    " dropped_ranges"
)


def main() -> None:
    quick = {"rows": 100_000, "large_rows": 0, "repeats": 1}
    # large_rows: of the test of growth; 0 leaves it out.
    parser = bench.options(__doc__, quick=quick, rows=2_000_000, large_rows=10_000_000, repeats=3)
    options, _ = parser.parse_known_args()
    with bench.server() as (server, folder):
        figures = measure(server.url(), folder, options.rows, options.repeats)
        if options.large_rows:
            figures |= measure_growth(server.url(), folder, options.large_rows, figures["import_seconds"])
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
    costs = bench.repeat(repeats, copy, first, second, two, candles_only)
    base = bench.median(costs[0])
    bench.print_machine()
    print(f"{rows:,} trades of one pair, median of {repeats} (min .. max)")
    names = (
        "psql \\copy, table layout, no candles",
        "import-csv, with candles",
        "the same again",
        "two pairs at once, twice the rows",
        "--no-trades: the candles alone",
    )
    for name, cost in zip(names, costs, strict=True):
        seconds = bench.median(cost)
        print(
            f"{name:<38} {seconds:6.2f} s  ({bench.spread(cost)})  ratio {seconds / base:.2f}"
            f"  peak {max(one.peak for one in cost):.0f} MiB"
        )
    one, pair, candles = (bench.median(costs[n]) for n in (1, 3, 4))
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


def sizes(url: str) -> None:
    print("in the database (bytes a row, with indexes):")
    bench.sql(
        url,
        "SELECT 'trade' AS row, pg_total_relation_size('trades') / greatest((SELECT count(*) FROM trades), 1)"
        " AS bytes UNION ALL SELECT 'minute', pg_total_relation_size('candles') / greatest("
        "(SELECT count(*) FROM candles), 1)",
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
