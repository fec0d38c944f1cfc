"""The simulated market: what it promises of ids, stamps and prices."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from kraken_db.errors import ConfigurationError, PairError
from kraken_db.simulator import DEFAULT_START, Market, Scenario, TradeText
from kraken_db.simulator.clock import to_ns

ALL = Scenario.LIVELY | Scenario.ZERO_IDS
START_NS = to_ns(DEFAULT_START)


def stamps(market: Market) -> list[int]:
    assert market.size is not None
    return [stamp for columns in market.columns(0, market.size) for stamp in columns.stamps]


def test_the_same_arguments_give_the_same_market() -> None:
    one, two, other = (Market("BTC/USD", seed=seed, trades=9_000) for seed in (1, 1, 2))
    assert list(one.texts(0, 9_000)) == list(two.texts(0, 9_000))
    assert list(one.texts(0, 9_000)) != list(other.texts(0, 9_000))


def test_any_part_can_be_had_by_itself() -> None:
    whole = list(Market("BTC/USD", trades=20_000).texts(0, 20_000))
    assert list(Market("BTC/USD", trades=20_000).texts(8_000, 12_500)) == whole[8_000:12_500]
    backwards = Market("BTC/USD", trades=20_000)
    pieces = [list(backwards.texts(begin, begin + 1_000)) for begin in range(19_000, -1, -1_000)]
    assert [row for piece in reversed(pieces) for row in piece] == whole


def test_answers_have_the_same_rows_as_the_truth() -> None:
    market = Market("XRP/BTC", trades=5_000, scenario=ALL)
    row = '["{}","{}",{},"{}","{}","{}",{}]'
    assert market.json_rows(700, 4_900) == [row.format(*text) for text in market.texts(700, 4_900)]


@pytest.mark.parametrize("first_id", [1, 3])
def test_ids_are_contiguous(first_id: int) -> None:
    market = Market("BTC/USD", trades=5_000, first_id=first_id)
    assert [row.trade_id for row in market.texts(0, 5_000)] == list(range(first_id, first_id + 5_000))


def test_trades_come_in_order_and_begin_at_the_start() -> None:
    found = stamps(Market("BTC/USD", trades=30_000, scenario=ALL))
    assert found == sorted(found)
    assert found[0] == START_NS
    assert len(found) == 30_000


def test_quiet_hours() -> None:
    hour = 3600 * 10**9
    quiet = stamps(Market("BTC/USD", trades=30_000, scenario=Scenario.QUIET))
    assert sum(b - a > hour for a, b in pairwise(quiet)) >= 10
    calm = stamps(Market("BTC/USD", trades=30_000, scenario=Scenario.CALM))
    assert max(b - a for a, b in pairwise(calm)) < hour


@pytest.mark.parametrize("scenario", [Scenario.BURSTS, Scenario.LIVELY])
def test_more_than_1000_trades_in_one_millisecond(scenario: Scenario) -> None:
    found = stamps(Market("BTC/USD", trades=20_480, scenario=scenario))
    crowded = [count for count in Counter(stamp // 10**6 for stamp in found).values() if count > 1_000]
    assert len(crowded) == 5


def test_identical_stamps_across_every_thousandth_trade_or_near_it() -> None:
    found = stamps(Market("BTC/USD", trades=40_000, scenario=Scenario.SAME_STAMPS))
    split = sum(found[end - 1] == found[end] for end in range(1_000, 40_000, 1_000))
    assert split >= 20
    assert max(Counter(found).values()) < 1_000  # or a page could never get past it


def test_prices_and_volumes_have_kraken_s_digits() -> None:
    for row in Market("BTC/USD", trades=2_000).texts(0, 2_000):
        assert len(row.price.partition(".")[2]) == 5
        assert Decimal(row.price) % Decimal("0.1") == 0  # on the tick
        assert len(row.volume.partition(".")[2]) == 8
        assert Decimal(row.price) > 0 and Decimal(row.volume) > 0
        assert repr(float(row.time)) == row.time
    assert next(Market("DOGE/BTC", trades=1).texts(0, 1)).price == "0.000002131"
    assert next(Market("BTC/JPY", trades=1).texts(0, 1)).price == "6100000.00000"


def test_the_text_of_a_stamp_is_the_nearest_float64_as_recorded_from_kraken() -> None:
    """KRAKEN.md: 1762820035.9822779 came with last = 1762820035982277754."""
    market = Market.scripted("BTC/USD", [TradeText("1.0", "1", "1762820035.982277754", "b", "l", "", 0)])
    assert market.stamp(0) == 1762820035982277754
    assert next(market.texts(0, 1)).time == "1762820035.9822779"


def test_no_text_says_another_minute_than_its_stamp() -> None:
    market = Market("BTC/USD", trades=40_000, trades_per_minute=6_000)
    for stamp, row in zip(stamps(market), market.texts(0, 40_000), strict=True):
        assert stamp // (60 * 10**9) == int(Decimal(row.time)) // 60


def test_positions_by_time() -> None:
    market = Market("BTC/USD", trades=10_000, scenario=ALL)
    found = stamps(market)
    for at in (0, 1, 4_095, 4_096, 4_097, 7_777, 9_999):
        assert market.stamp(at) == found[at]
        assert market.position(found[at], after=False) == found.index(found[at])
        assert market.position(found[at], after=True) == len(found) - found[::-1].index(found[at])
    assert market.position(0, after=True) == 0
    assert market.position(10**40, after=False) == market.count_at(10**40) == 10_000
    assert Market("BTC/USD", trades=0).position(10**40, after=True) == 0


def test_until_excludes_its_moment() -> None:
    until = DEFAULT_START + timedelta(hours=3)
    market = Market("BTC/USD", until=until, scenario=Scenario.CALM)
    endless = Market("BTC/USD", scenario=Scenario.CALM)
    assert market.size == endless.position(to_ns(until), after=False)
    assert 5_000 < market.size < 20_000
    assert stamps(market)[-1] < to_ns(until)
    assert Market("BTC/USD", until=until, trades=17).size == 17


def test_a_market_without_end_grows_with_the_clock() -> None:
    market = Market("BTC/USD", scenario=Scenario.CALM)
    assert market.size is None
    assert market.count_at(START_NS - 1) == 0
    counts = [market.count_at(START_NS + hours * 3600 * 10**9) for hours in range(0, 50, 5)]
    assert counts[0] == 1
    assert counts == sorted(set(counts))
    with pytest.raises(ConfigurationError, match="no end"):
        next(market.truth_trades())


def test_runs_of_id_0() -> None:
    skipping, counted = (
        [row.trade_id for row in Market("BTC/USD", trades=8_000, scenario=scenario).texts(0, 8_000)]
        for scenario in (Scenario.ZERO_IDS, Scenario.ZERO_IDS_COUNTED)
    )
    for ids in (skipping, counted):
        assert [at for at in range(8_000) if not ids[at]] == [
            *range(1200, 1240),
            *range(3700, 3740),
            *range(6200, 6240),
        ]
    assert [number for number in skipping if number] == list(range(1, 8_000 - 120 + 1))
    assert [number for at, number in enumerate(counted) if number != at + 1] == [0] * 120
    truth = list(Market("BTC/USD", trades=1_250, scenario=Scenario.ZERO_IDS).truth_trades())
    assert [trade.id for trade in truth[1199:1241]] == [1200, *[None] * 40, 1201]


def test_arguments_that_cannot_work() -> None:
    with pytest.raises(ConfigurationError):
        Market("BTC/USD", trades=-1)
    with pytest.raises(ConfigurationError):
        Market("BTC/USD", trades_per_minute=0)
    with pytest.raises(ConfigurationError):
        Market("BTC/USD", earlier_trades_per_minute=-1)
    with pytest.raises(ConfigurationError, match="no zone"):
        Market("BTC/USD", start=datetime(2024, 1, 1))  # noqa: DTZ001
    with pytest.raises(PairError):
        Market("nonsense")
    late, early = (TradeText("1", "1", time, "b", "l", "", 0) for time in ("9", "8"))
    with pytest.raises(ConfigurationError, match="oldest first"):
        Market.scripted("BTC/USD", [late, early])


def test_a_pair_that_is_not_in_the_list() -> None:
    market = Market("DOGE/AED", trades=1)
    assert (market.pair.key, market.pair.wsname, market.symbol) == ("XDGAED", "XDG/AED", "DOGE/AED")
    assert datetime(2024, 1, 1, tzinfo=UTC) == next(market.truth_trades()).timestamp


def test_a_slow_history_and_then_a_busy_market() -> None:
    """4,096 trades, a piece, take 28 days at 0.1 a minute, and 68 minutes at 60."""
    hour, since = 3600 * 10**9, DEFAULT_START + timedelta(days=200)
    market = Market(
        "BTC/USD",
        until=since + timedelta(hours=10),
        scenario=Scenario.SAME_STAMPS,
        trades_per_minute=60,
        earlier_trades_per_minute=0.1,
        pace_since=since,
    )
    found = stamps(market)
    before = market.position(to_ns(since), after=False)
    assert found == sorted(found)
    assert before % 4_096 == 0, "a piece ends where the pace changes"
    assert 200 * 1440 * 0.1 / 2 < before < 200 * 1440 * 0.1 * 2
    assert 600 * 60 / 2 < len(found) - before < 600 * 60 * 2
    assert found[before] - found[before - 1] < hour
    assert max(Counter(found).values()) < 1_000


@pytest.mark.parametrize("seconds", [0.000_001, 1, 600])
def test_a_change_of_pace_soon_after_a_piece_has_begun(seconds: float) -> None:
    """Its trades are not squeezed into what is left: pages could not get past one stamp."""
    market = Market(
        "BTC/USD",
        trades=9_000,
        scenario=Scenario.SAME_STAMPS,
        trades_per_minute=60,
        earlier_trades_per_minute=0.1,
        pace_since=DEFAULT_START + timedelta(seconds=seconds),
    )
    found = stamps(market)
    assert max(Counter(found).values()) < 1_000
    minutes = (found[4_095] - found[0]) / (60 * 10**9)
    assert 4_096 / 60 / 2 < minutes < 4_096 / 60 * 2


def test_without_an_earlier_pace_nothing_changes() -> None:
    since = DEFAULT_START + timedelta(minutes=90)
    usual, named = Market("BTC/USD", trades=9_000), Market("BTC/USD", trades=9_000, pace_since=since)
    assert stamps(usual) == stamps(named)
    same = Market("BTC/USD", trades=9_000, earlier_trades_per_minute=60, pace_since=DEFAULT_START)
    assert stamps(usual) == stamps(same)
