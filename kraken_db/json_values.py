"""How times and numbers are written in JSON, on the command line and over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any


def plain_number(value: Decimal) -> str:
    """All digits, no exponent, no zeros behind the last one that counts."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def iso(moment: datetime) -> str:
    """``2023-01-31T15:30:00Z``, with a fraction only where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def json_value(value: Any) -> Any:
    """For ``json.dumps(default=...)``: exact numbers and times as text, periods as seconds."""
    match value:
        case Decimal():
            return plain_number(value)
        case datetime():
            return iso(value)
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
