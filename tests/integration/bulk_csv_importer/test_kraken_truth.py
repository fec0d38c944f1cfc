"""Kraken's own candle files, against what comes out of the store."""

from __future__ import annotations

from pathlib import Path

from tests.support.archives import (
    as_kraken_rows,
    checksums,
    import_file,
    import_paths,
    kraken_rows,
    query,
    read_candles,
)

SYMBOL = "BTC/USDC"
INTERVALS = (1, 5, 15, 60, 720, 1440)
ROWS_OF_HIGHER_INTERVALS = 33_892


async def assert_equal_to_kraken(url: str, archive: Path) -> None:
    compared = 0
    for interval in INTERVALS:
        expected = kraken_rows(archive / f"XBTUSDC_{interval}.csv")
        assert as_kraken_rows(await read_candles(url, SYMBOL, interval)) == expected, interval
        compared += len(expected) if interval > 1 else 0
    assert compared == ROWS_OF_HIGHER_INTERVALS


async def test_every_interval_equals_krakens_own_file(db_url: str, real_data: Path) -> None:
    archive = real_data / "ohlcvt"
    first = await import_paths(db_url, archive)
    assert [(done.read, done.new, done.error) for done in first.files] == [(56_717, 56_717, None)]
    assert len(first.plan.skipped) == 5
    await assert_equal_to_kraken(db_url, archive)


async def test_a_second_import_writes_nothing(db_url: str, real_data: Path) -> None:
    archive = real_data / "ohlcvt"
    await import_paths(db_url, archive, only_1m=False)
    before = await checksums(db_url)
    second = await import_paths(db_url, archive, only_1m=False)
    assert sum(done.new + done.changed for done in second.files) == 0
    assert sum(done.unchanged for done in second.files) == 56_717 + ROWS_OF_HIGHER_INTERVALS
    assert await checksums(db_url) == before
    await assert_equal_to_kraken(db_url, archive)


async def test_old_chunks_that_were_compressed_change_nothing(timescale_url: str, real_data: Path) -> None:
    archive = real_data / "ohlcvt"
    await import_paths(timescale_url, archive)
    before = await checksums(timescale_url)
    compressed = await query(timescale_url, "SELECT compress_chunk(c) FROM show_chunks('candles') c")
    assert len(compressed) >= 13
    assert await checksums(timescale_url) == before
    second = await import_file(timescale_url, archive / "XBTUSDC_1.csv")
    assert (second.new, second.changed, second.unchanged) == (0, 0, 56_717)
    await assert_equal_to_kraken(timescale_url, archive)
    assert await checksums(timescale_url) == before
