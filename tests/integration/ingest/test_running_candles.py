"""Minutes of candles that have not closed yet: shown at once, and stored when their candle closes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from kraken_db.backends.timescale_refresh import Refresh
from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.store import Store
from tests.support.archives import as_kraken_rows, minutes, query, read_candles, write

WEDNESDAY = datetime(2025, 1, 8, tzinfo=UTC)


def seconds(day: datetime, **later: int) -> int:
    return int((day + timedelta(**later)).timestamp())


async def import_at(url: str, path: Path, now: datetime) -> None:
    async with BulkCSVImporter(url, workers=1, clock=lambda: now) as importer:
        report = await importer.run(importer.plan([path]))
    assert not report.failures


async def waiting(url: str) -> list[tuple[str, datetime, datetime, datetime | None]]:
    return await query(
        url, "SELECT symbol, lower(stale), upper(stale), refreshed_at FROM pending_refresh ORDER BY symbol"
    )


async def test_a_later_refresh_of_another_symbol_hides_nothing(db_url: str, tmp_path: Path) -> None:
    """Half an hour of a Wednesday; no job refreshes; on Thursday, another symbol's hour is imported."""
    ten, thursday = WEDNESDAY + timedelta(hours=10), WEDNESDAY + timedelta(days=1)
    rows = minutes(30, start=seconds(ten))
    await import_at(db_url, write(tmp_path, "XBTUSD_1.csv", rows), ten + timedelta(minutes=31))
    rows = minutes(60, start=seconds(thursday, hours=11))
    await import_at(db_url, write(tmp_path, "ETHUSD_1.csv", rows), thursday + timedelta(hours=12))
    for interval in (5, 15, 30, 60, 240, 720, 1440, 10080):
        found = [row[6] for row in as_kraken_rows(await read_candles(db_url, "BTC/USD", interval))]
        assert found == [7 * min(interval, 30)] * max(30 // interval, 1), interval


async def test_only_what_has_not_closed_stays_pending(timescale_url: str, tmp_path: Path) -> None:
    url, now = timescale_url, WEDNESDAY + timedelta(hours=10, minutes=31)
    sunday = WEDNESDAY - timedelta(days=3)
    rows = minutes(3 * 1440, start=seconds(sunday))
    await import_at(url, write(tmp_path, "XBTUSD_1.csv", rows), now)
    monday = sunday + timedelta(days=1)
    assert await waiting(url) == [("BTC/USD", monday, WEDNESDAY, now)]
    await import_at(url, write(tmp_path, "ETHUSD_1.csv", minutes(5, start=seconds(sunday))), now)
    assert await waiting(url) == [("BTC/USD", monday, WEDNESDAY, now)]
    store = await Store.open(url, clock=lambda: monday + timedelta(days=7))
    await store.refresh_pending()
    await store.close()
    assert await waiting(url) == []
    assert await query(
        url, "SELECT trade_count FROM candles_1w WHERE symbol = 'BTC/USD' ORDER BY timestamp"
    ) == [(7 * 1440,), (7 * 2 * 1440,)]


async def test_what_stays_pending_costs_nothing_before_a_candle_closes(
    timescale_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, now = timescale_url, WEDNESDAY + timedelta(hours=10, minutes=31)
    rows = minutes(10 * 60 + 31, start=seconds(WEDNESDAY))
    await import_at(url, write(tmp_path, "XBTUSD_1.csv", rows), now)
    calls: list[tuple[int, datetime, datetime]] = []
    original = Refresh._call

    async def noted(self: Refresh, interval: int, windows: list[tuple[datetime, datetime]]) -> None:
        calls.extend((interval, *window) for window in windows)
        await original(self, interval, windows)

    monkeypatch.setattr(Refresh, "_call", noted)
    for later in (0, 2, 31):
        calls.clear()
        store = await Store.open(url, clock=partial(now.__add__, timedelta(minutes=later)))
        await store.refresh_pending()
        await store.close()
        ten, half, eleven = (WEDNESDAY + timedelta(hours=10, minutes=m) for m in (0, 30, 60))
        expected = {
            0: [],
            2: [],
            31: [
                (5, half, half + timedelta(minutes=5)),
                (15, half, half + timedelta(minutes=15)),
                (30, half, eleven),
                (60, ten, eleven),
            ],
        }[later]
        assert calls == expected
