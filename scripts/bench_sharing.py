"""Several ``kraken-db backfill`` processes and one database, against one process: the same pairs each time.

The simulated exchange limits each address on its own, as Kraken does: addresses of 127.0.0.0/8 stand for
machines. One process is killed with -9 on the way, and one stands still for a while. The tables must be the
same, row for row. Whole processes, an embedded server, an empty database each time.
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
    quick = {"pairs": 12, "trades": 1_500, "addresses": 3}
    parser = bench.options(__doc__, quick=quick, pairs=300, trades=1_500, addresses=6)
    options, _ = parser.parse_known_args()
    with bench.server() as (server, _), exchange(options.pairs, options.trades) as symbols:
        url = server.url()
        bench.run([COMMAND, "db", "upgrade", "--db-url", url], {})
        one = measure(url, symbols, 1, disturbed=False)
        alone = checksums(url)
        calm = measure(url, symbols, options.addresses, disturbed=False)
        same(url, alone)
        disturbed = measure(url, symbols, options.addresses, disturbed=True)
        same(url, alone)
    bench.print_machine()
    print(
        f"{options.pairs} pairs of {options.trades:,} trades, one request a second for each address and pair"
    )
    print(f"one process           {one:6.1f} s")
    for name, seconds in (("", calm), (", one killed, one stopped", disturbed)):
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


def measure(url: str, symbols: list[str], processes: int, *, disturbed: bool) -> float:
    """Seconds until the last one has ended; each has an address of its own, and does all pairs."""
    bench.sql(url, f"TRUNCATE {TABLES}")
    bench.say(f"{processes} processes{', disturbed' if disturbed else ''} ...")
    began = time.perf_counter()
    running = [start(url, symbols, address) for address in range(2, 2 + processes)]
    if disturbed:
        time.sleep(5)
        running.pop().kill()
        running[-1].send_signal(signal.SIGSTOP)
        time.sleep(10)
        running[-1].send_signal(signal.SIGCONT)
    for process in running:
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(f"a backfill ended with {process.returncode}:\n{told.decode()[-2000:]}")
    return time.perf_counter() - began


def start(url: str, symbols: list[str], address: int) -> subprocess.Popen[bytes]:
    command = [COMMAND, "backfill", "--source", "rest", "--db-url", url, "--symbols", *symbols]
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
