"""The candles that the exchange itself serves, with exact arithmetic on whole ticks."""

from __future__ import annotations

from typing import Any

from kraken_db.simulator.market import Market
from kraken_db.simulator.tape import SECOND

INTERVALS = frozenset({1, 5, 15, 30, 60, 240, 1440, 10080, 21600})
COMMITTED = 720
"""How many finished candles can be had, however far back they are asked for."""

_Bar = list[int]  # open, high, low, close, sum of price x volume, volume, count


class CandleBook:
    """The candles of one market and interval; finished ones are kept."""

    def __init__(self, market: Market, interval: int) -> None:
        self._market = market
        self._step = interval * 60
        self._bars: dict[int, _Bar] = {}
        self._known: tuple[int, int] | None = None  # finished buckets of this range are in _bars

    def answer(self, now_ns: int, since: int | None) -> tuple[list[list[Any]], int]:
        """Rows, oldest first, the running one at the end; and ``last``."""
        running = now_ns // SECOND // self._step * self._step
        first = running - COMMITTED * self._step
        begins = self._first_bucket(now_ns)
        if begins is None:
            return [], 0
        self._learn(max(first, begins), running)
        bars = {bucket: bar for bucket, bar in self._bars.items() if bucket >= first}
        bars |= self._read(running, now_ns)
        close = self._close_before(max(first, begins))
        rows = []
        for bucket in range(max(first, begins), running + 1, self._step):
            bar = bars.get(bucket) or [close, close, close, close, 0, 0, 0]
            close = bar[3]
            if since is None or bucket > since or bucket == running:
                rows.append(self._row(bucket, bar))
        return rows, running - self._step

    def _first_bucket(self, now_ns: int) -> int | None:
        if not self._market.count_at(now_ns):
            return None
        return self._market.stamp(0) // SECOND // self._step * self._step

    def _close_before(self, bucket: int) -> int:
        position = self._market.position(bucket * SECOND, after=False)
        for columns in self._market.columns(max(position - 1, 0), max(position, 1)):
            return columns.prices[0]
        return 0

    def _learn(self, first: int, running: int) -> None:
        """Have the finished candles of the range, and forget older ones."""
        done = self._known[1] if self._known and self._known[0] <= first <= self._known[1] else first
        if done == first:
            self._bars.clear()
        self._bars |= self._read(done, running * SECOND - 1)
        for bucket in [bucket for bucket in self._bars if bucket < first]:
            del self._bars[bucket]
        self._known = (first, running)

    def _read(self, begin: int, last_ns: int) -> dict[int, _Bar]:
        """The candles of the trades from a bucket's begin until the stamp, which is included."""
        market = self._market
        start = market.position(begin * SECOND, after=False)
        bars: dict[int, _Bar] = {}
        for columns in market.columns(start, market.position(last_ns, after=True)):
            for stamp, price, volume in zip(columns.stamps, columns.prices, columns.volumes, strict=True):
                bucket = stamp // SECOND // self._step * self._step
                bar = bars.get(bucket)
                if bar is None:
                    bar = bars[bucket] = [price, price, price, price, 0, 0, 0]
                bar[1] = max(bar[1], price)
                bar[2] = min(bar[2], price)
                bar[3] = price
                bar[4] += price * volume
                bar[5] += volume
                bar[6] += 1
        return bars

    def _row(self, bucket: int, bar: _Bar) -> list[Any]:
        *prices, value, volume, count = bar
        decimals = self._market.pair.decimals
        texts = [_text(price, decimals) for price in prices]
        vwap = _text(value // volume, decimals) if volume else _text(0, max(decimals, 1))
        return [bucket, *texts, vwap, _text(volume, 8), count]


def _text(units: int, decimals: int) -> str:
    if not decimals:
        return str(units)
    whole, rest = divmod(units, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"
