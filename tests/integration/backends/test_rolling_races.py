"""Several at work on the same minutes, and what other programs do: no update is lost, nobody waits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import StaleRange
from kraken_db.backends import rolled_candles as rolling
from kraken_db.db import migrations
from kraken_db.ranges import TimeRange
from tests.support.archives import import_file, minutes, query, write
from tests.support.rolled import COLUMNS, expected_views, rows
from tests.support.stores import opened, opened_database

MONDAY = datetime(2023, 1, 2, tzinfo=UTC)
VIEWS = ("5m", "15m", "30m", "1h", "4h", "12h", "1d", "1w")
MINUTE = "('{symbol}', '{moment}+00', 1, 10, {high}, 9, 10, 2, NULL, 3, NULL)"
HOUR_OF = (
    "SELECT high, trade_count FROM candles_1h WHERE symbol = 'BTC/USD' AND timestamp = '2023-01-02 00:00+00'"
)


def one(moment: str, high: int = 11, symbol: str = "BTC/USD") -> str:
    return "INSERT INTO candles VALUES " + MINUTE.format(symbol=symbol, moment=moment, high=high)


async def assert_right(url: str) -> None:
    """All views, against Python; nothing was dropped here."""
    stored = rows(await query(url, f"SELECT {COLUMNS} FROM candles WHERE interval_minutes = 1"))
    expected = expected_views(stored, {}, lambda *_: False)
    for view in VIEWS:
        found = rows(await query(url, f"SELECT {COLUMNS} FROM candles_{view}"))
        assert sorted(found) == sorted(
            row
            for of_interval in expected.values()
            for row in of_interval.values()
            if found and row.interval_minutes == found[0].interval_minutes
        )


async def refresh(url: str) -> None:
    async with opened(url) as store:
        await store.refresh_pending()


async def pending(url: str) -> list[str]:
    found = await query(url, "SELECT symbol || ' ' || stale FROM pending_refresh ORDER BY 1")
    return [row[0] for row in found]


# --- notes ---


async def test_touching_notes_become_one(plain_url: str) -> None:
    """As a download writes, page by page."""
    for minute in range(10, 20):
        await query(plain_url, one(f"2023-01-02 00:{minute}"))
    assert await pending(plain_url) == ['BTC/USD ["2023-01-02 00:10:00+00","2023-01-02 00:20:00+00")']


async def test_minutes_far_apart_are_notes_of_their_own(plain_url: str) -> None:
    """One statement, two symbols; weeks that follow each other are one note."""
    moments = ("2019-03-04 05:06", "2023-01-02 00:00", "2023-01-09 12:00")
    values = [
        MINUTE.format(symbol=symbol, moment=moment, high=11)
        for symbol, moment in (*(("BTC/USD", moment) for moment in moments), ("ETH/USD", moments[1]))
    ]
    await query(plain_url, f"INSERT INTO candles VALUES {', '.join(values)}")
    assert await pending(plain_url) == [
        'BTC/USD ["2019-03-04 05:06:00+00","2019-03-04 05:07:00+00")',
        'BTC/USD ["2023-01-02 00:00:00+00","2023-01-09 12:01:00+00")',
        'ETH/USD ["2023-01-02 00:00:00+00","2023-01-02 00:01:00+00")',
    ]


async def test_what_changes_nothing_is_no_note(plain_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD_1.csv", minutes(1440))
    await import_file(plain_url, path)
    await import_file(plain_url, write(tmp_path, "XBTUSD_60.csv", "1672531200,100.5,102,99.5,101,150,420\n"))
    await import_file(plain_url, path)
    await query(plain_url, "DELETE FROM candles WHERE symbol = 'LTC/USD'")
    assert await pending(plain_url) == []


async def test_a_minute_at_no_time_is_no_note(plain_url: str) -> None:
    """Nonsense of another program: no other candle suffers from it."""
    await query(plain_url, one("2023-01-02 00:10"))
    await query(plain_url, one("2023-01-02 00:11").replace("2023-01-02 00:11+00", "infinity"))
    await refresh(plain_url)
    assert await pending(plain_url) == []
    assert await query(plain_url, HOUR_OF) == [(11, 3)]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_two_programs_write_side_by_side(plain_url: str, isolation: str) -> None:
    """The same hour, both at once, in any isolation: neither waits for the other or fails."""
    await query(plain_url, one("2023-01-02 00:10"))
    async with (
        opened_database(plain_url) as database,
        database.engine.connect() as first,
        database.engine.connect() as second,
    ):
        for connection in (first, second):
            await connection.execution_options(isolation_level=isolation)
            await connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        await first.execute(text(one("2023-01-02 00:11", 20)))
        await second.execute(text(one("2023-01-02 00:12", 30)))
        await second.commit()
        await first.commit()
    await assert_right(plain_url)
    assert await query(plain_url, HOUR_OF) == [(30, 9)]
    await refresh(plain_url)
    assert await pending(plain_url) == []
    assert await query(plain_url, HOUR_OF) == [(30, 9)]


@pytest.mark.one_server("a role logs in on each node of Citus, and reads views of what it may read")
async def test_a_role_that_may_only_write_candles(plain_url: str) -> None:
    """With a search path of its own, too; and one that may only read one view."""
    name = f"writer_{plain_url.rsplit('_', 2)[-2]}_{plain_url.rsplit('_', 1)[-1]}"
    await query(plain_url, f"CREATE ROLE {name} NOLOGIN")
    try:
        await query(plain_url, f"GRANT INSERT, SELECT, DELETE ON candles TO {name}")
        await query(plain_url, f"GRANT SELECT ON candles_1d TO {name}")
        async with opened_database(plain_url) as database:
            async with database.begin() as connection:
                await connection.execute(text(f"SET LOCAL ROLE {name}"))
                await connection.execute(text("SET LOCAL search_path = pg_catalog"))
                await connection.execute(
                    text(one("2023-01-02 00:10").replace("INTO candles", "INTO public.candles"))
                )
            await query(plain_url, f"REVOKE ALL ON candles FROM {name}")
            async with database.begin() as connection:
                await connection.execute(text(f"SET LOCAL ROLE {name}"))
                await connection.execute(text("SET LOCAL search_path = pg_catalog"))
                found = await connection.execute(text("SELECT trade_count FROM public.candles_1d"))
                assert found.scalars().all() == [3]
        assert len(await pending(plain_url)) == 1
    finally:
        await query(plain_url, f"DROP OWNED BY {name}")
        await query(plain_url, f"DROP ROLE {name}")


# --- refreshes ---


async def test_refreshes_and_writers_at_once(plain_url: str) -> None:
    """Four of each, all at work on the same hours; at the end everything is stored, and right."""
    await query(plain_url, one("2023-01-02 00:00"))

    async def write_some(writer: int) -> None:
        for hour in range(5):
            await query(plain_url, one(f"2023-01-02 {hour:02}:{10 + writer}", 20 + writer))

    async def refresh_some() -> None:
        for _ in range(3):
            await refresh(plain_url)

    await asyncio.gather(*(write_some(n) for n in range(4)), *(refresh_some() for _ in range(4)))
    await assert_right(plain_url)
    await refresh(plain_url)
    assert await pending(plain_url) == []
    await assert_right(plain_url)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_note_that_a_writer_adds_to_is_left_alone(plain_url: str, commits: bool) -> None:
    """The refresh neither waits for the writer nor takes off the note that he may put back."""
    await query(plain_url, one("2023-01-02 00:10"))
    async with opened_database(plain_url) as database, database.engine.connect() as writer:
        await writer.execute(text(one("2023-01-02 00:11", 20)))
        await asyncio.wait_for(refresh(plain_url), 20)
        assert await query(plain_url, HOUR_OF) == [(11, 3)]
        await (writer.commit() if commits else writer.rollback())
    expected = [(20, 6)] if commits else [(11, 3)]
    assert await query(plain_url, HOUR_OF) == expected
    assert len(await pending(plain_url)) == 1
    await refresh(plain_url)
    assert (await pending(plain_url), await query(plain_url, HOUR_OF)) == ([], expected)


async def test_a_writer_does_not_wait_for_a_refresh(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """He writes into the very hour that is being rolled up: his minute is seen at once, and after it."""
    await query(plain_url, one("2023-01-02 00:10"))
    roll, seen = rolling._roll, []

    async def roll_and_write(connection: AsyncConnection, *values: Any) -> None:
        await roll(connection, *values)
        await asyncio.wait_for(query(plain_url, one("2023-01-02 00:11", 20)), 20)
        seen.extend(await query(plain_url, HOUR_OF))

    monkeypatch.setattr(rolling, "_roll", roll_and_write)
    await refresh(plain_url)
    assert seen == [(20, 6)]
    assert await query(plain_url, HOUR_OF) == [(20, 6)]
    monkeypatch.setattr(rolling, "_roll", roll)
    await refresh(plain_url)
    assert (await pending(plain_url), await query(plain_url, HOUR_OF)) == ([], [(20, 6)])


async def test_a_range_without_a_note_is_rolled_up_too(plain_url: str) -> None:
    """Should ``rolled_candles`` have been changed by hand."""
    await query(plain_url, one("2023-01-02 00:10"))
    await refresh(plain_url)
    await query(plain_url, "UPDATE rolled_candles SET high = 99")
    async with opened(plain_url) as store:
        stale = [StaleRange("BTC/USD", MONDAY, MONDAY.replace(hour=1))]
        await store.backend.refresh(store.database, store.clock(), stale)
    assert await pending(plain_url) == []
    await assert_right(plain_url)


async def test_a_note_that_reaches_into_the_next_slice_keeps_the_rest(
    plain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that a writer makes after the notes were cut; a slice begins on 2023-03-27."""

    async def uncut(_connection: object, _symbol: str, spans: list[TimeRange]) -> list[TimeRange]:
        return list(rolling._slices(spans))

    for moment in ("2023-03-26 23:59", "2023-03-27 00:00"):
        await query(plain_url, one(moment))
    assert len(await pending(plain_url)) == 1
    monkeypatch.setattr(rolling, "_note_slices", uncut)
    async with opened(plain_url) as store:
        stale = [StaleRange("BTC/USD", MONDAY, MONDAY.replace(hour=1))]
        await rolling.roll_pending(store.database, stale)
    assert await pending(plain_url) == ['BTC/USD ["2023-03-27 00:00:00+00","2023-03-27 00:01:00+00")']
    await assert_right(plain_url)


# --- the revision ---


async def test_a_store_that_holds_data_goes_down_and_up(plain_empty_url: str) -> None:
    """What the views show is the same after the way down and up, but for what was changed down there."""
    await migrations.upgrade(plain_empty_url)
    for number, week in enumerate(("2022-12-26", "2023-01-02", "2023-01-09", "2023-04-03")):
        for symbol in ("BTC/USD", "ETH/USD"):
            await query(
                plain_empty_url,
                "INSERT INTO candles SELECT CAST(:symbol AS text), m, 1, 10 + :n, 20, 5, 11, 1.5,"
                " 15.25, 3, 10.1 + :n FROM generate_series(CAST(:start AS timestamptz),"
                " CAST(:start AS timestamptz) + INTERVAL '30 hours', INTERVAL '7 minutes') m",
                symbol=symbol,
                n=number,
                start=datetime.fromisoformat(f"{week}T22:00+00:00"),
            )
    # Retention has dropped an hour and kept its candles; half of it is there again.
    kept = "'2022-12-26 23:00+00', 1, 1, 1, 1, 77, NULL, 7, NULL, true"
    await query(plain_empty_url, f"INSERT INTO rolled_candles SELECT 'BTC/USD', 60, {kept}")
    await query(
        plain_empty_url,
        "INSERT INTO dropped_ranges VALUES ('BTC/USD', 'candles_1m',"
        " '{[2022-12-26 23:00+00, 2022-12-26 23:30+00)}')",
    )
    before = await everything(plain_empty_url)
    assert [row for row in before["1h"] if row.trade_count == 7]
    await refresh(plain_empty_url)
    assert await pending(plain_empty_url) == []
    assert await everything(plain_empty_url) == before

    await migrations.downgrade(plain_empty_url, "1002")
    assert await query(plain_empty_url, "SELECT interval_minutes, trade_count FROM rolled_candles") == [
        (60, 7)
    ]
    # Nothing notes it there.
    april = datetime(2023, 4, 3, tzinfo=UTC)
    await query(
        plain_empty_url, "DELETE FROM candles WHERE symbol = 'ETH/USD' AND timestamp >= :april", april=april
    )
    expected = {
        view: [row for row in found if row.symbol == "BTC/USD" or row.timestamp < april]
        for view, found in before.items()
    }
    assert all(len(expected[view]) < len(before[view]) for view in VIEWS)

    await migrations.upgrade(plain_empty_url)
    assert await everything(plain_empty_url) == expected
    assert len(await pending(plain_empty_url)) == 2
    await refresh(plain_empty_url)
    assert await pending(plain_empty_url) == []
    assert await everything(plain_empty_url) == expected


async def everything(url: str) -> dict[str, list[Any]]:
    return {view: sorted(rows(await query(url, f"SELECT {COLUMNS} FROM candles_{view}"))) for view in VIEWS}
