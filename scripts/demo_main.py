"""The main job, start to end: download the history of some pairs, be killed, go on, look, check everything.

The exchange is a simulated one, a process on this machine: nothing comes from the network. Its markets are
the same on every run. Started by scripts/demo, inside the virtual environment.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import http.client
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from kraken_db import HistoricalDataProvider
from kraken_db.db.embedded.layout import default_directory
from kraken_db.errors import KrakenDBError

COMMAND = str(Path(sys.executable).with_name("kraken-db"))
DOWNLOADED = {"BTC/USD": "XBTUSD", "ETH/USD": "ETHUSD"}
"""Pairs and what Kraken calls them."""
ARCHIVED, ARCHIVED_NAME = "DOGE/USD", "XDGUSD"
"""The pair whose first half comes from an archive."""
FAULTS = ("--fault", "reset=0.01", "--fault", "unavailable=0.01")

Row = tuple[str, str, Decimal, str, str, str, int]
"""A trade as Kraken sends it: price, volume, time, side, order type, flags, id."""
Bar = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int, Decimal]
"""Open time in Unix seconds, open, high, low, close, volume, number of trades, vwap."""
ROUNDING = Decimal("1e-10")
"""A vwap is stored with ten decimals, first of the minutes and then of what is computed from them."""


class DemoError(Exception):
    """Something that was shown is not right."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_directory().with_name("kraken-db-demo"),
        help="where the demo's database keeps its files (default: %(default)s)",
    )
    parser.add_argument("--trades", type=int, default=40_000, help=argparse.SUPPRESS)  # fewer, for the tests
    options = parser.parse_args()
    data_dir = options.data_dir.absolute()
    os.environ.pop("DATABASE_URL", None)
    os.environ["KRAKEN_DB_DATA_DIR"] = str(data_dir)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # the exchange is on this machine
    try:
        with (
            exchange(options.trades) as address,
            tempfile.TemporaryDirectory(prefix="kraken-db-demo-") as folder,
        ):
            os.environ["KRAKEN_BASE_URL"] = address
            show(address, Path(folder), options.trades)
    except (DemoError, KrakenDBError) as error:
        raise SystemExit(f"\nFAILED: {error}\nTo start anew: rm -rf {shlex.quote(str(data_dir))}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(
        "\nAll of this is in a database of the demo's own. Look further:\n"
        f"  export KRAKEN_DB_DATA_DIR={shlex.quote(str(data_dir))}\n"
        f"  {shlex.quote(COMMAND)} candles ETH/USD --interval 5m --last 30\n"
        "Remove it (its server stops by itself, a second after the last command):\n"
        f"  rm -rf {shlex.quote(str(data_dir))}"
    )


def show(address: str, folder: Path, trades: int) -> None:
    both = ["backfill", "--symbols", *DOWNLOADED, "--rate-limit", "0"]
    say("Two pairs side by side, every trade since the first, killed on the way")
    if kill_half_way(both, trades):
        say("Go on where it ended")
        run(*both, "--resume")

    say("All of it again, from the first trade on: nothing is stored twice")
    for pair in json.loads(run(*both, "--json", show_output=False))["pairs"]:
        print(f"{pair['symbol']:<9} {pair['received']:,} trades received, {pair['new']:,} of them new")
        check(pair["received"] == trades, f"{pair['symbol']} has {trades:,} trades")
        check(pair["new"] == pair["candles_new"] == 0, f"{pair['symbol']}: the second download wrote rows")

    say("The other way in, an archive: here of the first half of a third pair")
    rows = download(address, ARCHIVED_NAME)
    archive = write_archive(folder, rows[: trades // 2])
    totals = json.loads(run("import-csv", archive, "--json", show_output=False))["totals"]
    print(f"{ARCHIVED:<9} {totals['read']:,} trades read, {totals['new']:,} of them new")
    half = datetime.fromtimestamp(int(rows[trades // 2 - 1][2]), UTC)
    print("The rest from the exchange, and the candles of all of it from its trades:")
    run("backfill", "--symbols", ARCHIVED, "--since", f"{half:%Y-%m-%dT%H:%M:%S}", "--rate-limit", "0")

    say("What is stored, from counters that every write keeps")
    run("status")

    say("Candles of a higher interval, computed from the minutes")
    run("candles", "BTC/USD", "--interval", "1d", "--last", "7")

    say("Checked: the exchange asked by plain Python, added up in exact decimals")
    with ThreadPoolExecutor() as threads:
        downloads = threads.map(lambda name: download(address, name), DOWNLOADED.values())
    for symbol, wanted in [*zip(DOWNLOADED, downloads, strict=True), (ARCHIVED, rows)]:
        check_trades(symbol, wanted)
        check_candles(symbol, wanted)


# --- the exchange ---


@contextmanager
def exchange(trades: int) -> Iterator[str]:
    """A simulated exchange as a process; gives its address."""
    say("A simulated exchange; two in a hundred of its answers fail on purpose")
    command = ["simulate", "--port", "0", "--pairs", *DOWNLOADED, ARCHIVED, "--trades", str(trades)]
    command += ["--delay", "25", *FAULTS]
    print(f"$ {shlex.join(['kraken-db', *command])} &", flush=True)
    with subprocess.Popen(
        [COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            check(line.startswith("export "), "the simulated exchange did not start")
            print(f"$ {line}")
            yield line.partition("=")[2]
        finally:
            process.terminate()
            _, told = process.communicate()
    print("".join(f"\nThe exchange {line}.\n" for line in told.splitlines()[-1:]), end="")


def download(address: str, pair: str) -> list[Row]:
    """All trades of a pair, by nothing but the standard library."""
    rows: dict[int, Row] = {}
    since, found = "0", -1
    while len(rows) > found:
        found = len(rows)
        result = ask(f"{address}/0/public/Trades?pair={pair}&since={since}")
        since = result.pop("last")
        (page,) = result.values()
        rows |= {row[6]: tuple(row) for row in page}
    return [rows[number] for number in sorted(rows)]


def ask(url: str) -> dict[str, Any]:
    for _ in range(20):
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                answer = json.loads(response.read(), parse_float=Decimal)
            if not answer["error"]:
                result: dict[str, Any] = answer["result"]
                return result
        except (OSError, http.client.HTTPException):
            pass  # one of the faults
        time.sleep(0.1)
    raise DemoError(f"{url} has failed 20 times")


def write_archive(folder: Path, rows: Sequence[Row]) -> Path:
    """A zip in the layout of Kraken's quarterly archives of trades: seven fields under a header of six."""
    text = io.StringIO("price,volume,time,side,type,misc\n")
    text.seek(0, io.SEEK_END)
    csv.writer(text, lineterminator="\n").writerows(rows)
    path = folder / "Kraken_Trading_History.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{ARCHIVED_NAME}.csv", text.getvalue())
    return path


# --- the interruption ---


def kill_half_way(command: Sequence[str], trades: int) -> bool:
    """Start a download and kill it as soon as a third is stored; False if all is there from another time."""
    stored = asyncio.run(count_when(0))
    if stored >= trades * len(DOWNLOADED):
        print(f"All {stored:,} trades are there already, from an earlier run of the demo.")
        return False
    print(f"$ {shlex.join(['kraken-db', *command])}", flush=True)
    with subprocess.Popen([COMMAND, *command], stdout=subprocess.PIPE) as process:
        asyncio.run(count_when(trades * len(DOWNLOADED) // 3, process))
        process.kill()
    if sys.stderr.isatty():
        print("\n\x1b[?25h", end="")  # it could not bring the cursor back
    check(process.returncode in (0, -signal.SIGKILL), f"the download ended with {process.returncode}")
    print(f"$ kill -9 {process.pid}" if process.returncode else "It was done before it could be killed.")
    print(f"{asyncio.run(count_when(0)):,} of {trades * len(DOWNLOADED):,} trades are stored.")
    return True


async def count_when(wanted: int, process: subprocess.Popen[bytes] | None = None) -> int:
    """How many trades are stored, as soon as there are so many or the process is over."""
    async with HistoricalDataProvider("embedded:", pool_min_size=1, pool_max_size=1) as history:
        while True:
            found = [await history.get_sync_status(symbol, "trades") for symbol in DOWNLOADED]
            stored: int = sum(status["total_records"] for status in found if status)
            if stored >= wanted or (process and process.poll() is not None):
                return stored
            await asyncio.sleep(0.05)


# --- the independent computation ---


def check_trades(symbol: str, wanted: Sequence[Row]) -> None:
    found = asyncio.run(read_trades(symbol))
    exact = [(row[6], Decimal(row[0]), Decimal(row[1]), {"b": "buy", "s": "sell"}[row[3]]) for row in wanted]
    check(found == exact, f"the trades of {symbol} differ from what the exchange has")
    first, last = found[0][0], found[-1][0]
    check(last - first + 1 == len(found), f"{symbol}: ids {first} to {last}, but {len(found)} trades")
    print(f"{symbol:<9} {len(found):,} trades equal, ids {first:,} to {last:,}: none missing, none twice")


async def read_trades(symbol: str) -> list[tuple[int, Decimal, Decimal, str]]:
    always = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    async with HistoricalDataProvider("embedded:") as history:
        trades = await history.get_trades(symbol, *always)
    return sorted((trade.id, trade.price, trade.volume, trade.side) for trade in trades)


def check_candles(symbol: str, rows: Sequence[Row]) -> None:
    wanted = add_up(rows, 240 * 60)
    printed = run("candles", symbol, "-i", "4h", "--start", "2024-01-01", "--json", quiet=True)
    found = [exact(candle) for candle in json.loads(printed)["candles"]]
    same = [a[:-1] == b[:-1] and abs(a[-1] - b[-1]) <= ROUNDING for a, b in zip(found, wanted, strict=False)]
    check(
        all(same) and len(found) == len(wanted),
        f"4h candles of {symbol} differ from the independent computation",
    )
    print(f"{'':<9} {len(found)} candles of 4h equal: open, high, low, close, volume, trades, vwap")


def add_up(rows: Sequence[Row], length: int) -> list[Bar]:
    bars = []
    for number, group in groupby(rows, key=lambda row: int(row[2]) // length):
        trades = [(Decimal(row[0]), Decimal(row[1])) for row in group]
        prices, volumes = zip(*trades, strict=True)
        volume = sum(volumes, Decimal())
        vwap = sum((price * amount for price, amount in trades), Decimal()) / volume
        bars.append(
            (number * length, prices[0], max(prices), min(prices), prices[-1], volume, len(trades), vwap)
        )
    return bars


def exact(candle: dict[str, str]) -> Bar:
    opens_at = int(datetime.fromisoformat(candle["timestamp"]).timestamp())
    first, high, low, last, volume, vwap = (
        Decimal(candle[name]) for name in ("open", "high", "low", "close", "volume", "vwap")
    )
    return opens_at, first, high, low, last, volume, int(candle["trades"]), vwap


# --- showing ---


def run(*arguments: object, show_output: bool = True, quiet: bool = False) -> str:
    """Run kraken-db and show the command; with ``quiet`` neither it nor its output is shown."""
    words = [str(argument) for argument in arguments]
    if not quiet:
        print(f"$ {shlex.join(['kraken-db', *words])}", flush=True)
    pipe = None if show_output and not quiet else subprocess.PIPE
    done = subprocess.run([COMMAND, *words], stdout=pipe, text=True, check=False)
    check(done.returncode == 0, f"{shlex.join(['kraken-db', *words])} ended with exit code {done.returncode}")
    return done.stdout or ""


def check(holds: bool, problem: str) -> None:
    if not holds:
        raise DemoError(problem)


def say(headline: str) -> None:
    print(f"\n== {headline}", flush=True)


if __name__ == "__main__":
    main()
