"""Pairs that Kraken has delisted: where their history ends, who came after them, and where to get it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_db.archives.pairs import archived_pairs
from kraken_db.data_types import DataType
from kraken_db.errors import ConfigurationError, ImportFileError, UnknownPairError
from kraken_db.historical_backfill.archive import ArchivedHistory
from kraken_db.historical_backfill.download import BackfillReport
from kraken_db.ingest.delisting import note_end, note_listed
from kraken_db.ingest.file_batches import FileBatch
from kraken_db.kraken.exchange import Exchange
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.settings import archive_place
from kraken_db.store import Store
from kraken_db.times import Clock

QUIET_AT_THE_END = timedelta(days=1)
"""How long before the end of the archives the last trade of a delisted pair must be: one that traded up to
there may have gone on after it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delisted:
    """What is done about the end of one symbol, whose download lock the caller holds."""

    store: Store
    exchange: Exchange
    symbol: str

    async def take_back(self) -> None:
        """Where the pair had ended and is listed again, more is expected."""
        status = await self._status()
        if status and status.ended_at and await self.exchange.listed([self.symbol]):
            await note_listed(self.store, self.symbol)

    async def settle(self, history: ArchivedHistory, report: BackfillReport) -> None:
        """The archives were read to their end, and REST does not know the pair.

        Notes its end, where the archives prove it, and who came after it.
        """
        successor = await self.exchange.successor(self.symbol)
        last, end = await self._end_in(history)
        if last and end and end - last >= QUIET_AT_THE_END:
            await note_end(self.store, self.symbol, last, end, FileBatch.source)
        elif last:
            report.notes.append(
                f"the archives do not show whether the trade of {last:%Y-%m-%d %H:%M} UTC was its last one:"
                " the next quarterly archive will show it"
            )
        if successor is not None:
            report.notes.append(
                f"its successor is {successor}, with a history of its own:"
                f" kraken-db backfill --symbols {successor}"
            )

    async def _end_in(self, history: ArchivedHistory) -> tuple[datetime | None, datetime | None]:
        """The newest stored trade, and up to where the archives show that none came after it."""
        status = await self._status()
        last = status.newest if status else None
        if last is None:
            return None, None
        async with self.store.database.read() as connection:
            known = await CoverageRepository(connection).covered(self.symbol, DataType.TRADES)
        files_end = max((file.covers[1] or last for file in history.files[self.symbol]), default=last)
        if not any(start <= last and files_end <= stop for start, stop in known):
            return last, None  # a file without ids, which is not read
        covered = history.covered(self.symbol)
        return last, next((end for start, end in covered if start <= last < end), None)

    async def _status(self) -> SyncStatus | None:
        async with self.store.database.read() as connection:
            return await SyncStatusRepository(connection).get(self.symbol, DataType.TRADES)


async def with_advice(
    error: UnknownPairError, symbol: str, base_url: str, clock: Clock, *, is_stored: bool
) -> UnknownPairError:
    """What to say of a pair that REST does not know: where the archives have it, how to get it from there.

    ``is_stored``: something of it is. Then it was listed once, and the archives need not be looked at.
    """
    if not is_stored and not await _is_archived(symbol, base_url, clock):
        return error
    return UnknownPairError(
        f"Kraken does not list {symbol} any more",
        hint=f"its history is in Kraken's archives: kraken-db backfill --symbols {symbol} --source archive",
    )


async def _is_archived(symbol: str, base_url: str, clock: Clock) -> bool:
    place = archive_place(base_url)
    if place is None:
        return False
    try:
        return symbol in await archived_pairs(place, clock)
    except (ImportFileError, ConfigurationError) as error:
        _log.info("%s: the archives were not looked at: %s", symbol, error)
        return False
