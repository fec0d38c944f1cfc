"""Who may ask, and what a browser may do with the answer.

- A page elsewhere that a browser shows must not read or start anything here. Its requests carry a foreign
  ``Host`` (DNS rebinding), ``Origin`` or ``Sec-Fetch-Site``: they are refused. There are no cookies and no
  CORS, so nothing that a browser sends by itself gives a right.
- A token goes in the header ``Authorization: Bearer`` and nowhere else: addresses are kept in logs and
  histories. It is compared in constant time, and wrong ones are answered ever later.
- A page shows what comes from the server's own files, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import urlsplit

from aiohttp import web

from kraken_db.web.answers import refusal

TOKEN_VARIABLE = "KRAKEN_DB_TOKEN"  # noqa: S105 (a name)
LEAST_TOKEN = 16
"""Characters of a token."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_SAFE = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")
_FREE_FAILURES, _FIRST_DELAY, _LONGEST_DELAY, _FORGIVEN_AFTER = 5, 0.1, 2.0, 300.0
_MOST_WAITING = 16

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_token() -> str:
    return secrets.token_urlsafe(32)


class Doorkeeper:
    """``token``: None where none is asked for. ``hosts``: names of this server, besides addresses."""

    def __init__(self, token: str | None, hosts: Collection[str] = ()) -> None:
        self._digest = None if token is None else _digest(token)
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._failures = 0
        self._failed_at = float("-inf")
        self._waiting = 0

    @property
    def has_token(self) -> bool:
        return self._digest is not None

    async def refuse(self, request: web.Request, *, is_public: bool) -> web.Response | None:
        """What a request is answered that may not be done; None for one that may."""
        host = request.headers.get("Host", "")
        if not self._is_ours(host):
            return refusal(
                421, "this server does not go by that name", "start kraken-db serve with --allow-host NAME"
            )
        if (foreign := _foreign(request, host, is_public=is_public)) is not None:
            return refusal(403, foreign)
        if is_public or self._digest is None or self._is_right(request):
            return None
        return await self._wrong(request)

    def _is_ours(self, host: str) -> bool:
        """Addresses are: whoever rebinds a name comes with the name."""
        name = _name_of(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts
        return True

    def _is_right(self, request: web.Request) -> bool:
        assert self._digest is not None
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        # Of equal length whatever was sent, and compared in constant time.
        return hmac.compare_digest(_digest(sent.strip()), self._digest) and scheme.lower() == "bearer"

    async def _wrong(self, request: web.Request) -> web.Response:
        """The right token is never delayed: only wrong ones wait, and not many of them at once."""
        if "Authorization" in request.headers:
            now = time.monotonic()
            if now - self._failed_at > _FORGIVEN_AFTER:
                self._failures = 0
            self._failures, self._failed_at = self._failures + 1, now
            if self._failures > _FREE_FAILURES:
                if self._waiting >= _MOST_WAITING:
                    return refusal(429, "too many wrong tokens", "wait a while", wait=5)
                self._waiting += 1
                try:
                    power = min(self._failures - _FREE_FAILURES, 10)
                    await asyncio.sleep(min(_FIRST_DELAY * 2**power, _LONGEST_DELAY))
                finally:
                    self._waiting -= 1
        answer = refusal(
            401, "a token is needed", "kraken-db serve has printed it: Authorization: Bearer ..."
        )
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _name_of(host: str) -> str | None:
    """The name of a ``Host``, without its port; None for what is none."""
    if not host or any(character in host for character in "/\\@?# \t"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
        return (parts.hostname or "").rstrip(".").lower() or None
    except ValueError:
        return None


def _foreign(request: web.Request, host: str, *, is_public: bool) -> str | None:
    """Why a request is of another site; None for one that is not. A page may be opened from anywhere."""
    site = request.headers.get("Sec-Fetch-Site")
    is_visit = is_public and request.method in _SAFE
    if site is not None and site not in _OWN_SITES and not is_visit:
        return "a page of another site has sent this request"
    origin = request.headers.get("Origin")
    if origin is not None and not is_visit and urlsplit(origin).netloc.lower() != host.lower():
        return "a page of another site has sent this request"
    if request.method == "POST" and request.content_type != "application/json":
        return "a request with a body is application/json"
    return None
