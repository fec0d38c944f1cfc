"""Several ``kraken-db backfill`` processes and one database, against one process: the same pairs each time.

The simulated exchange limits each address on its own, as Kraken does: addresses of 127.0.0.0/8 stand for
machines. In a second run two processes are killed with -9 on the way, and one stands still for a while. The
tables must be the same, row for row. Whole processes, an embedded server, an empty database each time.

``--jobs`` is small, so that the limit is that of the exchange and not this machine's: ten pairs at a time of
six processes are more than two cores store.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import _bench as bench

COMMAND = str(Path(sys.executable).with_name("kraken-db"))
PORT = 8731
TABLES = "trades, candles, rolled_candles, data_sync_status, data_coverage, pending_refresh, running_jobs"
CHECKSUMS = (
    "SELECT md5(string_agg(t::text, E'\\n' ORDER BY symbol, id)) FROM trades t",
    "SELECT md5(string_agg(t::text, E'\\n' ORDER BY symbol, timestamp)) FROM candles t",
    "SELECT md5(string_agg(t::text, E'\\n' ORDER BY symbol, data_type)) FROM data_coverage t",
    "SELECT md5(string_agg(concat_ws(' ', symbol, data_type, total_records), ',' ORDER BY symbol, data_type))"
    " FROM data_sync_status",
)


def main() -> None:
    quick = {"pairs": 12, "trades": 1_500, "addresses": 3, "still": 5}
    parser = bench.options(__doc__, quick=quick, pairs=300, trades=1_500, addresses=6, jobs=3, still=60)
    options, _ = parser.parse_known_args()
    with bench.server() as (server, _), exchange(options.pairs, options.trades) as symbols:
        url = server.url()
        bench.run([COMMAND, "db", "upgrade", "--db-url", url], {})
        one = measure(url, symbols, 1, options.jobs)
        alone = checksums(url)
        calm = measure(url, symbols, options.addresses, options.jobs)
        same(url, alone)
        disturbed = measure(url, symbols, options.addresses, options.jobs, options.still)
        same(url, alone)
    bench.print_machine()
    print(
        f"{options.pairs} pairs of {options.trades:,} trades, {options.jobs} at a time,"
        " one request a second for each address and pair"
    )
    print(f"one process           {one:6.1f} s")
    for name, seconds in (("", calm), (", two killed, one still", disturbed)):
        ideal = one / options.addresses
        print(
            f"{options.addresses} processes{name:<26} {seconds:6.1f} s  {seconds / ideal:.2f} x a share of it"
        )
    if options.json:
        options.json.write_text(json.dumps({"one": one, "several": calm, "disturbed": disturbed}) + "\n")


def same(url: str, alone: list[str]) -> None:
    if checksums(url) != alone:
        raise SystemExit("the tables differ from those of one process")


@contextmanager
def exchange(pairs: int, trades: int) -> Iterator[list[str]]:
    """A simulated exchange as a process, on all addresses of this machine; gives its symbols."""
    symbols = [f"A{number:03}/USD" for number in range(pairs)]
    command = [COMMAND, "simulate", "--host", "0.0.0.0", "--port", str(PORT), "--rate-limit", "1"]
    command += ["--trades", str(trades), "--pairs", *symbols]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield symbols
        finally:
            process.terminate()


def measure(url: str, symbols: list[str], processes: int, jobs: int, still: int = 0) -> float:
    """Seconds until the last one has ended; each has an address of its own, and does all pairs.

    ``still``: for so long one of them stands still, and two others are killed.
    """
    bench.sql(url, f"TRUNCATE {TABLES}")
    bench.say(f"{processes} processes{', disturbed' if still else ''} ...")
    began = time.perf_counter()
    running = [start(url, symbols, address, jobs) for address in range(2, 2 + processes)]
    if still:
        time.sleep(5)
        for _ in range(2):
            running.pop().kill()
        running[-1].send_signal(signal.SIGSTOP)
        time.sleep(still)
        running[-1].send_signal(signal.SIGCONT)
    for process in running:
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(f"a backfill ended with {process.returncode}:\n{told.decode()[-2000:]}")
    return time.perf_counter() - began


def start(url: str, symbols: list[str], address: int, jobs: int) -> subprocess.Popen[bytes]:
    command = [COMMAND, "backfill", "--source", "rest", "--db-url", url, "--jobs", str(jobs)]
    command += ["--symbols", *symbols]
    place = {"KRAKEN_BASE_URL": f"http://127.0.0.{address}:{PORT}"}
    return subprocess.Popen(
        command, env=os.environ | place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def checksums(url: str) -> list[str]:
    commands = [part for query in CHECKSUMS for part in ("-c", query)]
    done = subprocess.run(
        [bench.psql(), "-XqAt", "-d", url, *commands], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


if __name__ == "__main__":
    main()
