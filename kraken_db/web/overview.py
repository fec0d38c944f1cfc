"""All pairs at a glance: from counters, with one statement for the newest days of their prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.repositories.last_prices import LastPrices
from kraken_db.repositories.sparks import SparkRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.status import (
    DEFAULT_MAX_LAG,
    DataStatus,
    PairRow,
    StoreStatus,
    lag_text,
    newest_records,
    problems,
    read_status,
)
from kraken_db.web.answers import Packed
from kraken_db.web.site import Shared, Site

SPARK_REACH = timedelta(days=2)
_FRESH, _SPARKS_FRESH = 1.0, 30.0


class OverviewReader:
    """Reads what stands in the overview; what was read a second ago is shown again."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._prices: dict[str, tuple[object, Decimal]] = {}
        self._sparks = Shared(self._read_sparks, _SPARKS_FRESH)
        self._status = Shared(self._read_status, _FRESH)
        self._document = Shared(self._make, _FRESH)
        self._packed = Shared(self._pack, _FRESH)

    async def status(self) -> StoreStatus:
        """Of the whole store, without months, with the newest prices."""
        return await self._status.get()

    async def document(self) -> dict[str, Any]:
        """The answer of ``/api/v1/overview``."""
        return await self._document.get()

    async def packed(self) -> Packed:
        """The same as it is sent: of 1,635 pairs it is a megabyte, which many ask for at once."""
        return await self._packed.get()

    async def document_of(self, symbol: str) -> dict[str, Any]:
        """The same with one pair alone; the totals are those of all."""
        found = await self.document()
        return {**found, "pairs": [pair for pair in found["pairs"] if pair["symbol"] == symbol]}

    async def _pack(self) -> Packed:
        return Packed.of(await self.document())

    async def _make(self) -> dict[str, Any]:
        status, sparks = await self.status(), await self._sparks.get()
        return overview(status, sparks)

    async def _read_status(self) -> StoreStatus:
        async def read(connection: AsyncConnection) -> StoreStatus:
            store = self._site.store
            found = await read_status(connection, store.backend, store.clock(), months=False)
            return replace(found, disk=store.database.disk, last_prices=await self._newest(connection, found))

        return await self._site.read(read)

    async def _newest(self, connection: AsyncConnection, found: StoreStatus) -> Mapping[str, Decimal]:
        """Only of pairs with something newer than the last time."""
        newest = newest_records(found)
        changed = {
            symbol: record
            for symbol, record in newest.items()
            if self._prices.get(symbol, (None,))[0] != record
        }
        for symbol, price in (await LastPrices(connection).of(changed)).items():
            self._prices[symbol] = newest[symbol], price
        return {symbol: price for symbol, (record, price) in self._prices.items() if symbol in newest}

    async def _read_sparks(self) -> Mapping[str, Sequence[float]]:
        now = self._site.clock()

        async def read(connection: AsyncConnection) -> Mapping[str, Sequence[float]]:
            symbols = [row.symbol for row in await SyncStatusRepository(connection).all()]
            return await SparkRepository(connection).of(sorted(set(symbols)), now - SPARK_REACH, now)

        return await self._site.read(read)


def overview(status: StoreStatus, sparks: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """``size`` of a pair is about right: its share of the rows of each table."""
    rows = {table: sum(_rows(status.data, table)) for table in ("trades", "candles")}
    sizes = {table.table: table.size for table in status.tables}
    candles_size = sizes.get("candles", 0) + sizes.get("higher intervals", 0)
    per_row = {
        "trades": sizes.get("trades", 0) / max(rows["trades"], 1),
        "candles": candles_size / max(rows["candles"], 1),
    }
    pairs = [
        _pair(list(items), status, sparks.get(symbol, ()), per_row)
        for symbol, items in groupby(status.data, key=lambda item: item.symbol)
    ]
    return {
        "now": status.now,
        "totals": {
            "pairs": len(pairs),
            "trades": rows["trades"],
            "candles": rows["candles"],
            "size": status.database_size,
            "problems": [str(problem) for problem in problems(status)],
        },
        "pairs": pairs,
    }


def _rows(data: Sequence[DataStatus], table: str) -> list[int]:
    return [item.rows for item in data if DataType.parse(item.data_type).table == table]


def _pair(
    items: Sequence[DataStatus], status: StoreStatus, spark: Sequence[float], per_row: Mapping[str, float]
) -> dict[str, Any]:
    row = PairRow.of(items, status.last_prices.get(items[0].symbol))
    by_type = {item.data_type: item for item in items}
    trades, minutes = by_type.get(DataType.TRADES), by_type.get(DataType.CANDLES_1M)
    state = row.trouble(DEFAULT_MAX_LAG)
    return {
        "symbol": row.symbol,
        "status": state or ("live" if row.is_watched else "ok"),
        "trouble": _trouble(row, state),
        "newest_trade": trades and trades.newest,
        "newest_candle": minutes and minutes.newest,
        "price": row.price,
        "lag_seconds": row.lag,
        "trades": row.trades,
        "candles": row.candles,
        "size": round(row.trades * per_row["trades"] + row.candles * per_row["candles"]),
        "coverage": _coverage(minutes if minutes and minutes.ranges else trades, status),
        "gaps": row.gaps or 0,
        "ended_at": row.ended_at,
        "last_sync": row.last_sync,
        "spark": spark,
    }


def _trouble(row: PairRow, state: str) -> list[str]:
    texts = []
    if row.gaps:
        texts.append(f"{row.gaps:,} gap" + ("" if row.gaps == 1 else "s"))
    if row.ended_at is None and row.lag is not None and row.lag > DEFAULT_MAX_LAG and not row.is_watched:
        texts.append(f"{lag_text(row.lag)} behind")
    return texts


def _coverage(item: DataStatus | None, status: StoreStatus) -> dict[str, Any]:
    """The share that is not missing, of the time from the first covered moment to now or the pair's end."""
    if item is None or item.start is None or item.end is None:
        return {"share": 0, "start": None, "end": None}
    until = max(item.end, status.now if item.ended_at is None else item.ended_at)
    known = item.end - item.start - (item.missing or timedelta(0))
    share = known / (until - item.start) if until > item.start else 1.0
    return {"share": min(round(share, 6), 1.0), "start": item.start, "end": item.end}
