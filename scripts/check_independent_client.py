"""An independent client of Kraken's API beside ours, on the simulated exchange: both get the same trades.

python-kraken-sdk goes into a virtual environment of its own, in a temporary folder, from the package index.
It subscribes as its documentation says, without a word of this package. Usage, in the virtual environment
that scripts/test makes:

    .venv/bin/python scripts/check_independent_client.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import venv
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_messages import Refused, Trades
from kraken_db.simulator import Market, Scenario, SimulatedExchange, feed_url

SDK = "python-kraken-sdk==3.5.1"
SYMBOLS = ["BTC/USD", "ETH/USD", "NOPE/USD"]
Found: TypeAlias = dict[str, dict[int, tuple[Any, ...]]]
"""Trades by symbol and id."""
PROGRAM = """
import asyncio, json, sys
from kraken.spot import SpotWSClient

async def main(rest_url, ws_url, seconds, symbols):
    async def on_message(message):
        print(json.dumps(message), flush=True)

    client = SpotWSClient(callback=on_message, rest_url=rest_url, ws_url=ws_url)
    await client.start()
    await client.subscribe(params={"channel": "trade", "symbol": symbols, "snapshot": True})
    await client.subscribe(params={"channel": "ohlc", "symbol": symbols[:1], "interval": 1})
    await asyncio.sleep(seconds)
    await client.unsubscribe(params={"channel": "trade", "symbol": symbols[:2]})
    await asyncio.sleep(0.5)
    await client.close()

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--python", type=Path, help="of an environment that has the SDK already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = options.python or install(Path(folder))
        sys.exit(asyncio.run(run(python, options.seconds)))


def install(folder: Path) -> Path:
    print(f"installing {SDK} ...", flush=True)
    venv.create(folder / "sdk", with_pip=True)
    python = folder / "sdk" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "-q", "install", SDK], check=True)
    return python


async def run(python: Path, seconds: float) -> int:
    start = datetime.now(UTC) - timedelta(minutes=1)
    markets = [
        Market(name, seed=9, start=start, trades_per_minute=3_000, scenario=Scenario.SAME_STAMPS)
        for name in SYMBOLS[:2]
    ]
    async with SimulatedExchange(markets).serve() as url:
        theirs = asyncio.create_task(ask_them(python, url, seconds))
        ours = await ask_us(url, theirs)
        messages = await theirs
    return compare(ours, messages)


async def ask_us(url: str, until: asyncio.Task[Any]) -> tuple[Found, list[str]]:
    """The trades by symbol and id, and what was refused, for as long as the others run."""
    client = KrakenWebSocketClient(feed_url(url))
    client.subscribe_trades(*SYMBOLS)
    found: Found = {}
    refused: list[str] = []
    async with aclosing(client.events()) as events:
        async for event in events:
            if isinstance(event, Trades):
                for one in event.trades:
                    stamp = f"{one.timestamp:%Y-%m-%dT%H:%M:%S.%f}Z"
                    content = (one.side, float(one.price), float(one.volume), one.order_type, stamp)
                    found.setdefault(event.symbol, {})[one.trade_id] = content
            elif isinstance(event, Refused) and event.topic:
                refused.append(event.topic.symbol)
            if until.done():
                await client.stop()
    return found, refused


async def ask_them(python: Path, url: str, seconds: float) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        str(python),
        *("-c", PROGRAM, url, url.replace("http", "ws"), str(seconds), *SYMBOLS),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    messages = [json.loads(line) async for line in process.stdout if line.startswith(b"{")]
    if await process.wait():
        raise SystemExit("the other client failed")
    return messages


def compare(ours: tuple[Found, list[str]], messages: list[dict[str, Any]]) -> int:
    theirs: Found = {}
    for message in messages:
        for row in message["data"] if message.get("channel") == "trade" else ():
            content = (row["side"], row["price"], row["qty"], row["ord_type"], row["timestamp"])
            theirs.setdefault(row["symbol"], {})[row["trade_id"]] = content
    failed = 0
    for symbol in SYMBOLS[:2]:
        mine, other = ours[0].get(symbol, {}), theirs.get(symbol, {})
        both = range(max(min(mine), min(other)), min(max(mine), max(other)) + 1)
        same = sum(mine.get(number) == other.get(number) is not None for number in both)
        failed += same != len(both) or len(both) < 50
        print(f"{symbol}: ids {both.start} to {both.stop - 1}: {len(both)}, the same in both: {same}")
    refusals = [message for message in messages if message.get("success") is False]
    candles = [message for message in messages if message.get("channel") == "ohlc"]
    print(f"refused: {ours[1]} here, {[one.get('error') for one in refusals]} there; {len(candles)} of ohlc")
    failed += ours[1] != ["NOPE/USD"] or len(refusals) != 1 or not candles
    print("FAILED" if failed else "the same")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
