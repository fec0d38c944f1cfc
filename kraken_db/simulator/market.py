"""A market of the simulated exchange: its trades, as numbers, as texts, and as the truth."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal

from kraken_db.errors import ConfigurationError
from kraken_db.simulator.clock import to_ns
from kraken_db.simulator.listing import listed_pair
from kraken_db.simulator.scenario import ZERO_EVERY, ZERO_OFFSET, ZERO_RUN, Scenario
from kraken_db.simulator.tape import Columns, FixedTape, GeneratedTape, Plan, Tape
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
    many trades there are by then. Kraken's ids begin at ``first_id``.

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
    ) -> None:
        if trades is not None and trades < 0:
            raise ConfigurationError(f"a market cannot have {trades} trades")
        if trades_per_minute <= 0:
            raise ConfigurationError("a market needs more than 0 trades a minute")
        self.pair = listed_pair(symbol)
        self.symbol = self.pair.symbol or symbol
        self.scenario = scenario
        self.first_id = first_id
        self._has_zeros = bool(scenario & (Scenario.ZERO_IDS | Scenario.ZERO_IDS_COUNTED))
        first_price = int(Decimal(self.pair.price).scaleb(self.pair.decimals))
        plan = Plan(f"{seed}/{self.symbol}", to_ns(start), first_price, trades_per_minute, scenario)
        self._tape: Tape = GeneratedTape(plan)
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

    def truth_trades(self, until: datetime | None = None) -> Iterator[TrueTrade]:
        """What the trades table must hold; with ``until`` only what happens before it.

        A market without an end needs ``until``.
        """
        for text in self.texts(0, self._end(until)):
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
