"""What is stored of each symbol and data type, as counters that every write keeps up to date (``ledger``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import SYNC_STATUS


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """One row of ``data_sync_status``. Times are UTC; ``oldest`` and ``newest`` are both inclusive."""

    symbol: str
    data_type: str
    oldest: datetime | None
    newest: datetime | None
    last_sync: datetime
    last_kraken_since: int | None
    total_records: int
    ended_at: datetime | None = None
    """Of trades: Kraken has delisted the pair, and nothing is expected from then on. See ``end_of``."""


def end_of(rows: Iterable[SyncStatus]) -> datetime | None:
    """When a pair ended, by its rows; None where it goes on.

    A candle that is behind the end says that it was listed again.
    """
    found = list(rows)
    ended_at = next((row.ended_at for row in found if row.ended_at is not None), None)
    newest = max((row.newest for row in found if row.newest is not None), default=None)
    return None if ended_at is None or (newest is not None and newest >= ended_at) else ended_at


class SyncStatusRepository:
    """Reads ``data_sync_status`` on the caller's connection."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def get(self, symbol: str, data_type: str) -> SyncStatus | None:
        """The row of one symbol and data type, or None."""
        rows = await self._select(SYNC_STATUS.c.symbol == symbol, SYNC_STATUS.c.data_type == data_type)
        return rows[0] if rows else None

    async def of_each(self, data_type: str, symbols: Iterable[str]) -> dict[str, SyncStatus]:
        """The rows of several symbols; those without one are left out."""
        c = SYNC_STATUS.c
        wanted = bindparam("symbols", list(symbols), ARRAY(VARCHAR))
        rows = await self._select(c.data_type == data_type, c.symbol == func.any(wanted))
        return {row.symbol: row for row in rows}

    async def of(self, symbol: str) -> dict[str, SyncStatus]:
        """The rows of one symbol, by data type."""
        return {row.data_type: row for row in await self._select(SYNC_STATUS.c.symbol == symbol)}

    async def all(self) -> Sequence[SyncStatus]:
        """All rows, by symbol and data type."""
        return await self._select()

    async def _select(self, *conditions: object) -> list[SyncStatus]:
        c = SYNC_STATUS.c
        statement = (
            select(
                c.symbol,
                c.data_type,
                c.oldest_timestamp,
                c.newest_timestamp,
                c.last_sync_at,
                c.last_kraken_since,
                c.total_records,
                c.ended_at,
            )
            .where(*conditions)  # type: ignore[arg-type]
            .order_by(c.symbol, c.data_type)
        )
        return [SyncStatus(*row) for row in await self._connection.execute(statement)]
