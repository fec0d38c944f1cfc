"""The end of a pair that is in the archives alone: when it is known, and what it means then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kraken_db import GapFiller
from kraken_db.errors import UnknownPairError
from kraken_db.gap_filler import FillReport
from kraken_db.simulator import Archive, ManualClock, Market, Product, Quarter, Scenario, SimulatedExchange
from kraken_db.simulator.faults import Faults
from kraken_db.status import StoreStatus, read_status
from tests.support.archive_backfilling import backfill
from tests.support.archive_making import (
    FULL_TRADES,
    LATER,
    LATER_TRADES,
    NOW,
    ArchivedMarkets,
    archived_markets,
)
from tests.support.downloading import (
    ShortTime,
    assert_same,
    candles_of,
    coverage,
    ended,
    in_order_of_the_store,
    quick_client,
    stored,
)
from tests.support.problems import problem_texts
from tests.support.stores import opened
from tests.support.verifying import verify

MATIC = "MATIC/USD"
BEGIN = datetime(2024, 2, 1, 9, 30, tzinfo=UTC)
FULL_END, LATER_END = datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
MUCH_LATER = datetime(2024, 11, 20, tzinfo=UTC)


def matic(until: datetime, pace: float = 0.02) -> Market:
    return Market(
        MATIC,
        seed="archives",
        start=BEGIN,
        until=until,
        scenario=Scenario.CALM,
        trades_per_minute=pace,
    )


def markets_with(delisted: Market) -> ArchivedMarkets:
    return replace(archived_markets(), delisted=(delisted,))


def last_trade(market: Market) -> datetime:
    return [*market.truth_trades()][-1].timestamp


async def fill(url: str, exchange: SimulatedExchange, now: datetime = NOW) -> FillReport:
    async with (
        exchange.serve() as base_url,
        GapFiller(
            url, [MATIC], client=quick_client(base_url), clock=lambda: now, sleep=ShortTime().sleep
        ) as filler,
    ):
        (report,) = await filler.fill()
    return report


async def status_of(url: str, now: datetime) -> StoreStatus:
    async with opened(url) as store, store.database.read() as connection:
        return await read_status(connection, store.backend, now)


async def test_the_life_of_a_pair(db_url: str, tmp_path: Path) -> None:
    """From the archive; then nothing is missing, however much later; listed again, it goes on."""
    made = archived_markets()  # MATIC/USD ends in May
    made.write(tmp_path)
    exchange = made.exchange(tmp_path)
    (report,) = await backfill(db_url, exchange, MATIC)
    assert (report.outcome, report.error) == ("delisted", None)
    assert report.notes == [
        "its successor is POL/USD, with a history of its own: kraken-db backfill --symbols POL/USD"
    ]
    # The archives end with June, and have no trade of it since the tenth of May.
    assert await ended(db_url, MATIC) == LATER_END

    filled = await fill(db_url, exchange, MUCH_LATER)
    assert (filled.gaps.found, filled.errors, filled.gaps.ended_at) == ((), [], LATER_END)
    status = await status_of(db_url, MUCH_LATER)
    assert problem_texts(status) == []
    assert {(item.symbol, item.gaps, item.lag, item.ended_at) for item in status.data} == {
        (MATIC, 0, None, LATER_END)
    }
    assert {item.months[-1].first_day.month for item in status.data} == {6}
    assert (await verify(db_url, exchange, clock=lambda: MUCH_LATER)).is_clean

    again = matic(datetime(2024, 8, 1, tzinfo=UTC))
    relisted = SimulatedExchange([*made.listed, again], clock=ManualClock(NOW), archives=tmp_path)
    (report,) = await backfill(db_url, relisted, MATIC)
    assert (report.outcome, report.error, report.notes) == ("caught up", None, [])
    truth = in_order_of_the_store(again.truth_trades(NOW))
    found = await stored(db_url, MATIC)
    assert_same(found.trades, truth)
    assert await ended(db_url, MATIC) is None


async def test_again_nothing_changes_and_more_archives_move_the_end(plain_url: str, tmp_path: Path) -> None:
    made = markets_with(matic(datetime(2024, 3, 10, tzinfo=UTC)))
    made.write(tmp_path, [FULL_TRADES])
    last = last_trade(made.market(MATIC))
    for _ in range(2):
        (report,) = await backfill(plain_url, made.exchange(tmp_path), MATIC)
        assert report.outcome == "delisted"
        assert await ended(plain_url, MATIC) == FULL_END
    # The later archive has no file of it.
    made.write(tmp_path, [LATER_TRADES])
    await backfill(plain_url, made.exchange(tmp_path), MATIC)
    assert await ended(plain_url, MATIC) == LATER_END
    first = next(made.market(MATIC).truth_trades()).timestamp
    assert await coverage(plain_url, MATIC) == [(first.replace(second=0, microsecond=0), LATER_END)]
    ((start, end),) = await coverage(plain_url, MATIC, "candles_1m")
    assert (start, end) == (first.replace(second=0, microsecond=0), LATER_END)
    found = await stored(plain_url, MATIC)
    assert found.status["trades"][1] == last
    assert_same(found.candles, candles_of(found.trades))


async def test_traded_up_to_the_end_of_the_archives(plain_url: str, tmp_path: Path) -> None:
    """It may have gone on for a while: the next archive shows it."""
    made = markets_with(matic(datetime(2024, 6, 30, 22, tzinfo=UTC), pace=0.1))
    made.write(tmp_path, [FULL_TRADES, LATER_TRADES])
    last = last_trade(made.market(MATIC))
    assert timedelta() < LATER_END - last < timedelta(days=1)
    (report,) = await backfill(plain_url, made.exchange(tmp_path), MATIC)
    assert (report.outcome, report.error) == ("delisted", None)
    assert report.notes[0] == (
        f"the archives do not show whether the trade of {last:%Y-%m-%d %H:%M} UTC was its last one:"
        " the next quarterly archive will show it"
    )
    assert await ended(plain_url, MATIC) is None
    filled = await fill(plain_url, made.exchange(tmp_path))
    (error,) = filled.errors
    assert "kraken-db backfill --symbols MATIC/USD --source archive" in error
    assert [found.gap.start_time for found in filled.gaps.found] == [LATER_END]
    # The archive of July to September: others have trades in it.
    made.write(tmp_path, [Archive(product=Product.TRADES, quarter=Quarter(2024, 3))])
    await backfill(plain_url, made.exchange(tmp_path), MATIC, now=MUCH_LATER)
    assert await ended(plain_url, MATIC) == datetime(2024, 10, 1, tzinfo=UTC)
    assert (await fill(plain_url, made.exchange(tmp_path), MUCH_LATER)).gaps.found == ()


@pytest.mark.parametrize(
    ("until", "end"),
    [
        (datetime(2024, 3, 10, tzinfo=UTC), FULL_END),  # three weeks before the archive ends
        (datetime(2024, 3, 31, 22, tzinfo=UTC), None),  # what came after is in the one that is missing
    ],
)
async def test_an_archive_is_missing_in_between(
    plain_url: str, tmp_path: Path, until: datetime, end: datetime | None
) -> None:
    made = markets_with(matic(until, pace=0.1))
    made.write(tmp_path, [FULL_TRADES, Archive(product=Product.TRADES, quarter=LATER.next)])
    (report,) = await backfill(plain_url, made.exchange(tmp_path), MATIC, now=MUCH_LATER)
    assert report.outcome == "delisted"
    assert await ended(plain_url, MATIC) == end


async def test_only_a_part_was_asked_for(plain_url: str, tmp_path: Path) -> None:
    made = archived_markets()
    made.write(tmp_path, [FULL_TRADES, LATER_TRADES])
    exchange = made.exchange(tmp_path)
    until = datetime(2024, 4, 20, tzinfo=UTC)
    (report,) = await backfill(plain_url, exchange, MATIC, end_timestamp=until)
    assert (report.outcome, report.notes) == ("delisted", [])
    assert await ended(plain_url, MATIC) is None
    await backfill(plain_url, exchange, MATIC, build_candles=False)
    assert await ended(plain_url, MATIC) == LATER_END
    # The candles that are not built are the only gap, and can be built without anybody.
    filled = await fill(plain_url, exchange)
    assert {found.kind for found in filled.gaps.found} <= {"not built"}
    assert filled.errors == []
    assert (await fill(plain_url, exchange)).gaps.found == ()


async def test_an_archive_without_ids_proves_nothing(plain_url: str, tmp_path: Path) -> None:
    """It is not read: what is stored may end before it."""
    from kraken_db.simulator.archive_rows import TradeLayout

    made = archived_markets()
    made.write(tmp_path, [FULL_TRADES])
    old = replace(LATER_TRADES, layout=TradeLayout.OLD)
    made.write(tmp_path, [old])
    (report,) = await backfill(plain_url, made.exchange(tmp_path), MATIC)
    assert report.outcome == "delisted"
    assert await ended(plain_url, MATIC) is None


async def test_where_to_get_it(plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By REST alone it is unknown; that the archives have it is told."""
    made = archived_markets()
    made.write(tmp_path, [FULL_TRADES])
    monkeypatch.setenv("KRAKEN_ARCHIVE_URL", str(tmp_path))
    exchange = made.exchange()
    (known, unknown) = await backfill(plain_url, exchange, MATIC, "ZZZ/USD", source="rest")
    assert isinstance(known.error, UnknownPairError) and isinstance(unknown.error, UnknownPairError)
    assert known.error.hint == (
        "its history is in Kraken's archives: kraken-db backfill --symbols MATIC/USD --source archive"
    )
    assert "archive" not in str(unknown.error)
    filled = await fill(plain_url, exchange)
    (error,) = filled.errors
    assert "--symbols MATIC/USD --source archive" in error


async def test_still_served_by_rest(plain_url: str, tmp_path: Path) -> None:
    """Off the list, with its trades: archive and REST bring them, and the gap filler notes the end."""
    gone = matic(datetime(2024, 7, 5, tzinfo=UTC))
    made = ArchivedMarkets(listed=(*archived_markets().listed, gone), delisted=())
    made.write(tmp_path, [FULL_TRADES, LATER_TRADES])
    exchange = made.exchange(tmp_path, faults=Faults(delisted=[MATIC]))
    (report,) = await backfill(plain_url, exchange, MATIC)
    assert (report.outcome, report.error) == ("caught up", None)
    filled = await fill(plain_url, exchange)
    assert (filled.errors, filled.filled) == ([], len(filled.gaps.found))
    minute = last_trade(gone).replace(second=0, microsecond=0)
    assert await ended(plain_url, MATIC) == minute + timedelta(minutes=1)
    assert (await fill(plain_url, exchange, MUCH_LATER)).gaps.found == ()
