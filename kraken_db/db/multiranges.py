"""Sets of time ranges as PostgreSQL's multiranges, there and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.dialects.postgresql.ranges import MultiRange, Range

from kraken_db.ranges import TimeRange


def to_multirange(ranges: Iterable[TimeRange]) -> MultiRange[datetime]:
    """Half-open ranges; empty ones are left out."""
    return MultiRange([Range(start, end, bounds="[)") for start, end in ranges if start < end])


def from_multirange(found: Iterable[Range[datetime]] | None) -> tuple[TimeRange, ...]:
    """In order of time, apart from each other; nothing for NULL. One without an end is left out."""
    return tuple((item.lower, item.upper) for item in found or () if item.lower and item.upper)
