"""A read by way of the cache gives what the same read gives without it, the first time and ever after."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import kraken_db
from kraken_db import HistoricalDataProvider
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import as_interval
from tests.support.archives import query
from tests.support.cached import END, START, both, store_minutes
from tests.support.stores import opened

SPAN = ("2022-12-20", "2023-04-05")


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.arrow"))


@pytest.mark.parametrize("backend", ["polars", "pandas", "arrow"])
@pytest.mark.parametrize("numbers", ["decimal", "float"])
async def test_frames_of_every_kind(db_url: str, tmp_path: Path, backend: Any, numbers: Any) -> None:
    await store_minutes(db_url, "BTC/USD", "2023-01-10", "2023-03-02")
    async with both(db_url, tmp_path) as pair:
        for _ in range(2):
            one, other = await pair.frames("1m", backend=backend, numbers=numbers)
            assert type(one) is type(other)
            assert len(one) == 51 * 144
            assert one.equals(other)
            if backend == "arrow":
                assert one.schema == other.schema
            else:
                assert list(one.dtypes) == list(other.dtypes)
    assert files(tmp_path)


async def test_doubles_are_the_nearest(plain_url: str, tmp_path: Path) -> None:
    """Also where the number has more digits than a double, and of a missing one nothing."""
    hard = ["123456789012345678.0123456789", "0.1000000001", "9007199254740993", "0", "900719.9254740993"]
    for minute, volume in enumerate(hard):
        await query(
            plain_url,
            "INSERT INTO candles VALUES ('BTC/USD', CAST('2023-01-05 00:00+00' AS timestamptz)"
            " + CAST(:minute AS int) * INTERVAL '1 minute', 1, 1, 1, 1, 1, CAST(CAST(:volume AS text) AS"
            " numeric), NULL, 1, NULL)",
            minute=minute,
            volume=volume,
        )
    async with HistoricalDataProvider(plain_url, cache=tmp_path) as history:
        for _ in range(2):
            frame = await history.get_candles_frame("BTC/USD", 1, START, END, numbers="float")
            assert frame["volume"].to_list() == [float(number) for number in hard]
            assert frame["vwap"].to_list() == [None] * len(hard)
            pandas = await history.get_candles_frame(
                "BTC/USD", 1, START, END, numbers="float", backend="pandas"
            )
            assert all(math.isnan(value) for value in pandas["vwap"])


INTERVALS: list[Any] = [
    *("1m", "5m", "30m", "1h", "4h", "1d", "1w", "7m", "2h", "2w", "1M", "3M", "1Y"),
    as_interval("1d", tz="Europe/Berlin"),
    as_interval("6h", tz="America/New_York"),
    as_interval("1w", anchor="2023-01-03"),
    as_interval("1M", tz="America/New_York", session="-07:00"),
]


async def test_every_interval_and_range(db_url: str, tmp_path: Path) -> None:
    await store_minutes(db_url, "BTC/USD", "2022-12-20", "2023-04-05")
    async with opened(db_url) as store:
        await store.refresh_pending()
    ranges = [
        (START, END),
        (datetime(2023, 1, 31, 23, 59, 30, tzinfo=UTC), datetime(2023, 3, 1, 0, 7, tzinfo=UTC)),
        (datetime(2023, 2, 3, 10, 7, tzinfo=UTC), datetime(2023, 2, 3, 10, 8, tzinfo=UTC)),
        (None, None),
        (None, datetime(2023, 2, 10, tzinfo=UTC)),
        (datetime(2023, 2, 10, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
        (END, START),
    ]
    async with both(db_url, tmp_path) as pair:
        for interval in INTERVALS:
            for start, end in ranges:
                expected = await pair.direct.get_candles("BTC/USD", interval, start, end)
                for _ in range(3):
                    found = await pair.cached.get_candles("BTC/USD", interval, start, end)
                    assert found == expected, (str(interval), start, end)
                    assert repr(found[:2]) == repr(expected[:2])


async def test_everything_that_a_provider_reads(plain_url: str, tmp_path: Path) -> None:
    await store_minutes(plain_url, "BTC/USD", *SPAN)
    await store_minutes(plain_url, "ETH/USD", "2023-02-01", "2023-02-03")
    moment = datetime(2023, 2, 20, 11, 13, tzinfo=UTC)
    async with both(plain_url, tmp_path) as pair:
        for _ in range(3):
            reads = [
                [
                    await history.get_multi_timeframe_candles(
                        "BTC/USD", moment, [1, 5, "2h", "1d", "1M"], 50
                    ),
                    await history.get_multi_timeframe_candles("ETH/USD", moment, [1, "4h"], 500),
                    await history.get_latest_candles("BTC/USD", "1h", 10),
                    await history.get_warmup_data("BTC/USD", 15, 10),
                    await history.get_candles("BTC/USD", 1, START, END, limit=7),
                    await history.get_candles("BTC/USD", "1h", START, END, fill="previous"),
                    (await history.get_latest_candles_frame("BTC/USD", "1h", 9, before=moment)).rows(),
                    [c async for c in history.replay_many(["BTC/USD", "ETH/USD"], "30m", *SPAN, speed=0)],
                    await history.get_file_range("BTC/USD", "1h"),
                ]
                for history in (pair.cached, pair.direct)
            ]
            assert reads[0] == reads[1]
            assert all(reads[0][:8])


async def test_load_with_a_cache(db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``True`` is the directory of the environment, a path another one."""
    monkeypatch.setenv("KRAKEN_DB_CACHE_DIR", str(tmp_path / "own"))
    await store_minutes(db_url, "BTC/USD", "2023-01-10", "2023-01-12")

    def load(cache: Any) -> Any:
        return kraken_db.load("XBTUSD", "1m", start=START, end=END, db_url=db_url, cache=cache)

    try:
        direct = await asyncio.to_thread(load, False)
        for cache in (True, True, str(tmp_path / "other")):
            assert (await asyncio.to_thread(load, cache)).equals(direct)
    finally:
        await asyncio.to_thread(kraken_db.analysis.close)
    assert len(files(tmp_path / "own")) == len(files(tmp_path / "other")) == 3


@pytest.mark.parametrize("cache", [None, 3, ""])
def test_what_is_no_directory(cache: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is no directory \(write a path, or True\)"):
        HistoricalDataProvider("embedded:", cache=cache)


async def test_nothing_is_asked_but_the_state(plain_url: str, tmp_path: Path) -> None:
    """One statement a read: the one that reads ``candle_versions``."""
    await store_minutes(plain_url, "BTC/USD", *SPAN)
    async with both(plain_url, tmp_path) as pair:
        await pair.frames("1m")
        await query(plain_url, "ALTER TABLE candles RENAME TO away")
        frame = await pair.cached.get_candles_frame("BTC/USD", "1m", START, END)
        assert len(frame) == 90 * 144


async def test_a_small_part_is_kept_the_second_time(plain_url: str, tmp_path: Path) -> None:
    await store_minutes(plain_url, "BTC/USD", *SPAN)
    hour = datetime(2023, 2, 3, tzinfo=UTC), datetime(2023, 2, 3, 1, tzinfo=UTC)
    async with HistoricalDataProvider(plain_url, cache=tmp_path) as history:
        assert len(await history.get_candles("BTC/USD", 1, *hour)) == 6
        assert files(tmp_path) == []
        assert len(await history.get_candles("BTC/USD", 1, *hour)) == 6
        assert len(files(tmp_path)) == 1


async def test_the_month_that_grows(plain_url: str, tmp_path: Path) -> None:
    """It is kept where much of it is wanted, and a candle that comes is there at once."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    begin = now.replace(day=1, hour=0, minute=0)
    await store_minutes(plain_url, "BTC/USD", f"{begin:%Y-%m-%d %H:%M}", f"{now:%Y-%m-%d %H:%M}")
    async with both(plain_url, tmp_path) as pair:
        for _ in range(2):
            one, other = await pair.frames(1, start=begin, end=now + timedelta(days=1))
            assert one.equals(other)
        kept = len(files(tmp_path))
        assert kept >= 1
        await query(
            plain_url,
            "INSERT INTO candles VALUES ('BTC/USD', :now, 1, 1, 1, 1, 1, 1, NULL, 1, NULL)",
            now=now,
        )
        one, other = await pair.frames(1, start=begin, end=now + timedelta(days=1))
        assert one.equals(other)
        assert one["close"][-1] == Decimal(1)
        assert len(files(tmp_path)) == kept  # the older one is gone


async def test_an_old_range_without_any_candle(db_url: str, tmp_path: Path) -> None:
    async with both(db_url, tmp_path) as pair:
        for _ in range(2):
            one, other = await pair.frames("1h")
            assert isinstance(one, pl.DataFrame)
            assert one.equals(other)
            assert len(one) == 0
