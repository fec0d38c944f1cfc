"""What the notebook of the same name does, as a script."""

import os
import subprocess
import sys
from pathlib import Path

# A made-up exchange on this machine, and a database of its own: it must never share one with Kraken.
simulator = [sys.executable, "-m", "kraken_db", "simulate", "--port", "0", "--scenario", "calm"]
exchange = subprocess.Popen(
    [*simulator, "--trades", "60000", "--pairs", "BTC/USD"], stdout=subprocess.PIPE, text=True
)
for _ in range(2):  # export KRAKEN_BASE_URL=..., export KRAKEN_WS_URL=...
    name, _, value = exchange.stdout.readline().removeprefix("export ").strip().partition("=")
    os.environ[name] = value
os.environ["DATABASE_URL"] = f"embedded://{Path('simulated-backtest').resolve()}"

backfill = [sys.executable, "-m", "kraken_db", "backfill", "--rate-limit", "0"]
subprocess.run([*backfill, "--symbols", "BTC/USD"], check=True)
exchange.terminate()

import pandas as pd
from backtesting import Strategy
from backtesting.lib import FractionalBacktest, crossover

import kraken_db


def mean(values, length):
    return pd.Series(values).rolling(length).mean()


class Crossing(Strategy):
    fast, slow = 10, 30

    def init(self):
        self.quick = self.I(mean, self.data.Close, self.fast)
        self.steady = self.I(mean, self.data.Close, self.slow)

    def next(self):
        if crossover(self.quick, self.steady):
            self.buy()
        elif crossover(self.steady, self.quick):
            self.position.close()


# backtesting.py draws times without a zone: these are UTC.
candles = kraken_db.load("BTC/USD", "1m", columns="title").tz_localize(None)
backtest = FractionalBacktest(candles, Crossing, cash=10_000, commission=0.0026, finalize_trades=True)
result = backtest.run()
print(result[["Start", "End", "Return [%]", "Buy & Hold Return [%]", "# Trades"]])
plot = backtest.plot(filename="first_backtest.html", open_browser=False)
