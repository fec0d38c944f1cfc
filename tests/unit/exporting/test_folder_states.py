"""A folder whose files are replaced: readers have the files of one state, open."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.exporting import commits
from kraken_db.exporting.commits import COMMIT, open_files, read_commit, waiting, write_commit
from kraken_db.exporting.folders import TableFolder
from kraken_db.exporting.manifest import times_of
from tests.support.archives import write

FILES = [f"symbol=A-USD/year=2024/trades-{month:02}.parquet" for month in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        write(tmp_path, name, b"old")
    return tmp_path


def new(folder: Path, name: str, content: bytes = b"new") -> None:
    write(folder, waiting(folder / name).relative_to(folder).as_posix(), content)


def read(folder: Path) -> list[bytes]:
    with ExitStack() as opened:
        return [file.read() for file in open_files(folder, lambda paths: paths, opened).values()]


def test_what_waits_is_not_known(folder: Path) -> None:
    new(folder, FILES[0])
    assert read(folder) == [b"old"] * 3


@pytest.mark.parametrize("moved", range(4))
def test_a_run_that_was_killed_while_it_moved_its_files(folder: Path, moved: int) -> None:
    """Its list counts; the next run moves what is left."""
    added = "symbol=B-USD/year=2024/trades-01.parquet"
    names = [FILES[0], FILES[2], added]
    for name in names:
        new(folder, name)
    write_commit(folder, set(names))
    for name in sorted(names)[:moved]:
        waiting(folder / name).replace(folder / name)
    assert read(folder) == [b"new", b"old", b"new", b"new"]
    TableFolder(folder, "parquet")
    assert read_commit(folder) is None
    assert read(folder) == [b"new", b"old", b"new", b"new"]
    assert [path.name for path in folder.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("after", range(1, 4))
def test_a_run_that_ends_while_the_files_are_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """After the first, the second, the last file: all are opened anew. One more pair comes with it."""
    added = "symbol=B-USD/year=2024/trades-01.parquet"
    real, count = commits._open, 0

    def opened(folder: Path, name: str, commit: commits.Commit | None) -> object:
        nonlocal count
        found = real(folder, name, commit)
        count += 1
        if count == after:
            for path in (*FILES, added):
                write(folder, f"{path}.draft", b"new")
                (folder / f"{path}.draft").replace(folder / path)
        return found

    monkeypatch.setattr(commits, "_open", opened)
    assert read(folder) == [b"new"] * 4


def test_what_was_opened_stays_as_it_was(folder: Path) -> None:
    with ExitStack() as opened:
        found = open_files(folder, lambda paths: paths, opened)
        for name in FILES:
            new(folder, name)
            waiting(folder / name).replace(folder / name)
        assert [file.read() for file in found.values()] == [b"old"] * 3


def test_more_files_than_may_be_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = [300, 300]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, new: limits.__setitem__(slice(None), new))
    assert (read(folder), limits) == ([b"old"] * 3, [300, 300])
    monkeypatch.setattr(commits, "_SPARE", 299)
    with pytest.raises(
        ConfigurationError, match="3 files are to be read at once, and this process may open 300"
    ):
        read(folder)
    limits[1] = 1000
    assert (read(folder), limits) == ([b"old"] * 3, [302, 1000])


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"id": 1}', '{"id": 1, "files": ["/etc/passwd"]}', '{"id": 1, "files": ["a/../../b"]}'],
)
def test_a_list_that_is_none(folder: Path, text: str) -> None:
    write(folder, COMMIT, text)
    for use in (read, lambda place: TableFolder(place, "parquet")):
        with pytest.raises(ConfigurationError, match=r"\.commit cannot be read"):
            use(folder)


def test_a_link_in_the_place_of_the_list(folder: Path) -> None:
    (folder / COMMIT).symlink_to(folder / FILES[0])
    with pytest.raises(ConfigurationError, match="is not of an export"):
        read(folder)
    assert os.path.lexists(folder / COMMIT)


@pytest.mark.parametrize(
    ("path", "begin", "end"),
    [
        ("symbol=A/year=2024/trades-12.parquet", (2024, 12), (2025, 1)),
        ("symbol=A/interval=1h/year=2024/candles.parquet", (2024, 1), (2025, 1)),
        ("symbol=A/interval=1h/year=2024/mine.parquet", (1, 1), (9999, 1)),
        ("symbol=A/interval=1h/year=2024/candles-13.parquet", (1, 1), (9999, 1)),
    ],
)
def test_the_times_of_a_path(path: str, begin: tuple[int, int], end: tuple[int, int]) -> None:
    assert [(moment.year, moment.month) for moment in times_of(path)] == [begin, end]
