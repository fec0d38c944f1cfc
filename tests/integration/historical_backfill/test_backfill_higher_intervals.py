"""After a download every interval shows what the trades say: refreshed where it is stored, on both kinds."""

from __future__ import annotations

import pytest

from kraken_db.errors import DatabaseError
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.simulator import Market, SimulatedExchange
from kraken_db.store import Store
from tests.support.archives import as_kraken_rows, query, read_candles
from tests.support.downloading import downloading

SYMBOL = "BTC/USDT"
WEEK = 10080


async def check(url: str, market: Market) -> None:
    for interval in INTERVAL_VIEWS:
        found = as_kraken_rows(await read_candles(url, SYMBOL, interval))
        if interval == WEEK:  # the truth counts its weeks from a Thursday; all of this lies in one of ours
            assert [row[6] for row in found] == [market.size]
            continue
        assert found == [
            (int(c.timestamp.timestamp()), c.open, c.high, c.low, c.close, c.volume, c.trade_count)
            for c in market.truth_candles(interval)
        ], interval


async def test_in_two_parts(db_url: str) -> None:
    market = Market(SYMBOL, seed=5, trades=5_000)
    middle = list(market.truth_trades())[2_500].timestamp
    async with downloading(db_url, SimulatedExchange([market])) as service:
        await service.backfill([SYMBOL], end_timestamp=middle)
        (report,) = await service.backfill([SYMBOL], resume=True)
        assert report.error is None
        assert report.new > 2_000
    await check(db_url, market)
    assert await query(db_url, "SELECT count(*) FROM pending_refresh") == [(0,)]


async def test_a_refresh_that_is_given_up_is_told(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trades are stored all the same; the run has not done all of its work."""

    async def refuse(_: Store) -> None:
        raise DatabaseError("no refresh today")

    market = Market(SYMBOL, seed=5, trades=50)
    async with downloading(plain_url, SimulatedExchange([market])) as service:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "refresh_pending", refuse)
            (report,) = await service.backfill([SYMBOL])
            assert (report.error, report.new, report.is_flawed) == (None, market.size, True)
            assert str(report.refresh_error).startswith("the higher intervals are not up to date: no refresh")
            with pytest.raises(DatabaseError, match="no refresh today"):
                await service.backfill_symbol(SYMBOL)
        (report,) = await service.backfill([SYMBOL], resume=True)
        assert (report.refresh_error, report.is_flawed) == (None, False)
    await check(plain_url, market)
