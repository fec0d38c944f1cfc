"""What a backfill will take: trades and where they come from, bytes to download and on disk, and time.

Ids count the trades of a pair, so a few questions to Kraken say how many there are in a range. Of a pair that
REST does not serve any more, the size of its file says it, about. Nothing is stored.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kraken_db.backends.storage import most_wal
from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.data_types import DataType
from kraken_db.db.disk import DiskRoom, room_text
from kraken_db.errors import KrakenDBError, StorageFullError, UnknownPairError, foreseen
from kraken_db.historical_backfill.archive import Wanted, is_stored
from kraken_db.historical_backfill.download import find_goal
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.kraken.rest import MAX_COUNT, KrakenRestClient
from kraken_db.progress import PairsProgress, Progress
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store

ARCHIVE_RATE = 150_000
"""Trades a second from archives, with candles, as measured on two cores (docs/benchmarks.md)."""
REST_RATE = 30_000
"""Trades a second from REST, with candles, if Kraken had no limit."""
LINE_BYTES = 55
"""Of a trade in an archive: BTC/USD has 5.73 GB for 103,098,393 of them."""
PAGE_ROW_BYTES = 75
"""Of a trade in an answer of REST."""
TRADE_BYTES = 190
MINUTE_BYTES = 240
"""On disk, with indexes; of a minute with its share of the higher intervals (scripts/bench_archive.py)."""
_ASKED_AT_ONCE = 50
"""Pairs: each is asked four questions or so, and has a limit of its own."""
_log = logging.getLogger(__name__)
_FIRST_MINUTE = datetime.fromisoformat("2013-09-11T00:00:00+00:00")
"""Of Kraken's archives."""


@dataclass(frozen=True, slots=True)
class PairEstimate:
    """One pair. What Kraken does not say is estimated: the figures are right to a few percent, no more."""

    symbol: str
    archived: int = 0
    """Trades in the archives that have to be read."""
    by_rest: int = 0
    download: int = 0
    """Bytes of archives, packed, and of REST's answers."""
    size: int = 0
    """Bytes by which the database grows."""
    seconds: float = 0.0
    """Of loading archives, then of asking REST; downloads are not counted: who knows how fast the line is."""
    error: KrakenDBError | None = None

    @property
    def trades(self) -> int:
        return self.archived + self.by_rest


@dataclass(frozen=True, slots=True)
class BackfillEstimate:
    """All pairs of a run. ``disk``: None where the server is not the embedded one."""

    pairs: Sequence[PairEstimate]
    pairs_at_once: int
    disk: DiskRoom | None = None
    wal: int = 0
    """Bytes that the server's log of changes may take meanwhile."""

    @property
    def trades(self) -> int:
        return sum(pair.trades for pair in self.pairs)

    @property
    def download(self) -> int:
        return sum(pair.download for pair in self.pairs)

    @property
    def size(self) -> int:
        return sum(pair.size for pair in self.pairs)

    @property
    def seconds(self) -> float:
        """The database takes archives one after the other, and Kraken answers pairs side by side."""
        loading = sum(pair.archived for pair in self.pairs) / ARCHIVE_RATE
        asking = [pair.seconds - pair.archived / ARCHIVE_RATE for pair in self.pairs]
        return loading + max([sum(asking) / self.pairs_at_once, *asking, 0])

    def refusal(self) -> StorageFullError | None:
        """Why it cannot begin, if it cannot."""
        return None if self.disk is None else _refusal(self.disk, self.size + self.wal, self.trades)


@dataclass(frozen=True, slots=True)
class Estimator:
    """Asks Kraken and the store."""

    store: Store
    client: KrakenRestClient
    exchange: Exchange
    wanted: Wanted
    pairs_at_once: int
    progress: Progress

    async def run(
        self, symbols: Sequence[str], files: Mapping[str, Sequence[ArchiveFile]]
    ) -> BackfillEstimate:
        """What happens to one pair does nothing to the others."""
        places = asyncio.Semaphore(max(self.pairs_at_once, _ASKED_AT_ONCE))
        progress = self.progress.task("asking Kraken", len(symbols))

        async def one(symbol: str) -> PairEstimate:
            async with places:
                try:
                    return await self._pair(symbol, files.get(symbol, ()))
                except Exception as error:
                    _log.debug("%s", symbol, exc_info=error)
                    return PairEstimate(symbol, error=foreseen(error, symbol))
                finally:
                    progress.advance()

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(symbol)) for symbol in symbols]
        finally:
            progress.done()
        return await self._together([task.result() for task in tasks])

    async def look_ahead(
        self, symbols: Sequence[str], files: Mapping[str, Sequence[ArchiveFile]], progress: PairsProgress
    ) -> None:
        """Say about how many trades each pair will bring: a question a pair, and two behind a beginning."""
        async with self.store.database.read() as connection:
            records = await SyncStatusRepository(connection).all()
        stored = {one.symbol: one for one in records if one.data_type == DataType.TRADES}
        places = asyncio.Semaphore(self.pairs_at_once)

        async def one(symbol: str) -> None:
            async with places:
                try:
                    name = await self.exchange.rest_name(symbol)
                    goal = await find_goal(self.client, name, self.wanted.end)
                    status = stored.get(symbol)
                    since = self.wanted.first_cursor(
                        (status.last_kraken_since if status else None) or 0, files.get(symbol, ())
                    )
                    first = await self._first(name, since) if since else None
                except KrakenDBError:
                    return
            if goal is not None and goal.trade_id:
                before = first.trade_id - 1 if first is not None and first.trade_id else 0
                progress.expect(symbol, max(0, goal.trade_id - before))

        await asyncio.gather(*map(one, symbols))

    async def check_room(self, symbols: Sequence[str], files: Mapping[str, Sequence[ArchiveFile]]) -> None:
        """Raises StorageFullError where what archives have of these pairs does not fit. Asks nobody."""
        disk = self.store.database.disk
        if disk is None or self._fits(disk, [file for name in symbols for file in files.get(name, ())]):
            return
        missing = [file for name in symbols for file in await self._missing(files.get(name, ()))]
        if self._fits(disk, missing):
            return
        found = await self._together(
            [self._of_files(name, [f for f in missing if f.symbol == name]) for name in symbols]
        )
        if (refusal := found.refusal()) is not None:
            raise refusal

    def check_rest(self, trades: int) -> None:
        """Raises StorageFullError where so many trades, as REST has to come, do not fit."""
        disk = self.store.database.disk
        refusal = None if disk is None else _refusal(disk, trades * TRADE_BYTES, trades)
        if refusal is not None:
            raise refusal

    def _fits(self, disk: DiskRoom, files: Sequence[ArchiveFile]) -> bool:
        """Whether it fits for sure: as if each trade had a minute of its own, and with a large log."""
        trades = sum(file.size for file in files) // LINE_BYTES
        return trades * (TRADE_BYTES + MINUTE_BYTES) * 2 < disk.usable

    async def _together(self, pairs: Sequence[PairEstimate]) -> BackfillEstimate:
        disk, size = self.store.database.disk, sum(pair.size for pair in pairs)
        wal = 0
        if disk is not None:
            async with self.store.database.read() as connection:
                wal = max(0, min(await most_wal(connection), 2 * size) - disk.wal_size())
        return BackfillEstimate(pairs, self.pairs_at_once, disk, wal)

    async def _pair(self, symbol: str, files: Sequence[ArchiveFile]) -> PairEstimate:
        missing = await self._missing(files)
        try:
            name = await self.exchange.rest_name(symbol)
        except UnknownPairError:
            if not files:
                raise
            return self._of_files(symbol, missing)
        async with self.store.database.read() as connection:
            status = await SyncStatusRepository(connection).get(symbol, DataType.TRADES)
        since = self.wanted.first_cursor((status.last_kraken_since if status else None) or 0, files)
        joint = max([since, *(to_cursor(stop) for file in missing if (stop := file.covers[1]))])
        if self.wanted.end is not None:
            joint = min(joint, to_cursor(self.wanted.end))
        goal = await find_goal(self.client, name, self.wanted.end)
        if goal is None or not goal.trade_id:
            return self._of_files(symbol, missing)
        end = goal.trade_id + (self.wanted.end is None or goal.timestamp < self.wanted.end)
        at_joint = await self._first(name, joint)
        border = (at_joint.trade_id if at_joint else None) or end
        by_rest = 0 if self.wanted.source == "archive" else max(0, end - border)
        if not missing:
            return self._estimate(symbol, [], 0, by_rest, by_rest, (at_joint or goal, goal))
        start = missing[0].covers[0]
        first = await self._first(name, max(self.wanted.since, to_cursor(start) if start else 0))
        if first and first.trade_id and all(file.covers[1] for file in missing):
            archived = max(0, border - first.trade_id)
        else:
            archived = self._of_files(symbol, missing).archived
        stored = status.total_records if status else 0
        new = max(0, archived - stored) + by_rest
        return self._estimate(symbol, missing, archived, by_rest, new, (first or goal, goal))

    async def _first(self, name: str, since: int) -> KrakenTrade | None:
        """The first trade behind a cursor: the one at it is stored, or of no weight."""
        trades = (await self.client.trades(name, since and since + 1000, count=1)).trades
        return trades[0] if trades else None

    async def _missing(self, files: Sequence[ArchiveFile]) -> list[ArchiveFile]:
        return [
            file for file in files if self.wanted.has_part_of(file) and not await is_stored(self.store, file)
        ]

    def _of_files(self, symbol: str, files: Sequence[ArchiveFile]) -> PairEstimate:
        trades = sum(file.size for file in files) // LINE_BYTES
        return self._estimate(symbol, files, trades, 0, trades, None)

    def _estimate(
        self,
        symbol: str,
        files: Sequence[ArchiveFile],
        archived: int,
        by_rest: int,
        new: int,
        ends: tuple[KrakenTrade, KrakenTrade] | None,
    ) -> PairEstimate:
        """``ends``: the first and the last trade, where they are known."""
        packed = sum(file.entry.packed_size if file.entry else file.size for file in files)
        first, last = (one.timestamp for one in ends) if ends else (_FIRST_MINUTE, self.store.clock())
        minutes = _occupied(new, (last - first).total_seconds() / 60) if self.wanted.build_candles else 0
        pages = math.ceil(by_rest / MAX_COUNT)
        return PairEstimate(
            symbol,
            archived,
            by_rest,
            packed + by_rest * PAGE_ROW_BYTES,
            new * TRADE_BYTES + minutes * MINUTE_BYTES,
            archived / ARCHIVE_RATE + max(pages * self.client.rate_limit_delay, by_rest / REST_RATE),
        )


def _occupied(trades: int, minutes: float) -> int:
    """How many of the minutes have a trade, were the trades spread by chance; they come in bursts: fewer."""
    return round(minutes * -math.expm1(-trades / minutes)) if minutes >= 1 else 0


def _refusal(disk: DiskRoom, size: int, trades: int) -> StorageFullError | None:
    if size <= disk.usable:
        return None
    return StorageFullError(
        f"{trades:,} trades need about {room_text(size)} in {disk.path}, of which {room_text(disk.usable)}"
        f" can be used (of {room_text(disk.free)} that are free, {room_text(disk.reserve)} stay free)",
        hint="make room, choose fewer pairs or a later --since, or another disk: --db-url embedded:///some/dir",
    )
