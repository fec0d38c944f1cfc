"""A server that is gone without a word (power cut, network, firewall) is noticed, instead of waited for."""

from __future__ import annotations

import socket
from typing import Any

import asyncpg

# Seconds. A quiet connection is asked after the first, then at every second of them: gone after two minutes.
_IDLE, _INTERVAL, _PROBES = 60, 10, 6
# Sent data that nobody confirms: Linux gives up after a quarter of an hour by itself. Not sooner than this: a
# server whose disk stalls takes no data for a while either.
_UNCONFIRMED_MILLISECONDS = 300_000
_OPTIONS = {
    "TCP_KEEPIDLE": _IDLE,
    "TCP_KEEPALIVE": _IDLE,  # what macOS calls it
    "TCP_KEEPINTVL": _INTERVAL,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": _UNCONFIRMED_MILLISECONDS,
}


def keep_alive(connection: asyncpg.Connection[Any]) -> None:
    """Set what this system has of it; a Unix socket has no use for it."""
    # asyncpg has no other way to its socket.
    used = connection._transport.get_extra_info("socket")
    if used is None or used.family not in (socket.AF_INET, socket.AF_INET6):
        return
    used.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            used.setsockopt(socket.IPPROTO_TCP, option, value)
