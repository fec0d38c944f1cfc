"""No refresh ever erases candles whose minutes retention has dropped (TimescaleDB).

The trap: a refresh takes a window of time with all symbols in it, and deletes what has no minutes left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from kraken_db.backends import StaleRange
from tests.support.archives import (
    as_kraken_rows,
    import_file,
    kraken_rows,
    minutes,
    query,
    read_candles,
    write,
)
from tests.support.retention import DAY, MONDAY, WEEK, drop_minutes, everything


async def test_import_of_another_symbol_keeps_the_first(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(3 * WEEK, start=MONDAY)))
    before = await everything(url, "BTC/USD")
    await drop_minutes(url, "2023-01-19")
    assert await query(url, "SELECT min(timestamp) < '2023-01-19' FROM candles") == [(False,)]

    await import_file(url, write(tmp_path, "ETHUSD_1.csv", minutes(2 * DAY, start=MONDAY)))

    assert await everything(url, "BTC/USD") == before
    (first_day, second_day) = as_kraken_rows(await read_candles(url, "ETH/USD", 1440))
    assert (first_day[0], first_day[6], second_day[6]) == (MONDAY, 7 * DAY, 7 * DAY)
    assert [row[6] for row in as_kraken_rows(await read_candles(url, "ETH/USD", 10080))] == [7 * 2 * DAY]


async def test_import_of_a_part_of_what_was_dropped(timescale_url: str, tmp_path: Path) -> None:
    """Half an hour comes back of an hour that was known whole: the hour must not shrink."""
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(3 * WEEK, start=MONDAY)))
    before = await everything(url, "BTC/USD")
    await drop_minutes(url, "2023-01-19")
    part = write(tmp_path, "XBTUSD_1.csv", minutes(90, start=MONDAY + 30 * 60))
    done = await import_file(url, part)
    assert (done.new, done.error) == (90, None)
    assert await everything(url, "BTC/USD") == before


async def test_better_candles_for_a_part_of_what_was_dropped(timescale_url: str, tmp_path: Path) -> None:
    """A whole hour comes back with more trades than were known: it counts, and so do its day and week."""
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(3 * WEEK, start=MONDAY)))
    await drop_minutes(url, "2023-01-19")
    better = minutes(60, start=MONDAY, row="100.5,110,99.5,101,2.5,8")
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", better))
    hour = as_kraken_rows(await read_candles(url, "BTC/USD", 60))[0]
    day = as_kraken_rows(await read_candles(url, "BTC/USD", 1440))[0]
    week = as_kraken_rows(await read_candles(url, "BTC/USD", 10080))[0]
    assert (hour[2], hour[6]) == (Decimal(110), 8 * 60)
    assert (day[2], day[6]) == (Decimal(110), 7 * DAY + 60)
    assert (week[2], week[6]) == (Decimal(110), 7 * WEEK + 60)


async def test_same_file_again_after_its_minutes_were_dropped(timescale_url: str, real_data: Path) -> None:
    url, archive = timescale_url, real_data / "ohlcvt"
    await import_file(url, archive / "XBTUSDC_1.csv")
    before = await everything(url, "BTC/USDC")
    await drop_minutes(url, "2023-03-01")
    assert await everything(url, "BTC/USDC") == before
    await import_file(url, archive / "XBTUSDC_1.csv")
    assert await everything(url, "BTC/USDC") == before
    for interval in (5, 15, 60, 720, 1440):
        expected = kraken_rows(archive / f"XBTUSDC_{interval}.csv")
        assert as_kraken_rows(await read_candles(url, "BTC/USDC", interval)) == expected


async def test_what_a_killed_run_did_not_refresh_is_done_by_the_next(db_url: str, tmp_path: Path) -> None:
    """The order for the refresh is committed with the rows; here the run ends right after that."""
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.store import Store

    path = write(tmp_path, "XBTUSD_1.csv", minutes(DAY, start=MONDAY))
    async with BulkCSVImporter(db_url, workers=1) as importer:
        store = importer._connected()

        async def killed(also: Sequence[StaleRange] = ()) -> None:
            raise KeyboardInterrupt

        store.refresh_pending = killed  # type: ignore[method-assign]
        with contextlib.suppress(KeyboardInterrupt):
            await importer.run(importer.plan([path]))
    assert await query(db_url, "SELECT count(*) FROM pending_refresh") == [(1,)]
    store = await Store.open(db_url)
    await store.refresh_pending()
    await store.close()
    assert await query(db_url, "SELECT count(*) FROM pending_refresh") == [(0,)]
    assert [row[6] for row in as_kraken_rows(await read_candles(db_url, "BTC/USD", 1440))] == [7 * DAY]


async def test_forced_rows_count_even_with_fewer_trades(db_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD_1.csv", minutes(DAY, start=MONDAY))
    await import_file(db_url, path)
    fewer = write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY, row="100.5,102,99.5,101,2.5,3"))
    kept = await import_file(db_url, fewer)
    assert (kept.new, kept.changed, kept.unchanged) == (0, 0, 60)
    forced = await import_file(db_url, fewer, replace=True)
    assert (forced.new, forced.changed, forced.unchanged) == (0, 60, 0)
    assert as_kraken_rows(await read_candles(db_url, "BTC/USD", 60))[0][6] == 3 * 60
    assert as_kraken_rows(await read_candles(db_url, "BTC/USD", 1440))[0][6] == 7 * (DAY - 60) + 3 * 60
