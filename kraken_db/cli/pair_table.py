"""The table of ``kraken-db status``: one row a pair, those with trouble first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Literal, TypeAlias, get_args

from kraken_db.cli.output import (
    Column,
    Row,
    count_text,
    day_column,
    moment_text,
    plain_number,
    plural,
    print_table,
)
from kraken_db.data_types import DataType
from kraken_db.status import DataStatus, lag_text
from kraken_db.times import period_text

Order: TypeAlias = Literal["trouble", "symbol", "rows", "gaps", "lag"]
ORDERS: Sequence[Order] = get_args(Order)
_CHECKED = (DataType.TRADES, DataType.CANDLES_1M)
_COLOURS = {"gaps": "red", "behind": "yellow", "delisted": "bright_black"}
_COLUMNS = [
    Column("symbol"),
    Column("trades", right=True, rank=4),
    Column("candles", right=True, rank=5),
    day_column("from (UTC)", rank=2),
    day_column("to (UTC)", rank=3),
    Column("gaps", right=True),
    Column("lag", right=True),
    Column("last price", right=True, rank=1),
    Column("last sync (UTC)", rank=6),
]


@dataclass(slots=True)
class PairRow:
    """All that is stored of a pair. ``gaps`` and ``lag`` are of trades and minutes: the worse of the two."""

    symbol: str
    trades: int = 0
    candles: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    gaps: int | None = None
    lag: timedelta | None = None
    is_watched: bool = False
    ended_at: datetime | None = None
    last_sync: datetime | None = None
    price: Decimal | None = field(default=None)

    @classmethod
    def of(cls, items: Sequence[DataStatus], price: Decimal | None) -> PairRow:
        row = cls(items[0].symbol, price=price)
        row.trades = sum(item.rows for item in items if item.data_type == DataType.TRADES)
        row.candles = sum(item.rows for item in items) - row.trades
        row.oldest = min((item.oldest for item in items if item.oldest), default=None)
        row.newest = max((item.newest for item in items if item.newest), default=None)
        row.last_sync = max(item.last_sync for item in items)
        row.ended_at = next((item.ended_at for item in items if item.ended_at), None)
        row.is_watched = any(item.is_watched for item in items)
        checked = [item for item in items if item.data_type in _CHECKED]
        row.gaps = max((item.gaps for item in checked if item.gaps is not None), default=None)
        row.lag = max((item.lag for item in checked if item.lag is not None), default=None)
        return row

    @property
    def rows(self) -> int:
        return self.trades + self.candles

    def trouble(self, max_lag: timedelta | None) -> str:
        """``gaps``, ``behind``, or empty; ``delisted`` is none, and is told in the same place."""
        if self.gaps:
            return "gaps"
        if self.ended_at is not None:
            return "delisted"
        is_behind = max_lag is not None and self.lag is not None and self.lag > max_lag
        return "behind" if is_behind and not self.is_watched else ""


def pair_rows(data: Sequence[DataStatus], prices: Mapping[str, Decimal]) -> list[PairRow]:
    """``data`` by symbol, as ``read_status`` has it."""
    return [
        PairRow.of(list(items), prices.get(symbol))
        for symbol, items in groupby(data, key=lambda item: item.symbol)
    ]


def in_order(rows: Sequence[PairRow], order: Order, max_lag: timedelta | None) -> list[PairRow]:
    """The most of it first; equal ones by symbol. ``trouble``: gaps, then what is furthest behind."""
    states = ("gaps", "behind")
    never = timedelta(0)

    def weight(row: PairRow) -> tuple[float, ...]:
        match order:
            case "trouble":
                state = row.trouble(max_lag)
                if state not in states:
                    return (len(states),)
                amount = (row.gaps or 0) if state == "gaps" else (row.lag or never).total_seconds()
                return (states.index(state), -amount)
            case "symbol":
                return ()
            case "rows":
                return (-row.rows,)
            case "gaps":
                return (-(row.gaps or 0),)
            case "lag":
                return (-(row.lag or never).total_seconds(),)

    return sorted(rows, key=lambda row: (weight(row), row.symbol))


def totals_text(rows: Sequence[PairRow], max_lag: timedelta | None) -> str:
    """``318: 3 with gaps, 8 behind by more than 1 day, 2 delisted; 98,123 trades, 41,000 candles``."""
    states = [row.trouble(max_lag) for row in rows]
    behind = "" if max_lag is None else f"behind by more than {period_text(max_lag)}"
    told = [
        f"{count_text(states.count(state))} {text}"
        for state, text in (("gaps", "with gaps"), ("behind", behind), ("delisted", "delisted"))
        if state in states
    ]
    amounts = [
        plural(number, noun)
        for number, noun in (
            (sum(row.trades for row in rows), "trade"),
            (sum(row.candles for row in rows), "candle"),
        )
        if number
    ]
    state = ", ".join(told) or "no gaps, none behind"
    return f"{count_text(len(rows))}: {state}; {', '.join(amounts) or 'nothing in them'}"


def print_pairs(rows: Sequence[PairRow], max_lag: timedelta | None, *, most: int | None) -> None:
    """The first ``most`` of the rows, and how many more there are; None: all."""
    shown = rows if most is None else rows[:most]
    print_table(_COLUMNS, [Row(_cells(row), _COLOURS.get(row.trouble(max_lag), "")) for row in shown])


def hidden_text(rows: Sequence[PairRow], most: int, max_lag: timedelta | None) -> str | None:
    """``and 271 more, none of them with gaps or behind; --limit 0 shows all``; None: nothing is hidden."""
    hidden = rows[most:]
    if not hidden:
        return None
    wrong = sum(row.trouble(max_lag) in ("gaps", "behind") for row in hidden)
    state = f"{count_text(wrong)} of them with gaps or behind" if wrong else "none with gaps or behind"
    return f"... and {count_text(len(hidden))} more, {state}; --limit 0 shows all"


def _cells(row: PairRow) -> tuple[str, ...]:
    return (
        row.symbol,
        count_text(row.trades) if row.trades else "-",
        count_text(row.candles) if row.candles else "-",
        moment_text(row.oldest),
        moment_text(row.newest),
        "-" if row.gaps is None else count_text(row.gaps),
        _lag(row),
        "-" if row.price is None else plain_number(row.price),
        moment_text(row.last_sync),
    )


def _lag(row: PairRow) -> str:
    if row.ended_at is not None:
        return "delisted"
    if row.lag is None:
        return "-"
    return " ".join(lag_text(row.lag).split()[:2])  # 5 h 10 min: the larger of the units says enough


def delisted_lines(data: Sequence[DataStatus]) -> Iterator[str]:
    """Up to when each is known; of many, of the first ones."""
    ended = {item.symbol: item.ended_at for item in data if item.ended_at is not None}
    for symbol, moment in list(ended.items())[:_SHOWN_ENDS]:
        yield f"{symbol} is delisted: all of it is known, up to {moment_text(moment)} UTC"
    if len(ended) > _SHOWN_ENDS:
        yield f"and {plural(len(ended) - _SHOWN_ENDS, 'other pair')} in the same way"


_SHOWN_ENDS = 10
