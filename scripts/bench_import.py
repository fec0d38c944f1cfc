"""import-csv against ``psql \\copy``: the same rows, the same server, the same key and index.

psql reads them in table layout already, so that it has nothing to do but to hand them over; import-csv
reads Kraken's own layout, checks every row, and keeps coverage and sync status. Whole processes, from
start to end, into an empty table each time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import _bench as bench

SYMBOL = "BTC/USDC"
COMMAND = str(Path(sys.executable).with_name("kraken-db"))


def main() -> None:
    quick = {"rows": 50_000, "memory_rows": 0, "repeats": 1}
    # memory_rows: of the file for the memory test; 0 leaves it out.
    parser = bench.options(__doc__, quick=quick, rows=1_000_000, memory_rows=6_000_000, repeats=3)
    options, _ = parser.parse_known_args()
    with bench.server() as (server, folder):
        figures = measure(server.url(), folder, options.rows, options.repeats)
        if options.memory_rows:
            figures["peak_mib_large"] = measure_memory(server.url(), folder, options.memory_rows)
            peak = figures["peak_mib_large"]
            print(f"{'the same, ' + format(options.memory_rows, ',') + ' rows':<30} {peak:6.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(url: str, folder: Path, rows: int, repeats: int) -> dict[str, float]:
    archive, layout = folder / "XBTUSDC_1.csv", folder / "layout.tsv"
    bench.say(f"writing {rows:,} rows in both layouts ...")
    bench.write_archive(archive, rows)
    bench.write_table_layout(layout, rows, SYMBOL)
    prepare(url)

    def copy() -> bench.Cost:
        bench.sql(url, "TRUNCATE copied")
        checkpoint(url)
        return bench.run([bench.psql(), "-Xq", "-d", url, "-c", f"\\copy copied from '{layout}'"], {})

    def first_import() -> bench.Cost:
        bench.sql(
            url,
            "TRUNCATE candles, rolled_candles, data_sync_status, data_coverage, pending_refresh,"
            " unproven_ranges",
        )
        checkpoint(url)
        return import_csv(url, archive)

    def second_import() -> bench.Cost:
        return import_csv(url, archive)

    bench.say(f"measuring, {repeats} rounds ...")
    copied, imported, again = bench.repeat(repeats, copy, first_import, second_import)
    verify(url, rows)
    figures = {
        "rows": float(rows),
        "psql_copy_seconds": bench.median(copied),
        "import_seconds": bench.median(imported),
        "import_ratio": bench.median(imported) / bench.median(copied),
        "second_import_ratio": bench.median(again) / bench.median(copied),
        "peak_mib": max(cost.peak for cost in imported),
    }
    bench.print_machine()
    print(f"{rows:,} candles, median of {repeats} (min .. max)")
    base = bench.median(copied)
    rows_of_table = {
        "psql \\copy, table layout": copied,
        "import-csv, Kraken's layout": imported,
        "import-csv of the same again": again,
    }
    for name, costs in rows_of_table.items():
        seconds = bench.median(costs)
        print(f"{name:<30} {seconds:6.2f} s  ({bench.spread(costs)})  ratio {seconds / base:.2f}")
    print(f"{'peak memory of import-csv':<30} {figures['peak_mib']:6.0f} MiB")
    return figures


def prepare(url: str) -> None:
    bench.run([COMMAND, "db", "upgrade", "--db-url", url], {})
    bench.sql(
        url,
        "CREATE TABLE copied (LIKE candles INCLUDING DEFAULTS)",
        f"ALTER TABLE copied ADD {bench.KEY}",
        "CREATE INDEX ON copied (symbol, interval_minutes, timestamp DESC)",
    )


def verify(url: str, rows: int) -> None:
    """Both tables must hold the same rows, or the comparison means nothing."""
    difference = (
        f"SELECT 1 / (CASE WHEN (SELECT count(*) FROM candles) = {rows} AND NOT EXISTS"
        " (SELECT * FROM copied EXCEPT SELECT * FROM candles) THEN 1 ELSE 0 END)"
    )
    bench.sql(url, difference)


def measure_memory(url: str, folder: Path, rows: int) -> float:
    archive = folder / "ETHUSDC_1.csv"
    bench.say(f"writing {rows:,} rows ...")
    bench.write_archive(archive, rows)
    bench.say("importing them ...")
    cost = import_csv(url, archive)
    return cost.peak


def import_csv(url: str, archive: Path) -> bench.Cost:
    return bench.run([COMMAND, "import-csv", str(archive), "--db-url", url], {})


def checkpoint(url: str) -> None:
    """So that no measurement pays for the writes of the one before it."""
    bench.sql(url.replace("//kraken@", "//postgres@"), "CHECKPOINT")


if __name__ == "__main__":
    main()
