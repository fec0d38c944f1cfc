"""Trades without an id: in pages that overlap only their content tells them apart."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from kraken_db.kraken.records import KrakenTrade

_REMEMBERED_PAGES = 4


class Anonymous:
    """Those of the last few pages that were handed out."""

    def __init__(self) -> None:
        self._pages: deque[Counter[tuple[object, ...]]] = deque(maxlen=_REMEMBERED_PAGES)

    def remember(self, trades: Iterable[KrakenTrade]) -> None:
        """Those among the trades of one page."""
        self._pages.append(Counter(_content(trade) for trade in trades if trade.trade_id is None))

    def known(self) -> Known:
        """What is remembered, to be found again, each once."""
        return Known(sum(self._pages, Counter()))


class Known:
    """Trades that an answer may show again."""

    def __init__(self, counts: Counter[tuple[object, ...]]) -> None:
        self._counts = counts

    def take(self, trade: KrakenTrade) -> bool:
        """Whether this is one of them; the next equal one is another."""
        content = _content(trade)
        if not self._counts[content]:
            return False
        self._counts[content] -= 1
        return True


def _content(trade: KrakenTrade) -> tuple[object, ...]:
    """What tells trades without ids apart; two that are equal in it are two trades all the same."""
    return trade.timestamp, trade.price, trade.volume, trade.side_code, trade.order_type_code
