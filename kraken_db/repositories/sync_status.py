"""What is stored of each symbol and data type, as counters that every write keeps up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, VARCHAR, insert
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


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write has stored of one symbol and data type: see ``SyncStatusRepository.record``."""

    symbol: str
    data_type: str
    oldest: datetime
    newest: datetime
    added: int
    cursor: int | None = None


class SyncStatusRepository:
    """Reads and advances ``data_sync_status`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def record(
        self,
        symbol: str,
        data_type: str,
        *,
        oldest: datetime,
        newest: datetime,
        added: int,
        cursor: int | None = None,
    ) -> None:
        """Widen the range to ``[oldest, newest]``, add to the count, and set the time of the sync to now.

        ``cursor``: where the next download goes on, in ns as Kraken gave it; None leaves it as it is.
        """
        await self.record_each([Stored(symbol, data_type, oldest, newest, added, cursor)])

    async def record_each(self, stored: Iterable[Stored]) -> None:
        """``record`` what was stored of several symbols and data types, in one go."""
        rows = [
            {
                "symbol": one.symbol,
                "data_type": one.data_type,
                "oldest_timestamp": one.oldest,
                "newest_timestamp": one.newest,
                "last_sync_at": datetime.now(UTC),
                "total_records": one.added,
                "last_kraken_since": one.cursor,
            }
            for one in stored
        ]
        if not rows:
            return
        fresh = insert(SYNC_STATUS)
        new, old = fresh.excluded, SYNC_STATUS.c
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type"],
                set_={
                    "oldest_timestamp": func.least(old.oldest_timestamp, new.oldest_timestamp),
                    "newest_timestamp": func.greatest(old.newest_timestamp, new.newest_timestamp),
                    "last_sync_at": new.last_sync_at,
                    "total_records": old.total_records + new.total_records,
                    "last_kraken_since": func.coalesce(new.last_kraken_since, old.last_kraken_since),
                },
            ),
            rows,
        )

    async def touch(self, symbol: str, data_types: Sequence[str]) -> None:
        """There was nothing new: set the time of the sync to now, and leave the rest."""
        await self.touch_each((symbol, data_type) for data_type in data_types)

    async def touch_each(self, keys: Iterable[tuple[str, str]]) -> None:
        """``touch`` several symbols and data types, in one go."""
        rows = [{"of_symbol": symbol, "of_type": data_type} for symbol, data_type in keys]
        if rows:
            c = SYNC_STATUS.c
            await self._connection.execute(
                update(SYNC_STATUS)
                .where(c.symbol == bindparam("of_symbol"), c.data_type == bindparam("of_type"))
                .values(last_sync_at=func.now()),
                rows,
            )

    async def correct(self, symbol: str, data_type: str, *, counted: int, stored: int) -> bool:
        """Set the count to what is stored; returns whether it still was what it had been: ``counted``."""
        c = SYNC_STATUS.c
        result = await self._connection.execute(
            update(SYNC_STATUS)
            .where(c.symbol == symbol, c.data_type == data_type, c.total_records == counted)
            .values(total_records=stored)
        )
        return bool(result.rowcount)  # type: ignore[attr-defined]

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
            )
            .where(*conditions)  # type: ignore[arg-type]
            .order_by(c.symbol, c.data_type)
        )
        return [SyncStatus(*row) for row in await self._connection.execute(statement)]
