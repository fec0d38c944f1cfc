"""``kraken-db candles --last N``: the newest N, however many, never all of them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from kraken_db.cli import candles as command
from kraken_db.cli.candles import CandleQuery, select_candles
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.intervals import Interval
from kraken_db.types import Candle
from tests.support.archives import ROW, START, import_file, import_texts, minutes, write
from tests.support.lanes import Lane

# 60 minutes, of which each seventh is quiet, a hole of a day, and 20 more.
OPENS = [START + 60 * n for n in range(60) if n % 7 != 3] + [START + 86400 + 60 * n for n in range(20)]
FILE = "".join(f"{at},{ROW}\n" for at in OPENS)


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": FILE})


@pytest.fixture
def filled(lane: Lane) -> Iterator[str]:
    with lane.filled_database(fill) as url:
        yield url


async def read(
    url: str, count: int, interval: int = 1, fill: Literal["previous"] | None = None
) -> tuple[list[list[Candle]], list[Candle]]:
    """What the command gets, piece by piece, and what the provider gives at once."""
    query = CandleQuery("BTC/USD", interval, None, None, count, fill)
    async with HistoricalDataProvider(url, pool_min_size=1, pool_max_size=1) as provider:
        pieces = [piece async for piece in await select_candles(provider, query)]
        return pieces, await provider.get_latest_candles("BTC/USD", interval, count, fill=fill)


@pytest.mark.parametrize("interval", [1, 5, 60])
@pytest.mark.parametrize("fill", [None, "previous"])
async def test_the_same_candles_in_pieces(
    filled: str, interval: int, fill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_AT_ONCE", 9)
    for count in (1, 8, 9, 10, 18, 19, 20, 21, 45, 71, 72, 1000, 10**9):
        pieces, whole = await read(filled, count, interval, fill)
        assert [candle for piece in pieces for candle in piece] == whole, count
    if (interval, fill) == (1, None):
        assert len(whole) == len(OPENS) == 71


async def test_no_more_than_some_are_asked_for_at_once(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    right = HistoricalDataProvider._latest

    async def latest(
        self: HistoricalDataProvider,
        symbol: str,
        interval: Interval,
        count: int,
        before: datetime | None,
        fill: Any,
    ) -> list[Candle]:
        asked.append(count)
        return await right(self, symbol, interval, count, before, fill)

    monkeypatch.setattr(HistoricalDataProvider, "_latest", latest)
    monkeypatch.setattr(command, "_AT_ONCE", 30)
    query = CandleQuery("BTC/USD", 1, None, None, 65, None)
    async with HistoricalDataProvider(filled, pool_min_size=1, pool_max_size=1) as provider:
        pieces = [piece async for piece in await select_candles(provider, query)]
    assert sum(map(len, pieces)) == 65
    assert asked == [30, 30, 5]


def test_a_candle_that_comes_meanwhile_is_not_one_too_many(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = command._start_of_newest
    later = write(tmp_path, "more/XBTUSD_1.csv", minutes(5, start=OPENS[-1] + 60))

    async def write_then_look(*arguments: Any) -> datetime:
        await import_file(filled, later)
        return await right(*arguments)

    monkeypatch.setattr(command, "_AT_ONCE", 10)
    monkeypatch.setattr(command, "_start_of_newest", write_then_look)
    pieces, whole = asyncio.run(read(filled, 15))
    assert sum(map(len, pieces)) == 15
    assert int(pieces[-1][-1].timestamp.timestamp()) == OPENS[-1]
    assert int(whole[-1].timestamp.timestamp()) == OPENS[-1] + 300
