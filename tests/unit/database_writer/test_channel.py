"""A channel with a database that is scripted: limits, order, exactly once, and nothing lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kraken_db.database_writer import channel as runners
from kraken_db.database_writer import journal as journals
from kraken_db.database_writer.channel import Batch, Channel, ChannelRunner, TradeBuffer
from kraken_db.database_writer.journal import Journal, Ownership, Space
from kraken_db.errors import (
    DatabaseUnavailableError,
    DataRefusedError,
    NotConnectedError,
    TransactionConflictError,
)

LIMIT = 10


@dataclass
class Database:
    """Keeps rows and positions as the real one does, and fails as the script says, call by call."""

    rows: list[str] = field(default_factory=list)
    positions: dict[object, int] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    script: list[BaseException | None] = field(default_factory=list)
    is_away: bool = False
    revived: int = 0
    gate: asyncio.Event | None = None
    bad: str = "none is"

    async def store(self, journal: Journal, batch: Batch[str]) -> int | None:
        self.calls.append(list(batch.records))
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise DatabaseUnavailableError("away")
        if any(self.bad in record for record in batch.records):
            raise DataRefusedError("refused")
        error = self.script.pop(0) if self.script else None
        if isinstance(error, LostBeforeCommitError):
            raise error
        missing = batch.after(self.positions.get(journal.stream, 0))
        if missing.records:
            self.rows += missing.records
            self.positions[journal.stream] = missing.last
        if error is not None:
            raise error
        return len(missing.records) or None

    async def revive(self) -> None:
        self.revived += 1

    async def end(self, journal: Journal) -> None:
        self.positions.pop(journal.stream, None)


class LostBeforeCommitError(DatabaseUnavailableError):
    pass


class LostAfterCommitError(DatabaseUnavailableError):
    pass


Make = Callable[..., ChannelRunner[str]]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def make(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(runners, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(runners, "_LONGEST_PAUSE", 0.01)

    def make(*, journal_limit: int = 1 << 20, always: bool = False, **changes: Any) -> ChannelRunner[str]:
        options = {"flush_size": 3, "flush_interval": 60.0, **changes}
        channel = Channel(
            "things",
            LIMIT,
            options["flush_size"],
            options["flush_interval"],
            TradeBuffer[str](),
            str.encode,
            bytes.decode,
            database.store,
            database.revive,
            database.end,
            always,
        )
        abandoned = [Journal.left_behind(owned) for owned in Ownership.of_abandoned(tmp_path, "things")]
        journal = Journal(Ownership.of_new(tmp_path, "things"), Space(journal_limit), None)
        runner = ChannelRunner(channel, journal, [one for one in abandoned if one is not None])
        runner.start()
        return runner

    return make


def put(runner: ChannelRunner[str], first: int, last: int) -> list[str]:
    records = [f"{number:03}" for number in range(first, last + 1)]
    for record in records:
        runner.put(record)
    return records


def unreadable(folder: Path) -> list[Path]:
    return list(folder.glob("*.unreadable"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_stop_stores_in_spite_of_a_conflict(make: Make, database: Database) -> None:
    """Another session was in the way: that passes by itself."""
    runner = make()
    database.script = [TransactionConflictError("deadlock"), TransactionConflictError("deadlock")]
    expected = put(runner, 1, 2)
    assert await runner.stop(5) == 0
    assert database.rows == expected


async def test_a_flush_comes_with_the_size(make: Make, database: Database) -> None:
    runner = make()
    put(runner, 1, 2)
    await asyncio.sleep(0.02)
    assert database.calls == []
    put(runner, 3, 3)
    await until(lambda: len(database.rows) == 3)
    assert (runner.counts.flushes, runner.counts.written, runner.in_memory) == (1, 3, 0)
    await runner.stop(1)


async def test_a_flush_comes_with_the_interval(make: Make, database: Database) -> None:
    runner = make(flush_interval=0.01)
    put(runner, 1, 1)
    await until(lambda: database.rows == ["001"])
    await asyncio.sleep(0.03)
    assert len(database.calls) == 1  # and no empty ones
    await runner.stop(1)


async def test_a_flush_comes_when_it_is_asked_for_and_with_stop(make: Make, database: Database) -> None:
    runner = make()
    put(runner, 1, 1)
    await runner.flush()
    await runner.flush()
    assert database.rows == ["001"]
    put(runner, 2, 2)
    assert await runner.stop(1) == 0
    assert database.rows == ["001", "002"]


@pytest.mark.parametrize("always", [False, True])
async def test_memory_is_bounded_and_the_order_is_kept(
    make: Make, database: Database, tmp_path: Path, always: bool
) -> None:
    runner = make(always=always)
    expected = put(runner, 1, 4)
    database.gate = asyncio.Event()
    await until(lambda: len(database.calls) == 1)  # the four of them are on their way
    expected += put(runner, 5, 30)
    assert (runner.in_memory, runner.in_journal, runner.counts.overflowed) == (LIMIT, 20, 20)
    database.gate.set()
    for first in range(31, 100, 3):
        expected += put(runner, first, first + 2)
        await asyncio.sleep(0)
        assert runner.in_memory <= LIMIT
    await runner.flush()
    assert database.rows == expected
    assert max(map(len, database.calls)) <= LIMIT
    assert (runner.in_journal, runner.journal_size) == (0, 0)
    before = runner.counts.overflowed
    expected += put(runner, 200, 202)  # memory takes them again
    assert runner.counts.overflowed == before
    assert await runner.stop(1) == 0
    assert database.rows == expected
    assert not any(os.scandir(tmp_path))


async def test_an_outage_loses_nothing_and_the_same_batch_comes_again(make: Make, database: Database) -> None:
    runner = make()
    database.is_away = True
    expected = put(runner, 1, 25)
    await until(lambda: runner.counts.errors >= 3)
    assert database.rows == []
    assert database.calls[0] == database.calls[1]
    database.is_away = False
    await runner.flush()
    assert database.rows == expected
    assert database.revived >= 3
    await runner.stop(1)


@pytest.mark.parametrize("lost", [LostBeforeCommitError, LostAfterCommitError])
async def test_a_connection_lost_around_the_commit(
    make: Make, database: Database, lost: type[DatabaseUnavailableError]
) -> None:
    runner = make()
    database.script = [lost("gone"), lost("gone"), None]
    expected = put(runner, 1, 8)
    await runner.flush()
    assert database.rows == expected
    assert runner.counts.written == 8
    await runner.stop(1)


async def test_a_bad_record_does_not_take_its_batch_with_it(
    make: Make, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make()
    database.bad = "7"
    expected = put(runner, 1, 9)
    expected.remove("007")
    await runner.flush()
    assert database.rows == expected
    assert (runner.counts.rejected, runner.counts.written) == (1, 8)
    assert list(runner.rejections) == ["'007': refused"]
    assert "007" in caplog.text
    await runner.stop(1)


async def test_only_beyond_the_journal_is_something_dropped_and_told(
    make: Make, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make(journal_limit=105)  # five records of 21 bytes
    database.is_away = True
    expected = put(runner, 1, 15)
    put(runner, 16, 1000)
    assert (runner.counts.overflowed, runner.counts.dropped) == (5, 985)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 5  # the others are counted
    assert "has reached its limit: dropped for good: '016'" in errors[0]
    database.is_away = False
    await runner.flush()
    expected += put(runner, 1001, 1003)
    await runner.stop(1)
    assert database.rows == expected
    assert "has reached its limit: 980 more" in caplog.text


async def test_without_any_journal_memory_still_takes_what_it_can(make: Make, database: Database) -> None:
    runner = make(journal_limit=0)
    expected = put(runner, 1, LIMIT)
    put(runner, 11, 12)
    await runner.flush()
    expected += put(runner, 13, 14)
    await runner.stop(1)
    assert (database.rows, runner.counts.dropped) == (expected, 2)


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("count", [2, 25])
async def test_stop_while_the_database_is_away_leaves_all_to_the_next_process(
    make: Make, database: Database, tmp_path: Path, always: bool, count: int
) -> None:
    runner = make(always=always)
    database.is_away = True
    expected = put(runner, 1, count)
    await asyncio.sleep(0.01)
    assert await runner.stop(5) == count
    database.is_away = False
    following = make(always=always)
    expected += put(following, 50, 52)
    await following.flush()
    assert database.rows == expected
    assert following.counts.recovered == count
    await following.stop(1)
    assert not any(os.scandir(tmp_path))


async def test_stop_in_the_middle_of_an_uncertain_commit(make: Make, database: Database) -> None:
    """What was committed, and not heard of, is not written again by the next process."""
    runner = make()
    database.script = [LostAfterCommitError("gone")]
    expected = put(runner, 1, 2)
    assert await runner.stop(5) == 2
    assert database.rows == expected
    following = make()
    expected += put(following, 3, 3)
    await following.flush()
    assert database.rows == expected
    await following.stop(1)


async def test_a_database_that_hangs_does_not_hold_up_stop(make: Make, database: Database) -> None:
    runner = make()
    database.gate = asyncio.Event()
    expected = put(runner, 1, 13)
    await until(lambda: len(database.calls) == 1)
    assert await runner.stop(0.01) == 13
    database.gate = None
    following = make()
    await following.flush()
    assert database.rows == expected
    await following.stop(1)


async def test_write_ahead_survives_a_kill(make: Make, database: Database, tmp_path: Path) -> None:
    """A killed process does nothing at all at its end: its journal is as it is, and its lock is gone."""
    runner = make(always=True)
    expected = put(runner, 1, 3)
    await until(lambda: len(database.rows) == 3)
    expected += put(runner, 4, 5)
    database.is_away = True
    expected += put(runner, 6, 20)
    await until(lambda: runner.counts.errors > 1)
    task = runner._task
    assert task is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    os.close(runner.journal._owned._lock)
    database.is_away = False
    following = make(always=True)
    await following.flush()
    assert database.rows == expected
    await following.stop(1)


async def test_what_cannot_be_read_in_a_journal_does_not_hide_the_rest(
    make: Make, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole batch of it, left by another version."""
    monkeypatch.setattr(runners, "MOST_AT_ONCE", 3)
    left = Journal(Ownership.of_new(tmp_path, "things"), Space(1 << 20), None)
    for number in range(1, 9):
        left.append(number, b"\xff\xff" if number <= 6 else f"{number:03}".encode())
    left.close()
    runner = make()
    await runner.flush()
    assert database.rows == ["007", "008"]
    assert runner.counts.rejected == 6
    await runner.stop(1)


@pytest.mark.parametrize("is_only", [True, False])
async def test_a_part_of_an_old_journal_that_cannot_be_read_stops_nothing(
    make: Make, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_only: bool
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 100)
    left = Journal(Ownership.of_new(tmp_path, "things"), Space(1 << 20), None)
    for number in range(1, 5 if is_only else 12):
        left.append(number, f"{number:03}".encode())
    segments = left._owned.segments()
    left.close()
    for path in segments if is_only else segments[:1]:
        path.rename(path.with_suffix(".kept"))
        path.mkdir()
    runner = make()
    new = put(runner, 101, 103)
    await asyncio.wait_for(runner.flush(), 5)
    assert database.rows == (new if is_only else [*(f"{n:03}" for n in range(5, 12)), *new])
    assert await runner.stop(1) == 0
    assert len(unreadable(tmp_path)) == 1


async def test_our_own_journal_that_cannot_be_read_is_counted_and_what_comes_is_stored(
    make: Make, database: Database, tmp_path: Path
) -> None:
    database.is_away = True
    runner = make()
    put(runner, 1, 15)
    (path,) = runner.journal._owned.segments()
    path.rename(tmp_path / "kept")
    path.mkdir()
    database.is_away = False
    await asyncio.wait_for(runner.flush(), 5)
    put(runner, 16, 18)
    await asyncio.wait_for(runner.flush(), 5)
    assert database.rows == [f"{number:03}" for number in (*range(1, LIMIT + 1), 16, 17, 18)]
    assert runner.counts.dropped == 5
    assert await runner.stop(1) == 0


async def test_who_waits_for_a_flush_is_told_that_it_will_not_come(make: Make, database: Database) -> None:
    runner = make()
    database.is_away = True
    put(runner, 1, 2)
    waiting = asyncio.create_task(runner.flush())
    await until(lambda: runner.counts.errors > 0)
    await runner.stop(1)
    with pytest.raises(NotConnectedError, match="stopped before all was stored"):
        await waiting


async def test_flush_asked_for_by_many(make: Make, database: Database) -> None:
    runner = make()
    waiting = []
    for number in itertools.count(1):
        put(runner, number, number)
        waiting.append(asyncio.create_task(runner.flush()))
        if number == 20:
            break
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert len(database.rows) == 20
    await runner.stop(1)
