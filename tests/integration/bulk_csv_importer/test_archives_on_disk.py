"""Archives as they may lie on a disk, imported and read back, by the command line too."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.cli import cli
from kraken_db.errors import ImportFileError
from tests.support.archives import START, import_file, import_paths, minutes, query, write


def run(url: str, *arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments), "--db-url", url])


async def test_two_files_of_one_name_in_a_zip(plain_url: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("XBTUSD_1.csv", minutes(10))
        archive.writestr("XBTUSD_1.csv", minutes(10, start=START + 6000))
        archive.writestr("ETHUSD_1.csv", minutes(3))
    report = await import_paths(plain_url, tmp_path / "a.zip")
    assert len(report.failures) == 2
    assert "2 files of this name" in str(report.failures[0][1])
    assert await query(plain_url, "SELECT symbol, count(*) FROM candles GROUP BY 1") == [("ETH/USD", 3)]


async def test_members_of_one_zip_side_by_side(plain_url: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(40):
            archive.writestr(f"A{number}USD_1.csv", minutes(1000 + number))
    async with BulkCSVImporter(plain_url, batch_size=100, workers=4) as importer:
        report = await importer.run(importer.plan([tmp_path]))
    assert report.failures == []
    stored = dict(await query(plain_url, "SELECT symbol, count(*) FROM candles GROUP BY 1"))
    assert stored == {f"A{number}/USD": 1000 + number for number in range(40)}


async def test_a_pipe_is_not_waited_for(plain_url: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "XBTUSD_1.csv")
    async with BulkCSVImporter(plain_url) as importer:
        with pytest.raises(ImportFileError, match="this is not a file"):
            async with asyncio.timeout(20):
                await importer.import_csv_file(tmp_path / "XBTUSD_1.csv", "BTC/USD", 1)


async def test_the_epoch_is_not_a_time_of_a_candle(plain_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD_1.csv", "0,1,1,1,1,1,1\n60,1,1,1,1,1,1\n")
    done = await import_file(plain_url, path)
    assert "line 1: timestamp 0 is not a Unix time in seconds" in str(done.error)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("XBTUSD_1.csv", "60,1,1,1,1,1,1\n120,1,1,1,1,1,1\n"),
        ("XBTUSD.csv", "26975.7,0.01,1696118400\n"),  # columns in another order than these three have
        ("XBTUSD.csv", "1377993599,100,1\n"),
    ],
)
async def test_what_is_older_than_kraken(plain_url: str, tmp_path: Path, name: str, content: str) -> None:
    """A time that is no time of a trade: most likely it is another column."""
    done = await import_file(plain_url, write(tmp_path, name, content))
    assert "is before September 2013, when Kraken's history begins" in str(done.error)
    for table in ("trades", "candles", "data_sync_status", "data_coverage"):
        assert await query(plain_url, f"SELECT count(*) FROM {table}") == [(0,)]


async def test_the_first_candle_that_there_can_be(plain_url: str, tmp_path: Path) -> None:
    """Its week opened before: no range is clipped so far that it is lost."""
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", "1377993600,1,1,1,1,1,1\n"))
    done = await asyncio.to_thread(
        run, plain_url, "candles", "BTC/USD", "-i", "1w", "--start", "0001-01-01", "--format", "csv"
    )
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "2013-08-26" in done.stdout


def test_candles_of_ranges_wider_than_all_time(plain_url: str, tmp_path: Path) -> None:
    asyncio.run(
        import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(1) + minutes(1, start=START + 180)))
    )
    began = time.monotonic()
    wide = ("--start", "2023-01-01", "--end", "9999-12-31T23:59", "--format", "csv")
    done = run(plain_url, "candles", "BTC/USD", "-i", "1m", "--fill", "previous", *wide)
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 5)
    done = run(plain_url, "candles", "BTC/USD", "-i", "1w", "--last", 10**9, "--format", "csv")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 2)
    done = run(plain_url, "candles", "BTC/USD", "-i", "1m", "--start", "0001-01-01", "--format", "csv")
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, 3)
    assert time.monotonic() - began < 20


def test_only_a_coarse_file(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "XDGUSD_60.csv", f"{START},1,1,1,1,1,1\n")
    assert run(plain_url, "import-csv", tmp_path, "--all").exit_code == 0
    done = run(plain_url, "candles", "DOGE/USD", "-i", "4h")
    assert done.exit_code == 1
    assert "only files of 1h are stored of DOGE/USD, and no 1m candles" in done.stderr
    assert "All intervals are computed from 1m" in done.stderr
    assert "read what there is: -i 1h" in done.stderr
