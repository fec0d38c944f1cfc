"""What is a gap, worked out by hand from ranges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.gap_filler.gaps import FoundGap, Known, find_gaps, joints
from kraken_db.ranges import TimeRange

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=2, seconds=40)
TICK = timedelta(microseconds=1)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def span(start: float, end: float) -> TimeRange:
    return at(start), at(end)


def gaps(
    known: Known, ids: list[TimeRange] | None = None, *, min_gap: int = 2, window: timedelta | None = None
) -> list[tuple[str, str, TimeRange]]:
    found = find_gaps(
        "BTC/USD",
        known,
        ids or [],
        NOW,
        min_gap=timedelta(minutes=min_gap),
        window=window or timedelta(days=30),
    )
    return [_fields(item) for item in found]


def _fields(item: FoundGap) -> tuple[str, str, TimeRange]:
    gap = item.gap
    assert gap.duration == gap.end_time - gap.start_time
    return item.kind, gap.data_type, (gap.start_time, gap.end_time)


def test_nothing_is_known() -> None:
    begin = datetime(2023, 12, 2, 14, tzinfo=UTC)
    assert gaps(Known()) == [("no data", "candles_1m", (begin, at(120)))]
    assert gaps(Known(), window=timedelta(minutes=10)) == [("no data", "candles_1m", span(110, 120))]


def test_rows_of_which_nothing_is_known_to_be_complete() -> None:
    assert gaps(Known(oldest_row=at(100.5))) == [("end", "candles_1m", span(101, 120))]


def test_a_pair_that_has_ended() -> None:
    """Nothing is wanted from its end on; before it, a gap stays one."""
    known = Known(trades=(span(0, 30),), minutes=(span(0, 30),), ended_at=at(30))
    assert gaps(known) == []
    assert gaps(Known(trades=(span(0, 30),), minutes=(span(0, 20),), ended_at=at(30))) == [
        ("not built", "candles_1m", span(20, 30))
    ]
    assert gaps(Known(minutes=(span(0, 20),), ended_at=at(30))) == [("inside", "candles_1m", span(20, 30))]


@pytest.mark.parametrize(
    ("newest", "min_gap", "expected"),
    [(118, 2, True), (118.0, 3, False), (119, 2, False), (119, 1, True), (120, 0, False), (121, 0, False)],
)
def test_the_end(newest: float, min_gap: int, expected: bool) -> None:
    """The minute that runs is never wanted; a stretch that is as long as ``min_gap`` is a gap."""
    found = gaps(Known(minutes=(span(0, newest),)), min_gap=min_gap)
    assert found == ([("end", "candles_1m", span(newest, 120))] if expected else [])


def test_holes_however_short() -> None:
    known = Known(minutes=(span(0, 10), span(11, 40), span(45, 120)))
    assert gaps(known) == [
        ("inside", "candles_1m", span(10, 11)),
        ("inside", "candles_1m", span(40, 45)),
    ]


def test_begins_with_the_first_whole_minute() -> None:
    """Trades from the middle of a minute on: that minute was never wanted."""
    known = Known(trades=(span(0.5, 120),), minutes=(span(1, 120),))
    assert gaps(known) == []


def test_trades_without_candles_are_to_be_built() -> None:
    known = Known(trades=(span(0, 60.5), span(70, 120)), minutes=(span(0, 30),))
    assert gaps(known) == [
        ("not built", "candles_1m", span(30, 60)),
        ("inside", "candles_1m", span(60, 70)),
        ("not built", "candles_1m", span(70, 120)),
    ]
    dropped = Known(known.trades, known.minutes, dropped_trades=(span(0, 60.5),))
    assert gaps(dropped)[0] == ("inside", "candles_1m", span(30, 70))


def test_candles_are_enough() -> None:
    """Of the time between two stretches of trades the candles were had from OHLC: no gap."""
    known = Known(trades=(span(0, 20), span(50, 120)), minutes=(span(0, 120),))
    assert known.holes_in_trades() == []
    assert gaps(known) == []


def test_missing_ids_have_their_minutes() -> None:
    hole = (at(10.25) + TICK, at(12.5))
    known = Known(trades=((at(0), hole[0]), (hole[1], at(120))), minutes=(span(0, 10), span(13, 120)))
    assert known.holes_in_trades() == [hole]
    assert gaps(known, [hole]) == [("ids", "trades", hole)]
    # Without the ids to say so it is time of which nothing is known.
    assert gaps(known) == [("inside", "candles_1m", span(10, 13))]


def test_what_was_dropped_is_no_gap() -> None:
    known = Known(minutes=(span(0, 10), span(60, 120)), dropped_minutes=(span(10, 50),))
    assert gaps(known) == [("inside", "candles_1m", span(50, 60))]
    assert known.closed("candles_1m") == [span(0, 50), span(60, 120)]
    trades = Known(trades=(span(0, 10),), dropped_trades=(span(10, 20),))
    assert trades.closed("trades") == [span(0, 20)]


def test_joints_lie_inside() -> None:
    """Ends that another source goes on from, not those behind which nothing is known."""
    csv, live, rest = [span(0, 10), span(30, 40)], [span(10, 15)], [span(35, 50)]
    assert joints([csv, live, rest]) == (at(10), at(35), at(40))
    assert joints([csv]) == ()
    assert joints([]) == ()
