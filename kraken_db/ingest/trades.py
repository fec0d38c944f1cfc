"""One batch of trades, from wherever it comes: staged, checked, merged, with the candles that it changes.

What differs between the sources is a ``TradePolicy``. REST and the archives are the official record: their
stamp replaces a live one. The candles of the minutes that a trade leaves or enters are built anew in the same
transaction, unless they know trades that are not stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kraken_db.data_types import DataType
from kraken_db.errors import ConflictingTradesError, ImpossibleRowError
from kraken_db.ingest.candles import rebuild_minutes
from kraken_db.ingest.rules import EARLIEST_SECONDS, RowRefusedError, trade_rules
from kraken_db.ingest.write_unit import WriteTransaction
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.ranges import TICK, TimeRange, whole_candles
from kraken_db.repositories.anonymous_merge import Anonymous
from kraken_db.repositories.candle_merge import Minutes
from kraken_db.repositories.coverage import Source
from kraken_db.repositories.staged_trades import StagedFacts, StorableTrade
from kraken_db.repositories.staging import Problem
from kraken_db.repositories.trade_merge import Contradiction, TradeMerge, Window
from kraken_db.tolerances import SAME_TRADE, STAMP_JITTER

MOST_CONFLICTS = 100
"""Contradictions in one batch that are still taken for single mistakes."""
_MINUTE = interval_length(BASE_INTERVAL)


@dataclass(frozen=True, slots=True)
class TradePolicy:
    """How the trades of a source meet the stored ones.

    ``is_official``: the stamp of a stored trade gives way to theirs. ``may_have_ids``: one without an id
    may be a trade that is stored with its id. ``appends_anonymous``: two trades without ids that are equal
    in all fields are two trades. ``refuses_conflicts``: a trade that is stored with another content refuses
    the batch, which is one file; else it is left as it is and reported, up to ``MOST_CONFLICTS`` of an
    official record. ``rounds``: numbers are rounded to the last digit that is stored.
    """

    source: Source
    is_official: bool = True
    may_have_ids: bool = False
    appends_anonymous: bool = False
    refuses_conflicts: bool = False
    rounds: bool = False


ARCHIVE = TradePolicy("csv", may_have_ids=True, refuses_conflicts=True, rounds=True)
REST = TradePolicy("rest_trades")
HANDED_OVER = TradePolicy("rest_trades", may_have_ids=True)
"""Rows of Kraken's that somebody else has got from it."""
LIVE = TradePolicy("live", is_official=False)
LIVE_WITHOUT_IDS = TradePolicy("live", is_official=False, appends_anonymous=True)
LIVE_OFFICIAL = TradePolicy("live")
"""What a live writer was given as REST's record."""


@dataclass(frozen=True, slots=True)
class TradesWritten:
    """What a batch did to the table."""

    new: int = 0
    changed: int = 0
    """Stored trades that took the official stamp, or what they lacked."""
    removed: int = 0
    """Stored trades without an id that the new ones took the place of."""
    known: int = 0
    """Trades without an id that are stored with their ids already."""
    disputed: int = 0
    """Trades without an id that were left out: for their seconds other trades are stored with ids."""
    conflicts: tuple[str, ...] = ()
    """Trades that are stored under the same id with another content, one line each: left as they are."""
    touched: tuple[datetime, ...] = ()
    """The minutes that a stored trade has left or changed in."""

    @property
    def added(self) -> int:
        """How many rows more there are."""
        return self.new - self.removed


@dataclass(slots=True)
class TradeBatch:
    """Staged trades of one symbol on their way into the table of a transaction."""

    transaction: WriteTransaction
    symbol: str
    policy: TradePolicy
    facts: StagedFacts

    async def store(self, *, force: bool = False, cursor: int | None = None) -> TradesWritten:
        """Write what is not stored yet, and count it. ``force``: other contents of stored trades are taken.

        Raises RowRefusedError and ConflictingTradesError; the transaction is over then.
        """
        unit = self.transaction.unit(self.symbol, DataType.TRADES)
        await unit.begin(self.facts.first, self.facts.last + TICK)
        written = await self._write(force)
        unit.wrote(self.facts.first, self.facts.last, written.added, cursor=cursor)
        return written

    async def _write(self, force: bool) -> TradesWritten:
        staged = self.transaction.trades
        first_id = (
            0 if self.policy.may_have_ids and self.facts.identified < self.facts.rows else self.facts.first_id
        )
        window = Window(self.symbol, self.facts.first - SAME_TRADE, self.facts.last + SAME_TRADE, first_id)
        count = await staged.insert(window)
        if count == self.facts.rows:
            return TradesWritten(new=count)
        written = await merge_staged(self.transaction, window, self.policy, force=force)
        return replace(written, new=written.new + count)


async def stage_trades(
    transaction: WriteTransaction, symbol: str, policy: TradePolicy, trades: Sequence[StorableTrade]
) -> TradeBatch:
    """Trades as objects, in order of time, checked. Raises ImpossibleRowError for one that cannot be."""
    await transaction.trades.copy_records({symbol: trades})
    found = await _inspect(transaction, policy, None)
    if isinstance(found, Problem):
        one = trades[found.line - 1]
        where = f"trade {one.trade_id or 'without an id'} of {symbol} at {one.timestamp.isoformat()}"
        raise ImpossibleRowError(f"{where}: {found.reason}")
    return TradeBatch(transaction, symbol, policy, found)


async def stage_rows(
    transaction: WriteTransaction,
    symbol: str,
    policy: TradePolicy,
    columns: list[str],
    source: AsyncIterable[bytes],
    *,
    latest_back: int = 0,
) -> tuple[TradeBatch | None, int]:
    """Trades as the rows of a file, checked; and how many rows there were. None of an empty one.

    ``latest_back``: by how many seconds a row may be older than the one before.
    Raises RowRefusedError and CopyRowError, both with the line.
    """
    count = await transaction.trades.copy_rows(columns, source)
    if not count:
        return None, 0
    found = await _inspect(transaction, policy, latest_back)
    if isinstance(found, Problem):
        raise RowRefusedError(found.line, found.reason, found.count)
    return TradeBatch(transaction, symbol, policy, found), count


async def merge_staged(
    transaction: WriteTransaction, window: Window, policy: TradePolicy, *, force: bool = False
) -> TradesWritten:
    """The long way: decide for each staged trade of a symbol what it is to the stored ones."""
    staged = transaction.trades
    merge = await staged.merge(window, may_have_ids=policy.may_have_ids, jitter=STAMP_JITTER)
    if not policy.is_official:
        await merge.adopt_stored()
    conflicts = [] if force else await _contradictions(merge, window.symbol, policy)
    written = await finish_merge(merge, policy)
    return replace(written, conflicts=tuple(_contradiction_text(one) for one in conflicts))


async def finish_merge(merge: TradeMerge, policy: TradePolicy) -> TradesWritten:
    """What the staged trades do to the stored ones, once it is known which of them count."""
    outdated = await merge.find_outdated()
    if policy.appends_anonymous:
        await merge.anonymous.forget_known()
        anonymous = Anonymous()
    else:
        anonymous = await merge.anonymous.decide()
    touched = await merge.touched_minutes()
    await merge.delete_obsolete()
    new = await merge.insert_with_ids() - outdated
    if policy.appends_anonymous:
        new += await merge.anonymous.append()
    else:
        await merge.anonymous.insert()
        new += anonymous.added
    return TradesWritten(
        new=new,
        changed=outdated,
        removed=anonymous.removed,
        known=anonymous.known,
        disputed=anonymous.disputed,
        touched=tuple(touched),
    )


async def rebuild_touched(
    transaction: WriteTransaction,
    symbol: str,
    written: TradesWritten,
    source: Source,
    *,
    entered: Sequence[TimeRange] = (),
) -> None:
    """Build the candles of the minutes anew that a stored trade has left, or that one has entered.

    ``entered``: where new trades are for whose minutes there may be candles already. Not where a candle of
    another source knows trades that are not stored.
    """
    touched = set(written.touched)
    if written.new:
        for start, end in whole_candles(entered, BASE_INTERVAL):
            touched.update(await Minutes(transaction.connection, symbol).outgrown(start, end))
    if touched:
        await rebuild_minutes(transaction, symbol, sorted(touched), source)


async def _inspect(
    transaction: WriteTransaction, policy: TradePolicy, latest_back: int | None
) -> StagedFacts | Problem:
    values = {"earliest": EARLIEST_SECONDS, "latest": transaction.latest.timestamp()}
    rules = trade_rules(latest_back=latest_back, rounds=policy.rounds)
    return await transaction.trades.inspect(rules, values)


async def _contradictions(merge: TradeMerge, symbol: str, policy: TradePolicy) -> list[Contradiction]:
    """Those that are left out of the merge. Raises where the policy refuses them."""
    if policy.refuses_conflicts:
        first = await merge.first_contradiction()
        if first is not None:
            reason = f"trade {first.trade_id} is stored as {first.stored}, but the file says {first.staged}"
            raise RowRefusedError(first.line, reason, hint="--replace takes the file's")
        return []
    found = await merge.set_contradictions_aside()
    if policy.is_official and len(found) > MOST_CONFLICTS:
        raise ConflictingTradesError(
            f"{symbol}: {len(found)} trades contradict the stored ones; {_contradiction_text(found[0])}",
            hint="this database was filled from another exchange or simulator: use a database for each",
        )
    return found


def _contradiction_text(one: Contradiction) -> str:
    return f"trade {one.trade_id} is stored as {one.stored}, but came as {one.staged}"
