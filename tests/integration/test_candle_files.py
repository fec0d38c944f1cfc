"""Pairs of which a coarse file was imported: what is read of them, on both lanes, by values made by hand.

Hour h of the file has h + 1 trades; the minutes have 100 trades and more: a count tells where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.exporting import Exporter, ExportReport
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.intervals import as_interval
from kraken_db.types import Candle
from tests.support.archives import EVER, START, at, import_file, query, read_candles, write

HOUR = 3600
FILE_HOURS = (0, 1, 2, 4, 5)
"""Kraken's coarse files can lack rows."""


def file_of(hours: Iterable[int], *, length: int = 1) -> str:
    """Candles that open so many hours after the start, each of ``length`` hours."""
    return "".join(
        f"{START + HOUR * h},{10 + h}.0,{20 + h}.0,{5 + h}.0,{15 + h}.0,{h + 1}.5,{h // length + 1}\n"
        for h in hours
    )


def minutes_at(*moments: tuple[int, int]) -> str:
    """Minutes at hour and minute; the n-th has 100 + n trades."""
    return "".join(
        f"{START + HOUR * hour + 60 * minute},50,60,40,55,2,{100 + n}\n"
        for n, (hour, minute) in enumerate(moments)
    )


async def stored(url: str, folder: Path, *, minutes: str = "", **files: str) -> None:
    """``_60="..."`` is the content of ``XDGUSD_60.csv``."""
    if minutes:
        files["_1"] = minutes
    for name, content in files.items():
        await import_file(url, write(folder, f"XDGUSD{name}.csv", content))


def hours(candles: Iterable[Candle]) -> list[tuple[int, int]]:
    """Hours since the start, and the trades."""
    return [(int((c.timestamp - at(START)).total_seconds()) // HOUR, c.trade_count) for c in candles]


FROM_FILE = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6)]


@pytest.fixture
async def only_file(db_url: str, tmp_path: Path) -> str:
    await stored(db_url, tmp_path, _60=file_of(FILE_HOURS))
    return db_url


async def test_all_ways_to_read_a_pair_of_only_a_file(only_file: str) -> None:
    async with HistoricalDataProvider(only_file) as provider:
        found = await provider.get_candles("DOGE/USD", 60, *EVER)
        assert hours(found) == FROM_FILE
        prices = (Decimal(14), Decimal(24), Decimal(9), Decimal(19))
        assert found[3] == Candle(
            "DOGE/USD", at(START + 4 * HOUR), 60, *prices, Decimal("5.5"), trade_count=5, vwap=None
        )
        between = await provider.get_candles("DOGE/USD", 60, at(START + HOUR), at(START + 4 * HOUR))
        assert hours(between) == [(1, 2), (2, 3)]
        assert hours(await provider.get_candles("DOGE/USD", 60, *EVER, limit=2)) == FROM_FILE[:2]
        assert hours(await provider.get_candles("DOGE/USD", 60, *EVER, fill="previous")) == FROM_FILE
        assert hours(await provider.get_latest_candles("DOGE/USD", 60, 2)) == FROM_FILE[-2:]
        assert hours(await provider.get_latest_candles("DOGE/USD", 60, 3)) == FROM_FILE[-3:]
        assert hours(await provider.get_latest_candles("DOGE/USD", 60, 10**9)) == FROM_FILE
        assert hours(await provider.get_warmup_data("DOGE/USD", 60, 1)) == FROM_FILE[-1:]
        frames = await provider.get_multi_timeframe_candles("DOGE/USD", at(START + 5 * HOUR), [60, 240], 2)
        assert {interval: hours(some) for interval, some in frames.items()} == {
            60: [(2, 3), (4, 5)],
            240: [],
        }
        replayed = [c async for c in provider.replay_candles("DOGE/USD", 60, *EVER, speed=0)]
        assert hours(replayed) == FROM_FILE
        frame = await provider.get_candles_frame("DOGE/USD", 60, *EVER, limit=4)
        assert frame.select("timestamp", "close", "trade_count").rows() == [
            (c.timestamp, c.close, c.trade_count) for c in found[:4]
        ]
        filled = await provider.get_candles_frame("DOGE/USD", 60, *EVER, backend="arrow", fill="previous")
        assert filled.column("trade_count").to_pylist() == [1, 2, 3, 5, 6]
        assert await provider.get_file_range("XDG/USD", 60) == (at(START), at(START + 6 * HOUR))


async def test_a_file_answers_for_its_own_interval_alone(only_file: str) -> None:
    async with HistoricalDataProvider(only_file) as provider:
        for interval in (1, 5, 15, 30, 240, 720, 1440, 10080):
            assert await provider.get_candles("DOGE/USD", interval, *EVER) == []
            assert await provider.get_latest_candles("DOGE/USD", interval, 3) == []
            assert await provider.get_file_range("DOGE/USD", interval) is None
        with pytest.raises(ConfigurationError, match="no interval of 0 minutes"):
            await provider.get_file_range("DOGE/USD", 0)
        assert await provider.get_data_range("DOGE/USD") == {
            "oldest": None,
            "newest": None,
            "total_candles": 0,
        }


async def test_intervals_that_are_computed_from_that_of_a_file(only_file: str) -> None:
    """Its hours 0, 1, 2, 4 and 5 have 1, 2, 3, 5 and 6 trades. They give 2h, days of Berlin, and no 90m."""
    berlin = as_interval("1d", tz="Europe/Berlin")
    async with HistoricalDataProvider(only_file) as provider:
        for interval, expected in (("2h", [(0, 3), (2, 3), (4, 11)]), ("3h", [(0, 6), (3, 11)])):
            assert hours(await provider.get_candles("DOGE/USD", interval, *EVER)) == expected
            assert hours(await provider.get_latest_candles("DOGE/USD", interval, 2)) == expected[-2:]
            assert hours(await provider.get_candles("DOGE/USD", interval, *EVER, 1)) == expected[:1]
        # 1d is the longest stored interval that divides 2d, but there is none. The day is an even one.
        assert hours(await provider.get_candles("DOGE/USD", "2d", *EVER)) == [(0, 17)]
        assert hours(await provider.get_candles("DOGE/USD", berlin, *EVER)) == [(-1, 17)]
        assert await provider.get_candles("DOGE/USD", "90m", *EVER) == []
        assert await provider.get_file_range("DOGE/USD", "4h") is None
        assert await provider.get_file_range("DOGE/USD", berlin) == (
            at(START - HOUR),
            at(START + 23 * HOUR),
        )


async def test_what_is_computed_of_a_file_and_of_the_minutes_behind_it(db_url: str, tmp_path: Path) -> None:
    """The file answers for hours 0 to 4, the minutes of hours 5 and 6 for the rest."""
    minutes = minutes_at((4, 30), (5, 10), (5, 20), (6, 0))
    await stored(db_url, tmp_path, minutes=minutes, _60=file_of(range(5)))
    async with HistoricalDataProvider(db_url) as provider:
        found = await provider.get_candles("DOGE/USD", "2h", *EVER)
        # Hours 0+1, 2+3, 4 (5 trades, of the file) + 5 (101 and 102 of minutes), 6.
        assert hours(found) == [(0, 3), (2, 7), (4, 5 + 101 + 102), (6, 103)]
        assert await provider.get_file_range("DOGE/USD", "2h") == (at(START), at(START + 6 * HOUR))


@pytest.mark.parametrize("interval", [5, 15, 30, 60, 240, 720, 1440, 10080])
async def test_a_file_of_each_interval(plain_url: str, tmp_path: Path, interval: int) -> None:
    monday = START + 24 * HOUR
    row = "1.5,2.5,0.5,2,3,4"
    content = "".join(f"{monday + 60 * interval * n},{row}\n" for n in range(3))
    await stored(plain_url, tmp_path, **{f"_{interval}": content})
    found = await read_candles(plain_url, "DOGE/USD", interval)
    assert [c.timestamp for c in found] == [at(monday + 60 * interval * n) for n in range(3)]
    assert {(c.interval_minutes, c.open, c.volume, c.trade_count) for c in found} == {
        (interval, Decimal("1.5"), Decimal(3), 4)
    }


async def test_the_file_gives_what_is_older_than_the_minutes(db_url: str, tmp_path: Path) -> None:
    """The first minute is 4:30: of its hour, the file knows the first half."""
    await stored(db_url, tmp_path, _60=file_of(FILE_HOURS), minutes=minutes_at((4, 30), (5, 10), (7, 0)))
    expected = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 101), (7, 102)]
    async with HistoricalDataProvider(db_url) as provider:
        found = await provider.get_candles("DOGE/USD", 60, *EVER)
        assert hours(found) == expected
        assert (found[3].open, found[3].volume) == (Decimal(14), Decimal("5.5"))
        assert (found[4].open, found[4].volume) == (Decimal(50), Decimal(2))
        assert await provider.get_file_range("DOGE/USD", 60) == (at(START), at(START + 5 * HOUR))
        for start in range(9):
            for end in range(9):
                some = await provider.get_candles(
                    "DOGE/USD", 60, at(START + start * HOUR), at(START + end * HOUR)
                )
                assert hours(some) == [one for one in expected if start <= one[0] < end]
        for count in range(8):
            latest = await provider.get_latest_candles("DOGE/USD", 60, count)
            assert hours(latest) == (expected[-count:] if count else [])
            oldest = await provider.get_candles("DOGE/USD", 60, *EVER, limit=count)
            assert hours(oldest) == expected[:count]
        replayed = [c async for c in provider.replay_candles("DOGE/USD", 60, *EVER, speed=0)]
        assert hours(replayed) == expected
        frame = await provider.get_candles_frame("DOGE/USD", 60, *EVER)
        assert frame.get_column("trade_count").to_list() == [trades for _, trades in expected]
        # The minute 7:00 is known alone: from 4:30 until then, the hours 5 and 6 are complete.
        filled = await provider.get_candles("DOGE/USD", 60, *EVER, fill="previous")
        assert hours(filled) == [*expected[:5], (6, 0), (7, 102)]
        # Other intervals have nothing but the minutes.
        assert hours(await provider.get_candles("DOGE/USD", 240, *EVER)) == [(4, 303)]


async def test_minutes_that_begin_after_the_file_has_ended(db_url: str, tmp_path: Path) -> None:
    """Of the hour of the first minute there is nothing else, so it is what it is without a file."""
    await stored(db_url, tmp_path, _60=file_of((0, 1, 2)), minutes=minutes_at((4, 30), (6, 0)))
    async with HistoricalDataProvider(db_url) as provider:
        found = await provider.get_candles("DOGE/USD", 60, *EVER)
        assert hours(found) == [(0, 1), (1, 2), (2, 3), (4, 100), (6, 101)]
        assert await provider.get_file_range("DOGE/USD", 60) == (at(START), at(START + 3 * HOUR))


@pytest.mark.parametrize("first", [(0, 10), (0, 0)])
async def test_a_file_that_begins_with_the_minutes_is_not_read(
    db_url: str, tmp_path: Path, first: tuple[int, int]
) -> None:
    """As after an import of Kraken's whole archive with --all."""
    await stored(db_url, tmp_path, _60=file_of(FILE_HOURS), minutes=minutes_at(first, (2, 0)))
    async with HistoricalDataProvider(db_url) as provider:
        assert hours(await provider.get_candles("DOGE/USD", 60, *EVER)) == [(0, 100), (2, 101)]
        assert hours(await provider.get_latest_candles("DOGE/USD", 60, 9)) == [(0, 100), (2, 101)]
        assert await provider.get_file_range("DOGE/USD", 60) is None


async def test_older_minutes_take_the_place_of_the_file(db_url: str, tmp_path: Path) -> None:
    await stored(db_url, tmp_path, _60=file_of(FILE_HOURS))
    assert hours(await read_candles(db_url, "DOGE/USD", 60)) == FROM_FILE
    await stored(db_url, tmp_path, minutes=minutes_at((5, 0)))
    assert hours(await read_candles(db_url, "DOGE/USD", 60)) == [*FROM_FILE[:4], (5, 100)]
    await stored(db_url, tmp_path, minutes=minutes_at((2, 0)))
    assert hours(await read_candles(db_url, "DOGE/USD", 60)) == [(0, 1), (1, 2), (2, 100), (5, 100)]


async def test_days_of_another_pair_are_nobodys(db_url: str, tmp_path: Path) -> None:
    await stored(db_url, tmp_path, _1440=file_of((0, 24, 48), length=24))
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes_at((30, 0))))
    assert hours(await read_candles(db_url, "DOGE/USD", 1440)) == [(0, 1), (24, 2), (48, 3)]
    assert hours(await read_candles(db_url, "BTC/USD", 1440)) == [(24, 100)]


async def test_rows_that_somebody_has_taken_away(db_url: str, tmp_path: Path) -> None:
    """What was stored is what counters say; what is there is what is read."""
    years = "".join(f"{START + n * 8760 * HOUR},1,1,1,1,1,{n + 1}\n" for n in range(3))
    await stored(db_url, tmp_path, _60=years)
    assert [trades for _, trades in hours(await read_candles(db_url, "DOGE/USD", 60))] == [1, 2, 3]
    for moments, left in (([0, 2], [2]), ([1], [])):
        for n in moments:
            moment = at(START + n * 8760 * HOUR)
            await query(db_url, "DELETE FROM candles WHERE timestamp = :moment", moment=moment)
        async with HistoricalDataProvider(db_url) as provider:
            for found in (
                await provider.get_candles("DOGE/USD", 60, *EVER),
                await provider.get_latest_candles("DOGE/USD", 60, 9),
                [c async for c in provider.replay_candles("DOGE/USD", 60, *EVER, speed=0)],
            ):
                assert [c.trade_count for c in found] == left


async def export(url: str, folder: Path, **options: Any) -> ExportReport:
    async with Exporter(url) as exporter:
        return await exporter.export(["DOGE/USD"], folder, intervals=[60], **options)


def told(report: ExportReport) -> list[tuple[str, int, Any]]:
    return [(file.outcome, file.rows, file.taken_until) for file in report.files]


async def test_exports_of_only_a_file(only_file: str, tmp_path: Path) -> None:
    end = at(START + 6 * HOUR)
    for outcome in ("written", "unchanged"):
        assert told(await export(only_file, tmp_path / "csv", style="csv")) == [(outcome, 5, end)]
    assert (tmp_path / "csv" / "XDGUSD_60.csv").read_text() == file_of(FILE_HOURS)
    assert '"taken_until": "2023-01-01T06:00:00+00:00"' in (
        (tmp_path / "csv" / ".kraken-db-export.json").read_text().replace('\\"', '"')
    )
    assert told(await export(only_file, tmp_path / "parquet")) == [("written", 5, end)]
    assert told(await export(only_file, tmp_path / "parquet", recheck=True)) == [("unchanged", 5, end)]
    frame = pl.scan_parquet(tmp_path / "parquet").sort("timestamp").collect()
    assert frame.get_column("trade_count").to_list() == [1, 2, 3, 5, 6]
    report = await export(only_file, tmp_path / "feather", style="feather", until=at(START + 2 * HOUR))
    assert told(report) == [("written", 2, end)]
    async with Exporter(only_file) as exporter:
        report = await exporter.export(["DOGE/USD"], tmp_path / "none", intervals=[1, 240])
    assert (report.files, report.empty) == ([], ["DOGE/USD 1m", "DOGE/USD 4h"])


@pytest.mark.parametrize("style", ["csv", "parquet"])
async def test_an_export_follows_the_rule(db_url: str, tmp_path: Path, style: Any) -> None:
    await stored(db_url, tmp_path, _60=file_of(FILE_HOURS))
    out = tmp_path / "out"
    await export(db_url, out, style=style)
    await stored(db_url, tmp_path, minutes=minutes_at((4, 30), (5, 10), (7, 0)))
    border = at(START + 5 * HOUR)
    assert told(await export(db_url, out, style=style)) == [("written", 6, border)]
    assert told(await export(db_url, out, style=style)) == [("unchanged", 6, border)]


@pytest.mark.parametrize("style", ["csv", "parquet"])
async def test_equal_rows_of_another_origin_are_exported_again(
    db_url: str, tmp_path: Path, style: Any
) -> None:
    """The only minute of hour 2 is what the file has of that hour: what changes is where it comes from."""
    await stored(db_url, tmp_path, _60=file_of((0, 1, 2)))
    out = tmp_path / "out"
    assert told(await export(db_url, out, style=style)) == [("written", 3, at(START + 3 * HOUR))]
    await stored(db_url, tmp_path, minutes=file_of((2,)))
    assert told(await export(db_url, out, style=style)) == [("written", 3, at(START + 2 * HOUR))]
    assert told(await export(db_url, out, style=style)) == [("unchanged", 3, at(START + 2 * HOUR))]


async def test_an_export_of_years_marks_those_of_the_file(db_url: str, tmp_path: Path) -> None:
    year, leap_year = 8760, 8784
    minutes = minutes_at((year + 5, 0), (year + leap_year, 0))
    await stored(db_url, tmp_path, _60=file_of((0, year)), minutes=minutes)
    report = await export(db_url, tmp_path / "out")
    border = at(START) + timedelta(hours=year + 1)
    assert told(report) == [("written", 1, border), ("written", 2, border), ("written", 1, None)]
