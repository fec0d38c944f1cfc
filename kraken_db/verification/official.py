"""What is stored beside Kraken's own record: the newest minutes, and every trade asked for again.

Candles are compared for the hours that OHLC still serves. Every trade is the strong proof, at Kraken's pace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_DOWN, Context, Decimal

from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenOhlc, KrakenTrade, OhlcPage
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.progress import Progress
from kraken_db.ranges import TICK, intersection
from kraken_db.repositories.audit import Number
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.store import Store
from kraken_db.tolerances import LAST_DIGIT, SAME_TRADE
from kraken_db.types import Candle, HistoricalTrade
from kraken_db.verification.certificate import Finding, Part, minute, moment, number, plural
from kraken_db.verification.scope import Scope, seconds_of

OHLC = "Kraken's candles"
_MINUTE = interval_length(BASE_INTERVAL)
# Whatever decimals an answer has, to cut to them is no error.
_WIDE = Context(prec=200)
_FIELDS = ("open", "high", "low", "close", "volume", "trade_count")


async def check_ohlc(store: Store, scope: Scope, page: OhlcPage) -> Part:
    """Compare the committed minutes of a page with those that are stored and known to be complete.

    Kraken fills quiet minutes with rows of no trades: there is no such candle here. It cuts the vwap to the
    decimals of the pair's prices. A candle without one is wrong, unless an archive may have brought it.
    """
    part = Part(OHLC, "minutes")
    served = {row.timestamp: row for row in page.committed}
    if not served:
        part.not_checked = "Kraken has sent no candle that is complete"
        return part
    first, last = min(served), max(served)
    claimed = intersection(scope.minutes.complete, [(first, last + _MINUTE)])
    if not claimed:
        part.not_checked = f"nothing is stored of the hours that Kraken serves, from {minute(first)} on"
        return part
    async with store.database.read() as connection:
        candles = CandleRepository(connection, store.backend)
        found = [
            candle
            for start, end in claimed
            for candle in await candles.between(scope.symbol, BASE_INTERVAL, start, end)
        ]
    stored = {candle.timestamp: candle for candle in found}
    archived = scope.minutes.by_source.get("csv", ())
    for at in _minutes(claimed[0][0], claimed[-1][1]):
        if any(start <= at and at + _MINUTE <= end for start, end in claimed):
            part.compared += 1
            part.see(at, at)
            may_lack = any(start <= at < end for start, end in archived)
            _compare(part, at, stored.get(at), served.get(at), may_lack_vwap=may_lack)
    return part


def _minutes(start: datetime, end: datetime) -> Sequence[datetime]:
    return [start + _MINUTE * at for at in range((end - start) // _MINUTE)]


def _compare(
    part: Part, at: datetime, stored: Candle | None, served: KrakenOhlc | None, *, may_lack_vwap: bool
) -> None:
    if served is None:
        return  # beyond what it serves of this pair
    traded = served.trade_count > 0
    if stored is None:
        if traded:
            _add(part, "candle missing", at, f"is missing: Kraken has {plural(served.trade_count, 'trade')}")
        return
    if not traded:
        _add(part, "candle without trades", at, f"has {plural(stored.trade_count, 'trade')}: Kraken has none")
        return
    numbers: dict[str, tuple[Number, Number]] = {
        name: (getattr(stored, name), getattr(served, name))
        for name in _FIELDS
        if getattr(stored, name) != getattr(served, name)
    }
    if not may_lack_vwap if stored.vwap is None else not _is_cut(stored.vwap, served.vwap):
        numbers["vwap"] = (stored.vwap, served.vwap)
    if numbers:
        _add(part, "candle differs", at, f"has {_pairs(numbers)}", numbers)


def _is_cut(stored: Decimal, served: Decimal) -> bool:
    exponent = Decimal(1).scaleb(int(served.as_tuple().exponent))
    return served in [one.quantize(exponent, ROUND_DOWN, _WIDE) for one in (stored, stored - LAST_DIGIT)]


def _pairs(numbers: Mapping[str, tuple[Number, Number]]) -> str:
    return ", ".join(f"{name} {number(old)}, at Kraken {number(new)}" for name, (old, new) in numbers.items())


def _add(
    part: Part,
    kind: str,
    at: datetime,
    text: str,
    numbers: Mapping[str, tuple[Number, Number]] | None = None,
) -> None:
    details = {name: {"stored": old, "expected": new} for name, (old, new) in (numbers or {}).items()}
    part.add(Finding(kind, f"candle {minute(at)} {text}", at, at + _MINUTE, {"numbers": details}))


OFFICIAL = "Kraken's trades"
_AT_ONCE = 20_000
"""Stored trades that are read at a time."""
_Content = tuple[datetime, Decimal, Decimal]


class OfficialCheck:
    """Walks over what is known to be complete as a download would, and compares page by page."""

    def __init__(self, store: Store, scope: Scope, exchange: Exchange, progress: Progress) -> None:
        self._store = store
        self._scope = scope
        self._exchange = exchange
        self.part = Part(OFFICIAL, "trades")
        self._task = progress.task(
            f"{scope.symbol} {OFFICIAL}", seconds_of(scope.trades.complete), unit="seconds"
        )
        self._unnamed = self._stamps = 0

    async def run(self) -> None:
        """Fill ``part``. Raises an ExchangeError where Kraken cannot be asked; what was found is there."""
        part = self.part
        if not self._scope.trades.complete:
            part.not_checked = "no stored trades are known to be complete"
        try:
            name = await self._exchange.rest_name(self._scope.symbol)
            for start, end in self._scope.trades.complete:
                await self._walk(name, start, end)
        finally:
            self._task.done()
        if self._unnamed:
            part.notes.append(
                f"{plural(self._unnamed, 'trade')} are stored without the ids that Kraken has for them"
            )
        if self._stamps:
            part.notes.append(
                f"{plural(self._stamps, 'trade')} have another source's time stamp than Kraken's REST"
            )

    async def _walk(self, name: str, start: datetime, end: datetime) -> None:
        meeting = _Meeting()
        pager = await self._exchange.pager(name, to_cursor(start), end)
        done = start
        async with aclosing(pager.steps(auto_stop=True)) as steps:
            async for step in steps:
                trades = [trade for trade in step.trades if trade.timestamp >= start]
                self.part.compared += len(trades)
                if trades:
                    self.part.see(trades[0].timestamp, trades[-1].timestamp)
                is_last = step.reached_end or step.caught_up
                # What is stored of the last moment may be on the next page, with others of that moment.
                until = end if is_last or not trades else trades[-1].timestamp
                self._add_findings(meeting.meet(trades, [], done))
                async for stored, known in self._stored(done, until):
                    self._add_findings(meeting.meet([], stored, known - SAME_TRADE))
                self._task.advance(round((until - done).total_seconds()))
                done = until
        self._add_findings(meeting.meet([], [], None))

    async def _stored(
        self, start: datetime, end: datetime
    ) -> AsyncIterator[tuple[list[HistoricalTrade], datetime]]:
        """What is stored, in parts, and up to when each part has it all."""
        while True:
            async with self._store.database.read() as connection:
                trades = TradeRepository(connection)
                found = await trades.between(self._scope.symbol, start, end, limit=_AT_ONCE)
                if len(found) < _AT_ONCE:
                    yield found, end
                    return
                last = found[-1].timestamp
                if last > start:
                    found = [trade for trade in found if trade.timestamp < last]
                else:  # more of one moment than go into a part
                    last += TICK
                    found = await trades.between(self._scope.symbol, start, last)
            yield found, last
            start = last

    def _add_findings(self, met: _Met) -> None:
        self._unnamed += met.unnamed
        self._stamps += met.stamps
        for trade in met.missing:
            what = f"trade {trade.trade_id or 'without an id'} at {moment(trade.timestamp)}"
            price = f"price {number(trade.price)}, volume {number(trade.volume)}, {trade.side}"
            self._add(
                "trade missing", f"{what} is missing: Kraken has {price}", trade.timestamp, trade.trade_id
            )
        for old in met.extra:
            what = f"trade {old.id if old.id > 0 else 'without an id'} at {moment(old.timestamp)}"
            price = f"price {number(old.price)}, volume {number(old.volume)}"
            self._add(
                "trade unknown to Kraken",
                f"{what}, {price}, is not in Kraken's answer",
                old.timestamp,
                old.id,
            )
        for old, trade in met.changed:
            pairs = ", ".join(
                f"{name} {one}, at Kraken {other}" for name, one, other in _differences(old, trade)
            )
            self._add(
                "trade differs",
                f"trade {old.id} at {moment(old.timestamp)} has {pairs}",
                old.timestamp,
                old.id,
            )

    def _add(self, kind: str, text: str, at: datetime, trade_id: int | None) -> None:
        self.part.add(Finding(kind, text, at, at + TICK, {"id": trade_id}))


@dataclass(slots=True)
class _Met:
    """What is settled after a page."""

    missing: list[KrakenTrade] = field(default_factory=list)
    extra: list[HistoricalTrade] = field(default_factory=list)
    changed: list[tuple[HistoricalTrade, KrakenTrade]] = field(default_factory=list)
    unnamed: int = 0
    """Stored without an id, and Kraken has one."""
    stamps: int = 0


@dataclass(slots=True)
class _Meeting:
    """Pairs the trades of two sides that come page by page; what has no partner waits for a second."""

    _theirs: dict[int, KrakenTrade] = field(default_factory=dict)
    _ours: dict[int, HistoricalTrade] = field(default_factory=dict)
    _their_unnamed: list[KrakenTrade] = field(default_factory=list)
    _our_unnamed: list[HistoricalTrade] = field(default_factory=list)

    def meet(
        self, theirs: Iterable[KrakenTrade], ours: Iterable[HistoricalTrade], until: datetime | None
    ) -> _Met:
        """What of both sides is decided: all that is older than ``until``, everything if it is None."""
        met = _Met()
        for trade in theirs:
            if trade.trade_id is None:
                self._their_unnamed.append(trade)
            else:
                self._theirs[trade.trade_id] = trade
        for old in ours:
            if old.id < 0:
                self._our_unnamed.append(old)
            elif old.id in self._ours:
                met.extra.append(old)
            else:
                self._ours[old.id] = old
        self._pair(met)
        self._settle(met, until)
        return met

    def _pair(self, met: _Met) -> None:
        for number_ in self._theirs.keys() & self._ours.keys():
            trade, old = self._theirs.pop(number_), self._ours.pop(number_)
            if _differences(old, trade):
                met.changed.append((old, trade))
            elif old.timestamp != trade.timestamp:
                met.stamps += 1

    def _settle(self, met: _Met, until: datetime | None) -> None:
        # By whole seconds: archives without ids have no others, and both sides must be due together.
        due = None if until is None else until.replace(microsecond=0)

        def is_due(item: KrakenTrade | HistoricalTrade) -> bool:
            return due is None or item.timestamp < due

        theirs = [trade for trade in self._theirs.values() if is_due(trade)]
        ours = [old for old in self._ours.values() if is_due(old)]
        met.extra += ours
        for old in ours:
            del self._ours[old.id]
        for trade in theirs:
            assert trade.trade_id is not None
            del self._theirs[trade.trade_id]
        unnamed = [old for old in self._our_unnamed if is_due(old)]
        self._our_unnamed = [old for old in self._our_unnamed if not is_due(old)]
        theirs_unnamed = [trade for trade in self._their_unnamed if is_due(trade)]
        self._their_unnamed = [trade for trade in self._their_unnamed if not is_due(trade)]
        left, met.missing = _matched(unnamed, theirs_unnamed)
        # Archives without ids have whole seconds: the same price and volume in the same second will do.
        rest, missing = _matched(left, theirs)
        met.unnamed += len(theirs) - len(missing)
        met.missing += missing
        met.extra += rest


def _matched(
    ours: Sequence[HistoricalTrade], theirs: Sequence[KrakenTrade]
) -> tuple[list[HistoricalTrade], list[KrakenTrade]]:
    """What is left of both when equal ones have been taken out, one for one."""
    known = Counter(_content(trade) for trade in theirs)
    left = []
    for old in ours:
        if known[_content(old)]:
            known[_content(old)] -= 1
        else:
            left.append(old)
    missing = []
    for trade in theirs:
        if known[_content(trade)]:
            known[_content(trade)] -= 1
            missing.append(trade)
    return left, missing


def _content(trade: KrakenTrade | HistoricalTrade) -> _Content:
    return trade.timestamp.replace(microsecond=0), trade.price, trade.volume


def _differences(old: HistoricalTrade, trade: KrakenTrade) -> list[tuple[str, str, str]]:
    """What contradicts Kraken's: what the stored one does not know contradicts nothing."""
    found = []
    if abs(old.timestamp - trade.timestamp) > SAME_TRADE:
        found.append(("time", moment(old.timestamp), moment(trade.timestamp)))
    for name in ("price", "volume"):
        one, other = getattr(old, name), getattr(trade, name)
        if one != other:
            found.append((name, number(one), number(other)))
    for name in ("side", "order_type", "misc"):
        one, other = getattr(old, name), getattr(trade, name)
        if one and one != other:
            found.append((name, repr(one), repr(other)))
    return found
