"""Two versions of one candle: which one stays, and what is told of the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kraken_db.cli.import_csv import show_report
from tests.support.archives import START, checksums, import_file, import_paths, minutes, query, write


def row(minute: int, *, close: str = "101", volume: str = "2.5", trades: int = 7) -> str:
    return f"{START + 60 * minute},100.5,102,99.5,{close},{volume},{trades}\n"


async def test_other_numbers_of_as_many_trades_are_told(
    db_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(6)))
    before = await checksums(db_url)
    rows = [
        row(0),
        row(1, close="101.25", volume="2.6"),  # another version
        row(2, trades=6, volume="9"),  # fewer trades: known to be the worse one
        row(3, volume="2.50000"),  # the same number
        row(4, volume="2.7"),  # another version
        row(5, trades=0, volume="0"),  # no trade, no row
    ]
    path = write(tmp_path, "XBTUSD_1.csv", "".join(rows))
    report = await import_paths(db_url, path)
    (done,) = report.files
    assert (done.new, done.changed, done.unchanged, done.differing, done.rejected) == (0, 0, 5, 2, 1)
    told = (
        "2 stored candles have as many trades but other numbers, and were kept; the first, 2023-01-01 00:01"
        " UTC has close 101 (new: 101.25), volume 2.5 (new: 2.6); --replace takes the file's"
    )
    assert told in done.notes
    assert await checksums(db_url) == before
    show_report(report, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["totals"]["differing"] == document["files"][0]["differing"] == 2
    forced = await import_file(db_url, path, replace=True)
    assert (forced.changed, forced.differing) == (3, 0)
    assert not any("other numbers" in note for note in forced.notes)
    assert (await import_file(db_url, path)).differing == 0


async def test_beside_what_is_written(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(3)))
    path = write(tmp_path, "XBTUSD_1.csv", row(0, volume="3") + row(1, trades=8) + row(2) + row(9))
    done = await import_file(db_url, path)
    assert (done.new, done.changed, done.unchanged, done.differing) == (1, 1, 2, 1)
    assert await query(db_url, "SELECT trade_count FROM candles ORDER BY timestamp") == [
        (7,),
        (8,),
        (7,),
        (7,),
    ]


async def test_what_only_one_side_knows_is_no_difference(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(3)))
    await query(db_url, "UPDATE candles SET vwap = 100, quote_volume = 250")
    await query(db_url, f"UPDATE candles SET trade_count = NULL WHERE timestamp = to_timestamp({START})")
    done = await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(3)))
    assert (done.changed, done.unchanged, done.differing) == (1, 2, 0)


async def test_other_intervals_symbols_and_failed_files_do_not_count(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", row(0)))
    for name in ("XBTUSD_5.csv", "ETHUSD_1.csv"):
        assert (await import_file(plain_url, write(tmp_path, name, row(0, volume="3")))).differing == 0
    broken = row(0, volume="3") + row(1, volume="-1")
    assert (await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", broken))).differing == 0


async def test_what_is_stored_already_is_not_even_locked(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(3)))
    done = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(4)))
    assert (done.new, done.unchanged) == (1, 3)
    assert await query(plain_url, "SELECT xmax FROM candles WHERE xmax <> 0") == []
