"""Kraken's refusals, as errors by what has to be done about them.

Application errors come as HTTP 200 with strings such as ``EQuery:Unknown asset pair`` in ``error``. They are
told apart by how they begin, spaces aside: ``EService: Throttled: 1700000000`` has one, others have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

from kraken_db.errors import (
    ExchangeError,
    ExchangeLockoutError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    UnknownPairError,
)

_UNTIL = re.compile(r"EService:Throttled:?(?P<until>\d{1,12}(\.\d+)?)?")
_LOCKOUT = "EGeneral:Temporarylockout"
_UNKNOWN_PAIR = ("EQuery:Unknownassetpair", "EQuery:Invalidassetpair")
_THROTTLED = ("EGeneral:Toomanyrequests", "EAPI:Ratelimitexceeded")
_RETRY = ("EService:", "EGeneral:Internalerror", "EDatabase:Internalerror")

_TOO_MANY_REQUESTS = 429
_REQUEST_TIMEOUT = 408
_EXCERPT = 120


def excerpt(text: str | bytes) -> str:
    """The beginning of what someone sent, in one printable line; of a web page only that it is one."""
    if isinstance(text, bytes):
        text = text[: 4 * _EXCERPT].decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _EXCERPT]).split())
    if line.startswith("<"):
        return "a web page"
    return repr(line if len(line) <= _EXCERPT else line[:_EXCERPT] + "...")


def application_error(errors: Sequence[str], what: str, now: float) -> ExchangeError | None:
    """The error that Kraken's list means, the one that weighs most; None for warnings (``W...``) alone.

    ``now``: unix seconds, which a ``Throttled`` until some moment is counted from.
    """
    found = [_one(text, what, now) for text in errors if not text.startswith("W")]
    order = (ExchangeLockoutError, ExchangeRequestError, ExchangeThrottledError, ExchangeUnavailableError)
    return min(
        found,
        key=lambda error: next(i for i, kind in enumerate(order) if isinstance(error, kind)),
        default=None,
    )


def _one(text: str, what: str, now: float) -> ExchangeError:
    name = "".join(text.split())
    said = f"{what}: Kraken says {excerpt(text)}"
    if name.startswith(_LOCKOUT):
        return ExchangeLockoutError(said, hint="wait 15 minutes or more, then run it again with a lower rate")
    if throttled := _UNTIL.match(name):
        until = throttled["until"]
        return ExchangeThrottledError(said, retry_after=max(0.0, float(until) - now) if until else None)
    if name.startswith(_THROTTLED):
        return ExchangeThrottledError(said)
    if name.startswith(_RETRY):
        return ExchangeUnavailableError(said)
    if name.startswith(_UNKNOWN_PAIR):
        return UnknownPairError(said, hint="kraken-db pairs lists what there is")
    return ExchangeRequestError(said)


def status_error(
    status: int, retry_after: str | None, what: str, now: float, variable: str = "KRAKEN_BASE_URL"
) -> ExchangeError | None:
    """The error that an HTTP status means by itself; None for 2xx. Bodies of such answers are not told.

    ``variable``: where the address comes from.
    """
    if 200 <= status < 300:
        return None
    said = f"{what}: HTTP {status}"
    wait = _seconds(retry_after, now)
    if status == _TOO_MANY_REQUESTS or (status >= 500 and wait is not None):
        return ExchangeThrottledError(said, retry_after=wait)
    if status >= 500 or status == _REQUEST_TIMEOUT:
        return ExchangeUnavailableError(said)
    if 300 <= status < 400:
        return ExchangeRequestError(f"{said}, a redirect, is not followed", hint=f"check {variable}")
    return ExchangeRequestError(said, hint=f"check {variable}, and whether Kraken serves your country")


def _seconds(retry_after: str | None, now: float) -> float | None:
    """The header ``Retry-After``, seconds or a date, as seconds from now; None where it says neither."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d{1,12}", text, re.ASCII):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
