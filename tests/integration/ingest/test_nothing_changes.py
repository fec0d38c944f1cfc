"""A run that is repeated and changes nothing writes no row, and sends no statement that could.

To such a DELETE or upsert PostgreSQL locks rows and writes them down, and TimescaleDB unpacks the compressed
chunks in its range.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from kraken_db.ranges import TICK
from kraken_db.simulator import Market, Scenario, TrueTrade
from kraken_db.types import TradeRecord
from tests.support.archives import checksums, import_file, query, write
from tests.support.downloading import download_one
from tests.support.live_writing import BTC, writing
from tests.support.stores import opened

Run = Callable[[str, Path], Awaitable[Any]]
_WRITES = re.compile(r"^\s*(DELETE FROM|UPDATE) (trades|candles)\b")
"""The merge of candles is one statement, which writes what is new; of nothing new it writes nothing."""


def market(scenario: Scenario = Scenario.SAME_STAMPS) -> Market:
    """About 50 hours, so that there are several chunks."""
    return Market(BTC, seed=9, trades=1_500, trades_per_minute=0.5, scenario=scenario)


def truth() -> list[TrueTrade]:
    return list(market().truth_trades())


def trades_file(fields: int) -> str:
    rows = market().texts(0, 1_500)
    if fields == 3:
        return "".join(f"{row.time.partition('.')[0]},{row.price},{row.volume}\n" for row in rows)
    return "".join(
        f"{row.price},{row.volume},{row.time},{row.side},{row.order_type},,{row.trade_id}\n" for row in rows
    )


def candles_file() -> str:
    return "".join(
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
        for c in market().truth_candles()
    )


async def download(url: str, _folder: Path) -> None:
    report = await download_one(url, market())
    assert report.refresh_error is None


async def download_with_zeros(url: str, _folder: Path) -> None:
    """Some trades have no id."""
    report = await download_one(url, market(Scenario.SAME_STAMPS | Scenario.ZERO_IDS))
    assert report.refresh_error is None


def imported(name: str, content: Callable[[], str], *, replace: bool = False) -> Run:
    async def run(url: str, folder: Path) -> None:
        done = await import_file(url, write(folder, name, content()), replace=replace)
        assert done.error is None

    return run


def recorded(*, early: bool, is_official: bool = False) -> Run:
    """``early``: as the feed stamps them."""

    async def run(url: str, folder: Path) -> None:
        async with writing(url, folder) as writer:
            for t in truth():
                moment = t.timestamp - TICK if early else t.timestamp
                await writer.write_trade(
                    TradeRecord(BTC, moment, t.price, t.volume, t.side, t.id, t.order_type, t.misc),
                    is_official=is_official,
                )
            await writer.flush()
            await writer.build_candles(BTC, truth()[0].timestamp, truth()[-1].timestamp)
            assert writer.get_stats()["conflict_count"] == 0

    return run


ARCHIVE = imported("XBTUSD.csv", lambda: trades_file(7))
WHOLE_SECONDS = imported("XBTUSD.csv", lambda: trades_file(3))
CANDLES = imported("XBTUSD_1.csv", candles_file)
AGAIN: dict[str, tuple[Run, Run]] = {
    "download twice": (download, download),
    "download of trades without ids twice": (download_with_zeros, download_with_zeros),
    "archive over a download": (download, ARCHIVE),
    "archive of whole seconds over a download": (download, WHOLE_SECONDS),
    "candles over a download": (download, CANDLES),
    "recording over a download": (download, recorded(early=True)),
    "official trades over a download": (download, recorded(early=False, is_official=True)),
    "archive twice": (ARCHIVE, ARCHIVE),
    "archive replaced by itself": (ARCHIVE, imported("XBTUSD.csv", lambda: trades_file(7), replace=True)),
    "archive of whole seconds twice": (WHOLE_SECONDS, WHOLE_SECONDS),
    "archive of whole seconds replaced by itself": (
        WHOLE_SECONDS,
        imported("XBTUSD.csv", lambda: trades_file(3), replace=True),
    ),
    "candles twice": (CANDLES, CANDLES),
    "candles replaced by themselves": (CANDLES, imported("XBTUSD_1.csv", candles_file, replace=True)),
    "recording twice": (recorded(early=True), recorded(early=True)),
}


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is sent meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def compress(url: str) -> None:
    for table in ("trades", "candles"):
        await query(url, f"SELECT compress_chunk(c, true) FROM show_chunks('{table}') c")


async def where_rows_lie(url: str) -> list[Any]:
    """Where each row lies, and who wrote it and locked it last; of compressed chunks whether they still
    are."""
    async with opened(url) as store, store.database.read() as connection:
        if store.backend.chunks is not None:
            return [
                (item.table, item.chunks, item.compressed_chunks, item.partly_compressed_chunks)
                for item in await store.backend.storage(connection)
                if item.table in ("trades", "candles")
            ]
    rows = "SELECT CAST(ctid AS text), CAST(xmin AS text), CAST(xmax AS text) FROM {} ORDER BY ctid"
    return [await query(url, rows.format(table)) for table in ("trades", "candles")]


@pytest.mark.parametrize("name", AGAIN)
async def test_nothing_is_written(db_url: str, tmp_path: Path, name: str) -> None:
    first, second = AGAIN[name]
    await first(db_url, tmp_path / "first")
    async with opened(db_url) as store:
        has_chunks = store.backend.chunks is not None
    if has_chunks:
        await compress(db_url)
    before, rows = await where_rows_lie(db_url), await checksums(db_url)
    if has_chunks:
        assert all(chunks == packed and not partly for _, chunks, packed, partly in before), before
        assert sum(chunks for _, chunks, _, _ in before) >= 1
    with statements() as sent:
        await second(db_url, tmp_path / "second")
    assert await where_rows_lie(db_url) == before
    assert {key: rows[key] for key in ("trades", "candles")}.items() <= (await checksums(db_url)).items()
    assert len(sent) > 5
    assert [one for one in sent if _WRITES.match(one)] == []
