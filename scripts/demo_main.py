"""One history of some pairs from archives, REST and the live feed: killed on the way, gone on with, checked.

The exchange is a simulated one, a process on this machine: nothing comes from the network. It has a year and
more of history, and new trades every second. Started by scripts/demo, inside the virtual environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from check_history import COMMAND, CheckError, check, check_history, newest_id

from kraken_db import HistoricalDataProvider
from kraken_db.db.embedded.layout import default_directory
from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.simulator import Quarter

PAIRS = {"BTC/USD": "XBTUSD", "ETH/USD": "ETHUSD"}
"""What Kraken calls them, by symbol."""
PACE_BEFORE, PACE = "0.001", "20"
"""Trades a second and pair, in the past and from now on: a long history, and no waiting for new trades."""
FAULTS = ["--fault", "reset=0.01", "--fault", "unavailable=0.01", "--archive-fault", "cut=0.1"]
FAULTS += ["--feed-fault", "lost=0.1"]
LIVE_SECONDS = 5
MARK = ".kraken-db-demo"
"""A folder with this file is the demo's own."""
OWN = ("archives", "database", "journal")
"""What is in it, and is removed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_directory().with_name("kraken-db-demo"),
        help="the demo's folder: what an earlier demo left there is removed\n(default: %(default)s)",
    )
    folder = parser.parse_args().data_dir.absolute()
    os.environ.pop("DATABASE_URL", None)
    os.environ["KRAKEN_DB_DATA_DIR"] = str(folder / "database")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # the exchange is on this machine
    try:
        make_anew(folder)
        with exchange(folder / "archives"):
            show(folder)
    except (CheckError, KrakenDBError) as error:
        raise SystemExit(f"\nFAILED: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    print(
        "\nAll of this is in a database of the demo's own. Look further:\n"
        f"  export KRAKEN_DB_DATA_DIR={shlex.quote(os.environ['KRAKEN_DB_DATA_DIR'])}\n"
        f"  {shlex.quote(COMMAND)} candles ETH/USD --interval 5m --last 30\n"
        "Remove it (its server stops by itself, a second after the last command):\n"
        f"  rm -rf {shlex.quote(str(folder))}"
    )


def show(folder: Path) -> None:
    address = os.environ["KRAKEN_BASE_URL"]
    sizes = {symbol: newest_id(address, name) for symbol, name in PAIRS.items()}
    print("".join(f"{symbol:<9} {size:,} trades until now\n" for symbol, size in sizes.items()), end="")
    backfill = ["backfill", "--symbols", *PAIRS, "--rate-limit", "0"]

    say("The whole history: archives first, then REST. Killed on the way")
    kill_on_the_way(backfill)
    say("Go on where it ended")
    begun = now()
    run(*backfill, "--resume")

    say("By REST alone, from the first trade on: nothing is stored twice")
    again = [*backfill, "--source", "rest", "--until", f"{begun:%Y-%m-%dT%H:%M:%S}"]
    for pair in json.loads(run(*again, "--json", show_output=False))["pairs"]:
        print(f"{pair['symbol']:<9} {pair['received']:,} trades received, {pair['new']:,} of them new")
        check(pair["received"] >= sizes[pair["symbol"]], f"{pair['symbol']}: trades are missing")
        check(pair["new"] == pair["changed"] == 0, f"{pair['symbol']}: the second download wrote trades")

    say("A file of the archives, imported by hand: nothing is new there either")
    file = folder / "archives" / f"Kraken_Trades_{Quarter.of(now()).previous}.zip"
    totals = json.loads(run("import-csv", file, "--json", show_output=False))["totals"]
    print(f"{totals['read']:,} trades read, {totals['new']:,} of them new")
    check(totals["read"] > totals["new"] == 0, f"{file.name} has brought new trades")

    say("Live: every trade from now on, and what was missed since. Ended by Ctrl-C")
    record(["record", "--symbols", *PAIRS, "--journal-dir", str(folder / "journal")])

    say("What is stored, from counters that every write keeps")
    run("status")

    say("Candles of a higher interval, computed from the minutes")
    run("candles", "BTC/USD", "--interval", "1d", "--last", "7")

    say("Verified: ids without a hole, candles as the trades say, and as Kraken says")
    run("verify", "--rate-limit", "0")

    say("Checked once more: the exchange asked by plain Python, exact decimals")
    check_history(PAIRS, address)


# --- the folder and the exchange ---


def make_anew(folder: Path) -> None:
    """The market depends on when its exchange was started: what an earlier one brought is of no use."""
    mark = folder / MARK
    try:
        if mark.exists():
            run("db", "stop", "--data-dir", folder / "database", quiet=True)
            for path in (folder / name for name in OWN):
                if path.exists():
                    shutil.rmtree(path)
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckError(
                f"{folder} is not the demo's. Name a new or an empty folder: scripts/demo --data-dir FOLDER"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            folder.chmod(0o711)  # the server runs as another user, who has to pass
        mark.touch()
    except OSError as error:
        raise CheckError(f"cannot make {folder} anew: {error.strerror or error}") from error


@contextmanager
def exchange(archives: Path) -> Iterator[None]:
    """A simulated exchange as a process, to which the environment leads."""
    say("A simulated exchange with archives; some of its answers fail on purpose")
    last = Quarter.of(now()).previous
    full = last.previous.previous
    command = ["simulate", "--port", "0", "--live", "--pairs", *PAIRS, "--delay", "25", *FAULTS]
    command += ["--start", f"{full.previous.begin:%Y-%m-%d}", "--pace-before", PACE_BEFORE, "--pace", PACE]
    command += ["--archive", str(archives), "--archive-until", str(full)]
    print(f"$ {shlex.join(['kraken-db', *command])} &", flush=True)
    with subprocess.Popen(
        [COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for _ in range(3):
                line = process.stdout.readline().strip()
                check(line.startswith("export "), "the simulated exchange did not start")
                print(f"$ {line}", flush=True)
                name, _, value = line.removeprefix("export ").partition("=")
                os.environ[name] = value
            yield
        finally:
            process.terminate()
            _, told = process.communicate()
    print("".join(f"\nThe exchange {line}.\n" for line in told.splitlines()[-1:]), end="")


# --- the interruptions ---


def kill_on_the_way(command: Sequence[str]) -> None:
    """Start a download and kill it as soon as something is stored: most of the archives is still to come."""
    with start(command) as process:
        asyncio.run(watch(bool, process))
        process.kill()
    if sys.stderr.isatty():
        print("\n\x1b[?25h", end="")  # it could not bring the cursor back
    check(process.returncode == -signal.SIGKILL, f"the download ended with {process.returncode}")
    print(f"$ kill -9 {process.pid}")
    for one in asyncio.run(watch(bool)):
        count, newest = one["total_records"], one["newest"]
        print(f"{one['symbol']:<9} {count:,} trades stored, up to {newest:%Y-%m-%d %H:%M}")


def record(command: Sequence[str]) -> None:
    """Record until it has caught up and there are some seconds of live trades; end it as Ctrl-C does."""
    with start(command) as process:
        for seconds in (0, LIVE_SECONDS):
            until = now() + timedelta(seconds=seconds)
            asyncio.run(watch(partial(reach, until), process))
        process.send_signal(signal.SIGINT)
    check(process.returncode == 0, f"the recording ended with {process.returncode}")


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    print(f"$ {shlex.join(['kraken-db', *command])}", flush=True)
    return subprocess.Popen([COMMAND, *command])


def reach(until: datetime, found: Sequence[dict[str, Any]]) -> bool:
    return all(one["newest"] >= until for one in found)


async def watch(
    is_enough: Callable[[Sequence[dict[str, Any]]], bool], process: subprocess.Popen[bytes] | None = None
) -> Sequence[dict[str, Any]]:
    """What is stored of each pair, as soon as that is enough or the process is over."""
    async with await opened(process) as history:
        while True:
            read = [await history.get_sync_status(symbol, "trades") for symbol in PAIRS]
            found = [one for one in read if one is not None]
            if is_enough(found) or (process and process.poll() is not None):
                return found
            await asyncio.sleep(0.05)


async def opened(process: subprocess.Popen[bytes] | None) -> HistoricalDataProvider:
    """A reader, as soon as the process has made the database: who reads makes none."""
    history = HistoricalDataProvider("embedded:", pool_min_size=1, pool_max_size=1)
    while True:
        try:
            await history.connect()
            return history
        except ConfigurationError:
            if process is None or process.poll() is not None:
                raise
            await asyncio.sleep(0.05)


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


def say(headline: str) -> None:
    print(f"\n== {headline}", flush=True)


def now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
