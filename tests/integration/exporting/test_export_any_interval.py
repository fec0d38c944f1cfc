"""Exports of intervals that are computed, and their names in a folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from kraken_db.exporting import Exporter
from kraken_db.intervals import IntervalLike, as_interval
from tests.support.archives import START, import_file, minutes, write

BERLIN = as_interval("1d", tz="Europe/Berlin")
NEW_YORK = as_interval("1d", tz="America/New_York", session="17:00")


async def test_files_of_any_interval(plain_url: str, tmp_path: Path) -> None:
    """Fifty hours of minutes of 7 trades each, from 2023-01-01 00:00 UTC on: they end in the third day."""
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(50 * 60)))
    intervals: list[IntervalLike] = ["2h", "1M", BERLIN, NEW_YORK]
    async with Exporter(plain_url, clock=lambda: datetime(2023, 1, 3, 2, tzinfo=UTC)) as exporter:
        for _ in range(2):
            report = await exporter.export(["BTC/USD"], tmp_path / "csv", intervals=intervals, style="csv")
        assert {file.outcome for file in report.files} == {"unchanged"}
        await exporter.export(["BTC/USD"], tmp_path / "table", intervals=intervals)
    names = [Path(file.path).name for file in report.files]
    assert names == [
        "XBTUSD_120.csv",
        "XBTUSD_1d@Europe-Berlin.csv",
        "XBTUSD_1d@America-New_York@17-00.csv",
    ]
    assert [file.interval for file in report.files] == [120, "1d Europe/Berlin", "1d America/New_York 17:00"]
    # That month has not closed.
    assert report.empty == ["BTC/USD 1M"]
    hours = (tmp_path / "csv/XBTUSD_120.csv").read_text().splitlines()
    assert hours == [f"{START + 7200 * n},100.5,102.0,99.5,101.0,3E+2,840" for n in range(25)]
    days = (tmp_path / "csv/XBTUSD_1d@Europe-Berlin.csv").read_text().splitlines()
    # The first one of Berlin begins an hour before the minutes do.
    assert [line.split(",")[0] for line in days] == [str(START - 3600), str(START + 23 * 3600)]
    assert [line.split(",")[-1] for line in days] == [str(23 * 60 * 7), str(24 * 60 * 7)]
    frame = pl.read_parquet(tmp_path / "table/symbol=BTC-USD/interval=2h/year=2023/candles.parquet")
    assert frame["trade_count"].sum() == 50 * 60 * 7
