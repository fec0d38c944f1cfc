"""Imports, forced ones, drops and kills in any order leave what was ever imported (TimescaleDB).

Expected values are worked out from the rows themselves. Imports are of whole hours, so that no candle is
known in part only.
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from kraken_db.backends import StaleRange
from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.store import Store
from tests.support.archives import as_kraken_rows, at, import_file, query, read_candles, write

MONDAY = 1672617600  # 2023-01-02
HOURS = 24 * 25
PAIRS = {"BTC/USD": "XBTUSD_1.csv", "ETH/USD": "ETHUSD_1.csv"}
Truth = dict[int, int]
"""Unix time of a minute to its number of trades."""


def made_up(chance: random.Random) -> Truth:
    """Days and hours without a trade, and hours in which only some minutes have one."""
    quiet = {chance.randrange(HOURS // 24) for _ in range(5)}
    return {
        MONDAY + 3600 * hour + 60 * minute: chance.randint(1, 9)
        for hour in range(HOURS)
        if hour // 24 not in quiet and chance.random() < 0.6
        for minute in chance.sample(range(60), chance.randint(1, 8))
    }


def content(rows: Truth) -> str:
    return "".join(f"{moment},100.5,102,99.5,101,2.5,{rows[moment]}\n" for moment in sorted(rows))


def expected(rows: Truth, interval: int) -> list[tuple[int, int]]:
    """Open time and number of trades of the candles that these minutes make."""
    counts: dict[int, int] = defaultdict(int)
    for moment, trades in rows.items():
        counts[moment - (moment - MONDAY) % (interval * 60)] += trades
    return sorted(counts.items())


async def import_and_be_killed(url: str, path: Path) -> None:
    async def killed(also: Sequence[StaleRange] = ()) -> None:
        raise KeyboardInterrupt

    async with BulkCSVImporter(url, workers=1) as importer:
        importer._connected().refresh_pending = killed  # type: ignore[method-assign]
        with contextlib.suppress(KeyboardInterrupt):
            await importer.run(importer.plan([path]))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_any_order(timescale_url: str, tmp_path: Path, seed: int) -> None:
    url, chance = timescale_url, random.Random(seed)
    truth = {symbol: made_up(chance) for symbol in PAIRS}
    known: dict[str, Truth] = {symbol: {} for symbol in PAIRS}
    aggregated = True
    for step in range(14):
        symbol = chance.choice(list(PAIRS))
        first = chance.randrange(HOURS)
        last = min(HOURS, first + chance.choice([1, 5, 24, 200, HOURS]))
        rows = {m: n for m, n in truth[symbol].items() if MONDAY + 3600 * first <= m < MONDAY + 3600 * last}
        if aggregated and chance.random() < 0.4:
            until = at(MONDAY + 86400 * chance.randrange(7, 40))
            await query(url, "SELECT drop_chunks('candles', CAST(:until AS timestamptz))", until=until)
        if not rows:
            continue
        path = write(tmp_path, f"{step}/{PAIRS[symbol]}", content(rows))
        known[symbol] |= rows
        aggregated = chance.random() < 0.8
        if aggregated:
            await import_file(url, path)
        else:
            await import_and_be_killed(url, path)
    store = await Store.open(url)
    await store.refresh_pending()
    await store.close()
    await assert_all_there(url, known)
    for symbol in PAIRS:
        if known[symbol]:
            await import_file(url, write(tmp_path, PAIRS[symbol], content(known[symbol])))
    await assert_all_there(url, known)


async def assert_all_there(url: str, known: dict[str, Truth]) -> None:
    for symbol, rows in known.items():
        for interval in (5, 15, 30, 60, 240, 720, 1440, 10080):
            candles = as_kraken_rows(await read_candles(url, symbol, interval))
            assert [(row[0], row[6]) for row in candles] == expected(rows, interval), (symbol, interval)
    totals = await query(url, "SELECT symbol, total_records FROM data_sync_status ORDER BY symbol")
    assert totals == [(symbol, len(rows)) for symbol, rows in sorted(known.items()) if rows]
