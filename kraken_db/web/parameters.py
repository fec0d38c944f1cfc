"""What a request may say: each parameter with its grammar, its bounds and its line in the document.

One table says what is read and what ``openapi.json`` shows, so that they cannot differ.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from aiohttp import web

from kraken_db.errors import WrongValueError
from kraken_db.intervals import as_interval, parse_zone
from kraken_db.pairs import parse_symbol
from kraken_db.times import parse_time

LONGEST_VALUE = 200
"""Characters of one value."""
_COUNT = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read, and its JSON schema. ``is_time``: it is read last, in the zone of the request."""

    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    is_time: bool = False


def count(least: int, most: int) -> Kind:
    """A whole number of these bounds, both included."""

    def parse(text: str) -> int:
        if not _COUNT.fullmatch(text) or not least <= int(text) <= most:
            raise WrongValueError(f"it is no whole number from {least:,} to {most:,}")
        return int(text)

    return Kind(parse, {"type": "integer", "minimum": least, "maximum": most})


def choice(*words: str) -> Kind:
    def parse(text: str) -> str:
        if text not in words:
            raise WrongValueError(f"it is none of {', '.join(words)}")
        return text

    return Kind(parse, {"type": "string", "enum": list(words)})


TEXT = Kind(str, {"type": "string", "maxLength": LONGEST_VALUE})
SYMBOL = Kind(parse_symbol, {"type": "string", "example": "BTC/USD"})
INTERVAL = Kind(as_interval, {"type": "string", "example": "1h"})
ZONE = Kind(parse_zone, {"type": "string", "example": "Europe/Berlin"})
TIME = Kind(str, {"type": "string", "example": "2023-01-31T15:30:00Z"}, is_time=True)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: Kind
    description: str
    default: Any = None
    is_required: bool = False


Given = Mapping[str, Any]
"""The values of a request, by the names of its parameters."""


def read(request: web.Request, parameters: Sequence[Parameter], now: datetime) -> Given:
    """What a request says. Raises WrongValueError, with the name of what is wrong, and PairError."""
    known = {parameter.name: parameter for parameter in parameters}
    for name in request.query:
        if name not in known:
            raise _unknown(name, list(known))
        if len(request.query.getall(name)) > 1:
            raise WrongValueError(f"{name} is given twice")
    zone: tzinfo = UTC
    given: dict[str, Any] = {}
    for parameter in sorted(parameters, key=lambda one: one.kind.is_time):
        text = request.query.get(parameter.name, "").strip()
        given[parameter.name] = _value(parameter, text, now, zone)
        if parameter.kind is ZONE and given[parameter.name] is not None:
            zone = given[parameter.name]
    return given


def _value(parameter: Parameter, text: str, now: datetime, zone: tzinfo) -> Any:
    name = parameter.name
    if not text:
        if parameter.is_required:
            raise WrongValueError(f"{name} is missing", hint=f"{name}: {parameter.description}")
        return parameter.default
    if len(text) > LONGEST_VALUE:
        raise WrongValueError(f"{name} has more than {LONGEST_VALUE} characters")
    try:
        return parse_time(text, now, zone) if parameter.kind.is_time else parameter.kind.parse(text)
    except ValueError as error:
        message = getattr(error, "message", "it cannot be")
        raise WrongValueError(f"{name}: {message}", hint=getattr(error, "hint", None)) from None


def _unknown(name: str, known: list[str]) -> WrongValueError:
    near = difflib.get_close_matches(name[:LONGEST_VALUE], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
    return WrongValueError(f"there is no parameter {name[:40]!r}", hint=hint)
