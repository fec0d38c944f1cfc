"""Compares what is stored of some pairs with what the exchange has, asked and added up by plain Python.

Every trade up to the newest stored one: ids without a hole, price, volume and side; and the 4h candles, open
to vwap, in exact decimals. The exchange is the one at KRAKEN_BASE_URL, and must have ids from 1 on, as the
simulated one. The database is that of the other commands. scripts/demo ends with it; by itself:

    .venv/bin/python scripts/check_history.py BTC/USD=XBTUSD ETH/USD=ETHUSD
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

from kraken_db import HistoricalDataProvider
from kraken_db.errors import KrakenDBError
from kraken_db.settings import Settings

COMMAND = str(Path(sys.executable).with_name("kraken-db"))

Row = tuple[str, str, Decimal, str, str, str, int]
"""A trade as Kraken sends it: price, volume, time, side, order type, flags, id."""
Bar = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int, Decimal]
"""Open time in Unix seconds, open, high, low, close, volume, number of trades, vwap."""
ROUNDING = Decimal("1.5e-10")
"""A vwap has ten decimals: it is rounded in the minutes, in the hours of them, and in their 4 hours."""
BAR_SECONDS = 4 * 3600
RUNNING_SECONDS = 120
"""A minute gets its candle when it is over: the bar in which the last ones lie may not have all of them."""


class CheckError(Exception):
    """Something is not right."""


def main() -> None:
    try:
        check_history(dict(word.split("=") for word in sys.argv[1:]), os.environ["KRAKEN_BASE_URL"])
    except (CheckError, KrakenDBError) as error:
        raise SystemExit(f"FAILED: {error}") from None


def check_history(pairs: Mapping[str, str], address: str) -> None:
    """``pairs``: what the exchange calls them, by symbol. Raises CheckError."""
    with ThreadPoolExecutor() as threads:
        downloads = threads.map(lambda name: download(address, name), pairs.values())
    for symbol, rows in zip(pairs, downloads, strict=True):
        check_trades(symbol, rows)
        check_candles(symbol, rows)


def check(holds: bool, problem: str) -> None:
    if not holds:
        raise CheckError(problem)


# --- the exchange ---


def download(address: str, pair: str) -> list[Row]:
    """All trades of a pair, by nothing but the standard library."""
    rows: dict[int, Row] = {}
    since, size = "0", -1
    while size:
        result = ask(f"{address}/0/public/Trades?pair={pair}&since={since}")
        since = result.pop("last")
        (page,) = result.values()
        size = sum(row[6] not in rows for row in page)
        rows |= {row[6]: tuple(row) for row in page}
    return [rows[number] for number in sorted(rows)]


def newest_id(address: str, pair: str) -> int:
    """Of the trades that a pair has now: as many as there are."""
    result = ask(f"{address}/0/public/Trades?pair={pair}&count=1")
    del result["last"]
    ((row,),) = result.values()
    return int(row[6])


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
    raise CheckError(f"{url} has failed 20 times")


# --- the comparison ---


def check_trades(symbol: str, rows: list[Row]) -> None:
    """Leaves only the rows up to the newest stored trade: the market goes on."""
    found = asyncio.run(read_trades(symbol))
    check(bool(found), f"no trade of {symbol} is stored")
    first, last = found[0][0], found[-1][0]
    del rows[last:]
    sides = {"b": "buy", "s": "sell"}
    exact = [(row[6], Decimal(row[0]), Decimal(row[1]), sides[row[3]]) for row in rows]
    check(last - first + 1 == len(found), f"{symbol}: ids {first} to {last}, but {len(found)} trades")
    check(found == exact, f"the trades of {symbol} differ from what the exchange has")
    print(f"{symbol:<9} {len(found):,} trades equal, ids {first:,} to {last:,}: none missing, none twice")


async def read_trades(symbol: str) -> list[tuple[int, Decimal, Decimal, str]]:
    always = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    async with HistoricalDataProvider(Settings.from_environment().database_url) as history:
        trades = await history.get_trades(symbol, *always)
    return sorted((trade.id, trade.price, trade.volume, trade.side) for trade in trades)


def check_candles(symbol: str, rows: Sequence[Row]) -> None:
    begin, end = (
        int(second) // BAR_SECONDS * BAR_SECONDS for second in (rows[0][2], rows[-1][2] - RUNNING_SECONDS)
    )
    wanted = add_up([row for row in rows if row[2] < end])
    span = [f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M}" for second in (begin, end)]
    command = [COMMAND, "candles", symbol, "-i", "4h", "--start", span[0], "--end", span[1], "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    check(done.returncode == 0, f"kraken-db candles ended with exit code {done.returncode}")
    found = [exact_bar(candle) for candle in json.loads(done.stdout)["candles"]]
    same = [a[:-1] == b[:-1] and abs(a[-1] - b[-1]) <= ROUNDING for a, b in zip(found, wanted, strict=False)]
    check(
        all(same) and len(found) == len(wanted),
        f"4h candles of {symbol} differ from the independent computation",
    )
    print(f"{'':<9} {len(found):,} candles of 4h equal: open, high, low, close, volume, trades, vwap")


def add_up(rows: Sequence[Row]) -> list[Bar]:
    bars = []
    for number, group in groupby(rows, key=lambda row: int(row[2]) // BAR_SECONDS):
        trades = [(Decimal(row[0]), Decimal(row[1])) for row in group]
        prices, volumes = zip(*trades, strict=True)
        volume = sum(volumes, Decimal())
        vwap = sum((price * amount for price, amount in trades), Decimal()) / volume
        span = prices[0], max(prices), min(prices), prices[-1]
        bars.append((number * BAR_SECONDS, *span, volume, len(trades), vwap))
    return bars


def exact_bar(candle: dict[str, str]) -> Bar:
    opens_at = int(datetime.fromisoformat(candle["timestamp"]).timestamp())
    first, high, low, last, volume, vwap = (
        Decimal(candle[name]) for name in ("open", "high", "low", "close", "volume", "vwap")
    )
    return opens_at, first, high, low, last, volume, int(candle["trades"]), vwap


if __name__ == "__main__":
    main()
