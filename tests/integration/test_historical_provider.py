"""HistoricalDataProvider over small stores that can be checked by hand, on both lanes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from kraken_db.backends.postgres import PostgresBackend
from kraken_db.db.engine import Database
from kraken_db.errors import ConfigurationError, PairError
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.repositories import CandleRepository
from kraken_db.types import Candle
from tests.support.archives import EVER, START, at, import_file, import_texts, query, read_candles, write
from tests.support.lanes import Lane
from tests.support.stores import opened_database

# Minutes 0, 1, 2, 7 and 61 of an hour and a bit: everything else was quiet.
TRADED = (0, 1, 2, 7, 61)


def candle_file() -> str:
    return "".join(
        f"{START + 60 * m},{100 + m},{110 + m},{90 + m},{105 + m},{m + 1}.5,{m + 1}\n" for m in TRADED
    )


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": candle_file()})


@pytest.fixture
def filled(lane: Lane) -> Iterator[str]:
    with lane.filled_database(fill) as url:
        yield url


@pytest.fixture
async def provider(filled: str) -> AsyncIterator[HistoricalDataProvider]:
    async with HistoricalDataProvider(filled) as connected:
        yield connected


def opens(candles: list[Candle]) -> list[int]:
    """Minutes since the start at which the candles open."""
    return [int((candle.timestamp - at(START)).total_seconds()) // 60 for candle in candles]


async def test_candles_by_hand(provider: HistoricalDataProvider) -> None:
    first, second, third = await provider.get_candles("BTC/USD", 5, at(START), at(START + 7200))
    assert first == Candle(
        "BTC/USD",
        at(START),
        5,
        Decimal(100),
        Decimal(112),
        Decimal(90),
        Decimal(107),
        Decimal("7.5"),
        6,
        None,
    )
    assert (second.timestamp, second.open, second.close) == (at(START + 300), Decimal(107), Decimal(112))
    assert second.trade_count == 8
    assert third.timestamp == at(START + 3600)


async def test_start_is_inclusive_and_end_exclusive(provider: HistoricalDataProvider) -> None:
    minute = timedelta(minutes=1)
    assert opens(await provider.get_candles("BTC/USD", 1, at(START), at(START) + 2 * minute)) == [0, 1]
    assert opens(await provider.get_candles("BTC/USD", 1, at(START) + minute, at(START) + 7 * minute)) == [
        1,
        2,
    ]
    assert opens(await provider.get_candles("BTC/USD", 5, at(START) + minute, at(START) + 6 * minute)) == [5]
    assert opens(await provider.get_candles("BTC/USD", 1, *EVER, limit=3)) == [0, 1, 2]
    assert await provider.get_candles("BTC/USD", 1, at(START), at(START)) == []
    assert await provider.get_candles("BTC/USD", 1, *EVER[::-1]) == []


async def test_latest_is_oldest_first_and_reaches_over_quiet_time(provider: HistoricalDataProvider) -> None:
    assert opens(await provider.get_latest_candles("BTC/USD", 1, 2)) == [7, 61]
    assert opens(await provider.get_latest_candles("BTC/USD", 1, 100)) == list(TRADED)
    assert opens(await provider.get_latest_candles("BTC/USD", 60, 5)) == [0, 60]
    assert await provider.get_latest_candles("BTC/USD", 1, 0) == []
    assert await provider.get_latest_candles("ETH/USD", 1, 5) == []


async def test_warm_up_takes_closed_candles_only(filled: str) -> None:
    async with HistoricalDataProvider(filled) as provider:
        provider._connected().clock = lambda: at(START + 62 * 60)
        assert opens(await provider.get_warmup_data("BTC/USD", 1, 2)) == [7, 61]
        assert opens(await provider.get_warmup_data("BTC/USD", 60, 2)) == [0]


async def test_quiet_intervals_are_filled_on_request(provider: HistoricalDataProvider) -> None:
    filled = await provider.get_candles("BTC/USD", 1, *EVER, fill="previous")
    assert opens(filled) == list(range(62))
    flat = filled[3]
    assert (flat.open, flat.high, flat.low, flat.close) == (Decimal(107),) * 4
    assert (flat.volume, flat.trade_count, flat.vwap) == (Decimal(0), 0, None)
    assert [c for c in filled if c.trade_count] == await provider.get_candles("BTC/USD", 1, *EVER)
    late = await provider.get_candles("BTC/USD", 1, at(START + 600), at(START + 720), fill="previous")
    assert [(c.close, c.trade_count) for c in late] == [(Decimal(112), 0)] * 2
    assert opens(await provider.get_latest_candles("BTC/USD", 1, 3, fill="previous")) == [59, 60, 61]
    # Of twelve five-minute intervals only whole ones are known: the last ends after what was imported.
    assert opens(await provider.get_candles("BTC/USD", 5, *EVER, fill="previous")) == list(range(0, 65, 5))


async def test_a_gap_is_never_filled(db_url: str, tmp_path: Path) -> None:
    """Two files with an hour between them of which nothing is known."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", candle_file()))
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", f"{START + 7200},1,1,1,1,1,1\n"))
    async with HistoricalDataProvider(db_url) as provider:
        assert opens(await provider.get_candles("BTC/USD", 1, *EVER, fill="previous")) == [*range(62), 120]


async def test_multi_timeframe_never_looks_ahead(provider: HistoricalDataProvider) -> None:
    frames = await provider.get_multi_timeframe_candles("BTC/USD", at(START + 62 * 60 - 1))
    assert sorted(frames) == [1, 5, 15, 60, 240]
    assert opens(frames[1]) == [0, 1, 2, 7]
    assert opens(frames[60]) == [0]
    assert frames[240] == []
    frames = await provider.get_multi_timeframe_candles("BTC/USD", at(START + 62 * 60), [1, 60], 1)
    assert {interval: opens(candles) for interval, candles in frames.items()} == {1: [61], 60: [0]}


async def test_replay_at_once_and_in_pace(provider: HistoricalDataProvider) -> None:
    replayed = [c async for c in provider.replay_candles("BTC/USD", 1, *EVER, speed=0)]
    assert replayed == await provider.get_candles("BTC/USD", 1, *EVER)
    began = time.monotonic()
    fast = [c async for c in provider.replay_candles("BTC/USD", 1, at(START), at(START + 180), speed=1200)]
    assert len(fast) == 3
    assert time.monotonic() - began >= 120 / 1200


async def test_what_is_stored(provider: HistoricalDataProvider) -> None:
    assert await provider.get_symbols() == ["BTC/USD"]
    assert await provider.get_data_range("XBT/USD") == {
        "oldest": at(START),
        "newest": at(START + 61 * 60),
        "total_candles": 5,
    }
    assert await provider.get_data_range("ETH/USD") == {"oldest": None, "newest": None, "total_candles": 0}
    status = await provider.get_sync_status("BTC/USD")
    assert status is not None
    assert list(status) == ["symbol", "data_type", "oldest", "newest", "last_sync", "total_records"]
    assert status["data_type"] == "candles_1m"
    assert await provider.get_sync_status("ETH/USD") is None
    assert (await provider.health_check())["total_candles"] == 5


async def test_wrong_arguments(provider: HistoricalDataProvider) -> None:
    naive = datetime(2023, 1, 1)  # noqa: DTZ001 (that is the point)
    with pytest.raises(ConfigurationError, match="start has no time zone"):
        await provider.get_candles("BTC/USD", 1, naive, EVER[1])
    with pytest.raises(ConfigurationError, match="end_time has no time zone"):
        await provider.get_multi_timeframe_candles("BTC/USD", naive)
    with pytest.raises(ConfigurationError, match="no interval"):
        await provider.get_candles("BTC/USD", 0, *EVER)
    with pytest.raises(ConfigurationError, match="negative"):
        await provider.get_latest_candles("BTC/USD", 1, -1)
    with pytest.raises(ConfigurationError, match="negative"):
        await provider.get_candles("BTC/USD", 1, *EVER, limit=-1)
    with pytest.raises(ConfigurationError, match="fill='next'"):
        await provider.get_candles("BTC/USD", 1, *EVER, fill="next")  # type: ignore[arg-type]
    with pytest.raises(PairError):
        await provider.get_candles("'; DROP TABLE candles; --", 1, *EVER)


LONG_AGO, FAR_AHEAD = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))])
async def test_ranges_wider_than_all_time(db_url: str, tmp_path: Path, zone: timezone) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", candle_file()))
    ever = LONG_AGO.replace(tzinfo=zone), FAR_AHEAD.replace(tzinfo=zone)
    async with HistoricalDataProvider(db_url) as provider:
        for interval, count in ((1, 5), (60, 2), (10080, 1)):
            stored = await provider.get_candles("BTC/USD", interval, *EVER)
            assert len(stored) == count
            assert await provider.get_candles("BTC/USD", interval, *ever) == stored
            assert [c async for c in provider.replay_candles("BTC/USD", interval, *ever, speed=0)] == stored
            assert await provider.get_latest_candles("BTC/USD", interval, 10**30) == stored
        filled = await provider.get_candles("BTC/USD", 1, *ever, fill="previous")
        assert opens(filled) == list(range(62))
        replay = provider.replay_candles("BTC/USD", 1, *ever, speed=0, fill="previous")
        assert [c async for c in replay] == filled
        assert await provider.get_trades("BTC/USD", *ever) == []
        assert await provider.get_candles("BTC/USD", 60, *ever[::-1]) == []
        frames = await provider.get_multi_timeframe_candles("BTC/USD", ever[1], [1, 10080], 10**9)
        assert {interval: len(candles) for interval, candles in frames.items()} == {1: 5, 10080: 1}
        assert await provider.get_multi_timeframe_candles("BTC/USD", ever[0], [60, 10080]) == {
            60: [],
            10080: [],
        }


async def test_counts_larger_than_all_that_is_stored(provider: HistoricalDataProvider) -> None:
    for count in (10**6, 10**9, 10**30):
        assert opens(await provider.get_latest_candles("BTC/USD", 10080, count)) == [-8640]
        filled = await provider.get_latest_candles("BTC/USD", 1, count, fill="previous")
        assert opens(filled) == list(range(62))
        assert len(await provider.get_latest_candles("BTC/USD", 1440, count, fill="previous")) == 1
        assert len(await provider.get_candles("BTC/USD", 1, *EVER, limit=count)) == 5
        assert len(await provider.get_candles("BTC/USD", 1, *EVER, limit=count, fill="previous")) == 62
        assert await provider.get_trades("BTC/USD", *EVER, limit=count) == []
        assert len(await provider.get_warmup_data("BTC/USD", 60, count)) == 2
    assert await provider.get_latest_candles("BTC/USD", 1, 0, fill="previous") == []
    with pytest.raises(ConfigurationError, match=r"not a whole number: 5\.5"):
        await provider.get_latest_candles("BTC/USD", 60, 5.5)  # type: ignore[arg-type]


async def test_a_replay_of_millennia_takes_no_time(provider: HistoricalDataProvider) -> None:
    began = time.monotonic()
    ever = (LONG_AGO, FAR_AHEAD)
    for fill in (None, "previous"):
        replay = provider.replay_candles("BTC/USD", 1, *ever, speed=0, fill=fill)
        assert len([c async for c in replay]) in (5, 62)
        assert [c async for c in provider.replay_candles("ETH/USD", 1, *ever, speed=0)] == []
    assert time.monotonic() - began < 5


async def test_filling_reaches_to_the_end_of_what_is_known(db_url: str, tmp_path: Path) -> None:
    """Coverage may go on where candles do not: it is quiet there, and after it nothing is known."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", candle_file()))
    await query(
        db_url,
        "UPDATE data_coverage SET covered = covered + tstzmultirange(tstzrange("
        f"to_timestamp({START + 60 * 60}), to_timestamp({START + 90 * 60})))",
    )
    async with HistoricalDataProvider(db_url) as provider:
        ever = (at(START + 70 * 60), FAR_AHEAD)
        late = await provider.get_candles("BTC/USD", 1, *ever, fill="previous")
        assert opens(late) == list(range(70, 90))
        replay = provider.replay_candles("BTC/USD", 1, *ever, speed=0, fill="previous")
        assert [c async for c in replay] == late


async def test_means_are_weighted_and_sums_are_whole_or_missing(db_url: str) -> None:
    """vwap and quote_volume only where every part has one."""
    rows = [
        ("00:00", 10, "1", "10", "10"),
        ("00:01", 20, "3", "60", "20"),
        ("00:02", 99, "5", None, None),
        ("01:00", 30, "2", "60", "30"),
        ("01:01", 40, "2", "80", "40"),
    ]
    for moment, price, volume, quote, vwap in rows:
        await query(
            db_url,
            f"INSERT INTO candles VALUES ('BTC/USD', '2023-01-01 {moment}+00', 1,"
            f" {price}, {price}, {price}, {price}, {volume}, {quote or 'NULL'}, 1, {vwap or 'NULL'})",
        )
    hours = await query(
        db_url, "SELECT vwap, quote_volume, volume, trade_count FROM candles_1h ORDER BY timestamp"
    )
    assert hours == [(None, None, 9, 3), (Decimal(35), 140, 4, 2)]
    # The mean of one of two hours is no mean of the day.
    assert await query(db_url, "SELECT vwap, quote_volume FROM candles_1d") == [(None, None)]
    async with HistoricalDataProvider(db_url) as provider:
        (day,) = await provider.get_latest_candles("BTC/USD", 1440, 1)
        assert day.vwap is None
        found = await provider.get_candles("BTC/USD", 60, datetime(2023, 1, 1, tzinfo=UTC), EVER[1])
        assert [c.vwap for c in found] == [None, Decimal(35)]


async def test_weeks_start_on_monday_whatever_the_time_zone(db_url: str, tmp_path: Path) -> None:
    sunday = 1672617600 - 60  # 2023-01-01 23:59 UTC, a Sunday
    await import_file(
        db_url, write(tmp_path, "XBTUSD_1.csv", f"{sunday},1,1,1,1,1,1\n{sunday + 60},2,2,2,2,1,1\n")
    )
    async with opened_database(db_url) as database, database.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL TimeZone TO 'Pacific/Auckland'")
        found = await connection.exec_driver_sql("SELECT timestamp, close FROM candles_1w ORDER BY 1")
        weeks = [tuple(row) for row in found]
    assert [(week.astimezone(UTC).isoformat(), int(close)) for week, close in weeks] == [
        ("2022-12-26T00:00:00+00:00", 1),
        ("2023-01-02T00:00:00+00:00", 2),
    ]


async def test_candles_are_as_if_they_were_made_one_by_one(provider: HistoricalDataProvider) -> None:
    """They are built past the class's own constructor."""
    (first, *_) = await provider.get_candles("BTC/USD", 1, *EVER)
    again = Candle(*(getattr(first, name) for name in first.__slots__))
    assert type(first) is Candle
    assert (first, hash(first), repr(first)) == (again, hash(again), repr(again))
    assert {type(getattr(first, name)) for name in ("open", "high", "low", "close", "volume")} == {Decimal}
    assert first.timestamp.tzinfo is UTC
    with pytest.raises(AttributeError):
        first.open = Decimal(1)  # type: ignore[misc]


async def test_replay_of_several_symbols_is_in_order_of_time(
    provider: HistoricalDataProvider, filled: str, tmp_path: Path
) -> None:
    rows = "".join(f"{START + 60 * m},1,1,1,1,1,1\n" for m in (1, 5, 200))
    await import_file(filled, write(tmp_path, "ETHUSD_1.csv", rows))
    replayed = [
        (c.symbol, int((c.timestamp - at(START)).total_seconds()) // 60)
        async for c in provider.replay_many(["ETH/USD", "XBTUSD", "ETH/USD"], 1, *EVER, speed=0)
    ]
    assert replayed == [
        ("BTC/USD", 0),
        ("ETH/USD", 1),
        ("BTC/USD", 1),
        ("BTC/USD", 2),
        ("ETH/USD", 5),
        ("BTC/USD", 7),
        ("BTC/USD", 61),
        ("ETH/USD", 200),
    ]
    with pytest.raises(ConfigurationError, match="pass a list"):
        provider.replay_many("BTC/USD", 1, *EVER)
    with pytest.raises(ConfigurationError, match="no symbols"):
        provider.replay_many([], 1, *EVER)
    with pytest.raises(ConfigurationError, match="speed is nan"):
        provider.replay_many(["BTC/USD"], 1, *EVER, speed=float("nan"))


async def test_reads_belong_to_the_transaction_of_their_session(plain_url: str, tmp_path: Path) -> None:
    """A session that sees one state of the store goes on seeing it, from its first read on."""
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", candle_file()))
    database = await Database.open(plain_url)
    engine = database.engine.execution_options(isolation_level="REPEATABLE READ")
    async with AsyncSession(engine) as session:
        candles = CandleRepository(session, PostgresBackend())
        assert len(await candles.between("BTC/USD", 1, *EVER)) == 5
        await query(plain_url, "DELETE FROM candles")
        assert len(await candles.between("BTC/USD", 1, *EVER)) == 5
        assert len(await candles.between("BTC/USD", 60, *EVER)) == 2
    assert await read_candles(plain_url, "BTC/USD", 1) == []
    await database.close()


async def test_a_pooled_connection_that_has_ended_is_replaced(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", candle_file()))
    async with HistoricalDataProvider(plain_url) as provider:
        assert len(await provider.get_candles("BTC/USD", 1, *EVER)) == 5
        await query(
            plain_url,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()",
        )
        assert len(await provider.get_candles("BTC/USD", 1, *EVER)) == 5


async def test_arguments_are_taken_as_people_write_them(provider: HistoricalDataProvider) -> None:
    """An hour and a day in every way: what is in the store begins at 2023-01-01, midnight."""
    expected = await provider.get_candles("BTC/USD", 60, at(START), at(START + 86400))
    assert opens(expected) == [0, 60]
    for interval in ("1h", "60", 60, timedelta(hours=1)):
        assert await provider.get_candles("BTC/USD", interval) == expected
        assert await provider.get_latest_candles("xbtusd", interval, 2) == expected
    berlin = timezone(timedelta(hours=1))
    for start, end in (
        ("2023-01-01", "2023-01-02"),
        (date(2023, 1, 1), date(2023, 1, 2)),
        ("2023-01-01T01:00+01:00", datetime(2023, 1, 2, 1, tzinfo=berlin)),
        (None, "now"),
        ("20 years ago", None),
    ):
        assert await provider.get_candles("BTC/USD", "1h", start, end) == expected
        frame = await provider.get_candles_frame("BTC/USD", "1h", start, end)
        assert frame["timestamp"].to_list() == [c.timestamp for c in expected]
        assert [c async for c in provider.replay_candles("BTC/USD", "1h", start, end, speed=0)] == expected
    assert opens(await provider.get_candles("BTC/USD", "1m", end="2023-01-01 00:02")) == [0, 1]
    frames = await provider.get_multi_timeframe_candles("BTC/USD", "2023-01-02", ["1h", timedelta(days=1)])
    assert {length: len(found) for length, found in frames.items()} == {60: 2, 1440: 1}
    assert await provider.get_trades("BTC/USD", "2023-01-01") == []
    assert await provider.get_file_range("BTC/USD", "1h") is None


async def test_a_time_that_is_none_is_refused_by_its_name(provider: HistoricalDataProvider) -> None:
    naive = datetime(2023, 1, 1)  # noqa: DTZ001 (that is the point)
    times: list[tuple[Any, str]] = [
        (naive, "end has no time zone: 2023-01-01T00:00:00"),
        ("2023-13-01", "'2023-13-01' is not a time"),
        (True, "end=True is not a time"),
        (1.5, "'1.500000' is not a time"),
        (float("nan"), "'nan' is not a time"),
        (b"2023", r"end=b'2023' is not a time \(pass text"),
    ]
    for wrong, said in times:
        with pytest.raises(ConfigurationError, match=said):
            await provider.get_candles("BTC/USD", 60, None, wrong)


def test_without_an_address_it_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@nowhere/history")
    assert HistoricalDataProvider()._db_url == "postgresql://somebody@nowhere/history"
    monkeypatch.delenv("DATABASE_URL")
    assert HistoricalDataProvider()._db_url == "embedded:"
