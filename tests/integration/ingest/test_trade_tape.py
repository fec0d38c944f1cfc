"""Any cuts of one tape of trades, imported in any order: what the store may hold then.

A file shows a stretch of the tape: with ids and fine stamps, without ids in whole seconds, or without ids as
the live feed stamps it, a microsecond early. Prices, volumes and seconds are few, so that trades collide.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from kraken_db.bulk_csv_importer import ArchiveFile, BulkCSVImporter, ImportPlan
from kraken_db.db.engine import Database
from tests.support.archives import START, write

_FIRST, _STEP = START * 1_000_000, 10_000


@dataclass(frozen=True)
class Trade:
    id: int
    stamp: int
    """Microseconds since 1970."""
    price: int
    volume: int


Tape = Sequence[Trade]
Second = tuple[int, int, int]
"""A second, and a price and a volume that were traded in it."""
View = tuple[str, int, int]
"""The kind of a file, and the first and the last trade in it, by their positions, both inclusive."""


def make_tape(steps: Sequence[tuple[int, int, int]]) -> Tape:
    """From hundredths of a second since the trade before, prices and volumes."""
    stamp, tape = _FIRST, []
    for number, (step, price, volume) in enumerate(steps, 1):
        stamp += step * _STEP
        tape.append(Trade(number, stamp, price, volume))
    return tape


def _seconds(stamp: int) -> str:
    return f"{stamp // 1_000_000}.{stamp % 1_000_000:06d}"


def _early(stamp: int) -> int:
    # Not over the border of a second: then the two stamps say two different seconds, and nobody can tell.
    return stamp - 1 if stamp % 1_000_000 else stamp


LINES: dict[str, Callable[[Trade], str]] = {
    "ids": lambda t: f"{t.price},{t.volume},{_seconds(t.stamp)},b,l,,{t.id}\n",
    "whole": lambda t: f"{t.stamp // 1_000_000},{t.price},{t.volume}\n",
    "live": lambda t: f"{_seconds(_early(t.stamp))},{t.price},{t.volume}\n",
}


def by_second(trades: Tape) -> Counter[Second]:
    return Counter((t.stamp // 1_000_000, t.price, t.volume) for t in trades)


class Stored:
    """An importer that starts from nothing for each example."""

    def __init__(self, importer: BulkCSVImporter, database: Database, folder: Path) -> None:
        self._importer = importer
        self._database = database
        self._folder = folder

    async def clear(self) -> None:
        async with self._database.begin() as connection:
            for table in ("trades", "data_sync_status", "data_coverage"):
                await connection.execute(text(f"DELETE FROM {table}"))

    async def add(self, kind: str, trades: Tape) -> None:
        path = write(self._folder, "XBTUSD.csv", "".join(map(LINES[kind], trades)))
        file = ArchiveFile(path, None, path.stat().st_size, "BTC/USD", None)
        (done,) = (await self._importer.run(ImportPlan([file]))).files
        assert done.error is None
        assert done.rejected == 0  # nothing here contradicts anything

    async def trades(self) -> Tape:
        """All that is stored, in order; the counter of the sync status must agree."""
        async with self._database.read() as connection:
            rows = await connection.execute(
                text(
                    "SELECT id, CAST(extract(epoch FROM timestamp) * 1000000 AS bigint),"
                    " CAST(price AS int), CAST(volume AS int) FROM trades ORDER BY timestamp, id"
                )
            )
            found = [Trade(*row) for row in rows]
            counted = await connection.scalar(text("SELECT total_records FROM data_sync_status"))
        assert counted == len(found)
        return found


async def check(stored: Stored, tape: Tape, views: Sequence[View]) -> None:
    await stored.clear()
    shown: Counter[Second] = Counter()
    ids: set[int] = set()
    for kind, first, last in views:
        part = tape[first : last + 1]
        await stored.add(kind, part)
        shown |= by_second(part)
        ids |= {trade.id for trade in part if kind == "ids"}
        found = await stored.trades()
        have = by_second(found)
        assert have <= by_second(tape)  # never more than there were
        assert have >= shown  # never fewer than any one file has shown
        assert {trade.id for trade in found if trade.id > 0} == ids
    await stored.add("ids", tape)
    assert await stored.trades() == tape


@st.composite
def tapes_and_views(draw: st.DrawFn) -> tuple[Tape, list[View]]:
    step = st.sampled_from([0, 1, 20, 40, 100])
    steps = draw(st.lists(st.tuples(step, st.integers(1, 2), st.integers(1, 2)), min_size=1, max_size=7))
    place = st.integers(0, len(steps) - 1)
    cuts = draw(st.lists(st.tuples(st.sampled_from(sorted(LINES)), place, place), max_size=4))
    return make_tape(steps), [(kind, min(ends), max(ends)) for kind, *ends in cuts]


# A trade alone, live and then with its id: both stamps lie in a second that may have been cut.
_ONE = (make_tape([(40, 1, 1)]), [("live", 0, 0)])
# Two of three live trades are known by their ids; which two, only the stamps say.
_THREE = (
    make_tape([(20, 1, 1), (0, 1, 1), (40, 1, 1), (0, 1, 1)]),
    [("ids", 2, 3), ("live", 0, 2)],
)
# Archives that are cut in the same second, before and after an equal trade.
_CUT = (make_tape([(0, 1, 1), (20, 1, 1), (20, 1, 1), (100, 1, 1)]), [("whole", 0, 1), ("whole", 1, 3)])


def test_files_of_one_tape_meet_in_it(plain_url: str) -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        database = runner.run(Database.open(plain_url, pool_max_size=1))
        importer = BulkCSVImporter(plain_url, workers=1)
        runner.run(importer.connect())
        stored = Stored(importer, database, Path(folder))

        @example(_ONE)
        @example(_THREE)
        @example(_CUT)
        @settings(max_examples=60, deadline=None)
        @given(tapes_and_views())
        def meet(drawn: tuple[Tape, list[View]]) -> None:
            runner.run(check(stored, *drawn))

        try:
            meet()
        finally:
            runner.run(importer.close())
            runner.run(database.close())
