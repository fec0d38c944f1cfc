"""How two versions of a candle become one: the rules, and the one statement that applies them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import CTE, ColumnElement, and_, case, delete, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import CANDLES

_KEY = ["timestamp", "symbol", "interval_minutes"]
_VALUES = ["open", "high", "low", "close", "volume", "quote_volume", "trade_count", "vwap"]
COLUMN_ORDER = ["symbol", "timestamp", "interval_minutes", *_VALUES]
"""The order in which ``fresh`` has its columns."""
_OPTIONAL = ["quote_volume", "vwap"]

VOLUME_NOISE = Decimal("1e-8")
"""Kraken's volumes have eight decimals: two that differ by less are the same one."""

MergeRule: TypeAlias = Callable[[Any, Any], tuple[dict[str, Any], ColumnElement[bool]]]
"""From the stored row and the new one to the values that are set, and to when they are."""


@dataclass(frozen=True, slots=True)
class CandlesWritten:
    """What was written. ``oldest`` and ``newest`` bound it, both inclusive; None if nothing was."""

    new: int
    changed: int
    oldest: datetime | None
    newest: datetime | None


async def merge_candles(
    connection: AsyncConnection | AsyncSession, fresh: Any, rule: MergeRule
) -> CandlesWritten:
    """Write the candles that ``fresh`` selects where the rule prefers them; never commits."""
    counts = select(*written_counts(upsert(fresh, rule)))
    return CandlesWritten(*(await connection.execute(counts)).one())


async def delete_minutes(
    connection: AsyncConnection | AsyncSession, symbol: str, moments: Sequence[datetime]
) -> None:
    """Delete the minutes that open at these moments; never commits."""
    if not moments:
        return
    c = CANDLES.c
    await connection.execute(
        delete(CANDLES).where(
            c.symbol == symbol,
            c.interval_minutes == BASE_INTERVAL,
            c.timestamp >= min(moments),
            c.timestamp <= max(moments),
            c.timestamp.in_(moments),
        )
    )


def upsert(fresh: Any, rule: MergeRule) -> CTE:
    """Writes rows; has the times of those that were written, and whether they are new."""
    statement = insert(CANDLES).from_select(COLUMN_ORDER, fresh)
    values, condition = rule(CANDLES.c, statement.excluded)
    return (
        statement.on_conflict_do_update(index_elements=_KEY, set_=values, where=condition)
        .returning(CANDLES.c.timestamp, literal_column("xmax = 0").label("is_new"))
        .cte("written")
    )


def written_counts(written: CTE) -> tuple[ColumnElement[Any], ...]:
    """How many rows are new and changed, and the first and the last of their times."""
    time, is_new = written.c.timestamp, written.c.is_new
    return func.count().filter(is_new), func.count().filter(~is_new), func.min(time), func.max(time)


def take_new(old: Any, new: Any) -> tuple[dict[str, Any], ColumnElement[bool]]:
    """The new one, whatever is stored."""
    values = {name: new[name] for name in _VALUES}
    return values, or_(*(old[name].is_distinct_from(new[name]) for name in _VALUES))


def prefer_more_trades(old: Any, new: Any) -> tuple[dict[str, Any], ColumnElement[bool]]:
    """The one with more trades; with equal counts only what is missing is filled in.

    Who knows the quote volume knows the trades, their vwap and volume to the last digit; Kraken's own vwap is
    cut to the decimals of the price, and volumes of its archives have float noise. So they go together, and
    in the end it does not matter which came first.
    """
    better = func.coalesce(new.trade_count, -1) > func.coalesce(old.trade_count, -1)
    values = {name: case((better, new[name]), else_=old[name]) for name in _VALUES}
    exact = and_(old.quote_volume.is_(None), new.quote_volume.is_not(None))
    values["quote_volume"] = case(
        (better, new.quote_volume), else_=func.coalesce(old.quote_volume, new.quote_volume)
    )
    values["vwap"] = case(
        (or_(better, and_(exact, new.vwap.is_not(None))), new.vwap), else_=func.coalesce(old.vwap, new.vwap)
    )
    is_noise = and_(exact, func.abs(old.volume - new.volume) < VOLUME_NOISE)
    values["volume"] = case((or_(better, is_noise), new.volume), else_=old.volume)
    equal = old.trade_count.is_not_distinct_from(new.trade_count)
    fills_in = or_(*(and_(old[name].is_(None), new[name].is_not(None)) for name in _OPTIONAL))
    return values, or_(better, and_(equal, fills_in))
