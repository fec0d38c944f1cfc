"""Moments, spans and numbers as the findings write them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal


def moment(when: datetime) -> str:
    """``2023-01-31 15:30:07.123456 UTC``, with a fraction only where there is one."""
    return f"{when.astimezone(UTC).replace(tzinfo=None).isoformat(' ')} UTC"


def span(start: datetime, end: datetime) -> str:
    return f"{moment(start)} to {moment(end)}"


def minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def number(value: Decimal | int | None) -> str:
    """All digits, none too many; ``none`` where there is nothing."""
    if value is None:
        return "none"
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def plural(count: int, noun: str) -> str:
    """``1 trade``, ``2,000 trades``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
