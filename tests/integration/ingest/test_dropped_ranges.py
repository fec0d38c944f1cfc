"""What retention has dropped is known exactly, also after others have come in its place (TimescaleDB)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_db.ranges import TICK
from tests.support.archives import (
    as_kraken_rows,
    at,
    checksums,
    import_file,
    import_paths,
    minutes,
    query,
    read_candles,
    write,
)
from tests.support.retention import DAY, MONDAY, WEEK, drop_minutes, everything, trades

FEWER = "100.5,102,99.5,101,2.5,3"
MORE = "100.5,102,99.5,101,2.5,9"
HALF = timedelta(seconds=0.5)
# Chunks of a week begin on Thursdays: this one has the last three days of MONDAY's week in it.
THURSDAY = MONDAY + 3 * DAY * 60


async def trades_of(url: str, interval: int, start: int, *, symbol: str = "BTC/USD") -> int:
    """The trade count of the candle that opens at ``start``."""
    rows = as_kraken_rows(await read_candles(url, symbol, interval))
    (found,) = [row[6] for row in rows if row[0] == start]
    return found


async def total(url: str, data_type: str, symbol: str = "BTC/USD") -> int:
    rows = await query(
        url,
        "SELECT total_records FROM data_sync_status WHERE data_type = :data_type AND symbol = :symbol",
        data_type=data_type,
        symbol=symbol,
    )
    return int(rows[0][0])


async def dropped(url: str, data_type: str) -> dict[str, list[tuple[Any, Any]]]:
    rows = await query(
        url,
        "SELECT symbol, lower(r), upper(r) FROM dropped_ranges, unnest(dropped) r"
        " WHERE data_type = :data_type ORDER BY 1, 2",
        data_type=data_type,
    )
    found: dict[str, list[tuple[Any, Any]]] = {}
    for symbol, start, end in rows:
        found.setdefault(symbol, []).append((start, end))
    return found


async def test_forced_half_hour_reaches_every_interval(timescale_url: str, tmp_path: Path) -> None:
    """Nothing was dropped: fewer trades than were known are no sign of that."""
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(DAY, start=MONDAY)))
    await import_file(
        url, write(tmp_path, "XBTUSD_1.csv", minutes(30, start=MONDAY, row=FEWER)), replace=True
    )
    for interval in (30, 60, 240, 720, 1440, 10080):
        whole = 7 * min(interval, DAY)
        assert await trades_of(url, interval, MONDAY) == whole - 30 * 4, interval


async def test_half_an_hour_with_more_trades_does_not_replace_the_hour(
    timescale_url: str, tmp_path: Path
) -> None:
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(3 * WEEK, start=MONDAY)))
    await drop_minutes(url, "2023-01-19")
    # 30 minutes of 20 trades are more than the 60 of 7 that were there.
    part = minutes(30, start=MONDAY, row="100.5,102,99.5,101,2.5,20")
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", part))
    assert await trades_of(url, 30, MONDAY) == 30 * 20
    assert await trades_of(url, 60, MONDAY) == 60 * 7
    assert await trades_of(url, 1440, MONDAY) == DAY * 7
    # The other half comes, too: now the hour is whole again, and counts as it is.
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(30, start=MONDAY + 1800, row=FEWER)))
    assert await trades_of(url, 60, MONDAY) == 30 * 20 + 30 * 3
    assert await trades_of(url, 10080, MONDAY) == (WEEK - 60) * 7 + 30 * 20 + 30 * 3


async def test_forced_half_hour_of_what_came_back(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    archive = write(tmp_path, "all/XBTUSD_1.csv", minutes(3 * WEEK, start=MONDAY))
    await import_file(url, archive)
    await drop_minutes(url, "2023-01-19")
    await import_file(url, archive)
    forced = write(tmp_path, "XBTUSD_1.csv", minutes(30, start=MONDAY, row=FEWER))
    await import_file(url, forced, replace=True)
    assert await trades_of(url, 60, MONDAY) == 30 * 7 + 30 * 3
    assert await trades_of(url, 1440, MONDAY) == DAY * 7 - 30 * 4
    assert await trades_of(url, 10080, MONDAY) == WEEK * 7 - 30 * 4


async def test_the_next_archive_begins_in_the_middle_of_a_dropped_week(
    timescale_url: str, tmp_path: Path
) -> None:
    """Its chunk is made anew and hides that the days before it were dropped, of this symbol and others."""
    url = timescale_url
    until = THURSDAY + WEEK * 60 + 2 * DAY * 60 + 30 * 60  # a Saturday, 00:30
    length = (until - MONDAY) // 60
    await import_paths(
        url,
        write(tmp_path, "XBTUSD_1.csv", minutes(length, start=MONDAY)),
        write(tmp_path, "ETHUSD_1.csv", minutes(length, start=MONDAY)),
    )
    await drop_minutes(url, "2023-02-01")
    before = {symbol: await everything(url, symbol) for symbol in ("BTC/USD", "ETH/USD")}
    await import_file(url, write(tmp_path, "next/XBTUSD_1.csv", minutes(WEEK, start=until, row=MORE)))

    assert await everything(url, "ETH/USD") == before["ETH/USD"]
    gone = [(at(THURSDAY + WEEK * 60), at(until))]
    assert await dropped(url, "candles_1m") == {"BTC/USD": gone, "ETH/USD": gone}
    for interval in (5, 15, 30, 60, 240, 720, 1440):
        old = {row[0]: row[6] for row in as_kraken_rows(before["BTC/USD"][interval])}
        now = {row[0]: row[6] for row in as_kraken_rows(await read_candles(url, "BTC/USD", interval))}
        assert {opens: now[opens] for opens in old if opens + interval * 60 <= until} == {
            opens: count for opens, count in old.items() if opens + interval * 60 <= until
        }, interval
        after = [opens for opens in now if opens >= until and opens + interval * 60 <= until + WEEK * 60]
        assert {now[opens] for opens in after} == {9 * interval}, interval
    # Of the hour that both have a half of, the older half had been dropped; the days have all there is.
    assert await trades_of(url, 60, until - 1800) == 30 * 7
    assert await trades_of(url, 30, until) == 30 * 9


def ten_days(start: int) -> str:
    """Of every ten minutes one, and the last ten, so that the next file follows on."""
    return minutes(DAY, start=start, every=10) + minutes(9, start=start + (10 * DAY - 9) * 60)


async def test_same_archive_again_after_the_drop_changes_nothing(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    quarters = [
        write(tmp_path, f"{number}/{pair}_1.csv", ten_days(MONDAY + number * 10 * DAY * 60))
        for number in range(2)
        for pair in ("XBTUSD", "ETHUSD")
    ]
    for path in quarters:
        await import_file(url, path)
    first = await checksums(url)
    for _ in range(2):
        await drop_minutes(url, "2023-02-01")
        for path in quarters:
            await import_file(url, path)
            await import_file(url, path)
        assert await checksums(url) == first
        assert await query(url, "SELECT * FROM dropped_ranges") == []
    assert await total(url, "candles_1m") == 2 * (DAY + 9)


async def test_quiet_weeks_are_not_taken_for_dropped_ones(timescale_url: str, tmp_path: Path) -> None:
    """One hour, three quiet weeks, one hour. Then the quiet weeks turn out to have had trades."""
    url = timescale_url
    quiet = minutes(60, start=MONDAY) + minutes(60, start=MONDAY + 4 * WEEK * 60)
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", quiet))
    await import_file(url, write(tmp_path, "ETHUSD_1.csv", minutes(5 * WEEK, start=MONDAY)))
    assert await dropped(url, "candles_1m") == {}
    between = MONDAY + 2 * WEEK * 60
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(30, start=between)))
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(30, start=between + 1800)))
    assert await trades_of(url, 60, between) == 60 * 7
    assert await trades_of(url, 10080, between) == 60 * 7
    assert await total(url, "candles_1m") == 180


async def test_a_quiet_stretch_over_weeks_that_were_dropped(timescale_url: str, tmp_path: Path) -> None:
    """What is written spans weeks of which there is no chunk at all, but candles of another symbol."""
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(5 * WEEK, start=MONDAY)))
    before = await everything(url, "BTC/USD")
    await drop_minutes(url, "2023-03-01")
    ends = minutes(60, start=MONDAY) + minutes(60, start=MONDAY + 4 * WEEK * 60)
    await import_file(url, write(tmp_path, "ETHUSD_1.csv", ends))
    assert await everything(url, "BTC/USD") == before
    assert [row[6] for row in as_kraken_rows(await read_candles(url, "ETH/USD", 60))] == [420, 420]


async def test_minutes_that_come_back_are_not_counted_again(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(DAY + 3, start=MONDAY)))
    await drop_minutes(url, "2023-02-01")
    again = await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY + 600)))
    assert (again.new, await total(url, "candles_1m")) == (60, DAY + 3)
    # Two minutes of a candle of 5m were there before, two are new.
    beyond = minutes(120, start=MONDAY + (DAY - 60) * 60)
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", beyond))
    assert await total(url, "candles_1m") == DAY + 60
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(DAY + 60, start=MONDAY)))
    assert await total(url, "candles_1m") == DAY + 60
    assert await query(url, "SELECT count(*) FROM candles") == [(DAY + 60,)]


async def test_a_last_minute_that_may_be_cut_is_counted_once(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    path = write(tmp_path, "XBTUSD_1.csv", minutes(10, start=MONDAY).rstrip("\n"))
    await import_file(url, path)
    assert await query(url, "SELECT symbol, data_type FROM unproven_ranges") == [("BTC/USD", "candles_1m")]
    await drop_minutes(url, "2023-02-01")
    await import_file(url, path)
    assert await total(url, "candles_1m") == 10
    await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(11, start=MONDAY)))
    assert await total(url, "candles_1m") == 11
    assert await query(url, "SELECT * FROM unproven_ranges") == []


async def test_candles_of_other_intervals_are_not_counted_again(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    rows = "".join(f"{MONDAY + 3600 * number},100.5,102,99.5,101,2.5,7\n" for number in range(24))
    path = write(tmp_path, "XBTUSD_60.csv", rows)
    await import_file(url, path)
    await drop_minutes(url, "2023-02-01")
    await import_file(url, write(tmp_path, "ETHUSD_1.csv", minutes(60, start=MONDAY)))
    await import_file(url, path)
    assert await total(url, "candles_1h") == 24


async def test_trades_that_come_back_are_not_counted_again(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    rows = [f"{100 + n},1,{MONDAY + 3600 * n}.5,b,l,,{n + 1}\n" for n in range(48)]
    await import_file(url, write(tmp_path, "XBTUSD.csv", "".join(rows[:40])))
    assert await query(url, "SELECT drop_chunks('trades', TIMESTAMPTZ '2023-02-01')")
    again = await import_file(url, write(tmp_path, "XBTUSD.csv", "".join(rows[30:])))
    assert (again.new, await total(url, "trades")) == (18, 48)
    gone = (datetime(2023, 1, 3, tzinfo=UTC), datetime(2023, 1, 3, 6, 0, 0, 500000, tzinfo=UTC))
    assert await dropped(url, "trades") == {"BTC/USD": [gone]}
    await import_file(url, write(tmp_path, "XBTUSD.csv", "".join(rows)))
    assert await total(url, "trades") == 48
    assert await query(url, "SELECT count(*) FROM trades") == [(48,)]
    assert await dropped(url, "trades") == {}


async def test_a_day_without_trades_was_not_dropped(timescale_url: str, tmp_path: Path) -> None:
    """For it there was no chunk before another pair traded on it."""
    url = timescale_url
    # Two days with trades, and a quiet one between them.
    day = DAY * 60
    quiet = trades(MONDAY, 100, first_id=5) + trades(MONDAY + 2 * day, 100, first_id=105)
    await import_file(url, write(tmp_path, "XRPUSD.csv", quiet))
    await import_file(url, write(tmp_path, "XBTUSD.csv", trades(MONDAY + day, 100, first_id=5)))
    assert await dropped(url, "trades") == {}
    # All of it is dropped. What comes back shows of each day whether there was anything.
    assert await query(url, "SELECT drop_chunks('trades', TIMESTAMPTZ '2023-02-01')")
    await import_file(url, write(tmp_path, "ETHUSD.csv", trades(MONDAY, 9_000)))
    tuesday, wednesday = at(MONDAY + day), at(MONDAY + 2 * day)
    # A trade every 20 s; the last one of each file is the end of what is known.
    known = [(at(start) + HALF, at(start + 99 * 20) + HALF + TICK) for start in (MONDAY, MONDAY + 2 * day)]
    assert await dropped(url, "trades") == {
        "XRP/USD": [(known[0][0], tuesday), (wednesday, known[1][1])],
        "BTC/USD": [(tuesday + HALF, at(MONDAY + day + 99 * 20) + HALF + TICK)],
    }


async def test_trades_without_minutes_may_have_been_dropped(timescale_url: str, tmp_path: Path) -> None:
    """Nothing shows on which of its days there were any."""
    url = timescale_url
    await import_file(url, write(tmp_path, "XRPUSD.csv", trades(MONDAY, 10, first_id=5)))
    await query(url, "DELETE FROM candles RETURNING 1")
    await query(url, "DELETE FROM data_sync_status WHERE data_type = 'candles_1m' RETURNING 1")
    assert await query(url, "SELECT drop_chunks('trades', TIMESTAMPTZ '2023-02-01')")
    await import_file(url, write(tmp_path, "XBTUSD.csv", trades(MONDAY, 10)))
    assert await dropped(url, "trades") == {"XRP/USD": [(at(MONDAY) + HALF, at(MONDAY + 180) + HALF + TICK)]}


async def test_trades_without_ids_that_come_back(timescale_url: str, tmp_path: Path) -> None:
    """The last stamp of such a file is not covered, for more may have come at it; it counts all the same."""
    url = timescale_url
    path = write(tmp_path, "XBTUSD.csv", "".join(f"{MONDAY + 60 * n},100.5,1\n" for n in range(10)))
    await import_file(url, path)
    assert await query(url, "SELECT drop_chunks('trades', TIMESTAMPTZ '2023-02-01')")
    await import_file(url, path)
    assert await total(url, "trades") == 10
    ids = "".join(f"100.5,1,{MONDAY + 60 * n}.25,b,l,,{n + 1}\n" for n in range(12))
    assert await query(url, "SELECT drop_chunks('trades', TIMESTAMPTZ '2023-02-01')")
    await import_file(url, write(tmp_path, "XBTUSD.csv", ids))
    assert await query(url, "SELECT count(*) FROM trades") == [(12,)]
    # Ten of them were stored before, with the stamps of whole seconds.
    assert await total(url, "trades") == 12
