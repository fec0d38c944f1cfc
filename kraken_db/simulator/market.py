"""A market of the simulated exchange: its trades, as numbers, as texts, and as the truth."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kraken_db.errors import ConfigurationError
from kraken_db.simulator.clock import to_ns
from kraken_db.simulator.listing import listed_pair
from kraken_db.simulator.tape import (
    SECOND,
    ZERO_EVERY,
    ZERO_OFFSET,
    ZERO_RUN,
    Columns,
    FixedTape,
    GeneratedTape,
    Plan,
    Scenario,
    Surge,
    SurgingTape,
    Tape,
)
from kraken_db.simulator.truth import TradeText, TrueCandle, TrueTrade, true_candles, true_trade

DEFAULT_START = datetime(2024, 1, 1, tzinfo=UTC)
_VOLUME_UNIT = 10**8
_AT_ONCE = 4096
_KEPT_PRICES = 50_000
_TAILS = [f'"{"s" if flags & 1 else "b"}","{"m" if flags & 2 else "l"}","",' for flags in range(256)]


class _PriceTexts(dict[int, str]):
    """Prices in ticks as Kraken writes those of trades: with five decimals or more, whatever the tick."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self._unit = 10**decimals
        self._decimals = max(decimals, 5)
        self._scale = 10 ** (self._decimals - decimals)

    def __missing__(self, price: int) -> str:
        if len(self) >= _KEPT_PRICES:
            self.clear()
        whole, rest = divmod(price, self._unit)
        text = self[price] = f"{whole}.{rest * self._scale:0{self._decimals}d}"
        return text


class Market:
    """All trades of one pair, past and future: the same ones for the same arguments.

    It begins at ``start`` and has ``trades`` trades, or all ``until`` then, or, with neither, no end. What of
    it has happened is a matter of the exchange's clock: a position counts from 0, and ``count_at`` says how
    many trades there are by then. Kraken's ids begin at ``first_id``. With ``pace_since``, trades before that
    moment come at ``earlier_trades_per_minute``: a long history of few trades, and then a busy market. In the
    ``surges`` more happens.

    Nothing is generated before it is asked for, and only the newest pieces are kept in memory.
    """

    def __init__(
        self,
        symbol: str,
        *,
        seed: int | str = 0,
        start: datetime = DEFAULT_START,
        trades: int | None = None,
        until: datetime | None = None,
        scenario: Scenario = Scenario.LIVELY,
        trades_per_minute: float = 60,
        first_id: int = 1,
        earlier_trades_per_minute: float | None = None,
        pace_since: datetime | None = None,
        surges: Sequence[Surge] = (),
    ) -> None:
        if trades is not None and trades < 0:
            raise ConfigurationError(f"a market cannot have {trades} trades")
        if min(trades_per_minute, earlier_trades_per_minute or trades_per_minute) <= 0:
            raise ConfigurationError("a market needs more than 0 trades a minute")
        self.pair = listed_pair(symbol)
        self.symbol = self.pair.symbol or symbol
        self.scenario = scenario
        self.first_id = first_id
        self._has_zeros = bool(scenario & (Scenario.ZERO_IDS | Scenario.ZERO_IDS_COUNTED))
        first_price = int(Decimal(self.pair.price).scaleb(self.pair.decimals))
        plan = Plan(
            f"{seed}/{self.symbol}",
            to_ns(start),
            first_price,
            trades_per_minute,
            scenario,
            earlier_trades_per_minute,
            0 if pace_since is None else to_ns(pace_since),
        )
        self._tape: Tape = GeneratedTape(plan)
        if surges:
            self._tape = SurgingTape(self._tape, surges)
        self._prices = _PriceTexts(self.pair.decimals)
        self._size = trades
        if until is not None:
            before = self._tape.position(to_ns(until), after=False)
            self._size = before if trades is None else min(before, trades)

    @classmethod
    def scripted(cls, symbol: str, trades: Iterable[TradeText], *, first_id: int = 1) -> Market:
        """A market of trades written by hand, oldest first.

        ``time`` is the exact stamp in seconds, with up to nine decimals; what is served is the float64
        nearest to it. ``trade_id`` is not looked at: the ids count from ``first_id``. ``misc`` must be empty.
        """
        market = cls(symbol, trades=0, scenario=Scenario.CALM, first_id=first_id)
        rows = list(trades)
        columns = Columns(
            array("q", [int(Decimal(row.time).scaleb(9)) for row in rows]),
            array("q", [int(Decimal(row.price).scaleb(market.pair.decimals)) for row in rows]),
            array("q", [int(Decimal(row.volume).scaleb(8)) for row in rows]),
            bytes((row.side == "s") + 2 * (row.order_type == "m") for row in rows),
        )
        if list(columns.stamps) != sorted(columns.stamps):
            raise ConfigurationError("the trades of a scripted market must come oldest first")
        market._tape, market._size = FixedTape(columns), len(rows)
        return market

    @property
    def size(self) -> int | None:
        """How many trades it will have had in the end; None if it has no end."""
        return self._size

    def count_at(self, now_ns: int) -> int:
        """How many trades have happened by then."""
        return self.position(now_ns, after=True)

    def position(self, stamp: int, *, after: bool) -> int:
        """The position of the first trade at the stamp or later; with ``after`` only later."""
        if self._size is not None and (not self._size or stamp > self.stamp(self._size - 1)):
            return self._size  # a tape goes on behind that
        found = self._tape.position(stamp, after=after)
        return found if self._size is None else min(found, self._size)

    def stamp(self, position: int) -> int:
        """Nanoseconds since 1970 of the trade at the position."""
        (columns,) = self._tape.columns(position, position + 1)
        return columns.stamps[0]

    def columns(self, start: int, stop: int) -> Iterator[Columns]:
        """The trades at the positions ``[start, stop)`` as numbers."""
        for begin in range(start, stop, _AT_ONCE):
            yield from self._tape.columns(begin, min(begin + _AT_ONCE, stop))

    def texts(self, start: int, stop: int) -> Iterator[TradeText]:
        """The trades at the positions ``[start, stop)`` as the exchange writes them."""
        position = start
        for columns in self.columns(start, stop):
            for stamp, price, volume, flags in zip(*columns, strict=True):
                yield TradeText(
                    self._prices[price],
                    f"{volume // _VOLUME_UNIT}.{volume % _VOLUME_UNIT:08d}",
                    repr(stamp / 1_000_000_000),  # int by int: rounded once, to the nearest float64
                    "s" if flags & 1 else "b",
                    "m" if flags & 2 else "l",
                    "",
                    self.trade_id(position),
                )
                position += 1

    def json_rows(self, start: int, stop: int) -> list[str]:
        """The same, as the rows of an answer: two to three times as fast."""
        rows: list[str] = []
        prices, unit = self._prices, _VOLUME_UNIT
        for columns in self.columns(start, stop):
            begin = start + len(rows)
            ids = map(self.trade_id, range(begin, begin + len(columns.stamps)))
            rows += [
                f'["{prices[price]}","{volume // unit}.{volume % unit:08d}",{stamp / 1_000_000_000!r}'
                f",{_TAILS[flags]}{number}]"
                for (stamp, price, volume, flags), number in zip(zip(*columns, strict=True), ids, strict=True)
            ]
        return rows

    def trade_id(self, position: int) -> int:
        """Kraken's id of the trade at the position, 0 where it has none."""
        if not self._has_zeros:
            return self.first_id + position
        rounds, place = divmod(position, ZERO_EVERY)
        if ZERO_OFFSET <= place < ZERO_OFFSET + ZERO_RUN:
            return 0
        if Scenario.ZERO_IDS_COUNTED in self.scenario:
            return self.first_id + position
        return self.first_id + position - rounds * ZERO_RUN - (ZERO_RUN if place >= ZERO_OFFSET else 0)

    def archive_ids(self, start: int, stop: int) -> Sequence[int]:
        """The ids in Kraken's archives: numbers also where REST has 0, if its other ids leave room."""
        if self._has_zeros and Scenario.ZERO_IDS_COUNTED not in self.scenario:
            return [self.trade_id(position) for position in range(start, stop)]
        return range(self.first_id + start, self.first_id + stop)

    @property
    def price_texts(self) -> Mapping[int, str]:
        """The text of a price in ticks, as the exchange writes it."""
        return self._prices

    def truth_trades(
        self, until: datetime | None = None, *, archived_until: datetime | None = None
    ) -> Iterator[TrueTrade]:
        """What the trades table must hold; with ``until`` only what happens before it.

        A market without an end needs ``until``. Trades before ``archived_until`` have the ids of an archive.
        """
        archived = 0 if archived_until is None else self.position(to_ns(archived_until), after=False)
        for position, text in enumerate(self.texts(0, self._end(until))):
            if position < archived:
                (number,) = self.archive_ids(position, position + 1)
                text = text._replace(trade_id=number)
            yield true_trade(self.symbol, text)

    def truth_candles(self, interval: int = 1, until: datetime | None = None) -> Iterator[TrueCandle]:
        """The candles of ``truth_trades(until)``, the last one included even if its interval still runs."""
        return true_candles(self.truth_trades(until), interval)

    def _end(self, until: datetime | None) -> int:
        if until is not None:
            return self.position(to_ns(until), after=False)
        if self._size is None:
            raise ConfigurationError(f"{self.symbol} has no end", hint="say until when its truth is wanted")
        return self._size


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
