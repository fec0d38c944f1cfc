"""What a backfill will take, before it begins; and that it never fills the last of the disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kraken_db import KrakenTradesBackfill
from kraken_db.db.disk import DiskRoom
from kraken_db.db.engine import Database
from kraken_db.errors import StorageFullError, UnknownPairError
from kraken_db.historical_backfill import download
from kraken_db.historical_backfill.estimate import (
    LINE_BYTES,
    MINUTE_BYTES,
    PAGE_ROW_BYTES,
    TRADE_BYTES,
    BackfillEstimate,
)
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import SimulatedExchange, archive_url
from tests.support.archive_making import LATER, NOW, ArchivedMarkets, archived_markets
from tests.support.archives import query
from tests.support.downloading import ShortTime, quick_client

GIB = 2**30
PLENTY = DiskRoom(Path("/somewhere"), 500 * GIB, 1000 * GIB)


@pytest.fixture
def made(tmp_path: Path) -> ArchivedMarkets:
    markets = archived_markets()
    markets.write(tmp_path / "archives")
    return markets


@pytest.fixture
def exchange(made: ArchivedMarkets, tmp_path: Path) -> SimulatedExchange:
    return made.exchange(tmp_path / "archives")


def room(monkeypatch: pytest.MonkeyPatch, disk: DiskRoom) -> None:
    monkeypatch.setattr(Database, "disk", property(lambda _: disk))


def service_of(url: str, base_url: str, **options: Any) -> KrakenTradesBackfill:
    return KrakenTradesBackfill(
        url, client=quick_client(base_url), clock=lambda: NOW, sleep=ShortTime().sleep, **options
    )


async def estimate(url: str, exchange: SimulatedExchange, *symbols: str, **options: Any) -> BackfillEstimate:
    async with exchange.serve() as base_url, service_of(url, base_url) as service:
        return await service.estimate(symbols, archive=archive_url(base_url), **options)


async def backfill(url: str, exchange: SimulatedExchange, *symbols: str, **options: Any) -> list[Any]:
    async with exchange.serve() as base_url, service_of(url, base_url) as service:
        return await service.backfill(symbols, archive=archive_url(base_url), **options)


def split(made: ArchivedMarkets, symbol: str) -> tuple[int, int]:
    """How many trades the archives have, and how many REST alone has."""
    archived = sum(trade.timestamp < LATER.end for trade in made.truth(symbol))
    return archived, len(made.truth(symbol)) - archived


async def test_counts_by_ids(plain_url: str, made: ArchivedMarkets, exchange: SimulatedExchange) -> None:
    found = await estimate(plain_url, exchange, "BTC/USD", "ETH/USD")
    for pair in found.pairs:
        assert (pair.archived, pair.by_rest) == split(made, pair.symbol)
        assert pair.error is None
    assert found.trades == len(made.truth("BTC/USD")) + len(made.truth("ETH/USD"))
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(0,)]


async def test_sizes_are_of_the_files_and_rows(
    plain_url: str, made: ArchivedMarkets, exchange: SimulatedExchange
) -> None:
    (pair,) = (await estimate(plain_url, exchange, "BTC/USD", source="rest")).pairs
    trades = len(made.truth("BTC/USD"))
    assert (pair.archived, pair.by_rest) == (0, trades)
    assert pair.download == trades * PAGE_ROW_BYTES
    minutes = len({trade.timestamp.replace(second=0, microsecond=0) for trade in made.truth("BTC/USD")})
    assert pair.size >= trades * TRADE_BYTES + minutes * MINUTE_BYTES


async def test_a_pair_that_rest_does_not_have_is_counted_by_its_file(
    plain_url: str, made: ArchivedMarkets, exchange: SimulatedExchange
) -> None:
    (pair,) = (await estimate(plain_url, exchange, "MATIC/USD")).pairs
    trades = len(made.truth("MATIC/USD"))
    assert pair.by_rest == 0
    assert pair.archived == pytest.approx(trades, rel=0.3), LINE_BYTES
    assert pair.download > 0


async def test_what_is_stored_is_not_counted_again(
    plain_url: str, made: ArchivedMarkets, exchange: SimulatedExchange
) -> None:
    await backfill(plain_url, exchange, "BTC/USD", source="archive")
    (pair,) = (await estimate(plain_url, exchange, "BTC/USD")).pairs
    assert (pair.archived, pair.by_rest) == (0, split(made, "BTC/USD")[1])
    await backfill(plain_url, exchange, "BTC/USD")
    (pair,) = (await estimate(plain_url, exchange, "BTC/USD")).pairs
    assert (pair.trades, pair.size, pair.download) == (0, 0, 0)


async def test_a_part_of_time(plain_url: str, made: ArchivedMarkets, exchange: SimulatedExchange) -> None:
    since, until = datetime(2024, 4, 10, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)
    wanted = {"since": to_cursor(since), "end_timestamp": until}
    (pair,) = (await estimate(plain_url, exchange, "BTC/USD", **wanted)).pairs
    expected = sum(since < trade.timestamp < until for trade in made.truth("BTC/USD"))
    assert pair.trades == expected


async def test_an_unknown_pair_fails_alone(plain_url: str, exchange: SimulatedExchange) -> None:
    wrong, right = (await estimate(plain_url, exchange, "NONE/USD", "BTC/USD")).pairs
    assert isinstance(wrong.error, UnknownPairError)
    assert right.error is None
    assert right.trades > 0


async def test_what_cannot_fit_does_not_begin(
    plain_url: str, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(monkeypatch, replace(PLENTY, free=GIB + 100_000))
    found = await estimate(plain_url, exchange, "BTC/USD", "MATIC/USD")
    refusal = found.refusal()
    assert refusal is not None
    assert "/somewhere" in refusal.message
    with pytest.raises(StorageFullError, match="trades need about"):
        await backfill(plain_url, exchange, "BTC/USD", "MATIC/USD")
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(0,)]


async def test_what_rest_has_to_come_must_fit_too(
    plain_url: str, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(monkeypatch, replace(PLENTY, free=GIB + 100_000))
    (report,) = await backfill(plain_url, exchange, "BTC/USD", source="rest")
    assert isinstance(report.error, StorageFullError)


async def test_a_full_disk_ends_a_download_and_nothing_is_half_done(
    plain_url: str, made: ArchivedMarkets, exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is filled by others on the way; afterwards there is room, and the same command goes on."""
    asked = 0

    def filling(_: Database) -> DiskRoom:
        nonlocal asked
        asked += 1
        return PLENTY if asked < 4 else replace(PLENTY, free=GIB - 1)

    with monkeypatch.context() as patch:
        patch.setattr(download, "AT_ONCE", 1)  # one page a transaction
        patch.setattr(Database, "disk", property(filling))
        (report,) = await backfill(plain_url, exchange, "BTC/USD", source="rest")
    assert isinstance(report.error, StorageFullError)
    assert "kept free" in report.error.message
    (counted,) = await query(plain_url, "SELECT count(*) FROM trades")
    assert 0 < counted[0] < len(made.truth("BTC/USD"))
    (report,) = await backfill(plain_url, exchange, "BTC/USD", source="rest", resume=True)
    assert report.error is None
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(len(made.truth("BTC/USD")),)]


def test_reserve() -> None:
    """A tenth of a small disk, and never more than 1 GiB."""
    assert PLENTY.reserve == GIB
    assert PLENTY.usable == 499 * GIB
    small = DiskRoom(Path("/small"), 30 * 2**20, 500 * 2**20)
    assert small.reserve == 50 * 2**20
    assert small.usable == 0
    with pytest.raises(StorageFullError, match="only 30 MiB are free in /small: 50 MiB are kept free"):
        small.check()
    assert DiskRoom.at(Path("/no/such/place")) is None
