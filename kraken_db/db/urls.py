"""Database addresses: what users and managed services write, turned into what asyncpg takes.

Accepted are ``postgres://``, ``postgresql://`` and ``postgresql+asyncpg://`` with any libpq parameter.
The parsing itself is asyncpg's; here are only the differences. Passwords stay inside ``DatabaseURL.dsn``
and never reach ``str()`` or ``repr()``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from kraken_db.errors import ConfigurationError

_SCHEMES = {"postgres", "postgresql", "postgresql+asyncpg"}
_EXAMPLE = "postgresql://user:password@host:5432/database"
# libpq knows these and asyncpg does not: it would send them to the server, which refuses them.
_LIBPQ_ONLY = {
    "channel_binding",
    "gssencmode",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "sslsni",
    "sslnegotiation",
    "client_encoding",
    "fallback_application_name",
}
DEFAULT_CONNECT_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A checked address. ``str(url)`` is safe to print: the password is replaced by ``***``."""

    dsn: str = field(repr=False)
    display: str
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT

    def __str__(self) -> str:
        return self.display


def parse_url(url: str) -> DatabaseURL:
    """Check a database address. Raises ConfigurationError, which never repeats the password."""
    try:
        parts = urlsplit(url.strip())
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        # The standard library quotes the bad piece, which may be half of a password.
        raise _malformed("its host or port cannot be read; special characters need %-encoding") from error
    if parts.scheme not in _SCHEMES:
        shown = f"it starts with {parts.scheme + ':'!r}" if parts.scheme else "it has no scheme"
        raise _malformed(shown)
    if not port_is_valid or "://" not in url:
        raise _malformed("its host or port cannot be read")
    options = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in options if key not in _LIBPQ_ONLY | {"connect_timeout"}]
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept, quote_via=quote), ""))
    return DatabaseURL(dsn, _without_password(parts.netloc, parts.path, kept), _timeout(dict(options)))


def _malformed(reason: str) -> ConfigurationError:
    return ConfigurationError(f"the database URL cannot be used: {reason}", hint=f"expected {_EXAMPLE}")


def _timeout(options: dict[str, str]) -> float:
    text = options.get("connect_timeout", "")
    try:
        seconds = float(text) if text else DEFAULT_CONNECT_TIMEOUT
    except ValueError:
        raise _malformed("connect_timeout is not a number") from None
    return seconds if seconds > 0 else DEFAULT_CONNECT_TIMEOUT


def _without_password(netloc: str, path: str, options: list[tuple[str, str]]) -> str:
    credentials, at, host = netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    hidden = f"{user}:***" if colon else user
    shown = [(key, value) for key, value in options if key in ("host", "port", "dbname", "user", "sslmode")]
    query = urlencode(shown, quote_via=quote, safe="/")
    return f"postgresql://{hidden}{at}{host}{path}" + (f"?{query}" if query else "")
