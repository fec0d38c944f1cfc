"""Candles computed from exported tables by polars, DuckDB and Dask are the store's, in every digit."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from kraken_db.exporting import Exporter, files, scan
from kraken_db.exporting.exact import COLUMNS, DUCKDB, candles_of_trades, longer_candles, with_last_candle
from kraken_db.historical_provider import HistoricalDataProvider
from tests.support.archives import import_file, write

_START = 1706659200  # Wednesday, 2024-01-31 00:00 UTC: two days, in two months
# What follows the last trade of an archive may belong to its minute, which is therefore not stored yet.
_IS_CLOSED = pl.col("timestamp") < datetime(2024, 2, 1, 23, 59, tzinfo=UTC)
_PAIRS = {"BTC/USD": "XBTUSD", "SHIB/USD": "SHIBUSD"}


def trades_of(pair: str) -> str:
    """Two a minute, with many digits; of SHIB more than 10**10 units each."""
    lines = []
    for number in range(2 * 2 * 1440):
        if pair == "BTC/USD":
            price, volume = (
                f"{43210 + number % 977}.{number % 10**4:04}",
                f"0.{(number * 7919) % 10**8 + 1:08}",
            )
        else:
            price = f"0.0000{(number * 31) % 89999 + 10000:06}"
            volume = f"{10**10 + number * 987654321}.{number % 10**5:05}"
        moment = _START + number * 30 + (number % 29 if number % 7 else 0)
        side, kind = ("b", "m") if number % 3 else ("s", "l")
        lines.append(f"{moment}.{number % 10**6:06},{price},{volume},{side},{kind},,{number + 1}\n")
    return "timestamp,price,volume,type,order_type,misc,trade_id\n" + "".join(lines)


@pytest.fixture
async def stored(plain_url: str, tmp_path: Path) -> str:
    for pair, name in _PAIRS.items():
        await import_file(plain_url, write(tmp_path, f"{name}.csv", trades_of(pair)))
    async with Exporter(plain_url) as exporter:
        await exporter.export(list(_PAIRS), tmp_path / "trades", what="trades")
        await exporter.export(list(_PAIRS), tmp_path / "candles", intervals=[1, 60, 1440])
    return plain_url


def of_store(folder: Path, interval: str) -> pl.DataFrame:
    """As exported, which is compared with the provider's elsewhere."""
    frame = scan(folder / "candles").filter(pl.col("interval") == interval)
    return frame.select(COLUMNS).sort("pair", "timestamp").collect()


async def test_polars(stored: str, tmp_path: Path) -> None:
    minutes = candles_of_trades(scan(tmp_path / "trades").filter(_IS_CLOSED)).collect()
    assert minutes.equals(of_store(tmp_path, "1m"))
    assert minutes.schema == of_store(tmp_path, "1m").schema
    assert minutes.height == 2 * (2 * 1440 - 1)
    hours = longer_candles(scan(tmp_path / "candles").filter(pl.col("interval") == "1m"), "1h")
    assert hours.collect().equals(of_store(tmp_path, "1h"))
    assert longer_candles(hours, "1d").collect().equals(of_store(tmp_path, "1d"))


async def test_naive_arithmetic_is_wrong(stored: str, tmp_path: Path) -> None:
    """Or nobody needs the other."""
    price, volume = pl.col("price"), pl.col("volume")
    naive = (
        scan(tmp_path / "trades")
        .group_by("pair", pl.col("timestamp").dt.truncate("1m"))
        .agg(vwap=((price * volume).sum() / volume.sum()).cast(pl.Decimal(20, 10)))
        .sort("pair", "timestamp")
        .collect()
    )
    assert not naive["vwap"].equals(of_store(tmp_path, "1m")["vwap"])


async def test_duckdb(stored: str, tmp_path: Path) -> None:
    """Whatever the session's time zone."""
    connection = duckdb.connect()
    connection.execute(DUCKDB)
    connection.execute("SET TimeZone = 'America/New_York'")

    def rows(statement: str, names: list[str]) -> list[tuple[Any, ...]]:
        found = connection.execute(statement, {"names": names}).fetchall()
        return [(pair, moment.astimezone(UTC), *values) for pair, moment, *values in found]

    minutes = rows(
        """
        SELECT pair, opens_at(INTERVAL 1 MINUTE, timestamp) AS opens,
               first(price ORDER BY timestamp, id), max(price), min(price),
               last(price ORDER BY timestamp, id),
               CAST(sum(volume) AS DECIMAL(38, 10)), count(*),
               mean_of(sum(turnover(price, volume)), sum(volume)), quote_of(sum(turnover(price, volume)))
        FROM read_parquet($names) WHERE timestamp < '2024-02-01 23:59:00+00'
        GROUP BY pair, opens ORDER BY pair, opens
        """,
        files(tmp_path / "trades"),
    )
    assert minutes == of_store(tmp_path, "1m").rows()
    hours = [name for name in files(tmp_path / "candles") if "interval=1h" in name]
    days = rows(
        """
        SELECT pair, opens_at(INTERVAL 1 DAY, timestamp) AS opens,
               first(open ORDER BY timestamp), max(high), min(low), last(close ORDER BY timestamp),
               CAST(sum(volume) AS DECIMAL(38, 10)), CAST(sum(trade_count) AS BIGINT),
               mean_of(sum(turnover(vwap, volume)), sum(volume)), CAST(sum(quote_volume) AS DECIMAL(38, 10))
        FROM read_parquet($names) GROUP BY pair, opens ORDER BY pair, opens
        """,
        hours,
    )
    assert days == of_store(tmp_path, "1d").rows()


async def test_dask_one_task_a_file(stored: str, tmp_path: Path) -> None:
    # Its types are half of them.
    dask: Any = importlib.import_module("dask")

    def minutes(name: str) -> pl.DataFrame:
        return candles_of_trades(pl.scan_parquet(name, hive_partitioning=False).filter(_IS_CLOSED)).collect()

    tasks = [dask.delayed(minutes)(name) for name in files(tmp_path / "trades")]
    assert len(tasks) == 2 * 2
    found = pl.concat(dask.compute(*tasks, scheduler="threads")).sort("pair", "timestamp")
    assert found.equals(of_store(tmp_path, "1m"))


async def test_the_last_candle_that_had_closed(stored: str, tmp_path: Path) -> None:
    """At 00:00:59 none had, at 00:01:00 that of 00:00."""
    start = datetime.fromtimestamp(_START, UTC)
    moments = [start + timedelta(seconds=seconds) for seconds in (59, 60, 119, 120)]
    events = pl.LazyFrame({"pair": ["BTC/USD"] * 4, "timestamp": moments}).with_columns(
        pl.col("timestamp").cast(pl.Datetime("us", "UTC"))
    )
    minutes = scan(tmp_path / "candles").filter(pl.col("interval") == "1m")
    found = with_last_candle(events, minutes, timedelta(minutes=1)).collect()
    async with HistoricalDataProvider(stored) as provider:
        first, second = (await provider.get_candles("BTC/USD", 1, start, start + timedelta(minutes=2)))[:2]
    assert found["candle_close"].to_list() == [None, first.close, first.close, second.close]


def test_numbers_worked_out_by_hand() -> None:
    kinds = {"price": pl.Decimal(20, 10), "volume": pl.Decimal(38, 10), "timestamp": pl.Datetime("us", "UTC")}

    def candle(*trades: tuple[str, str]) -> dict[str, Any]:
        rows = {
            "pair": ["A/B"] * len(trades),
            "timestamp": [datetime(2024, 1, 1, tzinfo=UTC)] * len(trades),
            "id": list(range(len(trades))),
            "price": [Decimal(price) for price, _ in trades],
            "volume": [Decimal(volume) for _, volume in trades],
        }
        frame = pl.LazyFrame(rows, schema_overrides=kinds)
        return candles_of_trades(frame).collect().row(0, named=True)

    # (1 * 2 + 2 * 1) / 3 = 1.33333333333..., turnover 4.
    found = candle(("1", "2"), ("2", "1"))
    assert (found["vwap"], found["quote_volume"]) == (Decimal("1.3333333333"), 4)
    # (1E-10 + 2E-10) / 2 = 1.5E-10, rounded half up; its turnover 3E-10 as it is.
    assert candle(("1E-10", "1"), ("2E-10", "1"))["vwap"] == Decimal("2E-10")
    # 1E-10 * 0.5 = 5E-11, half of the last digit: up.
    assert candle(("1E-10", "0.5"))["quote_volume"] == Decimal("1E-10")
    assert candle(("1E-10", "0.4999999999"))["quote_volume"] == 0
    # 123456789012.1234567891 units at 0.0000012345: 152407.40603546640740614395.
    found = candle(("0.0000012345", "123456789012.1234567891"))
    assert (found["vwap"], found["quote_volume"]) == (Decimal("0.0000012345"), Decimal("152407.4060354664"))
    # More than 128 bits hold: missing, not wrong.
    found = candle(("9999999999", "1E+9"), ("1", "1"))
    assert (found["vwap"], found["quote_volume"], found["volume"]) == (None, None, 10**9 + 1)
