"""Trades of an export in order of their ids, where the store has them in order of time."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kraken_db.exporting.writers import TRADES_HEADER, TradeCSVWriter

START = 1_704_067_200


def line(micros: int, number: int) -> bytes:
    return b"100.5,1,%d.%06d,b,l,,%d\n" % (START + micros // 10**6, micros % 10**6, number)


def written(*blocks: list[bytes]) -> list[int]:
    file = io.BytesIO()
    writer = TradeCSVWriter(file)
    for block in blocks:
        writer.add(b"".join(block))
    writer.finish("")
    assert writer.rows == sum(map(len, blocks))
    lines = file.getvalue().removeprefix(TRADES_HEADER).splitlines()
    assert sorted(lines) == sorted(row.rstrip() for block in blocks for row in block)
    return [int(row.rpartition(b",")[2]) for row in lines]


def test_ids_that_come_too_early() -> None:
    assert written([line(0, 1), line(1, 3), line(2, 2), line(3, 4)]) == [1, 2, 3, 4]


def test_over_the_end_of_a_block() -> None:
    assert written([line(0, 1), line(1, 3)], [line(2, 2)], [line(9_000_000, 4)]) == [1, 2, 3, 4]


def test_trades_without_an_id_stay_where_their_time_is() -> None:
    rows = [
        line(0, 0),
        line(1, 7),
        line(2, 0),
        line(3, 9),
        line(4, 8),
        line(60_000_000, 0),
        line(60_000_001, 10),
    ]
    assert written(rows) == [0, 7, 0, 8, 9, 0, 10]


@pytest.mark.parametrize("seed", range(20))
def test_any_blocks(seed: int) -> None:
    draw = random.Random(seed)
    moment, stamped = 0, []
    for number in range(1, 400):
        moment += draw.choice([0, 1, 200, 400_000, 3_000_000])
        stamped.append((moment + draw.choice([0, 0, -1, 1, -900_000, 900_000]), number))
    rows = [line(max(micros, 0), number) for micros, number in sorted(stamped)]
    cuts = sorted(draw.sample(range(1, 399), 30))
    blocks = [rows[a:b] for a, b in zip([0, *cuts], [*cuts, 399], strict=True)]
    assert written(*blocks) == list(range(1, 400))


def test_what_is_kept_of_an_older_file(tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_bytes(TRADES_HEADER + line(0, 1) + line(2_000_002, 2) + line(1_999_999, 3) + line(9_000_000, 4))
    file = io.BytesIO()
    writer = TradeCSVWriter(file)
    writer.keep(old, datetime.fromtimestamp(START + 2, UTC))
    writer.add(line(2_000_002, 2) + line(9_000_000, 4))
    writer.finish("")
    rows = file.getvalue().removeprefix(TRADES_HEADER).splitlines()
    assert [int(row.rpartition(b",")[2]) for row in rows] == [1, 2, 3, 4]
    assert writer.rows == 4
