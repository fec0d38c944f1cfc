"""The main job, start to end, on an embedded database: import an archive, look, read candles, check them.

The archive is made here, in the layout of Kraken's own: a synthetic market that comes out the same on every
run, so that nothing has to be downloaded. Started by scripts/demo, inside the virtual environment.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from random import Random

from kraken_db.db.embedded.layout import default_directory

COMMAND = str(Path(sys.executable).with_name("kraken-db"))
FIRST_MINUTE = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
TRADED_HOURS = 12
"""So many hours at the end also come as single trades, for the first market."""

Row = tuple[object, ...]
Bar = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int]
"""Open time in Unix seconds, open, high, low, close, volume, number of trades."""
Trade = tuple[Decimal, Decimal, Decimal, str, str, str, int]
"""Price, volume, time, side, order type, flags, id."""


@dataclass(frozen=True)
class Market:
    symbol: str
    pair: str
    """Its name in Kraken's archive."""
    price: Decimal
    """Of its first trade."""
    tick: Decimal


MARKETS = (
    Market("BTC/USD", "XBTUSD", Decimal("42283.6"), Decimal("0.1")),
    Market("ETH/USD", "ETHUSD", Decimal("2281.87"), Decimal("0.01")),
    Market("DOGE/USD", "XDGUSD", Decimal("0.0895163"), Decimal("0.0000001")),
)


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
    parser.add_argument("--days", type=int, default=75, help=argparse.SUPPRESS)  # fewer, for the tests
    options = parser.parse_args()
    data_dir = options.data_dir.absolute()
    os.environ.pop("DATABASE_URL", None)
    os.environ["KRAKEN_DB_DATA_DIR"] = str(data_dir)
    try:
        with tempfile.TemporaryDirectory(prefix="kraken-db-demo-") as folder:
            show(Path(folder, "Kraken_demo.zip"), options.days)
    except DemoError as error:
        raise SystemExit(f"\nFAILED: {error}\nTo start anew: rm -rf {shlex.quote(str(data_dir))}") from None
    print(
        "\nAll of this is in a database of the demo's own. Look further:\n"
        f"  export KRAKEN_DB_DATA_DIR={shlex.quote(str(data_dir))}\n"
        f"  {shlex.quote(COMMAND)} candles ETH/USD --interval 1d --last 30\n"
        "Remove it (its server stops by itself, a second after the last command):\n"
        f"  rm -rf {shlex.quote(str(data_dir))}"
    )


def show(archive: Path, days: int) -> None:
    say(
        f"A synthetic market: {len(MARKETS)} pairs, {days} days of minutes, in the layout of Kraken's archive"
    )
    rows = write_archive(archive, days)
    print(f"{archive}: {archive.stat().st_size / 1e6:.1f} MB, {sum(rows.values()):,} rows")

    say("Import it: candles and trades, straight out of the zip")
    run("import-csv", archive)

    say("Again: nothing is written twice")
    totals = json.loads(run("import-csv", archive, "--json", show_output=False))["totals"]
    print(json.dumps(totals))
    check(totals["read"] == sum(rows.values()), "the second import did not read every row")
    check(totals["new"] == totals["changed"] == 0, f"the second import wrote rows: {totals}")
    print("0 rows written.")

    say("What is stored, from counters that every write keeps")
    run("status")
    stored = json.loads(run("status", "--json", quiet=True))["symbols"]
    counted = {
        (entry["symbol"], item["data_type"]): item["rows"] for entry in stored for item in entry["data"]
    }
    check(counted == rows, f"status says {counted}, the archive has {rows}")

    say("Candles of a higher interval, computed from the minutes")
    run("candles", "BTC/USD", "--interval", "4h", "--last", 12)

    say("Checked against Python: the archive's minutes, added up here, in exact decimals")
    for market in MARKETS:
        wanted = add_up(read_minutes(archive, market), 240 * 60)
        printed = run("candles", market.symbol, "-i", "4h", "--start", "2024-01-01", "--json", quiet=True)
        found = [exact(candle) for candle in json.loads(printed)["candles"]]
        check(found == wanted, f"4h candles of {market.symbol} differ from the independent computation")
        print(f"{market.symbol:<9} {len(found)} candles of 4h equal: open, high, low, close, volume, trades")


# --- the independent computation ---


def read_minutes(archive: Path, market: Market) -> Iterator[Bar]:
    with zipfile.ZipFile(archive) as opened, opened.open(f"{market.pair}_1.csv") as member:
        for stamp, *numbers, trades in csv.reader(io.TextIOWrapper(member)):
            first, high, low, last, volume = map(Decimal, numbers)
            yield int(stamp), first, high, low, last, volume, int(trades)


def add_up(minutes: Iterable[Bar], length: int) -> list[Bar]:
    bars = []
    for number, group in groupby(minutes, key=lambda bar: bar[0] // length):
        _, opens, highs, lows, closes, volumes, trades = zip(*group, strict=True)
        bars.append(
            (
                number * length,
                opens[0],
                max(highs),
                min(lows),
                closes[-1],
                sum(volumes, Decimal()),
                sum(trades),
            )
        )
    return bars


def exact(candle: dict[str, str]) -> Bar:
    opens_at = int(datetime.fromisoformat(candle["timestamp"]).timestamp())
    first, high, low, last, volume = (
        Decimal(candle[name]) for name in ("open", "high", "low", "close", "volume")
    )
    return opens_at, first, high, low, last, volume, int(candle["trades"])


# --- the archive ---


def write_archive(path: Path, days: int) -> dict[tuple[str, str], int]:
    """Write the zip; returns how many rows there are by symbol and data type."""
    counts = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for market in MARKETS:
            traded_minutes = TRADED_HOURS * 60 if market is MARKETS[0] else 0
            minutes = list(make_minutes(market, days * 1440 - traded_minutes))
            if traded_minutes:
                trades = list(make_trades(market, minutes[-1], FIRST_MINUTE + days * 86400, traded_minutes))
                minutes += minutes_of(trades)
                archive.writestr(f"{market.pair}.csv", "price,volume,time,side,type,misc\n" + text(trades))
                counts[market.symbol, "trades"] = len(trades)
            archive.writestr(f"{market.pair}_1.csv", text(minutes))
            counts[market.symbol, "candles_1m"] = len(minutes)
    return counts


def text(rows: Iterable[Row]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def make_minutes(market: Market, count: int) -> Iterator[Bar]:
    """A random walk in which one minute in eight is quiet: like Kraken's, a quiet minute has no row."""
    random = Random(market.pair)
    close = market.price
    for number in range(count):
        if random.random() < 0.125:
            continue
        prices = [close]
        for _ in range(3):
            prices.append(step(market, prices[-1], random))
        close = prices[-1]
        volume, trades = Decimal(random.randint(1, 10**9)).scaleb(-8), random.randint(4, 90)
        yield FIRST_MINUTE + 60 * number, prices[0], max(prices), min(prices), close, volume, trades


def make_trades(market: Market, before: Bar, end: int, minutes: int) -> Iterator[Trade]:
    """The last minutes before ``end``, in the layout of the newer files: seven fields, a header of six."""
    random = Random(market.pair + " trades")
    moment, price, trade_id = Decimal(end - minutes * 60), before[4], 70_000_000
    while (moment := moment + Decimal(random.randint(1, 200_000_000)).scaleb(-7)) < end:
        price, trade_id = step(market, price, random), trade_id + 1
        volume = Decimal(random.randint(1, 10**8)).scaleb(-8)
        yield price, volume, moment, random.choice("bs"), random.choice("ml"), "", trade_id


def minutes_of(trades: Iterable[Trade]) -> Iterator[Bar]:
    for minute, group in groupby(trades, key=lambda trade: int(trade[2]) // 60 * 60):
        prices, volumes, *_ = zip(*group, strict=True)
        yield minute, prices[0], max(prices), min(prices), prices[-1], sum(volumes, Decimal()), len(prices)


def step(market: Market, price: Decimal, random: Random) -> Decimal:
    moved = price * (1 + Decimal(random.randint(-3000, 3000)).scaleb(-7))
    return max(moved.quantize(market.tick), market.tick)


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
