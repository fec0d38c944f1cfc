"""Trades of the feed by their numbers, ten microseconds apart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from kraken_db.kraken.websocket_messages import LiveTrade

START = datetime(2026, 1, 1, tzinfo=UTC)


def trade(number: int, microseconds: int | None = None) -> LiveTrade:
    moment = START + timedelta(microseconds=number * 10 if microseconds is None else microseconds)
    return LiveTrade(Decimal(1), Decimal(1), moment, "buy", "limit", number)


def ids(trades: Iterable[LiveTrade]) -> list[int]:
    return [one.trade_id for one in trades]
