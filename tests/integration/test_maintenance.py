"""Retention on plain PostgreSQL: minutes and trades go, and no candle of a higher interval with them.

2023-01-02 is a Monday. ``now`` is given, so that files of 2023 are of any age that a test wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kraken_db import HistoricalDataProvider
from kraken_db.backends import OldRows, PostgresBackend
from kraken_db.ranges import TimeRange
from tests.support.archives import (
    as_kraken_rows,
    import_file,
    kraken_rows,
    minutes,
    query,
    read_candles,
    write,
)
from tests.support.lanes import Lane
from tests.support.plans import touched, watched
from tests.support.retention import DAY, MONDAY, VALUES, WEEK, everything, keep, maintain, trades, views


async def tables(url: str) -> list[Any]:
    return [
        await query(url, f"SELECT * FROM {table} ORDER BY symbol, {order}")
        for table, order in (
            ("candles", "interval_minutes, timestamp"),
            ("rolled_candles", "interval_minutes, timestamp"),
            ("dropped_ranges", "data_type"),
            ("trades", "timestamp"),
        )
    ]


def moment(day: int, hour: int = 0) -> datetime:
    return datetime(2023, 1, day, hour, tzinfo=UTC)


async def three_weeks(url: str, folder: Path, *names: str) -> None:
    """From Monday the 2nd to Sunday the 22nd of January, all minutes alike."""
    for name in names or ("XBTUSD",):
        await import_file(url, write(folder, f"{name}_1.csv", minutes(3 * WEEK, start=MONDAY)))


# --- what stays ---


async def test_all_intervals_of_real_candles_stay(plain_url: str, real_data: Path) -> None:
    """Cut on a Saturday: the week, and only the week, has minutes on one side and none on the other."""
    archive = real_data / "ohlcvt"
    await import_file(plain_url, archive / "XBTUSDC_1.csv")
    of_views, of_provider = await views(plain_url), await everything(plain_url, "BTC/USDC")
    await keep(plain_url, candles=timedelta(days=12))

    report = await maintain(plain_url, datetime(2023, 3, 16, 10, 30, tzinfo=UTC))

    cut = int(datetime(2023, 3, 4, tzinfo=UTC).timestamp())
    rows = kraken_rows(archive / "XBTUSDC_1.csv")
    assert report.tables[1].dropped_rows == sum(row[0] < cut for row in rows)
    assert as_kraken_rows(await read_candles(plain_url, "BTC/USDC", 1)) == [
        row for row in rows if row[0] >= cut
    ]
    assert await views(plain_url) == of_views
    assert await everything(plain_url, "BTC/USDC") == of_provider
    for interval in (5, 15, 60, 720, 1440):
        expected = kraken_rows(archive / f"XBTUSDC_{interval}.csv")
        assert as_kraken_rows(await read_candles(plain_url, "BTC/USDC", interval)) == expected
    dropped = await query(plain_url, "SELECT data_type, dropped::text FROM dropped_ranges")
    assert dropped == [("candles_1m", '{["2023-01-01 00:00:00+00","2023-03-04 00:00:00+00")}')]


async def test_values_worked_out_by_hand(plain_url: str) -> None:
    """Two minutes of an hour; of one the vwap is unknown, and so it is of the hour and of the week."""
    await query(
        plain_url,
        "INSERT INTO candles VALUES"
        " ('BTC/USD', '2023-01-02 00:01+00', 1, 10, 12, 9, 11, 9000000000, 5, 3, 10.5),"
        " ('BTC/USD', '2023-01-02 00:58+00', 1, 11, 20, 8, 19, 3000000000, 6, 4, NULL)",
    )
    await query(
        plain_url,
        "INSERT INTO data_sync_status (symbol, data_type) VALUES ('BTC/USD', 'candles_1m')",
    )
    await keep(plain_url, candles=timedelta(days=10))
    report = await maintain(plain_url, moment(31))
    assert report.tables[1].dropped_rows == 2
    opens, volume = datetime(2023, 1, 2, tzinfo=UTC), Decimal(12_000_000_000)
    hour = ("BTC/USD", opens, 60, 10, 20, 8, 19, volume, 11, 7, None)
    assert await query(plain_url, f"SELECT {VALUES} FROM candles_1h") == [hour]
    week = ("BTC/USD", opens, 10080, 10, 20, 8, 19, volume, 11, 7, None)
    assert await query(plain_url, f"SELECT {VALUES} FROM candles_1w") == [week]
    # Nobody has said that anything is covered: what is gone are the minutes themselves.
    ((dropped,),) = await query(plain_url, "SELECT dropped::text FROM dropped_ranges")
    assert dropped == (
        '{["2023-01-02 00:01:00+00","2023-01-02 00:02:00+00"),'
        '["2023-01-02 00:58:00+00","2023-01-02 00:59:00+00")}'
    )


async def test_other_intervals_of_a_file_and_other_symbols_stay(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path, "XBTUSD", "ETHUSD")
    await import_file(plain_url, write(tmp_path, "XBTUSD_60.csv", f"{MONDAY},100.5,102,99.5,101,150,420\n"))
    before = await views(plain_url)
    await keep(plain_url, candles=timedelta(days=10))
    report = await maintain(plain_url, moment(26))
    # Up to the 16th: two weeks of two symbols.
    assert (report.tables[1].dropped_rows, report.tables[1].dropped_pieces) == (2 * 2 * WEEK, 4)
    assert await views(plain_url) == before
    left = (
        "SELECT symbol, interval_minutes, count(*), min(timestamp) FROM candles GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert await query(plain_url, left) == [
        ("BTC/USD", 1, WEEK, moment(16)),
        ("BTC/USD", 60, 1, moment(2)),
        ("ETH/USD", 1, WEEK, moment(16)),
    ]


async def test_oldest_newest_and_latest_of_what_has_no_minutes(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path)
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, datetime(2024, 1, 1, tzinfo=UTC))
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(0,)]
    async with HistoricalDataProvider(plain_url) as provider:
        assert await provider.get_latest_candles("BTC/USD", 1, 5) == []
        newest = await provider.get_latest_candles("BTC/USD", 240, 2)
        assert [candle.timestamp for candle in newest] == [moment(22, 16), moment(22, 20)]
        many = await provider.get_latest_candles("BTC/USD", 10080, 99)
        assert [candle.timestamp for candle in many] == [moment(2), moment(9), moment(16)]
        some = await provider.get_candles("BTC/USD", 5, moment(3), moment(3, 1))
        assert [candle.trade_count for candle in some] == [35] * 12


# --- what comes again ---


async def test_a_part_of_an_hour_comes_again(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path)
    before = await views(plain_url)
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, moment(26))
    part = minutes(30, start=MONDAY + 600, row="100.5,500,99.5,101,2.5,90")
    done = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", part))
    assert (done.new, done.error) == (30, None)

    async def check() -> None:
        after = await views(plain_url)
        for interval in (60, 240, 720, 1440, 10080):
            assert after[interval] == before[interval]
        # 5m from 00:10 on are whole again; 00:00 to 00:15 is not, 00:15 to 00:30 is.
        assert [row[9] for row in after[5][:9]] == [35, 35, *[450] * 6, 35]
        assert [row[9] for row in after[15][:4]] == [105, 90 * 15, 105, 105]
        assert [row[9] for row in after[30][:2]] == [210, 210]
        for interval, rows in (await everything(plain_url, "BTC/USD")).items():
            assert [candle.trade_count for candle in rows] == [row[9] for row in after[interval]]

    await check()
    again = await maintain(plain_url, moment(26))
    assert again.tables[1].dropped_rows == 30
    await check()


async def test_a_whole_hour_comes_again_with_other_numbers(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path)
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, moment(26))
    other = minutes(60, start=MONDAY + 7200, row="100.5,110,90,101,2.5,5")
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", other))

    async def check() -> None:
        found = await views(plain_url)
        third_hour, first_4h, day, week = found[60][2], found[240][0], found[1440][0], found[10080][0]
        assert (third_hour[4], third_hour[5], third_hour[9]) == (110, 90, 5 * 60)
        assert (first_4h[4], first_4h[5], first_4h[9]) == (110, 90, 7 * 240 - 2 * 60)
        assert (day[4], day[5], day[9]) == (110, 90, 7 * DAY - 2 * 60)
        assert (week[4], week[5], week[9]) == (110, 90, 7 * WEEK - 2 * 60)
        for interval, rows in (await everything(plain_url, "BTC/USD")).items():
            assert [candle.trade_count for candle in rows] == [row[9] for row in found[interval]]

    await check()
    assert await query(plain_url, "SELECT count(*) FROM candles WHERE timestamp < '2023-01-16'") == [(60,)]
    await maintain(plain_url, moment(26))
    assert await query(plain_url, "SELECT count(*) FROM candles WHERE timestamp < '2023-01-16'") == [(0,)]
    await check()


async def test_what_was_kept_and_came_back_is_not_shown_again(plain_url: str, tmp_path: Path) -> None:
    """Dropped, imported again, deleted by hand, and the quiet hour then dropped: nothing is left to show."""
    await three_weeks(plain_url, tmp_path)
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, moment(26))
    await three_weeks(plain_url, tmp_path)
    await query(plain_url, "DELETE FROM candles WHERE timestamp < '2023-01-02 01:00+00'")
    await maintain(plain_url, moment(26))
    found = await views(plain_url)
    for interval in (5, 15, 30, 60):
        assert found[interval][0][1] == moment(2, 1)
        assert (await read_candles(plain_url, "BTC/USD", interval))[0].timestamp == moment(2, 1)
    assert [row[9] for row in (found[240][0], found[1440][0])] == [7 * 180, 7 * (DAY - 60)]


async def test_minutes_that_were_dropped_do_not_look_quiet(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path)
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, moment(26))
    # An hour comes back, of which the second half is quiet.
    part = minutes(30, start=MONDAY) + minutes(1, start=MONDAY + 59 * 60)
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", part))
    async with HistoricalDataProvider(plain_url) as provider:
        filled = await provider.get_candles("BTC/USD", 1, moment(2), moment(2, 3), fill="previous")
        assert [candle.trade_count for candle in filled] == [7] * 30 + [0] * 29 + [7]
        hours = await provider.get_candles("BTC/USD", 60, moment(2), moment(2, 3), fill="previous")
        assert [candle.trade_count for candle in hours] == [7 * 31, 420, 420]


# --- runs ---


async def test_a_second_run_finds_nothing(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path)
    await keep(plain_url, candles=timedelta(days=10), trades=timedelta(days=2))
    await maintain(plain_url, moment(26))
    before = await tables(plain_url)
    again = await maintain(plain_url, moment(26))
    assert [(table.dropped_rows, table.dropped_pieces) for table in again.tables] == [(0, 0), (0, 0)]
    assert await tables(plain_url) == before


async def test_nothing_goes_without_a_retention_and_in_a_dry_run(plain_url: str, tmp_path: Path) -> None:
    await three_weeks(plain_url, tmp_path)
    before = await tables(plain_url)
    report = await maintain(plain_url, datetime(2030, 1, 1, tzinfo=UTC))
    assert (report.has_retention, report.tables[1].before) == (False, None)
    await keep(plain_url, candles=timedelta(days=10))
    dry = await maintain(plain_url, moment(26), dry_run=True)
    assert (dry.tables[1].dropped_rows, dry.tables[1].before) == (2 * WEEK, moment(16))
    assert await tables(plain_url) == before


async def test_killed_after_each_piece(
    lanes: dict[str, Lane], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six pieces; the run ends before, in the middle of and after each of them, and is started again."""
    path = tmp_path / "archives"
    drop = PostgresBackend.drop
    with lanes["postgres"].migrated_database() as undisturbed, lanes["postgres"].migrated_database() as url:
        for one in (undisturbed, url):
            await three_weeks(one, path, "XBTUSD", "ETHUSD")
            await keep(one, candles=timedelta(days=10))
        before = await views(url)
        await maintain(undisturbed, moment(31))
        done = 0

        async def killed(
            self: PostgresBackend, connection: Any, piece: OldRows, keep: Sequence[TimeRange] = ()
        ) -> int:
            nonlocal done
            rows = await drop(self, connection, piece, keep)
            done += 1
            if done % 2 == 0:
                raise KeyboardInterrupt
            return rows

        monkeypatch.setattr(PostgresBackend, "drop", killed)
        runs = 0
        while True:
            runs += 1
            try:
                await maintain(url, moment(31))
                break
            except KeyboardInterrupt:
                assert await views(url) == before
        assert runs == 6
        assert await tables(url) == await tables(undisturbed)


# --- trades ---


async def test_trades_go_after_their_candles_were_built(plain_url: str, tmp_path: Path) -> None:
    """Ten minutes of three trades each, from 00:00:00.5 on; the first and the last minute may be cut."""
    await import_file(
        plain_url, write(tmp_path, "XBTUSD.csv", trades(MONDAY, 30, first_id=11)), build_candles=False
    )
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(0,)]
    await keep(plain_url, trades=timedelta(days=2))
    dry = await maintain(plain_url, moment(10), dry_run=True)
    assert (dry.tables[0].dropped_rows, dry.tables[0].before) == (30, moment(8))

    report = await maintain(plain_url, moment(10))

    # What is before the first trade and behind the last one is not known: their minutes stay.
    assert (report.built_candles, report.tables[0].dropped_rows, report.tables[0].kept_minutes) == (8, 24, 2)
    left = await query(plain_url, "SELECT id FROM trades ORDER BY id")
    assert left == [(11,), (12,), (13,), (38,), (39,), (40,)]
    second = await query(plain_url, f"SELECT {VALUES} FROM candles ORDER BY timestamp LIMIT 1")
    # Prices 103, 104, 105, half a coin each.
    opens = datetime(2023, 1, 2, 0, 1, tzinfo=UTC)
    half = Decimal("1.5")
    assert second == [("BTC/USD", opens, 1, 103, 105, 103, 105, half, 156, 3, 104)]
    dropped = await query(plain_url, "SELECT dropped::text FROM dropped_ranges WHERE data_type = 'trades'")
    assert dropped == [('{["2023-01-02 00:01:00+00","2023-01-02 00:09:00+00")}',)]
    again = await maintain(plain_url, moment(10))
    assert (again.built_candles, again.tables[0].dropped_rows, again.tables[0].kept_minutes) == (0, 0, 2)


async def test_trades_whose_candles_came_from_elsewhere_or_are_gone_themselves(
    plain_url: str, tmp_path: Path
) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10, start=MONDAY)))
    await import_file(plain_url, write(tmp_path, "XBTUSD.csv", trades(MONDAY, 30)))
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, moment(26))
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(0,)]
    await keep(plain_url, trades=timedelta(days=2))
    report = await maintain(plain_url, moment(26))
    assert (report.built_candles, report.tables[0].dropped_rows, report.tables[0].kept_minutes) == (0, 30, 0)
    assert [row[9] for row in (await views(plain_url))[1440]] == [70]


async def test_trades_and_their_minutes_go_in_one_run(plain_url: str, tmp_path: Path) -> None:
    """Both are older than they are kept: built, rolled up, gone; and the day shows them."""
    await import_file(
        plain_url, write(tmp_path, "XBTUSD.csv", trades(MONDAY, 30, first_id=11)), build_candles=False
    )
    await keep(plain_url, trades=timedelta(days=2), candles=timedelta(days=10))
    report = await maintain(plain_url, moment(26))
    assert (report.built_candles, report.tables[0].dropped_rows, report.tables[1].dropped_rows) == (8, 24, 8)
    assert [row[9] for row in (await views(plain_url))[1440]] == [24]


# --- reads ---


async def test_reading_what_was_rolled_up_needs_no_statistics(plain_url: str, tmp_path: Path) -> None:
    """Right after a run PostgreSQL takes the new rows for one or none: no plan may rely on it."""
    await query(plain_url, "ALTER TABLE rolled_candles SET (autovacuum_enabled = off)")
    await three_weeks(plain_url, tmp_path)
    await keep(plain_url, candles=timedelta(days=10))
    await maintain(plain_url, moment(26))
    async with watched(plain_url, HistoricalDataProvider) as (provider, plans):
        assert len(await provider.get_candles("BTC/USD", 5, moment(2), moment(23))) == 3 * WEEK / 5
        assert len(await provider.get_latest_candles("BTC/USD", 60, 500)) == 500
    # By the square of the rows it would be millions.
    assert max(touched(plan) for plan in plans) <= 3 * WEEK
