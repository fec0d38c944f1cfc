"""Minutes whose trades are asked for again, and whose rows become what Kraken says, with their candles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial

from kraken_db.id_runs import IdHole, IdSequence
from kraken_db.ingest.official import another_market, is_same_market, replace_minutes
from kraken_db.ingest.write_unit import Ingest, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval, interval_length
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import Step, to_cursor
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_candles, whole_minutes
from kraken_db.repositories.trades import TradeRepository
from kraken_db.tolerances import SAME_TRADE
from kraken_db.verification.certificate import minute, plural
from kraken_db.verification.scope import Scope

_AT_ONCE = 10_000
"""Trades of one transaction, more or less."""
_MINUTE = interval_length(BASE_INTERVAL)


class MinuteReplacement:
    """Asks Kraken as a download does, with its proofs, and replaces what it has shown in full."""

    def __init__(self, ingest: Ingest, scope: Scope, exchange: Exchange) -> None:
        self._ingest = ingest
        self._store = ingest.store
        self._scope = scope
        self._symbol = scope.symbol
        self._exchange = exchange
        self._deleted = self._new = self._changed = self._candles = 0
        self._unserved: list[str] = []

    def summary(self) -> list[str]:
        """What was done, in words."""
        counts = (
            (self._new, "trade", "taken from Kraken"),
            (self._changed, "trade", "given Kraken's time stamp"),
            (self._deleted, "trade", "deleted that Kraken does not have, or not so"),
            (self._candles, "candle", "made anew from trades"),
        )
        return [f"{plural(count, noun)} {what}" for count, noun, what in counts if count] + self._unserved

    async def require_same_market(self) -> None:
        """Raises ConflictingTradesError where this is not the exchange that the store was filled from."""
        if not self._scope.trades.complete:
            return
        name = await self._exchange.rest_name(self._symbol)
        pager = await self._exchange.pager(name, to_cursor(self._scope.trades.complete[0][0]), None)
        try:
            step = await pager.next()
        finally:
            await pager.close()
        if not await is_same_market(self._store, self._symbol, step.trades):
            raise another_market(self._symbol)

    async def run(self, minutes: Sequence[TimeRange]) -> None:
        """Replace these minutes, which are near to each other."""
        end = minutes[-1][1]
        name = await self._exchange.rest_name(self._symbol)
        since = to_cursor(minutes[0][0] - SAME_TRADE)
        pager = await self._exchange.pager(name, since, end + SAME_TRADE)
        trades: list[KrakenTrade] = []
        holes: list[IdHole] = []
        begun = minutes[0][0]
        before: IdSequence | None = await self._before(begun - SAME_TRADE)
        async with aclosing(pager.steps(auto_stop=True)) as steps:
            async for step in steps:
                trades += [item for item in step.trades if item.timestamp >= begun - SAME_TRADE]
                holes += step.holes
                if before is not None and step.trades:
                    # Nothing of the walk itself says that it has begun where the stored trades end.
                    holes += before.follow(step.trades[:1])[1]
                    before = None
                known = self._known(step, end)
                if known is None:
                    continue
                if len(trades) >= _AT_ONCE or known == end:
                    await self._save(intersection(minutes, [(begun, known)]), trades, holes)
                    begun = max(begun, known)
                    trades = [item for item in trades if item.timestamp >= begun - SAME_TRADE]
        if left := intersection(minutes, [(begun, end)]):
            self._unserved.append(f"Kraken serves no trades of {minute(left[0][0])} to {minute(left[-1][1])}")

    async def _before(self, moment: datetime) -> IdSequence:
        """Where the ids of the stored trades stand, if all trades since the last of them are known."""
        async with self._store.database.read() as connection:
            newest = await TradeRepository(connection).newest_until(self._symbol, moment)
        if newest is None or difference([(newest[1], moment)], self._scope.trades.complete):
            return IdSequence()
        return IdSequence(*newest)

    def _known(self, step: Step, end: datetime) -> datetime | None:
        """Up to which whole minute everything has been shown, a second beyond it too; None: of nothing."""
        if step.reached_end:
            return end
        if step.known_until is None:
            return None
        if step.caught_up and self._store.clock() - _MINUTE > end:
            return end  # there is nothing newer, and it is long past
        return min(end, floor_to_interval(step.known_until - SAME_TRADE, BASE_INTERVAL))

    async def _save(
        self, minutes: Sequence[TimeRange], trades: Sequence[KrakenTrade], holes: Sequence[IdHole]
    ) -> None:
        if not minutes:
            return
        data = self._scope.minutes
        known = intersection(union(data.complete, data.gaps), [self._scope.bounds])
        replace = partial(
            replace_minutes,
            symbol=self._symbol,
            trades=sorted(trades, key=lambda item: (item.timestamp, item.trade_id or -1)),
            minutes=minutes,
            unserved=[(hole.first, hole.last) for hole in holes],
            missing=whole_candles(((hole.after, hole.before) for hole in holes), BASE_INTERVAL),
            # Where there are candles, and in the gaps between them.
            candles=intersection(minutes, whole_minutes(known)),
        )
        keys = keys_with_trades(self._symbol)
        done = await self._ingest.write(keys, minutes[0][0], replace)
        self._deleted += done.deleted
        self._new += done.new
        self._changed += done.changed
        self._candles += done.candles
