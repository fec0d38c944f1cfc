"""Exports as their readers see them: DuckDB, polars, pyarrow, pandas, and our own importer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.exporting import Exporter, ExportReport
from kraken_db.exporting.places import locked
from kraken_db.historical_provider import HistoricalDataProvider
from tests.support.archives import (
    EVER,
    NEW_YEAR,
    OVER_TWO_YEARS,
    START,
    at,
    checksums,
    import_file,
    import_texts,
    minutes,
    moved,
    query,
    write,
)
from tests.support.disturbed_reads import DEADLOCK, LOST, disturb_reads
from tests.support.lanes import Lane
from tests.support.stores import opened_database

TRADES = (
    "price,volume,time,buy/sell,market/limit,miscellaneous\n"
    f"100.5,0.01,{NEW_YEAR - 5}.123456,b,l,,7\n"
    f"1E-10,9999999999.9999999999,{NEW_YEAR}.5,s,m,x y,8\n"
    f"2,3,{NEW_YEAR + 100},s,m,,9\n"
)


async def export(url: str, folder: Path, *symbols: str, **options: Any) -> ExportReport:
    async with Exporter(url) as exporter:
        return await exporter.export(symbols or ["BTC/USD"], folder, **options)


def outcomes(report: ExportReport) -> list[str]:
    return [file.outcome for file in report.files]


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": OVER_TWO_YEARS, "XBTUSD.csv": TRADES})


async def fill_minutes(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": OVER_TWO_YEARS})


@pytest.fixture
def filled(lane: Lane) -> Iterator[str]:
    with lane.filled_database(fill) as url:
        yield url


@pytest.fixture
def plain(plain_lane: Lane) -> Iterator[str]:
    with plain_lane.filled_database(fill_minutes) as url:
        yield url


async def test_every_format_holds_what_the_provider_gives(filled: str, tmp_path: Path) -> None:
    """On both kinds of database."""
    out = tmp_path / "out"
    async with HistoricalDataProvider(filled) as provider:
        hours = await provider.get_candles("BTC/USD", 60, *EVER)
        trades = await provider.get_trades("BTC/USD", *EVER)
    assert (len(hours), len(trades)) == (2, 3)
    report = await export(filled, out, intervals=[60])
    assert [(file.rows, file.outcome) for file in report.files] == [(1, "written")] * 2
    frame = pl.scan_parquet(out).sort("timestamp").collect()
    assert frame.select("timestamp", "open", "high", "low", "close", "volume", "trade_count").rows() == [
        (c.timestamp, c.open, c.high, c.low, c.close, c.volume, c.trade_count) for c in hours
    ]
    await export(filled, tmp_path / "trades", what="trades")
    table = pl.scan_parquet(tmp_path / "trades").sort("timestamp", "id").collect()
    assert table.select("timestamp", "id", "price", "volume", "side", "order_type", "misc").rows() == [
        (t.timestamp, t.id, t.price, t.volume, t.side, t.order_type, t.misc) for t in trades
    ]
    await export(filled, tmp_path / "csv", what="trades", style="csv")
    canonical = TRADES.replace("1E-10", "0.0000000001")
    assert (tmp_path / "csv" / "XBTUSD.csv").read_text() == canonical
    await export(filled, tmp_path / "csv", intervals=[1], style="csv")
    assert (tmp_path / "csv" / "XBTUSD_1.csv").read_text() == OVER_TWO_YEARS
    await export(filled, tmp_path / "feather", intervals=[60], style="feather")
    feather = pd.read_feather(tmp_path / "feather" / "BTC_USD-1h.feather")
    assert list(feather.itertuples(index=False, name=None)) == [
        (c.timestamp, *map(float, (c.open, c.high, c.low, c.close, c.volume))) for c in hours
    ]


async def test_a_data_set_of_two_pairs_is_one_table_for_every_reader(plain: str, tmp_path: Path) -> None:
    await import_file(plain, write(tmp_path, "ETHUSD_1.csv", minutes(5)))
    out = tmp_path / "out"
    await export(plain, out, "BTC/USD", "ETH/USD", intervals=[1, 5])
    expected = [
        ("BTC-USD", "1m", 2023, "BTC/USD", 10),
        ("BTC-USD", "1m", 2024, "BTC/USD", 10),
        ("BTC-USD", "5m", 2023, "BTC/USD", 2),
        ("BTC-USD", "5m", 2024, "BTC/USD", 2),
        ("ETH-USD", "1m", 2023, "ETH/USD", 5),
        ("ETH-USD", "5m", 2023, "ETH/USD", 1),
    ]
    keys = ["symbol", "interval", "year", "pair"]
    relation = duckdb.sql(
        f"SELECT symbol, interval, year, pair, count(*) FROM read_parquet('{out}/**/*.parquet',"
        " hive_partitioning = true) GROUP BY ALL ORDER BY ALL"
    )
    assert relation is not None
    assert relation.fetchall() == expected
    assert pl.scan_parquet(out).group_by(keys).len().sort(keys).collect().rows() == expected
    # What Dask and Spark build on.
    table = ds.dataset(out, partitioning="hive").to_table()
    assert table.group_by(keys).aggregate([([], "count_all")]).num_rows == 6
    assert str(table.schema.field("close").type) == "decimal128(20, 10)"
    assert str(table.schema.field("timestamp").type) == "timestamp[us, tz=UTC]"


async def test_export_and_import_are_inverse(plain: str, tmp_path: Path, plain_empty_url: str) -> None:
    out = tmp_path / "out"
    trades = write(tmp_path, "XBTUSD.csv", TRADES)
    await import_file(plain, trades)
    await export(plain, out, style="csv")
    await export(plain, out, what="trades", style="csv")
    before = await checksums(plain)
    await query(
        plain,
        "TRUNCATE candles, trades, data_sync_status, data_coverage, unproven_ranges, pending_refresh",
    )
    await import_file(plain, out / "XBTUSD_1.csv")
    await import_file(plain, out / "XBTUSD.csv")
    assert await checksums(plain) == before


async def test_krakens_own_file_comes_out_as_it_went_in(
    plain_url: str, real_data: Path, tmp_path: Path
) -> None:
    """Byte for byte, and so do the higher intervals that were computed from it."""
    await import_file(plain_url, real_data / "ohlcvt" / "XBTUSDC_1.csv")
    intervals = [1, 5, 15, 60, 720, 1440]
    await export(plain_url, tmp_path / "out", "BTC/USDC", intervals=intervals, style="csv")
    for interval in intervals:
        name = f"XBTUSDC_{interval}.csv"
        assert (tmp_path / "out" / name).read_bytes() == (real_data / "ohlcvt" / name).read_bytes(), name


async def test_numbers_as_kraken_writes_them(plain_url: str, tmp_path: Path) -> None:
    rows = [
        ("100.0", "1E+1"),
        ("0.0000000001", "1E-10"),
        ("9999999999.9999999999", "9999999999"),
        ("0.5", "1.5E-7"),
        ("12.25", "5.5E+2"),
        ("1000.0", "1.2E+9"),
        ("3.0", "0.000001"),
        ("3.0", "100.01"),
        ("3.0", "9.99E-8"),
    ]
    text = "".join(f"{START + 60 * n},{p},{p},{p},{p},{v},1\n" for n, (p, v) in enumerate(rows))
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", text))
    await export(plain_url, tmp_path / "out", style="csv")
    assert (tmp_path / "out" / "XBTUSD_1.csv").read_text() == text


# --- again ---


async def test_only_what_has_changed_is_written_again(plain: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert outcomes(await export(plain, out)) == ["written"] * 2
    old = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert outcomes(await export(plain, out)) == ["unchanged"] * 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == old
    await import_file(plain, write(tmp_path, "XBTUSD_1.csv", minutes(3, start=NEW_YEAR + 6000)))
    assert outcomes(await export(plain, out)) == ["unchanged", "written"]
    assert pl.scan_parquet(out).select(pl.len()).collect().item() == 23
    # One digit of one row, by somebody's own SQL, that leaves no note.
    changed = "UPDATE candles SET close = close + 0.0000000001 WHERE timestamp = :at"
    await switch_triggers(plain, "DISABLE")
    await query(plain, changed, at=at(NEW_YEAR + 6000))
    assert outcomes(await export(plain, out)) == ["unchanged"] * 2
    assert outcomes(await export(plain, out, recheck=True)) == ["unchanged", "written"]
    # And with the triggers, which do.
    await switch_triggers(plain, "ENABLE")
    await query(plain, changed, at=at(NEW_YEAR + 6000))
    assert outcomes(await export(plain, out)) == ["unchanged", "written"]
    # A file that is gone.
    (out / "symbol=BTC-USD/interval=1m/year=2024/candles-01.parquet").unlink()
    assert outcomes(await export(plain, out)) == ["unchanged", "written"]


async def switch_triggers(url: str, how: str) -> None:
    async with opened_database(url) as database, database.begin() as connection:
        # Elsewhere than on Citus it is a name that nobody knows.
        await connection.exec_driver_sql("SET LOCAL citus.enable_unsafe_triggers TO on")
        await connection.exec_driver_sql(f"ALTER TABLE candles {how} TRIGGER USER")


async def test_files_of_the_other_formats_are_left_alone_too(plain: str, tmp_path: Path) -> None:
    for style in ("csv", "feather"):
        out = tmp_path / style
        assert outcomes(await export(plain, out, style=style, intervals=[1, 5])) == ["written"] * 2
        assert outcomes(await export(plain, out, style=style, intervals=[1, 5])) == ["unchanged"] * 2
        await import_file(plain, write(tmp_path, "XBTUSD_1.csv", minutes(1, start=NEW_YEAR + 9000)))
        assert outcomes(await export(plain, out, style=style)) == ["written"]
        await query(plain, "DELETE FROM candles WHERE timestamp = :at", at=at(NEW_YEAR + 9000))
        (file,) = (await export(plain, out, style=style, recheck=True)).files
        assert (file.outcome, file.rows) == ("written", 20)


async def test_a_candle_that_has_closed_since_comes_with_the_next_export(plain: str, tmp_path: Path) -> None:
    """Nothing was written meanwhile: only the clock has gone on."""

    async def at_time(now: datetime) -> ExportReport:
        async with Exporter(plain, clock=lambda: now) as exporter:
            return await exporter.export(["BTC/USD"], tmp_path / "out", intervals=[60], style="csv")

    (first,) = (await at_time(at(NEW_YEAR + 3599))).files
    assert first.rows == 1
    (second,) = (await at_time(at(NEW_YEAR + 3600))).files
    assert (second.rows, second.outcome) == (2, "written")
    assert outcomes(await at_time(at(NEW_YEAR + 9999))) == ["unchanged"]


@pytest.mark.parametrize("style", ["parquet", "csv", "feather"])
async def test_what_retention_drops_stays_in_the_file(plain: str, tmp_path: Path, style: Any) -> None:
    out = tmp_path / "out"
    await import_file(plain, write(tmp_path, "XBTUSD.csv", TRADES))
    await query(plain, f"UPDATE trades SET timestamp = {moved('timestamp', timedelta(days=1))}")
    for what in ("candles", "trades"):
        folder = out / what
        await export(plain, folder, what=what, style=style)
    await query(plain, "DELETE FROM candles WHERE timestamp < :at", at=at(NEW_YEAR + 300))
    await query(plain, "DELETE FROM trades WHERE id = 7")
    await import_file(plain, write(tmp_path, "XBTUSD_1.csv", minutes(1, start=NEW_YEAR + 6000)))
    report = await export(plain, out / "candles", style=style)
    (trades,) = (await export(plain, out / "trades", what="trades", style=style, recheck=True)).files
    assert (trades.rows, trades.kept_rows) == (3, 1)
    # 20 minutes and a new one; the ten of 2023 are in a file of their own only as Parquet.
    newest = report.files[-1]
    assert (newest.rows, newest.kept_rows) == ((11, 5) if style == "parquet" else (21, 15))
    if style == "parquet":
        moments = pl.scan_parquet(out / "candles").sort("timestamp").collect()["timestamp"].to_list()
        assert moments == [at(NEW_YEAR + 60 * m) for m in (*range(-10, 10), 100)]
    if style == "csv":
        text = f"{OVER_TWO_YEARS}{NEW_YEAR + 6000},100.5,102.0,99.5,101.0,2.5,7\n"
        assert (out / "candles" / "XBTUSD_1.csv").read_text() == text
    again = await export(plain, out / "candles", style=style)
    assert outcomes(again) == ["unchanged"] * len(again.files)


async def test_a_range_is_cut_exactly(plain: str, tmp_path: Path) -> None:
    since, until = at(NEW_YEAR - 300), at(NEW_YEAR + 180)
    report = await export(plain, tmp_path / "cut", since=since, until=until)
    assert [file.rows for file in report.files] == [5, 3]
    # Less would cut what is there; more is added.
    with pytest.raises(ConfigurationError, match="less was asked for now"):
        await export(plain, tmp_path / "cut", since=since + timedelta(minutes=1), until=until)
    assert [file.rows for file in (await export(plain, tmp_path / "cut")).files] == [10, 10]
    nothing = await export(plain, tmp_path / "none", until=at(START))
    assert (nothing.files, nothing.empty) == ([], ["BTC/USD 1m"])
    assert not list((tmp_path / "none").iterdir())


async def test_other_peoples_files_are_not_touched(plain: str, tmp_path: Path) -> None:
    """The folder of the archive itself, for example."""
    write(tmp_path, "XBTUSD_1.csv", OVER_TWO_YEARS)
    before = (tmp_path / "XBTUSD_1.csv").read_bytes()
    with pytest.raises(ConfigurationError, match=r"XBTUSD_1\.csv is not of an export"):
        await export(plain, tmp_path, style="csv")
    assert (tmp_path / "XBTUSD_1.csv").read_bytes() == before
    place = tmp_path / "out" / "symbol=BTC-USD" / "interval=1m" / "year=2023"
    write(place, "candles.parquet", b"mine")
    with pytest.raises(ConfigurationError, match=r"candles.parquet is not of an export"):
        await export(plain, tmp_path / "out")


async def test_kinds_that_do_not_go_together(plain: str, tmp_path: Path) -> None:
    await export(plain, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="holds candles"):
        await export(plain, tmp_path / "out", what="trades")
    with pytest.raises(ConfigurationError, match="in another format"):
        await export(plain, tmp_path / "out", style="csv")
    with locked(tmp_path / "out"), pytest.raises(ConfigurationError, match="another export writes"):
        await export(plain, tmp_path / "out")
    write(tmp_path, "file", "x")
    with pytest.raises(ConfigurationError, match="file cannot be written"):
        await export(plain, tmp_path / "file")
    write(tmp_path / "csv", ".kraken-db-export.json", "{}")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await export(plain, tmp_path / "csv", style="csv")
    with pytest.raises(ConfigurationError, match="since has no time zone"):
        await export(plain, tmp_path / "new", since=datetime(2023, 1, 1))  # noqa: DTZ001


async def test_a_run_that_was_stopped_leaves_whole_files_only(
    plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    put, count = os.fsync, 0

    def stop(fd: int) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise asyncio.CancelledError
        put(fd)

    monkeypatch.setattr("kraken_db.exporting.folders.os.fsync", stop)
    with pytest.raises(asyncio.CancelledError):
        await export(plain, out)
    assert [path.name for path in sorted(out.rglob("*")) if path.is_file()] == [".candles-12.parquet.new"]
    monkeypatch.undo()
    assert outcomes(await export(plain, out)) == ["unchanged", "written"]
    assert pl.scan_parquet(out).select(pl.len()).collect().item() == 20


async def test_trades_without_ids_come_back_without_ids(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD.csv", f"{START},100.5,0.1\n{START},100.5,0.1\n"))
    await export(plain_url, tmp_path / "out", what="trades", style="csv")
    _, *rows = (tmp_path / "out" / "XBTUSD.csv").read_text().splitlines()
    assert rows == [f"100.5,0.1,{START},,,,0"] * 2
    async with HistoricalDataProvider(plain_url) as provider:
        stored = await provider.get_trades("BTC/USD", *EVER)
    await query(plain_url, "TRUNCATE trades, data_sync_status, data_coverage, unproven_ranges")
    await import_file(plain_url, tmp_path / "out" / "XBTUSD.csv")
    async with HistoricalDataProvider(plain_url) as provider:
        again = await provider.get_trades("BTC/USD", *EVER)
    assert [(t.timestamp, t.price, t.volume, t.side) for t in again] == [
        (t.timestamp, t.price, t.volume, t.side) for t in stored
    ]
    assert all(t.id < 0 for t in again)


async def test_feather_of_trades_is_freqtrades(plain: str, tmp_path: Path) -> None:
    await import_file(plain, write(tmp_path, "XBTUSD.csv", TRADES))
    await export(plain, tmp_path / "out", what="trades", style="feather")
    frame = pd.read_feather(tmp_path / "out" / "BTC_USD-trades.feather")
    assert list(frame.columns) == ["timestamp", "id", "type", "side", "price", "amount", "cost"]
    assert frame.iloc[0].to_list() == [
        (NEW_YEAR - 5) * 1000 + 123, "7", "limit", "buy", 100.5, 0.01, 100.5 * 0.01,
    ]  # fmt: skip


async def test_times_are_exact_to_the_microsecond(plain_url: str, tmp_path: Path) -> None:
    """They go through a float on their way: in all of the time that there may be trades of."""
    await query(
        plain_url,
        "INSERT INTO trades (timestamp, symbol, id, price, volume, side)"
        " SELECT TIMESTAMPTZ 'epoch' + n * INTERVAL '7919123.454321 seconds', 'BTC/USD', n, 1, 1, 'buy'"
        " FROM generate_series(1, 540) n",
    )
    async with HistoricalDataProvider(plain_url) as provider:
        ever = datetime(1970, 1, 1, tzinfo=UTC), datetime(2106, 1, 1, tzinfo=UTC)
        objects = [t.timestamp for t in await provider.get_trades("BTC/USD", *ever)]
        frame = await provider.get_trades_frame("BTC/USD", *ever)
    assert len(objects) == 540
    assert frame["timestamp"].to_list() == objects


@pytest.mark.one_server("the fault counts in a sequence, which each node has for itself")
@pytest.mark.parametrize("what", [DEADLOCK, LOST])
async def test_an_export_goes_on_after_an_error_that_passes(plain: str, tmp_path: Path, what: str) -> None:
    """The look at what there is fails, then that of the file."""
    await export(plain, tmp_path / "undisturbed", intervals=[1])
    await disturb_reads(plain, "data_sync_status", 2, what)
    report = await export(plain, tmp_path / "out", intervals=[1])
    assert set(outcomes(report)) == {"written"}
    written, undisturbed = (
        {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}
        for folder in (tmp_path / "out", tmp_path / "undisturbed")
    )
    assert written == undisturbed != {}
