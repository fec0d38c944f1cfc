"""Statements as the driver takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import asyncpg as dialect

_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement with ``$1``, ``$2`` ... in it, and the values for them in this order."""

    sql: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, statement: ClauseElement) -> CompiledStatement:
        compiled = statement.compile(dialect=_DIALECT)
        names = compiled.positiontup or ()  # type: ignore[attr-defined]
        return cls(compiled.string, tuple(compiled.params[name] for name in names))

    def replacing(self, markers: Mapping[object, Any]) -> CompiledStatement:
        """The same statement with other values in the places of these."""
        return CompiledStatement(self.sql, tuple(markers.get(value, value) for value in self.values))
