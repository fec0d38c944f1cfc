"""Candles of any interval, on both lanes, beside plain Python's: see ``tests.support.calendars``.

One store a lane: fourteen months of minutes of a quiet pair, over the changes of the clocks in a year, with
volumes of nothing, and some without a vwap.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_db.backends import StaleRange
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.intervals import as_interval
from kraken_db.types import Candle
from tests.support.archives import EVER, import_file, kraken_rows, query
from tests.support.calendars import ZONES, Row, Wanted, candles_of, opened_at, opens_of
from tests.support.lanes import Lane
from tests.support.stores import opened

BTC = "BTC/USD"
FIRST, LAST = datetime(2023, 2, 20, 7, 13, tzinfo=UTC), datetime(2024, 4, 10, 1, 2, tzinfo=UTC)
ROUNDING = Fraction(3, 10**10)
"""A vwap has ten decimals, and goes through three stored intervals at most."""
INSERT = (
    "INSERT INTO candles (symbol, timestamp, interval_minutes, open, high, low, close, volume, quote_volume,"
    " trade_count, vwap) SELECT :symbol, t, 1, o, h, l, c, v, NULL, n, w FROM unnest("
    "CAST(:times AS timestamptz[]), CAST(:opens AS numeric[]), CAST(:highs AS numeric[]),"
    " CAST(:lows AS numeric[]), CAST(:closes AS numeric[]), CAST(:volumes AS numeric[]),"
    " CAST(:trades AS int[]), CAST(:vwaps AS numeric[]))"
    " AS m (t, o, h, l, c, v, n, w)"
)


def made_minutes() -> list[Row]:
    rnd = random.Random(15)
    rows, moment = [], FIRST
    while moment <= LAST:
        prices = [Decimal(rnd.randint(10**6, 10**7)) / 100 for _ in range(4)]
        volume = Decimal(rnd.choice([0, *(rnd.randint(1, 10**12) for _ in range(9))])).scaleb(-8)
        # A week in which nobody knows the vwap, and single minutes of that kind in the summer.
        unknown = date(2023, 5, 3) <= moment.date() < date(2023, 5, 10) or (
            moment.month == 7 and rnd.random() < 0.05
        )
        low, high = min(prices), max(prices)
        vwap = None if unknown or not volume else prices[2]
        rows.append(Row(moment, prices[0], high, low, prices[1], volume, rnd.randint(1, 99), vwap))
        moment += timedelta(minutes=rnd.choice([1, 1, 1, 2, 7, 30, 61, 240]))
    return rows


MINUTES = made_minutes()


async def fill(url: str) -> None:
    values: dict[str, Any] = {
        "symbol": BTC,
        "times": [row.opens_at for row in MINUTES],
        "opens": [row.open for row in MINUTES],
        "highs": [row.high for row in MINUTES],
        "lows": [row.low for row in MINUTES],
        "closes": [row.close for row in MINUTES],
        "volumes": [row.volume for row in MINUTES],
        "trades": [row.trades for row in MINUTES],
        "vwaps": [row.vwap for row in MINUTES],
    }
    await query(url, INSERT, **values)
    span = (MINUTES[0].opens_at, MINUTES[-1].opens_at + timedelta(minutes=1))
    await query(
        url,
        "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp, total_records,"
        " last_sync_at) VALUES (:symbol, 'candles_1m', :oldest, :newest, :total, now())",
        symbol=BTC,
        oldest=span[0],
        newest=MINUTES[-1].opens_at,
        total=len(MINUTES),
    )
    async with opened(url) as store:
        await store.backend.refresh(store.database, LAST, [StaleRange(BTC, *span)])


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def url(request: pytest.FixtureRequest, lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes[request.param].migrated_database() as url:
        asyncio.run(fill(url))
        yield url


def check(found: Sequence[Candle], expected: Sequence[Row], wanted: Wanted) -> None:
    values = [(c.timestamp, c.open, c.high, c.low, c.close, c.volume, c.trade_count) for c in found]
    assert values == [
        (row.opens_at, row.open, row.high, row.low, row.close, row.volume, row.trades) for row in expected
    ], wanted
    for candle, row in zip(found, expected, strict=True):
        assert (candle.vwap is None) == (row.vwap is None), (wanted, candle)
        if candle.vwap is not None and row.vwap is not None:
            assert abs(Fraction(candle.vwap) - Fraction(row.vwap)) <= ROUNDING
        opens = opens_of(wanted)
        closes = opens[bisect_right(opens, candle.timestamp)]
        assert candle.timestamp + timedelta(minutes=candle.interval_minutes) == closes


lengths = st.one_of(
    st.tuples(st.integers(1, 1439), st.just("m")),
    st.sampled_from(
        [(1, "d"), (2, "d"), (3, "d"), (1, "w"), (2, "w"), (1, "M"), (2, "M"), (3, "M"), (1, "Y")]
    ),
)
intervals = st.builds(
    lambda length, zone, session, anchor: Wanted(length[0], length[1], zone, session, anchor),
    lengths.filter(lambda length: length[1] != "m" or length[0] > 30),
    st.sampled_from(ZONES),
    st.sampled_from([0, 0, 0, 17 * 60, -7 * 60, 9 * 60 + 30]),
    st.sampled_from([None, None, date(2023, 1, 3), date(2023, 1, 28)]),
)
in_utc = st.builds(lambda length: Wanted(length[0], length[1]), lengths)
moments = st.integers(-5000, 600_000).map(lambda minutes: FIRST + timedelta(minutes=minutes))


@settings(max_examples=40)
@given(wanted=intervals | in_utc, some=st.lists(moments, min_size=2, max_size=2), count=st.integers(1, 40))
def test_any_interval_is_what_plain_python_makes_of_its_minutes(
    url: str, wanted: Wanted, some: list[datetime], count: int
) -> None:
    start, end = sorted(some)
    expected = candles_of(MINUTES, wanted)
    inside = [row for row in expected if start <= row.opens_at < end]
    interval = as_interval(wanted.text, **wanted.arguments)

    async def read() -> None:
        async with HistoricalDataProvider(url, pool_min_size=1, pool_max_size=1) as provider:
            check(await provider.get_candles(BTC, interval, start, end), inside, wanted)
            check(await provider.get_candles(BTC, interval, start, end, count), inside[:count], wanted)
            check(await provider.get_latest_candles(BTC, interval, count), expected[-count:], wanted)
            closed = [row for row in expected if row.opens_at < opened_at(wanted, end)]
            frames = await provider.get_multi_timeframe_candles(BTC, end, [interval], count)
            check(frames[interval.key], closed[-count:], wanted)

    asyncio.run(read())


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(3, "m"),
        Wanted(2, "h"),
        Wanted(1, "M"),
        Wanted(1, "d", "Europe/Berlin"),
        Wanted(4, "h", "Europe/Berlin"),
    ],
)
async def test_all_ways_to_read(url: str, wanted: Wanted) -> None:
    expected = candles_of(MINUTES, wanted)
    interval = as_interval(wanted.text, **wanted.arguments)
    async with HistoricalDataProvider(url, pool_min_size=1, pool_max_size=1) as provider:
        check(await provider.get_candles(BTC, interval, *EVER), expected, wanted)
        replayed = [c async for c in provider.replay_candles(BTC, interval, *EVER, speed=0)]
        check(replayed, expected, wanted)
        limited = await provider.get_candles_frame(BTC, interval, *EVER, 7)
        frame = await provider.get_candles_frame(BTC, interval, *EVER)
        arrow = await provider.get_candles_frame(BTC, interval, *EVER, backend="arrow")
        pandas = await provider.get_candles_frame(BTC, interval, *EVER, backend="pandas", numbers="float")
    rows = [
        (row.opens_at, row.open, row.high, row.low, row.close, row.volume, row.trades) for row in expected
    ]
    assert frame.drop("vwap").rows() == rows
    assert limited.rows() == frame.rows()[:7]
    assert arrow.column("close").to_pylist() == [row.close for row in expected]
    assert pandas["volume"].tolist() == [float(row.volume) for row in expected]
    assert list(pandas.index) == [row.opens_at for row in expected]


async def test_the_running_candle_is_left_to_those_who_ask_for_it(url: str) -> None:
    """At 2024-04-10 01:02: April, that day of Berlin, and the two hours from 00:00 UTC on have not closed."""
    async with HistoricalDataProvider(url, pool_min_size=1, pool_max_size=1) as provider:
        provider._connected().clock = lambda: LAST
        for written, said, running, last_closed in (
            ("2h", {}, "2024-04-10T00:00", "2024-04-09T22:00"),
            ("1M", {}, "2024-04-01T00:00", "2024-03-01T00:00"),
            ("1d", {"tz": "Europe/Berlin"}, "2024-04-09T22:00", "2024-04-08T22:00"),
        ):
            interval = as_interval(written, **said)
            newest = await provider.get_latest_candles(BTC, interval, 1)
            warm = await provider.get_warmup_data(BTC, interval, 1)
            assert [c.timestamp for c in (*newest, *warm)] == [
                datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (running, last_closed)
            ]


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        (15, Wanted(45, "m")),
        (15, Wanted(1, "d", "Asia/Kathmandu")),
        (60, Wanted(2, "h")),
        (60, Wanted(5, "h")),
        (60, Wanted(1, "d", "America/New_York", 17 * 60)),
        (60, Wanted(1, "w", "Europe/Berlin")),
        (720, Wanted(3, "d")),
        (1440, Wanted(1, "w")),
        (1440, Wanted(2, "w")),
        (1440, Wanted(1, "M")),
        (15, Wanted(15, "m")),
        (60, Wanted(1, "h")),
        (720, Wanted(12, "h")),
        (1440, Wanted(1, "d")),
    ],
)
async def test_krakens_own_files_say_the_same(
    real_candles: str, real_data: Path, own: int, wanted: Wanted
) -> None:
    """Only the file of minutes is stored; a coarser one of Kraken's is put together by plain Python."""
    parts = [
        Row(datetime.fromtimestamp(row[0], UTC), *row[1:])
        for row in kraken_rows(real_data / "ohlcvt" / f"XBTUSDC_{own}.csv")
    ]
    interval = as_interval(wanted.text, **wanted.arguments)
    async with HistoricalDataProvider(real_candles) as provider:
        found = await provider.get_candles("BTC/USDC", interval, *EVER)
    check(found, candles_of(parts, wanted), wanted)


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def real_candles(request: pytest.FixtureRequest, lanes: dict[str, Lane], real_data: Path) -> Iterator[str]:
    with lanes[request.param].migrated_database() as url:
        asyncio.run(import_file(url, real_data / "ohlcvt" / "XBTUSDC_1.csv"))
        yield url
