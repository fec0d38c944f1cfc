"""What the staging of candles and of trades share: rules for rows, and the counts of a merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, case, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable, DropTable

from kraken_db.repositories.candle_comparison import Difference

# Seconds of the year 5138; a present time in milliseconds is above it.
MILLISECONDS = 100_000_000_000


@dataclass(frozen=True, slots=True)
class RowProblem:
    """The first staged row that is not accepted. ``line`` counts from 1, in the order of staging."""

    line: int
    reason: str
    count: int
    """How many rows are not accepted, for this reason or another."""


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """What a merge did to the table. ``oldest`` and ``newest`` bound what was written, both inclusive."""

    read: int
    new: int = 0
    changed: int = 0
    dropped: int = 0
    """Rows that add nothing: candles without a trade, trades that are stored with their ids already."""
    removed: int = 0
    """Stored rows that the new ones took the place of: trades that had no id."""
    differing: int = 0
    """Candles that are stored with as many trades, but with other numbers: part of ``unchanged``."""
    difference: Difference | None = None
    """The first of these."""
    oldest: datetime | None = None
    newest: datetime | None = None

    @property
    def unchanged(self) -> int:
        return self.read - self.new - self.changed - self.dropped

    @property
    def written(self) -> int:
        return self.new + self.changed


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition that no row may meet, and what to say of one that does (a text expression)."""

    broken: ColumnElement[bool]
    reason: ColumnElement[str]


async def create_temporary(connection: AsyncConnection, table: Table) -> None:
    """A table for this transaction alone. It also begins the transaction, which COPY relies on."""
    await connection.execute(DropTable(table, if_exists=True))
    await connection.execute(CreateTable(table))


async def first_problem(
    connection: AsyncConnection, numbered: FromClause, rules: Sequence[Rule], count: int
) -> RowProblem:
    """The first row (they have a column ``line``) that breaks a rule; ``count`` rows are known to."""
    reason = case(*((rule.broken, rule.reason) for rule in rules))
    broken = or_(*(rule.broken for rule in rules))
    statement = select(numbered.c.line, reason).where(broken).order_by(numbered.c.line).limit(1)
    line, text = (await connection.execute(statement)).one()
    return RowProblem(line, text, count)


def is_nan(value: ColumnElement[Any]) -> ColumnElement[bool]:
    """PostgreSQL's numeric has a NaN, which is greater than every number and equal to itself."""
    return value == literal_column("CAST('NaN' AS numeric)")
