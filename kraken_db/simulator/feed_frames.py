"""The frames of Kraken's WebSocket v2, as texts. Numbers keep their trailing zeros."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kraken_db.simulator.market import Market

HEARTBEAT = '{"channel":"heartbeat"}'
TOO_FAST = '{"Error":"Exceeded msg rate"}'
"""One of two spellings; the other is a refusal with that text."""
BELOW_REST = 1
"""Microseconds by which a trade is stamped earlier here than in REST."""

_MINUTE_US = 60_000_000
_VOLUME_UNIT = 10**8


def status(system: str, connection_id: int) -> str:
    data = {
        "version": "2.0.10",
        "system": system,
        "api_version": "v2",
        "connection_id": connection_id,
        "upcoming_maintenance": [],
        "emergency": [],
    }
    return _text({"channel": "status", "type": "update", "data": [data]})


def accepted(method: str, result: dict[str, Any], req_id: int | None, at_ns: int) -> str:
    return _text({"method": method, "result": result, "success": True} | _ending(req_id, at_ns))


def refused(method: str | None, error: str, symbol: str | None, req_id: int | None, at_ns: int) -> str:
    named = {"method": method} if method else {}
    of = {"symbol": symbol} if symbol is not None else {}
    return _text({"error": error, **named, "success": False, **of} | _ending(req_id, at_ns))


def pong(req_id: int | None, at_ns: int) -> str:
    return _text({"method": "pong"} | _ending(req_id, at_ns))


def trades(market: Market, start: int, stop: int, kind: str) -> str:
    """The trades at the positions ``[start, stop)``; ``kind`` is ``snapshot`` or ``update``."""
    decimals = market.pair.decimals
    head = f'{{"symbol":"{market.symbol}","side":"'
    rows: list[str] = []
    for columns in market.columns(start, stop):
        for stamp, price, volume, flags in zip(*columns, strict=True):
            number = market.trade_id(start + len(rows))
            rows.append(
                f'{head}{"sell" if flags & 1 else "buy"}","price":{_number(price, decimals)}'
                f',"qty":{volume // _VOLUME_UNIT}.{volume % _VOLUME_UNIT:08d}'
                f',"ord_type":"{"market" if flags & 2 else "limit"}","trade_id":{number}'
                f',"timestamp":"{_moment(_earlier(stamp // 1000))}"}}'
            )
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'


def candles(symbol: str, interval: int, rows: Sequence[Sequence[Any]], kind: str, at_ns: int) -> str:
    """``rows`` as REST has them; those without trades are left out."""
    texts = [_candle(symbol, interval, row) for row in rows if row[-1]]
    moment = f"{_moment(at_ns // 1000)[:-1]}{at_ns % 1000:03d}Z"
    return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{moment}","data":[{",".join(texts)}]}}'


def _candle(symbol: str, interval: int, row: Sequence[Any]) -> str:
    begin, opened, high, low, close, vwap, volume, count = row
    begins, ends = (_moment((begin + step) * 1_000_000) for step in (0, interval * 60))
    return (
        f'{{"symbol":"{symbol}","open":{opened},"high":{high},"low":{low},"close":{close},"trades":{count}'
        f',"volume":{volume},"vwap":{vwap},"interval_begin":"{begins[:-1]}000Z","interval":{interval}'
        f',"timestamp":"{ends}"}}'
    )


def _earlier(stamp_us: int) -> int:
    """Never in the minute before: nobody knows whose candle Kraken would count such a trade to."""
    return stamp_us - min(BELOW_REST, stamp_us % _MINUTE_US)


def _moment(us: int) -> str:
    seconds, rest = divmod(us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def _number(units: int, decimals: int) -> str:
    if not decimals:
        return str(units)
    whole, rest = divmod(units, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"


def _ending(req_id: int | None, at_ns: int) -> dict[str, Any]:
    times = {"time_in": _moment(at_ns // 1000), "time_out": _moment(at_ns // 1000 + 40)}
    return times if req_id is None else {"req_id": req_id} | times


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
