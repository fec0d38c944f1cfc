"""What clients ask of the WebSocket, read and checked as Kraken would."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from kraken_db.simulator.ohlc import INTERVALS

_CHANNELS = ("trade", "ohlc")


class Key(NamedTuple):
    """What a subscription is for. ``interval`` in minutes, 0 of trades."""

    channel: str
    symbol: str
    interval: int


class RequestRefusedError(Exception):
    """A request that gets an error; ``symbol`` where it is about one."""

    def __init__(self, error: str, method: str | None = None, symbol: str | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.method = method
        self.symbol = symbol
        self.req_id: int | None = None


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A ping, or what to subscribe or unsubscribe, symbol by symbol."""

    method: str
    req_id: int | None
    keys: tuple[Key, ...] = ()
    snapshot: bool = False


def read_request(text: str) -> FeedRequest:
    """Raises RequestRefusedError for a request that is refused as a whole.

    Kraken's words for that are not known; clients can only tell that it is a refusal.
    """
    try:
        document = json.loads(text)
        method, req_id = document["method"], document.get("req_id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestRefusedError("Malformed request") from None
    try:
        return _checked(method, req_id, document.get("params"))
    except RequestRefusedError as refused:
        refused.req_id = req_id if isinstance(req_id, int) else None
        raise


def _checked(method: Any, req_id: Any, params: Any) -> FeedRequest:
    if req_id is not None and type(req_id) is not int:
        raise RequestRefusedError("Malformed request")
    if method == "ping":
        return FeedRequest("ping", req_id)
    if method not in ("subscribe", "unsubscribe"):
        raise RequestRefusedError("Unsupported method")
    if not isinstance(params, dict):
        raise RequestRefusedError("Params object is missing", method)
    channel, symbols = params.get("channel"), params.get("symbol")
    if channel not in _CHANNELS:
        raise RequestRefusedError("Channel not supported", method)
    if not isinstance(symbols, list) or not symbols or not all(isinstance(one, str) for one in symbols):
        raise RequestRefusedError("Symbol(s) not found", method)
    interval = params.get("interval", 1) if channel == "ohlc" else 0
    if channel == "ohlc" and interval not in INTERVALS:
        raise RequestRefusedError("Subscription interval not supported", method)
    snapshot = params.get("snapshot", channel == "ohlc")
    return FeedRequest(method, req_id, tuple(Key(channel, one, interval) for one in symbols), bool(snapshot))


def check_symbol(key: Key, known: Collection[str], method: str) -> None:
    """Raises RequestRefusedError for a pair that is not traded under that name."""
    if key.symbol not in known:
        raise RequestRefusedError(f"Currency pair not supported {key.symbol}", method, key.symbol)
