"""An export into a folder that others may write into: no link is followed, no file of theirs is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kraken_db.cli import cli
from kraken_db.errors import ConfigurationError
from kraken_db.exporting import Exporter, ExportReport
from kraken_db.new_files import create, replacing
from tests.support.archives import import_texts, minutes, write
from tests.support.lanes import Lane

SECRET = b"a file of root's"
FILES = {
    "csv": "XBTUSD_1.csv",
    "feather": "BTC_USD-1m.feather",
    "parquet": "symbol=BTC-USD/interval=1m/year=2023/candles-01.parquet",
}


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": minutes(10)})


@pytest.fixture
def plain(plain_lane: Lane) -> Iterator[str]:
    with plain_lane.filled_database(fill) as url:
        yield url


async def export(url: str, folder: Path, **options: Any) -> ExportReport:
    async with Exporter(url) as exporter:
        return await exporter.export(["BTC/USD"], folder, **options)


def laid(place: Path, target: Path, how: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target) if how == "symbolic" else place.hardlink_to(target)


@pytest.mark.parametrize("style", FILES)
async def test_a_link_under_the_name_of_the_new_file(plain: str, tmp_path: Path, style: Any) -> None:
    victim = write(tmp_path, "victim", SECRET)
    place = tmp_path / "out" / FILES[style]
    beside = place.with_name(f".{place.name}.part")
    laid(beside, victim, "symbolic")
    with pytest.raises(ConfigurationError, match="a link, or another user's file, is in the way"):
        await export(plain, tmp_path / "out", style=style)
    assert victim.read_bytes() == SECRET
    assert beside.is_symlink() and not place.exists()


@pytest.mark.parametrize("style", FILES)
async def test_what_a_killed_run_has_left_is_taken_away(plain: str, tmp_path: Path, style: Any) -> None:
    """Not written into: it may be a second name of something else."""
    victim = write(tmp_path, "victim", SECRET)
    place = tmp_path / "out" / FILES[style]
    laid(place.with_name(f".{place.name}.part"), victim, "hard")
    (done,) = (await export(plain, tmp_path / "out", style=style)).files
    assert (done.rows, done.path, victim.read_bytes()) == (10, place, SECRET)
    assert [path.name for path in place.parent.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_file_of_somebody_else(plain: str, tmp_path: Path) -> None:
    beside = write(tmp_path, "out/.XBTUSD_1.csv.part", b"theirs")
    os.chown(beside, 65534, 65534)
    with pytest.raises(ConfigurationError, match="another user's file, is in the way"):
        await export(plain, tmp_path / "out", style="csv")
    assert beside.read_bytes() == b"theirs"


@pytest.mark.parametrize("style", FILES)
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_link_in_the_place_of_the_file(
    plain: str, tmp_path: Path, style: Any, is_there: bool
) -> None:
    victim = write(tmp_path, "victim", SECRET) if is_there else tmp_path / "nothing"
    place = tmp_path / "out" / FILES[style]
    laid(place, victim, "symbolic")
    with pytest.raises(ConfigurationError, match="is not of an export"):
        await export(plain, tmp_path / "out", style=style)
    assert place.is_symlink()
    assert not is_there or victim.read_bytes() == SECRET


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_link_in_the_place_of_a_folder(plain: str, tmp_path: Path, depth: int) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    laid(tmp_path.joinpath("out", *FILES["parquet"].split("/")[:depth]), elsewhere, "symbolic")
    with pytest.raises(ConfigurationError, match="is a link to another folder"):
        await export(plain, tmp_path / "out")
    assert not [path for path in elsewhere.rglob("*") if path.is_file()]


async def test_the_folder_itself_may_be_a_link(plain: str, tmp_path: Path) -> None:
    """Whoever names it means what is there."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    (done,) = (await export(plain, tmp_path / "out")).files
    assert done.rows == 10


async def test_a_link_in_the_place_of_the_list(plain: str, tmp_path: Path) -> None:
    victim = write(tmp_path, "victim", SECRET)
    laid(tmp_path / "out" / ".kraken-db-export.json.part", victim, "symbolic")
    with pytest.raises(ConfigurationError, match="is in the way"):
        await export(plain, tmp_path / "out", style="csv")
    assert victim.read_bytes() == SECRET


@pytest.mark.parametrize("style", FILES)
async def test_a_pipe_is_not_waited_for(plain: str, tmp_path: Path, style: Any) -> None:
    for name in (FILES[style], ".kraken-db-export.json"):
        if style == "parquet" and name.startswith("."):
            continue
        place = tmp_path / f"out{len(name)}" / name
        place.parent.mkdir(parents=True)
        os.mkfifo(place)
        with pytest.raises(ConfigurationError, match=r"not of an export|no plain file"):
            await export(plain, tmp_path / f"out{len(name)}", style=style)


@pytest.mark.parametrize(
    "change",
    [
        {"first": "2023-01-01T00:00:00"},
        {"first": None},
        {"read_until": "yesterday"},
        {"stored_rows": "ten"},
        {"stored_rows": -1},
        {"kept_rows": 1.5},
        {"digest": 5},
        {"more": 1},
    ],
)
async def test_a_list_that_somebody_has_changed(plain: str, tmp_path: Path, change: dict[str, Any]) -> None:
    await export(plain, tmp_path / "out", style="csv")
    path = tmp_path / "out" / ".kraken-db-export.json"
    document = json.loads(path.read_text())
    size, entry = document["files"]["XBTUSD_1.csv"]
    document["files"]["XBTUSD_1.csv"] = [size, json.dumps(json.loads(entry) | change)]
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await export(plain, tmp_path / "out", style="csv", recheck=True)


@pytest.mark.parametrize("text", ["[]", "{", "7", '{"version": 1, "files": {"a": [1, "[]"]}}', "[" * 10**5])
async def test_a_list_that_is_none(plain: str, tmp_path: Path, text: str) -> None:
    write(tmp_path / "out", ".kraken-db-export.json", text)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await export(plain, tmp_path / "out", style="csv")


def test_a_file_is_put_in_place_whole_or_not_at_all(tmp_path: Path) -> None:
    place, beside = write(tmp_path, "a", b"old"), tmp_path / "b"
    with pytest.raises(ZeroDivisionError), replacing(place, beside) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert (place.read_bytes(), beside.exists()) == (b"old", False)
    with replacing(place, beside) as file:
        file.write(b"new")
    assert (place.read_bytes(), beside.exists()) == (b"new", False)


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o666), (0o022, 0o644), (0o077, 0o600)])
def test_the_mode_of_a_new_file_is_what_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        create(tmp_path / "a").close()
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_chart_does_not_follow_a_link(plain: str, tmp_path: Path) -> None:
    from click.testing import CliRunner

    victim = write(tmp_path, "victim", SECRET)
    (tmp_path / f".kraken-db-{os.getpid()}.new").symlink_to(victim)
    options = ["chart", "BTC/USD", "-i", "1m", "--out", str(tmp_path / "x.html"), "--db-url", plain]
    done = CliRunner().invoke(cli, options)
    assert done.exit_code == 1, done.output
    assert "is in the way" in done.stderr
    assert victim.read_bytes() == SECRET
