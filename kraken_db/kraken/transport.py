"""One GET over HTTP, within limits of time and size; every failure is an ExchangeError that says what to do.

Application errors come as HTTP 200 with strings such as ``EQuery:Unknown asset pair`` in ``error``. They are
told apart by how they begin, spaces aside: ``EService: Throttled: 1700000000`` has one, others have none.
"""

from __future__ import annotations

import logging
import math
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.request import getproxies

import aiohttp
from aiohttp.abc import ResolveResult

from kraken_db.errors import (
    ConfigurationError,
    ExchangeError,
    ExchangeFormatError,
    ExchangeLockoutError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    UnknownPairError,
    WrongValueError,
)
from kraken_db.retry import MAX_WAIT

_UNTIL = re.compile(r"EService:Throttled:?(?P<until>\d{1,12}(\.\d+)?)?", re.ASCII)
_LOCKOUT = "EGeneral:Temporarylockout"
_UNKNOWN_PAIR = ("EQuery:Unknownassetpair", "EQuery:Invalidassetpair")
_THROTTLED = ("EGeneral:Toomanyrequests", "EAPI:Ratelimitexceeded")
_RETRY = ("EService:", "EGeneral:Internalerror", "EDatabase:Internalerror")

_TOO_MANY_REQUESTS = 429
_CENTURY = 3.2e9  # seconds
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
        return _throttled(said, max(0.0, float(until) - now) if until else None)
    if name.startswith(_THROTTLED):
        return _throttled(said, None)
    if name.startswith(_RETRY):
        return ExchangeUnavailableError(said)
    if name.startswith(_UNKNOWN_PAIR):
        return UnknownPairError(said, hint="kraken-db pairs lists what there is")
    return ExchangeRequestError(said)


def status_error(
    status: int, retry_after: str | None, what: str, now: float, variable: str = "KRAKEN_BASE_URL"
) -> ExchangeError | None:
    """The error that an HTTP status means by itself; None for 2xx. Bodies of such answers are not shown.

    ``variable``: where the address comes from.
    """
    if 200 <= status < 300:
        return None
    said = f"{what}: HTTP {status}"
    wait = _seconds(retry_after, now)
    if status == _TOO_MANY_REQUESTS or (status >= 500 and wait is not None):
        return _throttled(said, wait)
    if status >= 500 or status == _REQUEST_TIMEOUT:
        return ExchangeUnavailableError(said)
    if 300 <= status < 400:
        return ExchangeRequestError(f"{said}, a redirect, is not followed", hint=f"check {variable}")
    return ExchangeRequestError(said, hint=f"check {variable}, and whether Kraken serves your country")


def _throttled(said: str, wait: float | None) -> ExchangeThrottledError:
    """``wait``: the seconds that it asks for, if it does."""
    if wait is None or wait <= MAX_WAIT:
        return ExchangeThrottledError(said, retry_after=wait)
    asks = "for ever" if wait > _CENTURY else f"for {wait / 60:,.0f} minutes"
    hint = f"no more than {MAX_WAIT / 60:.0f} minutes are waited for: run it again later"
    return ExchangeThrottledError(f"{said}; it asks to wait {asks}", retry_after=wait, hint=hint)


def _seconds(retry_after: str | None, now: float) -> float | None:
    """The header ``Retry-After``, seconds or a date, as seconds from now; None where it says neither.

    Infinite for a number or a year that is beyond all calendars.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d{1,12}", text, re.ASCII):
        return float(text)
    if re.search(r"\d{5}", text):
        return math.inf
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)


MAX_BODY = 8_000_000
"""Bytes, decompressed. Kraken's largest answer, the list of all pairs, has about 2 MB."""
MAX_PAGE = 1_000_000
"""The same of a page of trades or candles: Kraken's have up to about 100,000."""

TIMEOUT = aiohttp.ClientTimeout(total=60, connect=20, sock_connect=10, sock_read=20)
"""Seconds: for all of a request; for a connection from the pool; for a new one; between two pieces."""

_log = logging.getLogger(__name__)
_USER_AGENT = "kraken-historical-data (Python)"


class _ConnectionLostError(aiohttp.ClientError):
    """The connection was closed or reset before there was an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``retry_after``: the header of that name, as it came."""

    status: int
    body: bytes
    retry_after: str | None


class _Resolver(aiohttp.ThreadedResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            return await super().resolve(host, port, family)
        except UnicodeError:  # ``...``, or 64 letters without a dot
            raise OSError("it is no name of a machine") from None


def open_session(*middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
    """A session that uses the environment's proxies (``HTTPS_PROXY``, ``NO_PROXY``, ``~/.netrc``)."""
    return aiohttp.ClientSession(
        # Where there is none, aiohttp would look for ~/.netrc all the same, in a thread, at every request.
        trust_env=bool(getproxies()),
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(resolver=_Resolver()),
        headers={"User-Agent": _USER_AGENT},
        middlewares=middlewares,
    )


async def get(
    session: aiohttp.ClientSession,
    url: str,
    params: Mapping[str, str],
    what: str,
    *,
    timeout: aiohttp.ClientTimeout = TIMEOUT,  # noqa: ASYNC109 (aiohttp's own: four limits)
    max_body: int = MAX_BODY,
) -> Answer:
    """Status and body, whatever the status is; redirects are not followed.

    Raises ExchangeUnavailableError where trying again may help, ExchangeRequestError for a certificate that
    is not accepted, ExchangeFormatError for a body above ``max_body``; ``what`` begins their messages.
    """
    began = time.monotonic()
    try:
        async with session.get(
            url, params=params, timeout=timeout, allow_redirects=False, middlewares=(_send_once,)
        ) as response:
            body = await _read(response, max_body, what)
            took = time.monotonic() - began
            _log.info("GET %s: HTTP %d, %d bytes in %.2f s", response.url, response.status, len(body), took)
            return Answer(response.status, body, response.headers.get("Retry-After"))
    except (aiohttp.ClientError, OSError) as error:  # time-outs too
        raise network_failure(error, what) from error


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """aiohttp sends a GET a second time by itself when the connection is lost: that would break our pace."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # was never sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError from error


async def _read(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    body = bytearray()
    too_big = (response.content_length or 0) > limit
    async for piece in response.content.iter_any():
        body += piece
        if too_big := too_big or len(body) > limit:
            break
    if too_big:
        raise ExchangeFormatError(f"{what}: the answer is larger than {limit:,} bytes, and was not read")
    return bytes(body)


def network_failure(
    error: Exception, what: str, variable: str = "KRAKEN_BASE_URL"
) -> ExchangeError | ConfigurationError:
    """Told without the texts of aiohttp, which may show the address of a proxy with its password.

    ``variable``: where the address comes from.
    """
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return ExchangeRequestError(
                f"{what}: the certificate of {error.host} is not accepted",
                hint="check this machine's clock and certificates, and what SSL_CERT_FILE says",
            )
        case aiohttp.InvalidURL():
            return WrongValueError(f"{what}: the address is not one", hint=f"check {variable}")
        case aiohttp.ClientProxyConnectionError():
            reason = "the proxy cannot be reached"
        case aiohttp.ClientHttpProxyError():
            reason = f"the proxy answers HTTP {error.status}"
        case aiohttp.ClientConnectorDNSError():
            reason = f"there is no address for {error.host}"
        case aiohttp.ClientConnectorError():
            cause = error.os_error
            text = "TLS failed" if isinstance(cause, ssl.SSLError) else cause.strerror or type(cause).__name__
            reason = f"{error.host}:{error.port} cannot be reached: {text}"
        case TimeoutError():
            reason = "no answer in time"
        case aiohttp.ClientPayloadError():
            reason = "the answer broke off"
        case _ConnectionLostError():
            reason = "the connection was closed before the answer"
        case _:
            reason = f"the connection failed ({type(error).__name__})"
    return ExchangeUnavailableError(f"{what}: {reason}", hint="check the network, then run it again")
