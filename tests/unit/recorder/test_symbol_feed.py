"""The order of one pair: whatever the feed does, what is handed out has every id, once, and in order."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.recorder.symbol_feed import MOST_WAITING, SymbolFeed
from tests.support.live_trades import START, ids, trade


def live(last_id: int | None = None) -> SymbolFeed:
    symbol_feed = SymbolFeed("BTC/USD")
    symbol_feed.reach(last_id, None if last_id is None else START)
    symbol_feed.join()
    return symbol_feed


def test_the_first_trade_of_all_is_where_it_begins() -> None:
    assert ids(live().take([trade(7), trade(8)], is_snapshot=True)) == [7, 8]


def test_what_follows_on_is_handed_out_in_order_and_once() -> None:
    symbol_feed = live(10)
    assert ids(symbol_feed.take([trade(12), trade(11), trade(11)], is_snapshot=False)) == [11, 12]
    assert ids(symbol_feed.take([trade(12), trade(13)], is_snapshot=False)) == [13]
    assert (symbol_feed.received, symbol_feed.repeated, symbol_feed.has_hole) == (3, 2, False)
    symbol_feed.take([trade(13)], is_snapshot=True)
    assert symbol_feed.repeated == 2, "that a snapshot repeats is how it is"


def test_later_trades_with_smaller_ids_are_another_markets() -> None:
    """As where a second simulated exchange trades for a database that has the first one's trades."""
    hour = 3_600_000_000
    symbol_feed = live(1000)
    assert symbol_feed.take([trade(5, hour), trade(6, hour)], is_snapshot=False) == []
    assert symbol_feed.backward == 2
    symbol_feed.take([trade(7, 9_000_000), trade(1000, 0)], is_snapshot=False)  # some seconds apart, or known
    symbol_feed.take([trade(1002, hour), trade(1002, hour)], is_snapshot=False)  # it waits behind a hole
    assert symbol_feed.backward == 2


def test_where_the_first_trade_behind_a_hole_is() -> None:
    symbol_feed = live(10)
    assert symbol_feed.waiting_from is None
    symbol_feed.take([trade(14), trade(13)], is_snapshot=False)
    assert symbol_feed.waiting_from == START + timedelta(microseconds=130)


def test_behind_a_hole_everything_waits() -> None:
    symbol_feed = live(10)
    assert ids(symbol_feed.take([trade(11), trade(13)], is_snapshot=False)) == [11]
    assert symbol_feed.has_hole
    symbol_feed.lose_track()
    assert symbol_feed.take([trade(14)], is_snapshot=False) == []
    assert not symbol_feed.follows_on
    symbol_feed.reach(12, START)
    assert symbol_feed.follows_on
    assert ids(symbol_feed.join()) == [13, 14]
    assert symbol_feed.waiting == 0


def test_rest_may_be_further_than_the_feed() -> None:
    symbol_feed = live(10)
    symbol_feed.take([trade(13)], is_snapshot=False)
    symbol_feed.lose_track()
    symbol_feed.reach(20, START)
    assert symbol_feed.follows_on, "all that has come is known"
    assert symbol_feed.join() == []
    assert ids(symbol_feed.take([trade(20), trade(21)], is_snapshot=False)) == [21]


def test_a_second_hole_stays_one() -> None:
    symbol_feed = live(10)
    symbol_feed.take([trade(12), trade(14)], is_snapshot=False)
    symbol_feed.lose_track()
    symbol_feed.reach(11, START)
    assert ids(symbol_feed.join()) == [12]
    assert symbol_feed.has_hole


def test_stamps_never_run_backwards_behind_one_of_rest() -> None:
    symbol_feed = live()
    symbol_feed.reach(10, START + timedelta(microseconds=5))
    (same,) = symbol_feed.take([trade(11, 4)], is_snapshot=False)
    assert same.timestamp == START + timedelta(microseconds=5)
    (later,) = symbol_feed.take([trade(12, 6)], is_snapshot=False)
    assert later.timestamp == START + timedelta(microseconds=6)
    (odd,) = live_at(START + timedelta(seconds=1)).take([trade(11, 4)], is_snapshot=False)
    assert odd.timestamp == START + timedelta(microseconds=4), "that is no matter of a microsecond"


def live_at(moment: datetime) -> SymbolFeed:
    symbol_feed = SymbolFeed("BTC/USD")
    symbol_feed.reach(10, moment)
    symbol_feed.join()
    return symbol_feed


def test_an_id_that_cannot_be_is_left_out_and_the_pair_stays_live() -> None:
    symbol_feed = live(10)
    assert ids(symbol_feed.take([trade(2**62, 0), trade(11)], is_snapshot=False)) == [11]
    assert (symbol_feed.has_hole, symbol_feed.strays) == (False, 1)
    assert ids(symbol_feed.take([trade(12)], is_snapshot=False)) == [12]


def test_ten_million_trades_may_be_missing_where_nobody_listened() -> None:
    """What was stored last may be of years ago: REST says whether what waits follows on."""
    symbol_feed = SymbolFeed("BTC/USD")
    symbol_feed.reach(10, START)
    symbol_feed.take([trade(20_000_000, 0), trade(2**62, 0)], is_snapshot=True)
    assert (symbol_feed.waiting, symbol_feed.strays) == (2, 0)
    symbol_feed.reach(19_999_999, START)
    assert symbol_feed.follows_on
    assert ids(symbol_feed.join()) == [20_000_000]
    assert (symbol_feed.has_hole, symbol_feed.strays) == (False, 1)


def test_what_waits_and_rest_does_not_have_is_forgotten() -> None:
    symbol_feed = SymbolFeed("BTC/USD")
    symbol_feed.reach(10, START)
    symbol_feed.take([trade(2**62, 0)], is_snapshot=False)
    assert not symbol_feed.follows_on
    assert symbol_feed.drop_strays() == 1
    assert symbol_feed.follows_on


@pytest.mark.parametrize("odd", [1, 2**62])
def test_a_pair_begins_where_most_ids_are(odd: int) -> None:
    symbol_feed = SymbolFeed("BTC/USD")
    symbol_feed.take([trade(number, 0) for number in (odd, *range(10**8, 10**8 + 50))], is_snapshot=True)
    assert ids(symbol_feed.join()) == list(range(10**8, 10**8 + 50))
    assert (symbol_feed.has_hole, symbol_feed.strays) == (False, 1)


def test_what_waits_has_a_bound() -> None:
    symbol_feed = live(10)
    symbol_feed.take([trade(12)], is_snapshot=False)
    symbol_feed.lose_track()
    for first in range(13, 13 + 3 * MOST_WAITING, 500):
        symbol_feed.take([trade(number) for number in range(first, first + 500)], is_snapshot=False)
        assert symbol_feed.waiting <= MOST_WAITING
    assert symbol_feed.dropped > MOST_WAITING


@given(
    st.integers(1, 60).flatmap(
        lambda count: st.lists(
            st.tuples(st.integers(1, count), st.integers(1, 4), st.booleans(), st.booleans()), max_size=40
        )
    )
)
def test_any_feed(steps: list[tuple[int, int, bool, bool]]) -> None:
    """Frames in any order, lost and repeated, and looks at REST in between that bring what has happened."""
    symbol_feed = live(0)
    handed_out: list[int] = []
    stored = 0  # the newest id that REST or the feed has put into the store
    for first, length, looks, is_snapshot in steps:
        ready = ids(
            symbol_feed.take([trade(n) for n in range(first, first + length)], is_snapshot=is_snapshot)
        )
        handed_out += ready
        if symbol_feed.has_hole:
            symbol_feed.lose_track()
        if looks and symbol_feed.stage == "catching up":
            reached = max(symbol_feed.last_id or 0, first)
            handed_out += range((symbol_feed.last_id or 0) + 1, reached + 1)
            symbol_feed.reach(reached, START)
            if symbol_feed.follows_on:
                handed_out += ids(symbol_feed.join())
        stored = max(stored, handed_out[-1] if handed_out else 0)
        assert handed_out == list(range(1, stored + 1))
        assert (symbol_feed.last_id or 0) == stored
