"""The table of ``kraken-db status``: one row a pair, those with trouble first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

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
from kraken_db.status import DataStatus, PairRow, lag_text
from kraken_db.times import period_text

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
