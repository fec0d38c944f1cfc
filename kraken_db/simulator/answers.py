"""The public calls of Kraken's REST interface: from parameters to the text of an answer.

Nothing here knows of HTTP, of faults that hit the transport, or of limits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

from kraken_db.simulator.clock import Clock
from kraken_db.simulator.faults import MESSAGES, Fault, Faults
from kraken_db.simulator.listing import LISTED, ListedPair, asset_pairs
from kraken_db.simulator.market import Market
from kraken_db.simulator.ohlc import INTERVALS, CandleBook
from kraken_db.simulator.tape import SECOND

PAGE = 1000
_SECONDS_DIGITS = 10
_LONGEST_NUMBER = 30


class RequestError(Exception):
    """A request that gets an error of Kraken's."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def error_text(message: str) -> str:
    return json.dumps({"error": [message]}, separators=(",", ":"))


def result_text(result: Any) -> str:
    return json.dumps({"error": [], "result": result}, separators=(",", ":"))


class Answers:
    """What the exchange knows, and how it says it."""

    def __init__(self, markets: Iterable[Market], faults: Faults, clock: Clock) -> None:
        self.markets = {market.pair.key: market for market in markets}
        self._faults = faults
        self._clock = clock
        own = {key: market.pair for key, market in self.markets.items()}
        self._listed: dict[str, ListedPair] = {pair.key: pair for pair in LISTED} | own
        self._by_name = {name: pair for pair in self._listed.values() for name in pair.names}
        self._books: dict[tuple[str, int], CandleBook] = {}
        self._last_pages: dict[str, str] = {}

    @property
    def symbols(self) -> list[str]:
        """Everything that is listed under a name of ours, which is that of the WebSocket too."""
        return [pair.symbol for pair in self._listed.values() if pair.symbol]

    def pair(self, params: Mapping[str, str]) -> ListedPair:
        """The pair that a request is about."""
        name = params.get("pair", "")
        if not name:
            raise RequestError("EGeneral:Invalid arguments")
        found = self._by_name.get(name) or self._by_name.get(name.upper())
        if found is None:
            plain = name.isascii() and name.replace("/", "").replace(".", "").isalnum()
            raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR if plain else Fault.INVALID_PAIR])
        return found

    def time(self) -> str:
        now = self._now()
        return result_text(
            {"unixtime": int(now.timestamp()), "rfc1123": now.strftime("%a, %d %b %y %H:%M:%S +0000")}
        )

    def system_status(self) -> str:
        return result_text({"status": self._faults.state, "timestamp": self._now().strftime("%FT%TZ")})

    def asset_pairs(self, params: Mapping[str, str]) -> str:
        pairs = [pair for pair in self._listed.values() if not self._is_delisted(pair)]
        if wanted := params.get("pair"):
            named = [self.pair({"pair": name}) for name in wanted.split(",")]
            if any(self._is_delisted(pair) for pair in named):
                raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR])
            pairs = named
        state = self._faults.state
        return result_text(asset_pairs(pairs, {pair.key: state for pair in pairs}))

    def ohlc(self, params: Mapping[str, str]) -> str:
        pair = self.pair(params)
        if self._is_delisted(pair):
            raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR])
        self._require_trading()
        interval = _whole_number(params, "interval", 1)
        since = _whole_number(params, "since", -1)
        if interval not in INTERVALS:
            raise RequestError("EGeneral:Invalid arguments:interval")
        rows: list[list[Any]] = []
        last = 0
        if pair.key in self.markets:
            book = self._books.setdefault((pair.key, interval), CandleBook(self.markets[pair.key], interval))
            rows, last = book.answer(self._clock(), None if since < 0 else since)
        return result_text({pair.key: rows, "last": last})

    def trades(self, params: Mapping[str, str], odd: Fault | None, random: Random) -> str:
        """A page; ``odd`` is what is to be wrong with it."""
        pair = self.pair(params)
        self._require_trading()
        count = _whole_number(params, "count", PAGE)
        if not 1 <= count <= PAGE:
            raise RequestError("EGeneral:Invalid arguments:count")
        since = _whole_number(params, "since", 0) if params.get("since") else None
        if odd is Fault.REPEATED_PAGE and pair.key in self._last_pages:
            return self._last_pages[pair.key]
        rows, last = self._page(pair, since, count)
        if odd is Fault.OUT_OF_ORDER:
            _disorder(rows, random)
        end = "" if odd is Fault.MISSING_LAST else f',"last":"{params["since"] if last is None else last}"'
        page = f'{{"error":[],"result":{{"{pair.key}":[{",".join(rows)}]{end}}}}}'
        self._last_pages[pair.key] = page
        return page

    def _page(self, pair: ListedPair, since: int | None, count: int) -> tuple[list[str], int | None]:
        """Rows as JSON, and the stamp of the last of them; None for an empty page."""
        market = self.markets.get(pair.key)
        now = self._clock()
        there = 0 if market is None else market.count_at(now)
        if market is None or not there:
            return [], 0 if since is None else None
        if since is None:
            start = max(0, there - count)
        else:
            stamp = since * SECOND if len(str(since)) <= _SECONDS_DIGITS else since
            start = min(there, market.position(min(stamp, now + 1), after=self._faults.since_exclusive))
        stop = min(there, start + count)
        rows = market.json_rows(start, stop)
        return rows, market.stamp(stop - 1) if rows else None

    def _require_trading(self) -> None:
        if self._faults.state == "maintenance":
            raise RequestError(MESSAGES[Fault.UNAVAILABLE])

    def _is_delisted(self, pair: ListedPair) -> bool:
        return pair.symbol is not None and pair.symbol in self._faults.delisted

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() // SECOND, UTC)


def _whole_number(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise RequestError(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def _disorder(rows: list[str], random: Random) -> None:
    """Exchange some neighbours, and turn one stretch around."""
    for _ in range(len(rows) // 20):
        at = random.randrange(len(rows) - 1)
        rows[at], rows[at + 1] = rows[at + 1], rows[at]
    begin = random.randrange(max(1, len(rows)))
    rows[begin : begin + 50] = reversed(rows[begin : begin + 50])
