"""The newest stored minutes beside Kraken's own candles, for the hours that OHLC still serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.kraken.messages import OhlcPage
from kraken_db.kraken.records import KrakenOhlc
from kraken_db.ranges import intersection
from kraken_db.repositories.candles import CandleRepository
from kraken_db.store import Store
from kraken_db.types import Candle
from kraken_db.verification.certificate import Finding, Part
from kraken_db.verification.scope import Scope
from kraken_db.verification.words import minute, number, plural

OHLC = "Kraken's candles"
_MINUTE = interval_length(BASE_INTERVAL)
_FIELDS = ("open", "high", "low", "close", "volume", "trade_count")
_TINY = Decimal("1e-10")
"""The last digit of the store: a vwap that was rounded up to it is cut like the exact one."""


async def check_ohlc(store: Store, scope: Scope, page: OhlcPage) -> Part:
    """Compare the committed minutes of a page with those that are stored and known to be complete.

    Kraken fills quiet minutes with rows of no trades: there is no such candle here. It cuts the vwap to the
    decimals of the pair's prices.
    """
    part = Part(OHLC, "minutes")
    served = {row.timestamp: row for row in page.committed}
    if not served:
        part.not_checked = "Kraken has sent no candle that is complete"
        return part
    first, last = min(served), max(served)
    claimed = intersection(scope.minutes.complete, [(first, last + _MINUTE)])
    if not claimed:
        part.not_checked = f"nothing is stored of the hours that Kraken serves, from {minute(first)} on"
        return part
    async with store.database.read() as connection:
        candles = CandleRepository(connection, store.timeseries)
        found = [
            candle
            for start, end in claimed
            for candle in await candles.between(scope.symbol, BASE_INTERVAL, start, end)
        ]
    stored = {candle.timestamp: candle for candle in found}
    for at in _minutes(claimed[0][0], claimed[-1][1]):
        if any(start <= at and at + _MINUTE <= end for start, end in claimed):
            part.compared += 1
            part.see(at, at)
            _compare(part, at, stored.get(at), served.get(at))
    return part


def _minutes(start: datetime, end: datetime) -> Sequence[datetime]:
    return [start + _MINUTE * at for at in range((end - start) // _MINUTE)]


def _compare(part: Part, at: datetime, stored: Candle | None, served: KrakenOhlc | None) -> None:
    if served is None:
        return  # beyond what it serves of this pair
    traded = served.trade_count > 0
    if stored is None:
        if traded:
            _add(part, "candle missing", at, f"is missing: Kraken has {plural(served.trade_count, 'trade')}")
        return
    if not traded:
        _add(part, "candle without trades", at, f"has {plural(stored.trade_count, 'trade')}: Kraken has none")
        return
    numbers = {
        name: (getattr(stored, name), getattr(served, name))
        for name in _FIELDS
        if getattr(stored, name) != getattr(served, name)
    }
    if stored.vwap is not None and not _is_cut(stored.vwap, served.vwap):
        numbers["vwap"] = (stored.vwap, served.vwap)
    if numbers:
        _add(part, "candle differs", at, f"has {_pairs(numbers)}", numbers)


def _is_cut(stored: Decimal, served: Decimal) -> bool:
    exponent = Decimal(1).scaleb(int(served.as_tuple().exponent))
    return served in (
        stored.quantize(exponent, ROUND_DOWN),
        (stored - _TINY).quantize(exponent, ROUND_DOWN),
    )


def _pairs(numbers: Mapping[str, tuple[Decimal | int, Decimal | int]]) -> str:
    return ", ".join(f"{name} {number(old)}, at Kraken {number(new)}" for name, (old, new) in numbers.items())


def _add(
    part: Part,
    kind: str,
    at: datetime,
    text: str,
    numbers: Mapping[str, tuple[Decimal | int, Decimal | int]] | None = None,
) -> None:
    details = {name: {"stored": old, "expected": new} for name, (old, new) in (numbers or {}).items()}
    part.add(Finding(kind, f"candle {minute(at)} {text}", at, at + _MINUTE, {"numbers": details}))
