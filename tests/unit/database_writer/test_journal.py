"""The journal's files: private, of one process, read in order, removed when they are stored."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from kraken_db.database_writer import journal as journals
from kraken_db.database_writer.journal import Journal, Ownership, Space, scan
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


def replaced(path: Path, how: str) -> None:
    """A segment that cannot be read: as root, permissions would not do."""
    path.rename(path.with_suffix(".kept"))
    if how == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.with_suffix(".kept") if how == "link" else "nowhere")


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("how", ["folder", "link", "dead link"])
def test_a_segment_that_is_no_file_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    left = new(tmp_path)
    fill(left, 1, 9)
    segments = left._owned.segments()
    assert len(segments) > 2
    held = [numbers(scan(path.read_bytes(), is_end=True, most=99).records) for path in segments]
    left.close()
    replaced(segments[1], how)
    (journal,) = taken_over(tmp_path)
    assert numbers(journal.read(99)) == [one for at, some in enumerate(held) if at != 1 for one in some]
    assert f"{segments[1]} cannot be read (it is no file): it is put aside, as {tmp_path}/" in caplog.text
    journal.forget(2**63)
    journal.close()
    (aside,) = tmp_path.glob("*.unreadable")
    assert aside.is_symlink() or aside.is_dir()


@pytest.mark.usefixtures("small_segments")
def test_a_segment_of_a_terabyte_is_not_searched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left = new(tmp_path)
    fill(left, 1, 9)
    first, *others = left._owned.segments()
    held = [numbers(scan(path.read_bytes(), is_end=True, most=99).records) for path in others]
    left.close()
    os.truncate(first, 1 << 40)  # nothing of it is on the disk
    (journal,) = taken_over(tmp_path)
    assert numbers(journal.read(99)) == [one for some in held for one in some]
    assert f"{first} cannot be read (no writer makes a file as large): it is put aside" in caplog.text
    journal.close()


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("bad", [0, 1, -1])
def test_what_was_put_aside_is_told_kept_and_can_be_stored_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    left = new(tmp_path)
    fill(left, 1, 9)
    path = left._owned.segments()[bad]
    content = path.read_bytes()
    lost = numbers(scan(content, is_end=True, most=99).records)
    left.close()
    opened = os.open

    def refuse(name: Any, *rest: Any, **more: Any) -> int:
        if name == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        return opened(name, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        (journal,) = taken_over(tmp_path)
        # In one piece: what was read before is not read again.
        assert numbers(journal.read(99)) == [one for one in range(1, 10) if one not in lost]
        assert journal.read(99) == []
    assert f"{path} cannot be read (Input/output error): it is put aside, as " in caplog.text
    journal.forget(2**63)
    journal.close()
    (aside,) = tmp_path.glob("*.unreadable")
    assert aside.read_bytes() == content
    caplog.clear()
    assert taken_over(tmp_path) == []
    assert f"still put aside, as {aside}" in caplog.text
    aside.rename(str(aside).removesuffix(".unreadable"))
    (restored,) = taken_over(tmp_path)
    assert numbers(restored.read(99)) == lost
    restored.forget(2**63)
    restored.close()
    assert files(tmp_path) == []


def test_too_many_open_files_are_not_the_segments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = new(tmp_path)
    fill(left, 1, 3)
    left.close()
    (journal,) = taken_over(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many")))
        with pytest.raises(OSError, match="too many"):
            journal.read(9)
    assert numbers(journal.read(9)) == [1, 2, 3]


def test_a_lock_that_cannot_be_used_is_told_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"trades-{UUID(int=5).hex}.lock").symlink_to("/nowhere")
    (tmp_path / f"trades-{UUID(int=6).hex}.lock").mkdir()
    fine = new(tmp_path)
    fill(fine, 1, 1)
    fine.close()
    assert [journal.stream for journal in taken_over(tmp_path)] == [fine.stream]
    assert caplog.text.count("a journal is left alone") == 2


def test_a_link_in_the_place_of_a_new_segment_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    journal = new(tmp_path)
    journal._owned.segment(1).symlink_to(tmp_path / "precious")
    assert not journal.append(1, b"record")
    assert journal.failure is not None
    assert (tmp_path / "precious").read_text() == "mine"


def test_what_is_stored_and_cannot_be_removed_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = new(tmp_path)
    fill(journal, 1, 1)

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        journal.forget(1)
    assert "is stored, and cannot be removed: Read-only file system" in caplog.text
    assert journal.size == 0
