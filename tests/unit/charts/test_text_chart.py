"""Candles drawn with characters. All pictures here are drawn by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest

from kraken_db.charts.series import Series
from kraken_db.charts.text import ASCII, BLOCKS, COLOURED, MIN_HEIGHT, MIN_WIDTH, Glyphs, draw
from kraken_db.types import Candle
from tests.support.drawn import DOWN, FIVE_HOURS, START, UP, candle, quiet

# Ten units of height, two in each of the five rows: 10 is the lowest, 19 the highest.
PICTURE = """\
BTC/USD 1h  2023-01-01 00:00 to 2023-01-01 05:00 UTC
close 15 (+36.36 %)  high 19  low 10  volume 10
   |           |
   #        |  |
|  #  .     O  + 15
O  |           |
O              + 10
#              + 6
#  #        .  |
+--------?--+--
01-01 00:00 01-01 04:00
. nothing traded   ? not known
"""
HALVES = """\
   │           │
   ┃        ╷  │
╷  ┃  ·     ╹  ┤ 15
┃  │           │
╿              ┤ 10
█              ┤ 6
█  █        ▃  │
┴────────?──┴──
"""
WHOLE = """\
   │           │
   █        │  │
│  █  ·     ░  ┤ 15
░  │           │
░              ┤ 10
█              ┤ 6
█  █        ▃  │
┴────────?──┴──
"""


def test_in_ascii() -> None:
    assert draw(Series.of(FIVE_HOURS), 60, 12) == PICTURE.splitlines()


@pytest.mark.parametrize(("glyphs", "expected"), [(COLOURED, HALVES), (BLOCKS, WHOLE)])
def test_with_better_characters(glyphs: Glyphs, expected: str) -> None:
    assert draw(Series.of(FIVE_HOURS), 60, 12, glyphs)[2:10] == expected.splitlines()


def test_colours_are_of_the_candles_and_their_volumes() -> None:
    lines = draw(Series.of(FIVE_HOURS), 60, 12, ASCII, lambda text, colour: f"<{colour}:{text}>")
    assert lines[1].startswith("<green:close 15 (+36.36 %)>  high")
    assert lines[4] == "<green:|>  <red:#>  <bright_black:.>     O  + 15"
    assert lines[8] == "<green:#>  <red:#>        .  |"


def test_more_candles_than_columns_are_merged() -> None:
    candles = [candle(n, "100.5", "102", "99", "101", "1") for n in range(100)]
    heading, *_ = lines = draw(Series.of(candles), 40, 12)
    assert heading == "BTC/USD 1h  2023-01-01 to 2023-01-05"
    # 33 columns beside a label of five characters and the axis: four in one.
    assert lines[2] == "|" * 25 + "+ 102.0"
    assert len(lines[-2]) == 25
    wide = draw(Series.of(candles), 90, 12)
    assert wide[0].endswith("2023-01-05 04:00 UTC, 2 a column")


def test_nothing_quiet_and_nothing_unknown_needs_no_words() -> None:
    assert draw(Series.of([UP, DOWN]), 60, 12)[-1].startswith("01-01 00:00")


def test_nothing_moved_and_nothing_traded() -> None:
    still = draw(Series.of([quiet(0, "5"), quiet(1, "5")]), 60, 12)
    assert still[1] == "close 5 (+0.00 %)  high 5  low 5  volume 0"
    assert [line for line in still if line.startswith(".  .")] == [".  .  + 5"]
    assert draw(Series.of([quiet(0, "0")]), 60, 12)[1].startswith("close 0  high")


def test_it_fits_whatever_the_candles_and_the_terminal() -> None:
    random = Random(4)
    for _ in range(200):
        candles = walk(random)
        width, height = random.randint(1, 200), random.randint(1, 60)
        lines = draw(Series.of(candles), width, height, random.choice((ASCII, BLOCKS, COLOURED)))
        assert len(lines) <= max(height, MIN_HEIGHT), (width, height)
        assert max(map(len, lines)) <= max(width, MIN_WIDTH), (width, height)


def walk(random: Random) -> list[Candle]:
    scale = Decimal(10) ** random.randint(-8, 5)
    hours = sorted(random.sample(range(400), random.randint(1, 300)))
    found = []
    for hour in hours:
        prices = [scale * random.randint(1, 10_000) / 100 for _ in range(4)]
        low, opened, closed, high = sorted(prices)
        trades = random.choice((0, 5))
        found.append(
            Candle(
                "BTC/USD",
                START + timedelta(hours=hour),
                60,
                opened,
                high,
                low,
                closed,
                scale if trades else Decimal(0),
                trades,
                None,
            )
        )
    return found


@pytest.mark.parametrize(
    ("width", "heading"),
    [
        (52, "BTC/USD 1h  2023-01-01 00:00 to 2023-01-01 05:00 UTC"),
        (51, "BTC/USD 1h  2023-01-01 to 2023-01-01 UTC"),
    ],
)
def test_a_heading_is_shortened_and_not_cut(width: int, heading: str) -> None:
    assert draw(Series.of(FIVE_HOURS), width, 12)[0] == heading
