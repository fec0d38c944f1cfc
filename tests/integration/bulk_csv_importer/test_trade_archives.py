"""Time & Sales archives: every trade kept, none twice, whatever is imported after what."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.types import HistoricalTrade
from tests.support.archives import (
    EVER,
    START,
    at,
    checksums,
    import_file,
    import_paths,
    minutes,
    query,
    write,
)
from tests.support.stores import opened

# Two equal rows are two trades, and a second may hold many.
WHOLE_SECONDS = (
    f"{START},100.5,0.1\n{START},100.5,0.1\n{START},100.4,2\n{START + 1},100.6,1\n{START + 3},100.6,1E+1\n"
)

# Enough for a nested loop to take minutes.
_MANY = 50_000


def with_ids(*ids: int, start: int = START, price: str = "100.5") -> str:
    """One trade for each id, a quarter of a second apart, by its id."""
    return "".join(
        f"{price},0.25,{start + number // 4}.{25 * (number % 4):02}03499,{'sb'[number % 2]},l,,{number}\n"
        for number in ids
    )


async def trades(url: str) -> list[HistoricalTrade]:
    async with HistoricalDataProvider(url) as provider:
        return await provider.get_trades("BTC/USD", *EVER)


async def coverage(url: str) -> list[tuple[datetime, datetime]]:
    async with opened(url) as store, store.database.read() as connection:
        return list(await CoverageRepository(connection).covered("BTC/USD", "trades"))


async def total_records(url: str) -> int:
    rows = await query(url, "SELECT total_records FROM data_sync_status WHERE data_type = 'trades'")
    return int(rows[0][0])


async def test_trades_of_the_same_second_are_all_kept_in_order(db_url: str, tmp_path: Path) -> None:
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", WHOLE_SECONDS))
    assert (done.read, done.new, done.unchanged, done.error) == (5, 5, 0, None)
    stored = await trades(db_url)
    assert [(t.timestamp, t.price, t.volume) for t in stored] == [
        (at(START), Decimal("100.5"), Decimal("0.1")),
        (at(START), Decimal("100.5"), Decimal("0.1")),
        (at(START), Decimal("100.4"), Decimal(2)),
        (at(START + 1), Decimal("100.6"), Decimal(1)),
        (at(START + 3), Decimal("100.6"), Decimal(10)),
    ]
    assert all(t.id < 0 and t.side == "" for t in stored)
    assert [t.id for t in stored] == sorted({t.id for t in stored})
    assert await total_records(db_url) == 5
    assert await coverage(db_url) == [(at(START), at(START + 3))]


async def test_the_same_seconds_again_write_nothing(db_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD.csv", WHOLE_SECONDS)
    await import_file(db_url, path)
    before = await checksums(db_url)
    again = await import_file(db_url, path)
    assert (again.new, again.changed, again.unchanged) == (0, 0, 5)
    assert await checksums(db_url) == before


async def test_a_longer_file_takes_the_place_of_a_shorter_one(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", WHOLE_SECONDS))
    longer = f"{START - 5},99,1\n" + WHOLE_SECONDS + f"{START + 3},100.7,1\n"
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", longer))
    assert (done.new, done.unchanged) == (2, 5)
    assert [t.price for t in await trades(db_url)] == [
        Decimal(price) for price in ("99", "100.5", "100.5", "100.4", "100.6", "100.6", "100.7")
    ]
    assert await total_records(db_url) == 7


async def test_rows_with_ids_keep_all_their_fields(db_url: str, tmp_path: Path) -> None:
    header = "price,volume,time,buy/sell,market/limit,miscellaneous\n"
    rows = "2912.89,0.00066296,1647771524.9025299,b,l,,7\n2916.86,1,1647771741.3838224,s,m,x,8\n"
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", header + rows))
    assert (done.read, done.new, done.error) == (2, 2, None)
    # The stamp is cut after the microseconds: .9025299 would round to .902530.
    assert await trades(db_url) == [
        HistoricalTrade(
            7,
            "BTC/USD",
            datetime(2022, 3, 20, 10, 18, 44, 902529, UTC),
            Decimal("2912.89"),
            Decimal("0.00066296"),
            "buy",
            "limit",
            "",
        ),
        HistoricalTrade(
            8,
            "BTC/USD",
            datetime(2022, 3, 20, 10, 22, 21, 383822, UTC),
            Decimal("2916.86"),
            Decimal(1),
            "sell",
            "market",
            "x",
        ),
    ]


async def test_overlapping_files_with_ids_meet_in_one_row_each(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(1, 21))))
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(11, 31))))
    assert (done.new, done.unchanged, done.changed) == (10, 10, 0)
    assert [t.id for t in await trades(db_url)] == list(range(1, 31))
    assert await total_records(db_url) == 30
    ((first, last),) = await coverage(db_url)
    # Before the trade with id 1 there is nothing.
    assert (first, last) == (at(START), at(START + 7) + timedelta(microseconds=500350))


async def test_coverage_stops_where_ids_are_missing(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(1, 5), *range(9, 13))))
    assert len(await coverage(db_url)) == 2
    # The next file goes on where the ids of the last one end: the time between belongs to both.
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(5, 9))))
    assert len(await coverage(db_url)) == 1


async def test_a_stamp_that_differs_is_the_same_trade(db_url: str, tmp_path: Path) -> None:
    """The live feed stamps a trade about a microsecond before REST does; REST's stamp is the official one."""
    await query(
        db_url,
        "INSERT INTO trades (id, symbol, timestamp, price, volume, side)"
        " VALUES (4, 'BTC/USD', '2023-01-01 00:00:01.000348+00', 100.5, 0.25, 'sell')",
    )
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(3, 4, 5)))
    assert (done.new, done.changed) == (2, 1)
    assert [(t.id, t.timestamp.microsecond) for t in await trades(db_url)] == [
        (3, 750349),
        (4, 349),
        (5, 250349),
    ]


async def test_another_price_under_the_same_id_is_refused(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(1, 2, 3)))
    before = await checksums(db_url)
    path = write(tmp_path, "XBTUSD.csv", with_ids(2, 3, 4, price="100.6"))
    done = await import_file(db_url, path)
    assert "line 1: trade 2 is stored as 100.5" in str(done.error)
    assert await checksums(db_url) == before
    forced = await import_file(db_url, path, replace=True)
    assert (forced.new, forced.changed, forced.error) == (1, 2, None)
    assert [t.price for t in await trades(db_url)] == [
        Decimal(p) for p in ("100.5", "100.6", "100.6", "100.6")
    ]


async def test_real_trades_replace_those_without_ids(db_url: str, tmp_path: Path) -> None:
    anonymous = "".join(f"{START + second},100.5,0.25\n" for second in (0, 0, 0, 1, 1, 1, 1, 9))
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", anonymous))
    real = write(tmp_path, "XBTUSD.csv", with_ids(*range(1, 8)))
    done = await import_file(db_url, real)
    assert (done.new, done.error) == (7, None)
    assert [t.id > 0 for t in await trades(db_url)] == [True] * 7 + [False]
    assert await total_records(db_url) == 8
    # And the other way round: what is stored with ids is not stored again without.
    before = await checksums(db_url)
    again = await import_file(db_url, write(tmp_path, "XBTUSD.csv", anonymous))
    assert (again.new, again.changed, again.error) == (0, 0, None)
    assert {name: sums for name, sums in (await checksums(db_url)).items() if name != "data_coverage"} == {
        name: sums for name, sums in before.items() if name != "data_coverage"
    }


async def test_trades_without_an_id_beside_such_with_one(db_url: str, tmp_path: Path) -> None:
    """Kraken once gave runs of trades the id 0: no id."""
    path = write(
        tmp_path,
        "XBTUSD.csv",
        with_ids(1, 2) + with_ids(0, start=START + 1) * 2 + with_ids(7, 8, start=START + 1),
    )
    done = await import_file(db_url, path)
    assert (done.read, done.new, done.error) == (6, 6, None)
    before = await checksums(db_url)
    again = await import_file(db_url, path)
    assert (again.new, again.changed, again.unchanged) == (0, 0, 6)
    assert await checksums(db_url) == before


async def test_rows_that_lost_their_ids_are_not_stored_again(db_url: str, tmp_path: Path) -> None:
    """The same trades with the id 0 beside such with ids: no file doubles what is stored with ids."""
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(1, 9))))
    before = await checksums(db_url)
    rows = with_ids(*range(1, 9)).splitlines(keepends=True)
    zeroed = [row.rsplit(",", 1)[0] + ",0\n" if 2 <= n < 6 else row for n, row in enumerate(rows)]
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", "".join(zeroed)))
    assert (done.new, done.changed, done.unchanged, done.error) == (0, 0, 8, None)
    assert await checksums(db_url) == before


async def test_an_archive_fills_what_is_missing_between_ids(db_url: str, tmp_path: Path) -> None:
    """Of the second START + 1 the trades 5 and 6 are not stored: the archive has four, two are known."""
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(1, 2, 3, 4, 7, 8, 9)))
    archive = write(
        tmp_path, "XBTUSD.csv", "".join(f"{START + n // 4},100.5,0.25\n" for n in (*range(1, 10), 40))
    )
    done = await import_file(db_url, archive)
    assert (done.new, done.unchanged, done.error) == (3, 7, None)
    assert (len(await trades(db_url)), await total_records(db_url)) == (10, 10)
    before = await checksums(db_url)
    again = await import_file(db_url, archive)
    assert (again.new, again.unchanged) == (0, 10)
    assert await checksums(db_url) == before
    # The missing two arrive with their ids and take the place of those without.
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(5, 6)))
    assert (done.new, done.error) == (2, None)
    assert [t.id for t in await trades(db_url) if t.id > 0] == list(range(1, 10))
    assert (len(await trades(db_url)), await total_records(db_url)) == (10, 10)


async def test_a_second_told_differently_is_not_claimed(db_url: str, tmp_path: Path) -> None:
    """A real trade that the archive lacks, and rows that the store lacks: nobody knows which are the same."""
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(9)))
    rows = [(0, "100.5"), (1, "100.5"), (2, "100.7"), (2, "100.8"), (3, "100.5"), (9, "100.5")]
    path = write(tmp_path, "XBTUSD.csv", "".join(f"{START + s},{price},0.25\n" for s, price in rows))
    for new, unchanged in ((4, 0), (0, 4)):
        done = await import_file(db_url, path)
        assert (done.new, done.unchanged, done.rejected, done.error) == (new, unchanged, 2, None)
        assert "do not count as complete" in done.notes[0]
    assert len(await trades(db_url)) == await total_records(db_url) == 5
    assert await coverage(db_url) == [
        (at(START), at(START + 2)),
        (at(START + 2) + timedelta(microseconds=250349), at(START + 2) + timedelta(microseconds=250350)),
        (at(START + 3), at(START + 9)),
    ]


async def test_an_archive_of_known_seconds_alone(db_url: str, tmp_path: Path) -> None:
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(1, 9))))
    path = write(tmp_path, "XBTUSD.csv", f"{START},100.5,0.25\n{START + 1},100.5,0.25\n")
    done = await import_file(db_url, path)
    assert (done.new, done.unchanged, done.error) == (0, 2, None)
    assert done.notes[:1] == ["2 trades without an id are stored with their ids already"]
    assert await total_records(db_url) == 8


@pytest.mark.parametrize("order", ["abab", "baab"])
async def test_archives_that_meet_inside_a_second(db_url: str, tmp_path: Path, order: str) -> None:
    paths = {
        "a": write(tmp_path, "a/XBTUSD.csv", f"{START},1,1\n{START + 5},1,1\n{START + 5},2,1\n"),
        "b": write(
            tmp_path, "b/XBTUSD.csv", f"{START + 5},2,1\n{START + 5},2,1\n{START + 5},4,1\n{START + 9},1,1\n"
        ),
    }
    for name in order:
        await import_file(db_url, paths[name])
    found = sorted((t.timestamp, int(t.price)) for t in await trades(db_url))
    assert found == [
        (at(START), 1),
        *((at(START + 5), price) for price in (1, 2, 2, 4)),
        (at(START + 9), 1),
    ]
    assert await total_records(db_url) == 6


async def test_live_trades_without_ids_at_the_edges_of_an_archive(db_url: str, tmp_path: Path) -> None:
    """A whole second and a fine stamp are one trade; two fine stamps are two."""
    live = write(tmp_path, "XBTUSD.csv", "".join(f"1,1,{START + n}.3,b,l,\n" for n in (0, 5)))
    await import_file(db_url, live)
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", f"{START},1,1\n{START + 5},1,1\n"))
    assert (done.new, done.unchanged, done.notes[1:]) == (0, 2, [])
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", f"1,1,{START + 5}.7,b,l,\n"))
    assert (done.new, await total_records(db_url), len(await trades(db_url))) == (1, 3, 3)


async def test_ids_that_begin_inside_a_second_keep_what_was_before(db_url: str, tmp_path: Path) -> None:
    """Trades 4 to 7 are stored without ids; a file that begins with 6 replaces two of them, not four."""
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", f"{START + 1},100.5,0.25\n" * 4))
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", with_ids(*range(6, 20))))
    assert (done.new, done.error) == (14, None)
    assert [t.id > 0 for t in await trades(db_url)] == [False] * 2 + [True] * 14
    assert await total_records(db_url) == 16


async def test_what_a_stored_trade_lacks_is_filled(db_url: str, tmp_path: Path) -> None:
    await query(
        db_url,
        "INSERT INTO trades (id, symbol, timestamp, price, volume, side)"
        " VALUES (4, 'BTC/USD', '2023-01-01 00:00:01.000349+00', 100.5, 0.25, 'sell')",
    )
    path = write(tmp_path, "XBTUSD.csv", with_ids(4))
    assert [(d.new, d.changed) for d in [await import_file(db_url, path) for _ in range(2)]] == [
        (0, 1),
        (0, 0),
    ]
    assert await query(db_url, "SELECT order_type, misc FROM trades") == [("limit", "")]
    other = write(tmp_path, "XBTUSD.csv", with_ids(4).replace(",l,", ",m,"))
    refused = await import_file(db_url, other)
    assert "stored as 100.5 0.25 sell limit" in str(refused.error)
    assert (await import_file(db_url, other, replace=True)).changed == 1
    assert await query(db_url, "SELECT order_type FROM trades") == [("market",)]
    # Flags that are stored are not erased by a file that has none.
    await query(db_url, "UPDATE trades SET misc = 'x'")
    assert "is stored as" in str((await import_file(db_url, other)).error)


@pytest.mark.parametrize("trade_id", [2**62 + 1, 2**63 - 1])
async def test_an_id_that_cannot_be_counted_on_is_refused(
    plain_url: str, tmp_path: Path, trade_id: int
) -> None:
    row = f"100.5,1,{START}.1,b,l,,{trade_id}\n"
    done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", row))
    assert f"no trade id is as large as {trade_id}" in str(done.error)


async def test_stale_statistics_do_not_make_it_quadratic(plain_url: str, tmp_path: Path) -> None:
    """PostgreSQL believes here that there are no trades with ids, or none so late."""

    def anonymous(start: int) -> str:
        return "".join(f"{start + n // 4},100.5,0.25\n" for n in range(_MANY))

    def holes(start: int) -> str:
        return with_ids(*range(2, 2 * _MANY, 2), start=start)

    began = time.monotonic()
    await import_file(plain_url, write(tmp_path, "XBTUSD.csv", anonymous(START)))
    usual = time.monotonic() - began
    await query(plain_url, "ANALYZE trades")
    began = time.monotonic()
    for text in (holes(START + 10**6), anonymous(START + 2 * 10**6), anonymous(START + 10**6), holes(START)):
        done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", text))
        assert done.new or "is stored as" in str(done.error)
    assert time.monotonic() - began < 100 * usual  # quadratic: a thousand times and more


async def test_ids_in_their_order_are_not_sorted(plain_url: str, tmp_path: Path) -> None:
    """To look for ids that are there twice: only where an id is not above all of those before it."""
    sent: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        for content, counts in ((WHOLE_SECONDS, 0), (with_ids(1, 2), 0), (with_ids(3, 3), 1)):
            sent.clear()
            done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", content))
            assert done.error is None
            looked = [statement for statement in sent if "PARTITION BY trade_id" in statement]
            assert len(looked) == counts
    finally:
        event.remove(Engine, "before_cursor_execute", listen)


async def test_recorded_trades_of_krakens_rest(plain_url: str, real_data: Path, tmp_path: Path) -> None:
    """1,000 real trades from before there were ids; one hour of them equals Kraken's own candle."""
    recorded = (real_data / "trades" / "kraken_eth_usd_historical_price_source.csv").read_text()
    path = write(tmp_path, "ETHUSD.csv", recorded.replace("\r\n", "\n").replace(",\n", ",\n"))
    done = await import_file(plain_url, path)
    assert (done.read, done.new, done.error) == (1000, 1000, None)
    async with HistoricalDataProvider(plain_url) as provider:
        hour = datetime(2022, 3, 20, 11, tzinfo=UTC)
        found = await provider.get_trades("ETH/USD", hour, hour + timedelta(hours=1))
    assert len(found) == 559
    assert sum(t.volume for t in found) == Decimal("820.18040605")


@pytest.mark.parametrize("suffix", ["", "\n"])
async def test_an_archive_with_a_header_alone_is_refused(plain_url: str, tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, "XBTUSD.csv", "price,volume,time,buy/sell,market/limit,miscellaneous" + suffix)
    done = await import_file(plain_url, path)
    assert done.error is not None
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(0,)]


async def test_a_note_tells_what_retention_will_drop(timescale_url: str, tmp_path: Path) -> None:
    old = await import_file(timescale_url, write(tmp_path, "XBTUSD.csv", WHOLE_SECONDS))
    assert old.notes == ["trades older than 90 days will be dropped by the retention policy"]
    candles = await import_file(timescale_url, write(tmp_path, "XBTUSD_1.csv", minutes(3)))
    assert candles.notes == ["candles older than 365 days will be dropped by the retention policy"]


@pytest.mark.parametrize("keeps_trades", [True, False])
async def test_a_minute_that_lacks_trades_has_no_candle(
    db_url: str, tmp_path: Path, keeps_trades: bool
) -> None:
    """240 trades a minute. A candle of 238 of them would be a wrong number that looks right."""
    whole = range(1, 961)
    lacking = [number for number in whole if number not in (300, 301)]
    path = write(tmp_path, "XBTUSD.csv", with_ids(*lacking))
    await import_paths(db_url, path, keeps_trades=keeps_trades)
    stored = "SELECT timestamp, trade_count FROM candles ORDER BY timestamp"
    first, others = (at(START), 239), [(at(START + 120), 240), (at(START + 180), 240)]
    assert await query(db_url, stored) == [first, *others]
    write(tmp_path, "XBTUSD.csv", with_ids(*whole))
    await import_paths(db_url, path, keeps_trades=keeps_trades)
    assert await query(db_url, stored) == [first, (at(START + 60), 240), *others]
