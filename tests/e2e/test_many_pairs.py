"""Three hundred pairs, as a process: a name that is unknown, Ctrl-C in the middle, and the report."""

from __future__ import annotations

import json
import signal
import time

from kraken_db.simulator import Market, SimulatedExchange
from tests.support.processes import ended, requests_reach, running
from tests.support.shell import STRICT, forked

SYMBOLS = [f"{a}{b}K/USD" for a in "CDFGHJLMNPRSTVWXZ" for b in "BCDFGHJLMNPRSTVWXZ"][:300]


async def test_ctrl_c_ends_many_pairs_soon_with_totals(plain_url: str) -> None:
    exchange = SimulatedExchange([Market(symbol, seed=5, trades=2_500) for symbol in SYMBOLS], delay=0.05)
    async with exchange.serve() as base_url:
        environment = {"DATABASE_URL": plain_url, "KRAKEN_BASE_URL": base_url}
        command = (*STRICT, "backfill", "--symbols", *SYMBOLS, "NOPE/USD", "--rate-limit", "0")
        async with running(*command, environment=environment) as process:
            assert await requests_reach(exchange, 60, process)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            done = await ended(process, seconds=30)
            assert time.monotonic() - began < 10  # about two where nothing else runs
        lines = done.err.splitlines()
        assert done.code == 130
        assert "Traceback" not in done.err
        # Told at once, and once more in the report.
        assert lines[0].startswith("NOPE/USD: failed: Kraken does not list NOPE/USD")
        assert sum("NOPE/USD" in line for line in lines) == 2
        assert len(lines) < 15
        title, row = done.out.splitlines()
        assert title.split()[:4] == ["pairs", "done", "stopped", "failed"]
        pairs, through, stopped, failed = map(int, row.split()[:4])
        assert (pairs, through + stopped, failed) == (301, 300, 1)
        assert f"{stopped} pairs stopped; --resume goes on from there" in lines
        # Refused before the first page of any other pair.
        asked = [request.params.get("pair", "") for request in exchange.requests if "Trades" in request.path]
        assert asked[0] == "NOPEUSD"
        exchange.delay = 0.0
        fill = ("backfill", "--symbols", *SYMBOLS[:3], "--resume", "--rate-limit", "0", "--json")
        async with running(*forked(), *fill, environment=environment) as process:
            again = await ended(process)
        assert {pair["outcome"] for pair in json.loads(again.out)["pairs"]} == {"caught up"}
        async with running(*forked(), "status", "--json", environment=environment) as process:
            shown = json.loads((await ended(process)).out)["symbols"]
        truth = {market.symbol: list(market.truth_trades())[-1].price for market in exchange.markets.values()}
        for symbol in SYMBOLS[:3]:
            (price,) = [one["last_price"] for one in shown if one["symbol"] == symbol]
            assert float(price) == float(truth[symbol])
