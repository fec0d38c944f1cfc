"""A large candle file goes straight into its table where nothing is stored: what is stored is the same."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from kraken_db.bulk_csv_importer import importer
from kraken_db.repositories.candle_load import CandleLoad
from tests.support.archives import START, checksums, import_file, minutes, query, write

TABLES = "candles, data_sync_status, data_coverage, unproven_ranges, dropped_ranges, pending_refresh"
# Numbers as Kraken writes them, and holes between the minutes; over a day and a year's end.
ROWS = minutes(2000) + "".join(
    f"{START + 60 * minute},{row}\n"
    for minute, row in [
        (2001, "1E+1,5.5E+2,1,10,2019.9138159998,7"),
        (2005, "0.00002,0.000021,0.00001999,0.00002,4000000000000.0000000000123,9"),
        (600_000, "3,3,3,3,0.00000000012,1"),
    ]
)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[CandleLoad]:
    """The loads that copied a file straight."""
    found: list[CandleLoad] = []
    copy = CandleLoad.copy

    async def noted(self: CandleLoad, *arguments: object) -> int:
        rows = await copy(self, *arguments)  # type: ignore[arg-type]
        found.append(self)
        return rows

    monkeypatch.setattr(CandleLoad, "copy", noted)
    return found


@pytest.mark.parametrize("interval", [1, 60])
async def test_the_same_is_stored(
    db_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loads: list[CandleLoad],
    interval: int,
) -> None:
    rows = ROWS if interval == 1 else "".join(f"{START + 3600 * n},1,2,1,2,3,4\n" for n in range(3000))
    path = write(tmp_path, f"XBTUSD_{interval}.csv", rows)
    monkeypatch.setattr(importer, "LARGE_FILE", 10**9)
    staged = await import_file(db_url, path)
    assert not loads
    expected = await checksums(db_url)
    await query(db_url, f"TRUNCATE {TABLES}")

    monkeypatch.setattr(importer, "LARGE_FILE", 2**16)
    done = await import_file(db_url, path)
    assert len(loads) == 1
    assert await checksums(db_url) == expected
    assert (done.read, done.new, done.oldest, done.newest) == (
        staged.read,
        staged.new,
        staged.oldest,
        staged.newest,
    )
    again = await import_file(db_url, path)
    assert (len(loads), again.new, again.changed, again.unchanged) == (1, 0, 0, done.read)


async def test_the_higher_intervals_of_a_second_pair(
    db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loads: list[CandleLoad]
) -> None:
    """Its time is refreshed already, and TimescaleDB's own notes lack what a COPY has brought since."""
    monkeypatch.setattr(importer, "LARGE_FILE", 2**16)
    rows = minutes(14 * 24 * 60)
    for name in ("XBTUSD", "ETHUSD"):
        await import_file(db_url, write(tmp_path, f"{name}_1.csv", rows))
    assert len(loads) == 2
    for view, count in (("candles_5m", 14 * 288), ("candles_1h", 14 * 24), ("candles_1d", 14)):
        found = await query(db_url, f"SELECT symbol, count(*) FROM {view} GROUP BY 1 ORDER BY 1")
        assert found == [("BTC/USD", count), ("ETH/USD", count)], view


async def test_numbers_by_hand(plain_url: str, tmp_path: Path, loads: list[CandleLoad]) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", ROWS))
    assert len(loads) == 1
    found = await query(
        plain_url,
        "SELECT open, volume, trade_count, quote_volume, vwap FROM candles"
        f" WHERE timestamp IN (to_timestamp({START + 60 * 2001}), to_timestamp({START + 60 * 2005}))"
        " ORDER BY timestamp",
    )
    assert found == [
        (Decimal(10), Decimal("2019.9138159998"), 7, None, None),
        (Decimal("0.00002"), Decimal(4000000000000), 9, None, None),
    ]


async def test_rows_that_somebody_else_stored(
    plain_url: str, tmp_path: Path, loads: list[CandleLoad]
) -> None:
    """The counters know nothing of them; a candle with more trades stays, and the rest is merged."""
    await query(
        plain_url,
        "INSERT INTO candles"
        " (symbol, timestamp, interval_minutes, open, high, low, close, volume, trade_count)"
        f" VALUES ('BTC/USD', to_timestamp({START + 600}), 1, 1, 1, 1, 1, 1, 1000)",
    )
    done = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", ROWS))
    assert (done.error, len(loads), done.new, done.unchanged) == (None, 0, 2002, 1)
    assert await query(plain_url, "SELECT count(*), max(trade_count) FROM candles") == [(2003, 1000)]


async def test_minutes_without_trades_are_left_out(
    plain_url: str, tmp_path: Path, loads: list[CandleLoad]
) -> None:
    rows = minutes(2000) + f"{START + 60 * 2000},5,5,5,5,0,0\n"
    done = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", rows))
    assert (done.error, done.read, done.new, done.rejected) == (None, 2001, 2000, 1)
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(2000,)]


async def test_times_that_go_back_inside_a_second_are_looked_at(plain_url: str, tmp_path: Path) -> None:
    """What lies outside of the first and the last time, too: 'b' is no side in the table."""
    rows = f"100,1,{START}.5,b,,,1\n100,1,{START}.4,s,,,2\n"
    assert (await import_file(plain_url, write(tmp_path, "XBTUSD.csv", rows))).new == 2
    assert await query(plain_url, "SELECT id, side FROM trades ORDER BY id") == [(1, "buy"), (2, "sell")]
    wrong = f"100,1,{START}.5,b,,,1\n100,1,{START}.6,x,,,2\n100,1,{START}.4,s,,,3\n"
    done = await import_file(plain_url, write(tmp_path, "ETHUSD.csv", wrong))
    assert "the side is neither" in str(done.error)


async def test_ids_that_are_missing_by_the_million(plain_url: str, tmp_path: Path) -> None:
    rows = f"100,1,{START}.5,b,l,,5\n100,1,{START}.6,s,l,,10000006\n"
    done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", rows))
    assert (done.error, done.new) == (None, 2)
    assert done.notes[0].startswith("the file lacks ")
