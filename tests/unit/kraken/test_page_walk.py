"""TradePager against answers written by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kraken_db.errors import ExchangeFormatError
from kraken_db.id_runs import IdSequence
from kraken_db.kraken import page_walk as paging
from kraken_db.kraken import prefetch
from kraken_db.kraken.messages import TradesPage
from kraken_db.kraken.page_walk import BACK, QUIET, STRAY, TradePager, to_cursor
from tests.support.scripted_server import (
    BEGIN,
    LATER,
    SECOND,
    ScriptedServer,
    TapeTrade,
    content,
    page_of,
    walk,
)


def seconds(*ids: int) -> list[TapeTrade]:
    """A trade for each id, that many seconds after the beginning."""
    return [TapeTrade(BEGIN + number * SECOND, number) for number in ids]


def at(second: float) -> datetime:
    return datetime.fromtimestamp(BEGIN // SECOND, UTC) + timedelta(seconds=second)


def ids(steps: list[paging.Step]) -> list[int]:
    return [one[1] for one in content(steps)]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_COUNT", 4)
    monkeypatch.setattr(prefetch, "START", 0.0)


class Answers:
    """Gives these pages one after the other, whatever it is asked; the last one again and again."""

    def __init__(self, *pages: TradesPage) -> None:
        self.pages = pages
        self.asked: list[int] = []

    async def ask(self, since: int) -> TradesPage:
        self.asked.append(since)
        return self.pages[min(len(self.asked), len(self.pages)) - 1]


def page(*numbers: int, last: int | None = -1) -> TradesPage:
    trades = seconds(*numbers)
    return page_of(trades, trades[-1].stamp if last == -1 else last)


@dataclass
class Interfered(ScriptedServer):
    """For some cursors it gives other answers first."""

    instead: dict[int, list[TradesPage]] = field(default_factory=dict)

    async def ask(self, since: int) -> TradesPage:
        if waiting := self.instead.get(since):
            self.asked.append(since)
            return waiting.pop(0)
        return await super().ask(since)


def at_id(number: int) -> int:
    """The cursor after the trade of that id."""
    return BEGIN + number * SECOND


def far_behind(number: int) -> dict[int, list[TradesPage]]:
    """After that id comes the trade 20 of later, and comes again where its place is asked for."""
    return {at_id(number): [page(20)], to_cursor(at(number) - BACK[0]): [page(20)] * 5}


async def clean_walk(server: ScriptedServer, **options: Any) -> list[paging.Step]:
    steps = await walk(server, **options)
    assert not [hole for step in steps for hole in step.holes]
    return steps


async def test_the_cursor_is_krakens_last_unchanged() -> None:
    server = ScriptedServer(seconds(*range(1, 10)), 4)
    steps = await walk(server)
    assert ids(steps) == list(range(1, 10))
    assert [step.cursor for step in steps[:3]] == [BEGIN + n * SECOND for n in (4, 7, 9)]
    assert set(server.asked) == {0, *(BEGIN + n * SECOND for n in (4, 7, 9))}
    assert steps[-1].caught_up
    assert steps[-1].cursor == steps[-2].cursor


async def test_what_is_known_ends_at_the_newest_trade_and_then_at_its_minute() -> None:
    steps = await walk(ScriptedServer(seconds(1, 2, 3, 4, 5), 4))
    assert [step.known_until for step in steps] == [at(4), at(5), at(40)]  # 22:13:20 + 40 s is a minute


async def test_a_moment_that_is_too_new_proves_nothing() -> None:
    """It was asked three seconds after the last trade: one could still come."""
    pager = TradePager(ScriptedServer(seconds(1, 2), 4).ask, lambda: at(5))
    steps = [step async for step in pager.steps(auto_stop=True)]
    assert steps[-1].known_until == at(2)
    pager = TradePager(ScriptedServer(seconds(1, 2), 4).ask, lambda: at(12))
    steps = [step async for step in pager.steps(auto_stop=True)]
    assert steps[-1].known_until == at(7)


async def test_a_hole_where_two_pages_meet_is_asked_for_from_before() -> None:
    server = Interfered(seconds(*range(1, 7)), 4, instead={at_id(4): [page(6)]})
    assert ids(await clean_walk(server)) == [1, 2, 3, 4, 5, 6]
    assert any(0 < since < at_id(4) for since in server.asked)


async def test_a_hole_within_a_page_is_asked_for_too() -> None:
    server = Interfered(seconds(*range(1, 9)), 4, instead={at_id(4): [page(4, 5, 7)]})
    assert ids(await clean_walk(server)) == list(range(1, 9))
    assert to_cursor(at(5) - BACK[0]) in server.asked


@pytest.mark.parametrize("missing", [{4}, {3}, {5, 6}, {2, 3, 4, 5, 6, 7}])
@pytest.mark.parametrize("exclusive", [False, True])
async def test_ids_that_do_not_exist_are_told_and_passed(missing: set[int], exclusive: bool) -> None:
    server = ScriptedServer(seconds(*range(1, 10)), 4, exclusive, hidden=missing)
    steps = await walk(server)
    assert ids(steps) == [number for number in range(1, 10) if number not in missing]
    (hole,) = [hole for step in steps for hole in step.holes]
    assert (hole.first, hole.last) == (min(missing), max(missing))
    assert (hole.after, hole.before) == (at(hole.first - 1), at(hole.last + 1))
    for back in BACK:
        assert to_cursor(hole.after - back) in server.asked


async def test_an_answer_from_further_on_does_not_make_a_hole() -> None:
    """The answer to another question, as often as it may come: it does not reach back to where was asked."""
    server = Interfered(seconds(*range(1, 21)), 4, instead=far_behind(4))
    assert ids(await clean_walk(server)) == list(range(1, 21))


async def test_an_answer_from_further_on_is_no_beginning() -> None:
    server = Interfered(seconds(3, 4, 5), 4, instead={0: [page(5)]})
    assert ids(await clean_walk(server)) == [3, 4, 5]


async def test_a_beginning_with_the_first_id_is_believed_at_once() -> None:
    answers = Answers(page(1, 2), page(2))
    pager = TradePager(answers.ask, lambda: LATER)
    assert ids([await pager.next()]) == [1, 2]
    await pager.close()
    assert answers.asked[0] == 0
    assert len(answers.asked) <= 2


async def test_an_answer_from_before_is_asked_for_again() -> None:
    pages = page(1, 2, 3, 4), *[page(1, 2, 3, 4)] * (STRAY - 1), page(4, 5, 6), page(6)
    pager = TradePager(Answers(*pages).ask, lambda: LATER)
    assert ids([step async for step in pager.steps(auto_stop=True)]) == [1, 2, 3, 4, 5, 6]


async def test_answers_that_never_fit_are_an_error() -> None:
    answers = Answers(page(1, 2, 3, 4))
    pager = TradePager(answers.ask, lambda: LATER)
    await pager.next()
    with pytest.raises(ExchangeFormatError, match="10 answers in a row"):
        await pager.next()
    await pager.close()


async def test_without_last_the_cursor_stays_and_nothing_is_lost() -> None:
    server = ScriptedServer(seconds(*range(1, 9)), 4, oddities=["none", "missing last", "missing last"])
    steps = await walk(server)
    assert ids(steps) == list(range(1, 9))
    assert [step.cursor for step in steps][:2] == [BEGIN + 4 * SECOND] * 2
    # The answer without news has it again.
    assert (steps[-1].caught_up, steps[-1].cursor) == (True, at_id(8))


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_full_page_of_one_stamp_is_passed(exclusive: bool) -> None:
    group = [TapeTrade(BEGIN + 2 * SECOND, number) for number in range(2, 6)]
    server = ScriptedServer([*seconds(1), *group, *seconds(6, 7)], 4, exclusive)
    assert ids(await walk(server)) == [1, 2, 3, 4, 5, 6, 7]
    assert len(server.asked) < 20


async def test_the_end_is_exclusive() -> None:
    steps = await walk(ScriptedServer(seconds(*range(1, 9)), 4), end=at(6))
    assert ids(steps) == [1, 2, 3, 4, 5]
    assert (steps[-1].reached_end, steps[-1].known_until) == (True, at(6))
    assert steps[-1].cursor == BEGIN + 4 * SECOND  # of a page that was taken as a whole


async def test_an_end_that_lies_ahead_is_waited_for_no_longer_than_what_there_is() -> None:
    steps = await walk(ScriptedServer(seconds(1, 2), 4), end=at(500))
    assert (ids(steps), steps[-1].reached_end, steps[-1].caught_up) == ([1, 2], False, True)


async def test_an_answer_from_behind_the_end_does_not_end_it() -> None:
    server = Interfered(seconds(*range(1, 21)), 4, instead=far_behind(4))
    steps = await clean_walk(server, end=at(7))
    assert ids(steps) == [1, 2, 3, 4, 5, 6]
    assert steps[-1].known_until == at(7)


async def test_a_hole_before_the_end_is_told() -> None:
    steps = await walk(ScriptedServer(seconds(*range(1, 9)), 4, hidden={5, 6}), end=at(6))
    assert ids(steps) == [1, 2, 3, 4]
    (hole,) = [hole for step in steps for hole in step.holes]
    assert (hole.first, hole.last) == (5, 6)


async def test_it_goes_on_where_an_earlier_walk_was() -> None:
    server = ScriptedServer(seconds(*range(1, 9)), 4)
    steps = await walk(server, BEGIN + 4 * SECOND, sequence=IdSequence(4, at(4)))
    assert ids(steps) == [5, 6, 7, 8]
    hidden = ScriptedServer(seconds(*range(1, 9)), 4, hidden={5})
    steps = await walk(hidden, BEGIN + 4 * SECOND, sequence=IdSequence(4, at(4)))
    assert [(hole.first, hole.last) for step in steps for hole in step.holes] == [(5, 5)]


async def test_ten_digits_are_seconds() -> None:
    server = ScriptedServer(seconds(*range(1, 9)), 4)
    assert ids(await walk(server, BEGIN // SECOND + 5)) == [5, 6, 7, 8]
    assert server.asked[0] == BEGIN + 5 * SECOND


async def test_one_quiet_answer_is_not_the_end() -> None:
    empty = page_of([], BEGIN + 2 * SECOND)
    pages = page(1, 2), *[empty] * (QUIET - 1), page(2, 3), page(3), page(3)
    pager = TradePager(Answers(*pages).ask, lambda: LATER)
    assert ids([step async for step in pager.steps(auto_stop=True)]) == [1, 2, 3]


async def test_where_a_hole_is_asked_for_an_answer_without_news_is_not_the_end() -> None:
    """There are trades behind the hole: an empty answer, however often it comes, is another question's."""
    empty = page_of([], BEGIN + 2 * SECOND)
    pages = page(1, 2), page(4, 5), *[empty] * QUIET, *[page(2)] * QUIET, page(2, 3, 4, 5), page(5)
    pager = TradePager(Answers(*pages).ask, lambda: LATER)
    assert ids([step async for step in pager.steps(auto_stop=True)]) == [1, 2, 3, 4, 5]


async def test_an_answer_without_the_newest_trade_is_not_the_end() -> None:
    """Asked from before the trade at ``last``, which this exchange leaves out, that one belongs in it."""
    empty = page_of([], BEGIN + 2 * SECOND)
    tape = seconds(1, 2, 3)
    before = BEGIN + 2 * SECOND - 1000
    server = Interfered(tape, 2, True, instead={before: [empty] * QUIET})
    assert ids(await clean_walk(server)) == [1, 2, 3]


async def test_once_it_is_asked_from_before_every_answer_has_the_trade_it_was_asked_from() -> None:
    """Another answer lacks the id 5, and the trade without an id in it would be taken for that."""
    group = [TapeTrade(BEGIN + 3 * SECOND, number) for number in (3, 4, 5)]
    rest = [TapeTrade(BEGIN + second * SECOND, number) for second, number in ((6, 0), (7, 6), (8, 7))]
    tape = [*seconds(1, 2), *group, *rest]
    other = page_of(rest, rest[-1].stamp)
    server = Interfered(tape, 4, True, instead={at_id(3) - lead: [other] * 2 for lead in range(1, 2_000)})
    assert ids(await clean_walk(server)) == [1, 2, 3, 4, 5, 0, 6, 7]


async def test_the_cursor_keeps_its_nanoseconds() -> None:
    """Twenty trades within a millisecond: no coarser cursor gets past a page of four."""
    tape = [TapeTrade(BEGIN + 40_500 * number, number) for number in range(1, 21)]
    server = ScriptedServer(tape, 4)
    assert ids(await clean_walk(server)) == list(range(1, 21))
    assert set(server.asked) == {0, *(trade.stamp for trade in tape[3::3]), tape[-1].stamp}
