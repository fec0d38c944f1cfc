"""Coins that cost next to nothing: one trade of PEPE can be of more than 10^10 units. Numbers by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kraken_db.exporting import Exporter
from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.types import TradeRecord
from tests.support.archives import EVER, import_file, query, write
from tests.support.live_writing import writing

PEPE = "PEPE/USD"
# Kraken's own minute, 20:01; the archives have no vwap and no quote volume.
CANDLE = "1731528060,2.0814e-05,2.2479e-05,2.0e-05,2.1e-05,11428120292.74009,600\n"
# 21:00:10, one trade of 1.2e10; in 21:01 two of 6e9, the last with a digit in the tenth decimal.
TRADES: list[list[Any]] = [
    ["0.00002", "12000000000", 1731531610.0, "b", "m", "", 1],
    ["0.00002", "6000000000", 1731531670.0, "b", "l", "", 2],
    ["0.000022", "6000000000.0000000001", 1731531671.5, "s", "l", "", 3],
]
TWENTY, TWENTY_ONE = datetime(2024, 11, 13, 20, tzinfo=UTC), datetime(2024, 11, 13, 21, tzinfo=UTC)
DAY, WEEK = datetime(2024, 11, 13, tzinfo=UTC), datetime(2024, 11, 11, tzinfo=UTC)


def numbers(prices: str, volume: str, trades: int, vwap: str | None) -> tuple[Any, ...]:
    return (*map(Decimal, prices.split()), Decimal(volume), trades, vwap and Decimal(vwap))


FIRST = numbers("2.0814e-05 2.2479e-05 2.0e-05 2.1e-05", "11428120292.74009", 600, None)
SECOND = numbers("2.0e-05 2.0e-05 2.0e-05 2.0e-05", "12000000000", 1, "2.0e-05")
# 6e9 at 2.0e-05 are 120,000, as many at 2.2e-05 are 132,000: 252,000 for 1.2e10.
THIRD = numbers("2.0e-05 2.2e-05 2.0e-05 2.2e-05", "12000000000.0000000001", 2, "2.1e-05")
# With the 240,000 of the minute before: 492,000 for 2.4e10.
HOUR = numbers("2.0e-05 2.2e-05 2.0e-05 2.2e-05", "24000000000.0000000001", 3, "2.05e-05")
# Of the first minute of the day no vwap is known.
ALL = numbers("2.0814e-05 2.2479e-05 2.0e-05 2.2e-05", "35428120292.7400900001", 603, None)
EXPECTED = {
    1: [
        (TWENTY.replace(minute=1), *FIRST),
        (TWENTY_ONE, *SECOND),
        (TWENTY_ONE.replace(minute=1), *THIRD),
    ],
    5: [(TWENTY, *FIRST), (TWENTY_ONE, *HOUR)],
    60: [(TWENTY, *FIRST), (TWENTY_ONE, *HOUR)],
    1440: [(DAY, *ALL)],
    10080: [(WEEK, *ALL)],
}
VOLUMES = [Decimal(12_000_000_000), Decimal(6_000_000_000), Decimal("6000000000.0000000001")]


@pytest.fixture
async def filled(db_url: str, tmp_path: Path) -> str:
    await import_file(db_url, write(tmp_path, "PEPEUSD_1.csv", CANDLE))
    async with KrakenTradesBackfill(db_url) as service:
        await service.store_trades(PEPE, TRADES)
    await build(db_url)
    return db_url


async def build(url: str) -> None:
    async with KrakenTradesBackfill(url) as service:
        await service.build_candles_from_trades(PEPE, TWENTY_ONE, TWENTY_ONE.replace(minute=2))


async def stored(url: str) -> tuple[dict[int, list[Any]], list[Decimal]]:
    """Candles of each interval, and the volumes of the trades, as the provider gives them."""
    async with HistoricalDataProvider(url) as provider:
        candles = {interval: await provider.get_candles(PEPE, interval, *EVER) for interval in EXPECTED}
        trades = await provider.get_trades(PEPE, *EVER)
    return (
        {
            interval: [
                (c.timestamp, c.open, c.high, c.low, c.close, c.volume, c.trade_count, c.vwap) for c in found
            ]
            for interval, found in candles.items()
        },
        [trade.volume for trade in trades],
    )


async def test_they_are_stored_and_rolled_up_exactly(filled: str) -> None:
    assert await stored(filled) == (EXPECTED, VOLUMES)
    quotes = "SELECT quote_volume FROM {} WHERE quote_volume IS NOT NULL ORDER BY timestamp"
    assert await query(filled, quotes.format("candles")) == [(240_000,), (252_000,)]
    assert await query(filled, quotes.format("candles_1h")) == [(492_000,)]
    # With the decimals of the tables.
    ((text,),) = await query(filled, "SELECT CAST(volume AS text) FROM candles_1w")
    assert text == "35428120292.7400900001"


async def test_a_writer_stores_them(db_url: str, tmp_path: Path) -> None:
    """One that starts anew, too: what was left in the journal does not stop it."""
    names = {"b": "buy", "s": "sell"}
    for _ in range(2):
        async with writing(db_url, tmp_path, journal="always") as writer:
            for price, volume, time, side, _kind, _misc, number in TRADES:
                moment = datetime.fromtimestamp(time, UTC)
                await writer.write_trade(
                    TradeRecord(PEPE, moment, Decimal(price), Decimal(volume), names[side], number, "limit")
                )
            await writer.flush()
            await writer.build_candles(PEPE, TWENTY_ONE, TWENTY_ONE.replace(minute=2))
            assert (writer.get_stats()["rejected_count"], writer.get_stats()["conflict_count"]) == (0, 0)
    candles, trades = await stored(db_url)
    assert trades == VOLUMES
    assert (candles[1], candles[60]) == (EXPECTED[1][1:], [EXPECTED[60][1]])


@pytest.mark.parametrize("backend", ["polars", "pandas", "arrow"])
async def test_frames_hold_them(filled: str, backend: Any) -> None:
    async with HistoricalDataProvider(filled) as provider:
        for interval, expected in EXPECTED.items():
            frame = await provider.get_candles_frame(PEPE, interval, *EVER, backend=backend)
            assert as_list(frame["volume"]) == [row[5] for row in expected]
        frame = await provider.get_trades_frame(PEPE, *EVER, backend=backend)
        assert as_list(frame["volume"]) == VOLUMES


def as_list(column: Any) -> list[Any]:
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


async def test_files_hold_them_and_bring_them_back(filled: str, plain_url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with Exporter(filled) as exporter:
        for style in ("parquet", "csv"):
            await exporter.export([PEPE], out / style, style=style, intervals=[1, 60, 1440])
            await exporter.export([PEPE], out / f"{style}-trades", what="trades", style=style)
    candles = pl.scan_parquet(out / "parquet").sort("interval", "timestamp").collect()
    for name, interval in (("1m", 1), ("1h", 60), ("1d", 1440)):
        of_interval = candles.filter(pl.col("interval") == name)
        assert of_interval["volume"].to_list() == [row[5] for row in EXPECTED[interval]]
    assert candles.schema["volume"] == candles.schema["quote_volume"] == pl.Decimal(38, 10)
    trades = pl.scan_parquet(out / "parquet-trades").sort("timestamp").collect()
    assert (trades["volume"].to_list(), trades.schema["volume"]) == (VOLUMES, pl.Decimal(38, 10))
    await import_file(plain_url, out / "csv" / "PEPEUSD_1.csv")
    await import_file(plain_url, out / "csv-trades" / "PEPEUSD.csv")
    await build(plain_url)  # files of candles have no vwap
    assert await stored(plain_url) == (EXPECTED, VOLUMES)
