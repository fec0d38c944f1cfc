"""What the staging tables of candles and of trades share: what no row may be, said in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_SHOWN = 60
"""Characters of a value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What no row may be: ``broken`` is SQL over the columns of the staging table, and parameters.

    ``words`` is what is said of a row that is: ``"the price is not above zero: {price}"``.
    """

    broken: str
    words: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The first staged row that is not accepted. ``line`` counts from 1, in the order of staging."""

    line: int
    reason: str
    count: int
    """How many rows are not accepted, for this reason or another."""


def broken(rules: Sequence[Rule]) -> str:
    """SQL: whether a row breaks one of the rules."""
    return " OR ".join(f"({rule.broken})" for rule in rules)


def reasons(rules: Sequence[Rule]) -> str:
    """SQL: the cases of what is said of a row that breaks one of the rules."""
    return " ".join(f"WHEN {rule.broken} THEN {_said(rule)}" for rule in rules)


async def first_problem(
    connection: AsyncConnection, numbered: str, rules: Sequence[Rule], values: Mapping[str, Any], count: int
) -> Problem:
    """The first row that breaks a rule; ``numbered`` selects them with their ``line``, ``count`` do."""
    statement = (
        f"SELECT line, CASE {reasons(rules)} END FROM {numbered} numbered"
        f" WHERE {broken(rules)} ORDER BY line LIMIT 1"
    )
    line, said = (await connection.execute(text(statement), values)).one()
    return Problem(line, said, count)


def _said(rule: Rule) -> str:
    parts = []
    for literal, column, _, _ in Formatter().parse(rule.words):
        parts.append("'" + literal.replace("'", "''").replace(":", r"\:") + "'")
        if column:
            parts.append(f"left(CAST({column} AS text), {_SHOWN})")
    return f"concat({', '.join(parts)})"
