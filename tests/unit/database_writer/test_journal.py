"""The journal's files: private, of one process, read in order, removed when they are stored."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from uuid import UUID

import pytest

from kraken_db.database_writer import journal as journals
from kraken_db.database_writer.journal import Journal, Ownership, Space
from kraken_db.db.state_folder import make_private


def new(folder: Path, limit: int = 1 << 20, sync: float | None = None) -> Journal:
    return Journal(Ownership.of_new(folder, "trades"), Space(limit), sync)


def taken_over(folder: Path) -> list[Journal]:
    owned = Ownership.of_abandoned(folder, "trades")
    return [found for one in owned if (found := Journal.left_behind(one)) is not None]


def fill(journal: Journal, first: int, last: int) -> None:
    for number in range(first, last + 1):
        assert journal.append(number, f"record {number}".encode())


def numbers(records: list[tuple[int, bytes]]) -> list[int]:
    assert all(payload == f"record {number}".encode() for number, payload in records)
    return [number for number, _ in records]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_BYTES", 100)  # three records


@pytest.mark.usefixtures("small_segments")
def test_records_come_back_in_order_and_files_go(tmp_path: Path) -> None:
    journal = new(tmp_path)
    journal.begin_reading()
    fill(journal, 1, 10)
    assert len(journal._owned.segments()) == 4
    assert numbers(journal.read(4)) == [1, 2, 3, 4]
    journal.forget(4)
    assert len(journal._owned.segments()) == 3
    fill(journal, 11, 12)
    assert numbers(journal.read(100)) == [5, 6, 7, 8, 9, 10, 11, 12]
    assert journal.read(100) == []
    journal.forget(12)
    assert (journal.size, journal._owned.segments()) == (0, [])
    journal.close()
    assert files(tmp_path) == []


@pytest.mark.usefixtures("small_segments")
def test_reading_begins_where_it_is_told_to(tmp_path: Path) -> None:
    """In write-ahead mode the first records are in memory as well."""
    journal = new(tmp_path)
    fill(journal, 1, 5)
    journal.begin_reading()
    fill(journal, 6, 8)
    assert numbers(journal.read(100)) == [6, 7, 8]


@pytest.mark.usefixtures("small_segments")
def test_the_limit_is_kept_and_room_comes_back(tmp_path: Path) -> None:
    journal = new(tmp_path, limit=150)
    journal.begin_reading()
    fill(journal, 1, 5)
    assert not journal.append(6, b"record 6")
    assert journal.failure is None
    assert journal.size <= 150
    assert numbers(journal.read(3)) == [1, 2, 3]
    journal.forget(3)
    fill(journal, 6, 7)
    assert numbers(journal.read(9)) == [4, 5, 6, 7]


def test_a_full_disk_leaves_no_half_of_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = new(tmp_path)
    fill(journal, 1, 2)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    assert not journal.append(3, b"record 3")
    assert isinstance(journal.failure, OSError)
    monkeypatch.setattr(os, "write", write)
    fill(journal, 3, 4)
    journal.close()
    (other,) = taken_over(tmp_path)
    assert numbers(other.read(9)) == [1, 2, 3, 4]


@pytest.mark.usefixtures("small_segments")
def test_the_next_process_reads_what_was_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = new(tmp_path)
    fill(left, 5, 9)
    left.spill((number, f"record {number}".encode()) for number in (3, 4))
    left.close()
    (journal,) = taken_over(tmp_path)
    assert journal.stream == left.stream
    assert numbers(journal.read(2)) == [3, 4]
    assert numbers(journal.read(9)) == [5, 6, 7, 8, 9]
    assert journal.read(9) == []
    journal.forget(9)
    journal.close()
    assert files(tmp_path) == []
    assert not caplog.records


def test_a_torn_end_is_cut_off_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = new(tmp_path)
    fill(left, 1, 3)
    (path,) = left._owned.segments()
    whole = path.stat().st_size
    left.close()
    with path.open("ab") as file:
        file.write(b"\xa7\x4b torn")
    with caplog.at_level(logging.WARNING):
        (journal,) = taken_over(tmp_path)
        assert numbers(journal.read(9)) == [1, 2, 3]
    assert "its last 7 bytes are no whole record" in caplog.text
    assert path.stat().st_size == whole


def test_damage_in_the_middle_is_an_error_and_costs_one_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = new(tmp_path)
    fill(left, 1, 3)
    (path,) = left._owned.segments()
    left.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (journal,) = taken_over(tmp_path)
    assert numbers(journal.read(9)) == [1, 3]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_two_processes_never_share_a_stream(tmp_path: Path) -> None:
    journal = new(tmp_path)
    fill(journal, 1, 1)
    assert taken_over(tmp_path) == []
    other = new(tmp_path)
    assert other.stream != journal.stream
    journal.close()
    other.close()
    (found,) = taken_over(tmp_path)
    assert found.stream == journal.stream
    assert taken_over(tmp_path) == []


def test_what_an_ended_process_left_without_records_is_tidied_up(tmp_path: Path) -> None:
    (tmp_path / f"trades-{UUID(int=5).hex}.lock").touch()
    (tmp_path / "trades-not-a-stream.lock").touch()
    assert taken_over(tmp_path) == []
    assert files(tmp_path) == ["trades-not-a-stream.lock"]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    folder = make_private(tmp_path / "state" / "journal", "journal directory", hint="another")
    journal = new(folder)
    fill(journal, 1, 1)
    modes = {path.name.rpartition(".")[2]: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"lock": 0o600, "journal": 0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_syncing_waits_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = new(tmp_path, sync=1.0)
    fill(journal, 1, 2)
    assert not synced
    await journal.sync()
    await journal.sync()
    assert len(synced) == 1
    at_once = new(tmp_path, sync=0)
    fill(at_once, 1, 2)
    assert len(synced) == 3
