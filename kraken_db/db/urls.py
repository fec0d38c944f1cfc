"""Database addresses: what users and managed services write, turned into what asyncpg takes.

Accepted are ``postgres://``, ``postgresql://`` and ``postgresql+asyncpg://`` with any libpq parameter.
The parsing itself is asyncpg's; here are only the differences. Passwords stay inside ``DatabaseURL.dsn``
and never reach ``str()`` or ``repr()``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from kraken_db.errors import ConfigurationError, WrongValueError

_SCHEMES = {"postgres", "postgresql", "postgresql+asyncpg"}
_ENCODE = "write the special characters of a password with %-encoding, for example %40 for @"
_EXAMPLE = "postgresql://user:password@host:5432/database"
# libpq and the drivers of other languages know these, and asyncpg does not: it would send them to the server,
# which refuses them. They are about connections that these programs make, or about what ours do anyway.
_NOT_SENT = {
    "channel_binding",
    "gssencmode",
    "gssdelegation",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "load_balance_hosts",
    "min_protocol_version",
    "max_protocol_version",
    "sslcompression",
    "sslsni",
    "sslcertmode",
    "sslkeylogfile",
    "client_encoding",
    "fallback_application_name",
    "application_name",  # our sessions have a name of their own
    "connect_timeout",
    "connection_limit",
    "pool_timeout",
}
# Nobody may believe in them who is not given them.
_REFUSED = {"require_auth", "requirepeer", "hostaddr", "replication", "scram_client_key"}
# What each says of a pooler, in small letters; with any other value it says nothing.
_OF_POOLERS = {
    "pgbouncer": {"true": True, "1": True, "false": False, "0": False},
    "statement_cache_size": {"0": True},
    "prepared_statement_cache_size": {"0": True},
    "preparethreshold": {"0": True},
}
_TARGETS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
DEFAULT_CONNECT_TIMEOUT = 15.0
_SECONDS = re.compile(r"-?\d{1,9}(\.\d+)?", re.ASCII)
_LONGEST_TIMEOUT = 3600.0


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A checked address. ``str(url)`` is safe to print: the password is replaced by ``***``."""

    dsn: str = field(repr=False)
    display: str
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    is_pooled: bool | None = None
    """Whether a pooler stands before the server; None where the address does not say it."""

    def __str__(self) -> str:
        return self.display


def parse_url(url: str) -> DatabaseURL:
    """Check a database address. Raises ConfigurationError, which never repeats the password.

    The files that the address names are looked for, too.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in url):  # bytes of a terminal that were no text
        raise _malformed(f"it holds bytes that are no UTF-8; {_ENCODE}")
    try:
        parts = urlsplit(url.strip())
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        # The standard library quotes the bad piece, which may be half of a password.
        raise _malformed(f"its host or port cannot be read; {_ENCODE}") from error
    if "\0" in unquote(url):
        raise _malformed("it holds a zero byte (%00)")
    if parts.scheme not in _SCHEMES:
        shown = f"it starts with {parts.scheme + ':'!r}" if parts.scheme else "it has no scheme"
        folder = url.strip()
        if folder.startswith(("/", "~", "./")):
            path = folder if folder.startswith("/") else "/PATH"
            raise _malformed(f"{shown}; a folder is written embedded://{path}")
        raise _malformed(shown)
    if not port_is_valid or "://" not in url:
        raise _malformed("its host or port cannot be read")
    if _is_cut_short(parts):
        raise _malformed(f"its user or password holds a character with a meaning of its own: {_ENCODE}")
    options = parse_qsl(parts.query, keep_blank_values=True)
    _check(options)
    kept = [(key, value) for key, value in options if key not in _NOT_SENT and key.lower() not in _OF_POOLERS]
    dsn = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept, quote_via=quote), ""))
    display = _without_password(parts.netloc, parts.path, kept)
    return DatabaseURL(dsn, display, _timeout(dict(options)), _is_pooled(options))


def _is_cut_short(parts: SplitResult) -> bool:
    """Whether a password with ``@ / ? #`` in it has moved the rest of the address to a wrong place."""
    has_credentials = "@" in parts.netloc
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    moved = [parts.path, parts.fragment, *(() if has_credentials else names)]
    return parts.netloc.count("@") > 1 or bool(parts.fragment) or any("@" in text for text in moved)


def _is_pooled(options: list[tuple[str, str]]) -> bool | None:
    said = [_OF_POOLERS.get(name.lower(), {}).get(value.lower()) for name, value in options]
    return next((pooled for pooled in said if pooled is not None), None)


def _check(options: list[tuple[str, str]]) -> None:
    for name, value in options:
        if name in _REFUSED:
            raise WrongValueError(
                f"kraken-db cannot do what {name} in the database URL asks for", hint=f"take {name} out of it"
            )
        if name == "target_session_attrs" and value not in _TARGETS:
            raise _malformed(f"target_session_attrs is one of {', '.join(_TARGETS)}, not {value!r}")
    for name, path in options:
        if name in _FILES and path and not os.access(path, os.R_OK):
            why = "cannot be read" if Path(path).exists() else "does not exist"
            raise ConfigurationError(
                f"the file that {name} names in the database URL {why}: {path}",
                hint=f"correct {name}, or put the file there",
            )


def _malformed(reason: str) -> ConfigurationError:
    return WrongValueError(f"the database URL cannot be used: {reason}", hint=f"expected {_EXAMPLE}")


def _timeout(options: dict[str, str]) -> float:
    text = options.get("connect_timeout") or str(DEFAULT_CONNECT_TIMEOUT)
    if not _SECONDS.fullmatch(text):
        raise _malformed("connect_timeout is not a number")
    if float(text) > _LONGEST_TIMEOUT:
        raise _malformed(f"connect_timeout is longer than {_LONGEST_TIMEOUT:.0f} seconds")
    return float(text) if float(text) > 0 else DEFAULT_CONNECT_TIMEOUT


def _without_password(netloc: str, path: str, options: list[tuple[str, str]]) -> str:
    credentials, at, host = netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    hidden = f"{user}:***" if colon else user
    shown = [(key, value) for key, value in options if key in ("host", "port", "dbname", "user", "sslmode")]
    query = urlencode(shown, quote_via=quote, safe="/")
    return f"postgresql://{hidden}{at}{host}{path}" + (f"?{query}" if query else "")
