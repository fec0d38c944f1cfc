"""Addresses of servers on the web, as people write them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection


def server_parts(text: str, schemes: Collection[str] = ("http", "https")) -> SplitResult | None:
    """The parts of an address that can be that of a server; None: of another scheme, or without a host.

    ``schemes``: in small letters.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    is_host = host.isprintable() and not any(map(str.isspace, host))
    return parts if parts.scheme in schemes and host and is_host and port != 0 else None
