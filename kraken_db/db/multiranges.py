"""Sets of time ranges as PostgreSQL's multiranges, there and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, false
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.dialects.postgresql.ranges import MultiRange, Range

from kraken_db.ranges import TimeRange


def to_multirange(ranges: Iterable[TimeRange]) -> MultiRange[datetime]:
    """Half-open ranges; empty ones are left out."""
    return MultiRange([Range(start, end, bounds="[)") for start, end in ranges if start < end])


def from_multirange(found: Iterable[Range[datetime]] | None) -> tuple[TimeRange, ...]:
    """In order of time, apart from each other; nothing for NULL. One without an end is left out."""
    return tuple((item.lower, item.upper) for item in found or () if item.lower and item.upper)


def lies_in(moment: ColumnElement[Any], ranges: Sequence[TimeRange]) -> ColumnElement[bool]:
    """Whether a moment lies in one of some ranges, which are in order of time.

    Said with both bounds too: a planner looks for chunks by them, and not by the set.
    """
    if not ranges:
        return false()
    inside = bindparam(None, to_multirange(ranges), TSTZMULTIRANGE)
    return and_(moment >= ranges[0][0], moment < ranges[-1][1], moment.bool_op("<@")(inside))
