"""From page to page through a pair's trades, so that none is skipped and none is seen twice.

Kraken's answers are not taken at their word. The facts behind the rules are in the project's notes on Kraken:

- the cursor is ``last``, unchanged; whether the trade at that very moment comes again is not certain;
- identical stamps are normal, and the end of a page may split them: only ids tell what was seen;
- where ``since`` turns out to leave out its own moment, it is asked from a microsecond before;
- a jump in the ids means that trades were skipped: they are asked for again from further back;
- ``last`` may be missing, rows may be out of order, and an answer may be that of the question before;
- there is no end marker. A page that is short or empty, or has nothing new, proves nothing alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kraken_db.errors import ExchangeFormatError
from kraken_db.id_runs import MOST_MISSING, IdHole, IdSequence
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval, interval_length
from kraken_db.kraken.messages import KrakenTrade, TradesPage
from kraken_db.kraken.prefetch import FetchPage, Prefetch
from kraken_db.kraken.rest import MAX_COUNT
from kraken_db.ranges import TICK
from kraken_db.tolerances import SETTLED, STAMPS_APART

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLOAT_STEP = 250  # ns
_TEN_DIGITS = 10


def to_cursor(moment: datetime) -> int:
    """A cursor for the trades from ``moment`` on, whether ``since`` includes its own moment or not.

    A little before: Kraken shows the float64 nearest to its stamp, and that can lie in the next microsecond.
    """
    return max(0, (moment - _EPOCH) // TICK * 1000 - _FLOAT_STEP)


def cursor_time(cursor: int) -> datetime:
    """The microsecond that a cursor lies in."""
    return _EPOCH + TICK * (cursor // 1000)


def cursor_of(page: TradesPage) -> int | None:
    """``last``, if it is what Kraken says that it is: the stamp of the newest trade of the page.

    Another one would lead astray, back for ever or past trades that were never seen: it counts as missing.
    """
    if page.last is None or not page.trades:
        return None
    newest = max(trade.timestamp for trade in page.trades)
    return page.last if abs(cursor_time(page.last) - newest) <= STAMPS_APART else None


def _jump(before: int, after: int) -> str:
    return f"the ids jump from {before} to {after}"


def as_nanoseconds(since: int) -> int:
    """``since`` as Kraken reads it: with up to ten digits it is in seconds."""
    return since * 1_000_000_000 if 0 < since < 10**_TEN_DIGITS else since


_REMEMBERED_PAGES = 4


class Anonymous:
    """Those of the last few pages that were handed out."""

    def __init__(self) -> None:
        self._pages: deque[Counter[tuple[object, ...]]] = deque(maxlen=_REMEMBERED_PAGES)

    def remember(self, trades: Iterable[KrakenTrade]) -> None:
        """Those among the trades of one page."""
        self._pages.append(Counter(_content(trade) for trade in trades if trade.trade_id is None))

    def known(self) -> Known:
        """What is remembered, to be found again, each once."""
        return Known(sum(self._pages, Counter()))


class Known:
    """Trades that an answer may show again."""

    def __init__(self, counts: Counter[tuple[object, ...]]) -> None:
        self._counts = counts

    def take(self, trade: KrakenTrade) -> bool:
        """Whether this is one of them; the next equal one is another."""
        content = _content(trade)
        if not self._counts[content]:
            return False
        self._counts[content] -= 1
        return True


def _content(trade: KrakenTrade) -> tuple[object, ...]:
    """What tells trades without ids apart; two that are equal in it are two trades all the same."""
    return trade.timestamp, trade.price, trade.volume, trade.side_code, trade.order_type_code


@dataclass(frozen=True, slots=True)
class Step:
    """One page, checked: what of it is new, and what is known now."""

    page: TradesPage
    positions: Sequence[int]
    """Where in the page the new trades are, oldest first."""
    cursor: int
    """What to go on with after this page, in ns; all trades up to there have been handed out."""
    known_until: datetime | None
    """Every trade before this moment has been handed out; None if there is none at all."""
    holes: Sequence[IdHole] = ()
    """Ids that Kraken has no trade for, however it was asked."""
    caught_up: bool = False
    """There was nothing newer when it was asked."""
    reached_end: bool = False
    """A trade at or after the end that was asked for has been seen."""

    @property
    def trades(self) -> list[KrakenTrade]:
        return [self.page.trades[position] for position in self.positions]

    @property
    def raw(self) -> list[list[Any]]:
        return [self.page.raw[position] for position in self.positions]


BACK = (TICK, timedelta(seconds=1), timedelta(minutes=1))
"""How far before a jump in the ids it is asked again, one after the other; then the ids do not exist."""
POLLING = timedelta(seconds=5)
"""The pause between two looks for new trades, once everything is there."""
QUIET = 2
"""Answers in a row without a new trade that mean the end of what has happened so far."""
STRAY = 10
"""Answers in a row to another question than was asked that mean that something is wrong."""
BARREN = 100
"""Answers in a row without anything new, and without a proof that there is nothing, that mean the same."""
AHEAD = timedelta(days=1)
"""How far a stamp may be ahead of the exchange's clock as it was asked once: ours may have been set since.
What may be stored is decided where it is."""
MOST_BACK = 1_000
"""By how much an id may be below that of an earlier trade, for stamps have some jitter."""

_A_LITTLE = 1000  # ns
_NEVER = datetime.min.replace(tzinfo=UTC)


class TradePager:
    """Walks from ``since`` (ns) on. ``ask`` gets a page, ``now`` is the exchange's time.

    ``sequence``: where the ids stood before, for a walk that goes on with an earlier one. ``end`` is
    exclusive. It asks ahead: ``close`` it in the end, as ``steps`` does.
    """

    def __init__(
        self,
        ask: FetchPage,
        now: Callable[[], datetime],
        since: int = 0,
        *,
        end: datetime | None = None,
        sequence: IdSequence | None = None,
    ) -> None:
        self._prefetch = Prefetch(ask, now)
        self._now = now
        self._end = end
        self._since = self._cursor = as_nanoseconds(since)
        self._sequence = sequence or IdSequence()
        self._newest = self._sequence.last_time
        self._anonymous = Anonymous()
        self._furthest = _NEVER
        """The stamp of the newest trade of any answer that was new then."""
        self._asked_again: tuple[int, int] = (0, 0)
        self._misfits = 0
        self._first: tuple[datetime, int] | None = None
        self._last: int | None = self._since if sequence and sequence.last_id else None
        """``since``, where it is a cursor of Kraken's and thus the moment of a trade."""
        self._lead = 0

    def begin(self) -> None:
        """Ask for the first page already, while other things are made ready."""
        self._prefetch.begin(self._since)

    async def next(self) -> Step:
        """The next page that has something new, or one without trades that says that there is nothing now.

        Raises what ``ask`` raises, and ExchangeFormatError for answers that never fit the question, or
        bring nothing new without an end.
        """
        quiet = stray = 0
        for _ in range(BARREN):
            # Until it is known where the walk begins, nothing else is asked: an answer may come again.
            has_begun = self._newest is not None
            asked_at, page = await self._prefetch.answer(self._since, lead=self._lead, ahead=has_begun)
            order = sorted(range(len(page.trades)), key=lambda at: _order(page.trades[at]))
            if reason := self._stray([page.trades[at] for at in order]):
                stray = self._count_stray(page, stray, reason)
                continue
            fresh = self._fresh(page, order)
            if fresh:
                self._furthest = max(self._furthest, page.trades[fresh[-1]].timestamp)
            if self._is_unproven(page, order) or self._is_torn(page):
                continue
            if self._lacks_last(page) and stray + 1 < STRAY:
                stray += 1
                continue
            if not fresh:
                if len(page.trades) >= MAX_COUNT or self._is_behind(page, order):
                    self._pass(page, order)
                    continue
                if self._is_blind(page):
                    stray = self._count_stray(page, stray, "they lack what was there before")
                    continue
                # The last page that had news may have lacked it.
                self._cursor = max(self._cursor, cursor_of(page) or 0)
                quiet += 1
                if quiet < QUIET:
                    continue
                return Step(page, [], self._cursor, self._settled(asked_at), caught_up=True)
            step = self._step(page, order, fresh)
            if step is not None:
                return step
        raise ExchangeFormatError(
            f"{page.key}: {BARREN} answers in a row brought nothing new, and do not say that there is nothing"
        )

    async def steps(self, *, auto_stop: bool) -> AsyncGenerator[Step]:
        """Step after step to the end; without ``auto_stop`` it goes on to wait for new trades."""
        try:
            while True:
                step = await self.next()
                yield step
                if step.reached_end or (step.caught_up and auto_stop):
                    return
                if step.caught_up:
                    await asyncio.sleep(POLLING.total_seconds())
        finally:
            await self.close()

    async def close(self) -> None:
        """Give up the question that is on its way."""
        await self._prefetch.close()

    def _step(self, page: TradesPage, order: Sequence[int], fresh: Sequence[int]) -> Step | None:
        """Take what is new; None if there was a jump in the ids, and it is to be asked again."""
        wanted = [at for at in fresh if self._end is None or page.trades[at].timestamp < self._end]
        trades = [page.trades[at] for at in wanted]
        # The first trade behind the end shows whether there is a hole before it.
        _, found = self._sequence.follow(page.trades[at] for at in fresh)
        holes = [hole for hole in found if self._end is None or hole.after < self._end]
        if holes and self._go_back(holes[0], page):
            return self._before_hole(page, wanted, holes[0])
        for hole in holes:
            if hole.size > MOST_MISSING:
                raise ExchangeFormatError(f"{page.key}: {_jump(hole.first - 1, hole.last + 1)}")
        self._sequence, _ = self._sequence.follow(trades)
        reached_end = len(wanted) < len(fresh)
        self._go_on(page, order)
        if (last := cursor_of(page)) is not None and not reached_end:
            self._cursor = max(self._cursor, last)
        if trades:
            self._newest = trades[-1].timestamp
        self._anonymous.remember(trades)
        until = self._end if reached_end else self._newest
        return Step(page, wanted, self._cursor, until, holes, reached_end=reached_end)

    def _before_hole(self, page: TradesPage, wanted: Sequence[int], hole: IdHole) -> Step | None:
        """What a page has in front of a hole that is asked for again: that is known, whatever comes."""
        ids = [page.trades[at].trade_id for at in wanted]
        if hole.first - 1 not in ids:
            return None
        known = wanted[: ids.index(hole.first - 1) + 1]
        trades = [page.trades[at] for at in known]
        self._sequence, _ = self._sequence.follow(trades)
        self._newest = trades[-1].timestamp
        self._anonymous.remember(trades)
        return Step(page, known, self._cursor, self._newest)

    def _stray(self, trades: Sequence[KrakenTrade]) -> str | None:
        """Why these, in their order, are no answer to the question; None if they may be one.

        No trade is older than what was asked for or has not happened yet, and where the beginning has had
        trades the answer is not empty. Ids grow with the time, also from those before.
        """
        if not trades:
            return "they are empty" if self._newest is None and self._first is not None else None
        if self._since and trades[0].timestamp < cursor_time(self._since) - TICK:
            return "they begin before what was asked for"
        if (latest := trades[-1].timestamp) > self._now() + AHEAD:
            return f"a trade is stamped {latest.isoformat()}, in the future"
        highest, before, known = 0, self._sequence.last_id or 0, (self._newest or _NEVER) + STAMPS_APART
        for trade in trades:
            if trade.trade_id is not None:
                highest = max(highest, before if trade.timestamp > known else 0)
                if trade.trade_id < highest - MOST_BACK:
                    return _jump(highest, trade.trade_id)
                highest = max(highest, trade.trade_id)
        return None

    def _count_stray(self, page: TradesPage, before: int, reason: str) -> int:
        if before + 1 >= STRAY:
            told = f"{STRAY} answers in a row do not fit what was asked for"
            raise ExchangeFormatError(f"{page.key}: {told}: {reason}")
        return before + 1

    def _is_blind(self, page: TradesPage) -> bool:
        """Whether an answer without a new trade lacks what is known to be there: then it proves nothing.

        Trades that an answer has shown, and that were not handed out, are new until they are; and where it
        was asked from before the newest trade that was handed out, that one belongs in it.
        """
        if self._furthest > (self._newest or _NEVER):
            return True
        if self._newest is None or cursor_time(self._since) + TICK >= self._newest:
            return False
        return all(trade.timestamp < self._newest - TICK for trade in page.trades)

    def _is_unproven(self, page: TradesPage, order: Sequence[int]) -> bool:
        """Whether the walk would begin with this page, and only this one answer says that it begins there.

        Later on the ids tell where an answer belongs. Most pairs begin with the id 1.
        """
        if self._newest is not None or not order:
            return False
        begins = _order(page.trades[order[0]])
        if self._first is None or begins < self._first:
            is_sure = self._first is None and begins[1] == 1
            self._first = begins
            return not is_sure
        return begins != self._first

    def _is_torn(self, page: TradesPage) -> bool:
        """Whether ``since`` leaves out its own moment: then what the last page has split of it never comes.

        With ids that shows as a jump, without them nothing would show it. It is asked again from just
        before, as is everything from then on.
        """
        if self._lead or not self._lacks_last(page):
            return False
        self._lead = _A_LITTLE
        self._since -= _A_LITTLE
        return True

    def _lacks_last(self, page: TradesPage) -> bool:
        """Whether the trade at ``last``, which it was asked from, is not in it.

        It is left out, or this is the answer to another question.
        """
        if self._last is None or self._since != self._last - self._lead:
            return False
        at = cursor_time(self._last) + TICK
        return all(trade.timestamp > at for trade in page.trades)

    def _fresh(self, page: TradesPage, order: Sequence[int]) -> list[int]:
        """Where the trades are that were not handed out yet."""
        last_id, newest = self._sequence.last_id, self._newest
        known = self._anonymous.known()
        found = []
        for at in order:
            trade = page.trades[at]
            if trade.trade_id is not None:
                if last_id is None or trade.trade_id > last_id:
                    found.append(at)
            elif newest is None or trade.timestamp > newest or not known.take(trade):
                found.append(at)
        return found

    def _is_behind(self, page: TradesPage, order: Sequence[int]) -> bool:
        """Whether a page without news ends before what was handed out: it was asked from further back."""
        if not order or self._newest is None:
            return False
        ends = page.trades[order[-1]].timestamp
        return ends < self._newest - TICK and self._after(page, order) > self._since

    def _go_on(self, page: TradesPage, order: Sequence[int]) -> None:
        self._since, self._last = self._after(page, order), cursor_of(page)

    def _pass(self, page: TradesPage, order: Sequence[int]) -> None:
        """Go on behind a page of which all is known, always: it may be full of trades of one moment."""
        before = self._since
        self._go_on(page, order)
        if self._since <= before:
            self._since = max(cursor_of(page) or 0, before + 1)

    def _after(self, page: TradesPage, order: Sequence[int]) -> int:
        """What to ask for after a page."""
        if (last := cursor_of(page)) is not None:
            return max(0, last - self._lead)
        # Not there, which happens. The stamp is only near it: go back a little, what comes again is known.
        return to_cursor(page.trades[order[-1]].timestamp - TICK) if order else self._since

    def _go_back(self, hole: IdHole, page: TradesPage) -> bool:
        """Set out to ask for a hole again from before it; False if that was done often enough.

        A page that does not reach back to a trade from before the hole says nothing of it: it is the answer
        to another question.
        """
        first, tried = self._asked_again
        tried = tried if first == hole.first else 0
        reaches_back = any(trade.trade_id and trade.trade_id < hole.first for trade in page.trades)
        self._misfits = self._misfits + 1 if tried and not reaches_back else 0
        if 0 < self._misfits < STRAY:
            return True
        if tried >= len(BACK):
            return False
        self._asked_again = (hole.first, tried + 1)
        self._since = to_cursor(hole.after - BACK[tried])
        return True

    def _settled(self, asked_at: datetime) -> datetime | None:
        """How far it is known that nothing happened, when nothing new came.

        To the end of the last trade's minute at most: what is claimed then depends on the trades alone, not
        on when it was asked.
        """
        if self._newest is None:
            return None
        minute = floor_to_interval(self._newest, BASE_INTERVAL) + interval_length(BASE_INTERVAL)
        known = min(minute, max(self._newest, asked_at - SETTLED))
        return known if self._end is None else min(known, self._end)


def _order(trade: KrakenTrade) -> tuple[datetime, int]:
    return trade.timestamp, trade.trade_id or -1
