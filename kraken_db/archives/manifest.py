"""What an archive says of itself: its ``MANIFEST.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from kraken_db.archives.layouts import LayoutError, candle_columns, trade_columns
from kraken_db.errors import KrakenDBError

LARGEST_MANIFEST = 16 * 2**20
"""Bytes; Kraken's have a few hundred, and with a line a file they would have two million."""

_SCHEMAS = {"trades": (1, 2), "ohlcvt": (1,)}
_LARGEST_COUNT = 2**62
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ENDS = (("start", "end"), ("from", "to"), ("first", "last"))
_GET_AGAIN = "get the archive again; if that does not help, unpack the files that you want and import these"


class ManifestError(KrakenDBError):
    """A manifest that cannot be read, or of an archive that this version does not know."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What there is in an archive; None where it says nothing of it."""

    product: Literal["trades", "ohlcvt"]
    schema_version: int
    columns: tuple[str, ...] | None
    """By our names: of trades what ``trade_layout`` takes as ``declared``."""
    has_header: bool | None
    start: datetime | None
    end: datetime | None
    """What it covers, in UTC: ``start`` inclusive, ``end`` exclusive. Of a day as the last, the day after."""
    pairs: int | None
    files: int | None
    rows: int | None
    generated: str | None
    """The day on which it was made, as it is written there."""

    def narrowed(
        self, start: datetime | None, end: datetime | None
    ) -> tuple[datetime | None, datetime | None]:
        """What the archive covers whose name says ``start`` and ``end``, each None where it does not.

        A beginning of None is that of all trades only where the name says an end. Where both say something,
        only what they both say holds.
        """
        if self.start is None or self.end is None:
            return start, end
        if end is None:
            return self.start, self.end
        start, end = start and max(start, self.start), min(end, self.end)
        return (None, None) if start and start >= end else (start, end)

    def without_future(self, now: datetime) -> Manifest:
        """The same; one that covers what has not happened yet says nothing of what it covers."""
        return replace(self, start=None, end=None) if self.end is not None and self.end > now else self

    def contradiction(self, files: int, rows: int | None) -> str | None:
        """What was found otherwise than it is said here, in words; None if nothing was.

        ``files`` and ``rows``: those of the whole archive, empty files included, header lines not; None
        where they were not counted.
        """
        wrong = [
            f"{said:,} {what}, and there are {seen:,}"
            for what, said, seen in (("files", self.files, files), ("rows", self.rows, rows))
            if said is not None and seen is not None and said != seen
        ]
        return f"MANIFEST.json says {'; '.join(wrong)}" if wrong else None


def parse_manifest(text: bytes) -> Manifest:
    """A ``MANIFEST.json``, checked; what is unknown in it is passed over.

    Raises ManifestError for what is none, and for a product or a schema that is not known here.
    """
    content = _object(text)
    product = _required(content, "product", str).lower()
    version = _required(content, "schema_version", int)
    if product not in _SCHEMAS:
        raise ManifestError(
            f"MANIFEST.json is of the product {product[:40]!r}; known are {' and '.join(_SCHEMAS)}",
            hint="look for a newer kraken-db",
        )
    if version not in _SCHEMAS[product]:
        known = " and ".join(map(str, _SCHEMAS[product]))
        raise ManifestError(
            f"MANIFEST.json has schema version {version!s:.20} of {product}; known here: {known}",
            hint="look for a newer kraken-db",
        )
    start, end = _coverage(content.get("coverage"))
    return Manifest(
        product="trades" if product == "trades" else "ohlcvt",
        schema_version=version,
        columns=_columns(content, product),
        has_header=_optional(content, "has_header", bool),
        start=start,
        end=end,
        pairs=_count(content, "pairs"),
        files=_count(content, "files"),
        rows=_count(content, "rows"),
        generated=_optional(content, "generated", str),
    )


def _object(text: bytes) -> Mapping[str, Any]:
    if len(text) > LARGEST_MANIFEST:
        raise ManifestError(f"MANIFEST.json has {len(text):,} bytes: this is none", hint=_GET_AGAIN)
    try:
        content = json.loads(text.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"MANIFEST.json is no JSON: {error}", hint=_GET_AGAIN) from error
    if not isinstance(content, dict):
        raise ManifestError("MANIFEST.json is no JSON object", hint=_GET_AGAIN)
    return content


def _optional(content: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = content.get(name)
    if value is None or type(value) is kind:
        return value
    raise _unfit(name, value)


def _required(content: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = _optional(content, name, kind)
    if value is None:
        raise ManifestError(f"MANIFEST.json says no {name}", hint=_GET_AGAIN)
    return value


def _count(content: Mapping[str, Any], name: str) -> int | None:
    """A number, or what is to be counted: a list, or an object by name."""
    value = content.get(name)
    if isinstance(value, list | dict):
        return len(value)
    if value is None or (type(value) is int and 0 <= value <= _LARGEST_COUNT):
        return value
    raise _unfit(name, value)


def _columns(content: Mapping[str, Any], product: str) -> tuple[str, ...] | None:
    names = _optional(content, "columns", list)
    if names is None:
        return None
    if not all(isinstance(name, str) for name in names):
        raise _unfit("columns", names)
    meaning = trade_columns if product == "trades" else candle_columns
    try:
        return meaning(names, "MANIFEST.json")
    except LayoutError as error:
        raise ManifestError(error.reason, hint=error.hint) from error


def _coverage(value: Any) -> tuple[datetime | None, datetime | None]:
    """Two days or moments: as an object or a list. What is written otherwise says nothing."""
    if isinstance(value, dict):
        first, last = next(
            ((value[a], value[b]) for a, b in _ENDS if a in value and b in value), (None, None)
        )
    elif isinstance(value, list) and len(value) == 2:
        first, last = value
    else:
        first = last = None
    start, end = _moment(first, days=0), _moment(last, days=1)
    if start is None or end is None:
        return None, None
    if start >= end:
        raise ManifestError(f"MANIFEST.json covers {first} to {last}: no time at all", hint=_GET_AGAIN)
    return start, end


def _moment(value: Any, days: int) -> datetime | None:
    """A moment as it is; of a day its midnight, so many days later."""
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment + timedelta(days=days) if _DATE.fullmatch(value) else moment
    except (TypeError, ValueError, OverflowError):
        return None


def _unfit(name: str, value: Any) -> ManifestError:
    return ManifestError(f"MANIFEST.json says {name} {json.dumps(value):.60}", hint=_GET_AGAIN)
