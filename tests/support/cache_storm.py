"""Readers by way of the cache beside writers of every kind; each read is compared inside its own snapshot.

Writers commit what a seed says: by SQL, as psql would, and by the package's own code. A reader opens a
snapshot, reads by the cache, by what it has stored alone, and without it, and compares. Where a chunk was
dropped or packed meanwhile, even plain rows vanish from snapshots that should see them: such a read counts
as spoiled, and is no comparison.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import OldRows
from kraken_db.cache import CandleCache
from kraken_db.cache.candles import SnapshotCandles
from kraken_db.errors import KrakenDBError
from kraken_db.intervals import Interval, as_interval
from kraken_db.repositories.candle_versions import CandleVersionRepository
from kraken_db.store import Store
from tests.support.archives import moved

SYMBOLS = ("BTC/USD", "ETH/USD", "SHIB/USD")
FIRST, LAST = datetime(2023, 1, 2, tzinfo=UTC), datetime(2023, 4, 3, tzinfo=UTC)
INTERVALS = [
    *map(as_interval, ("1m", "5m", "30m", "1h", "4h", "1d", "1w", "7m", "2h", "1M")),
    as_interval("1d", tz="Europe/Berlin"),
]
FAVOURITES = INTERVALS[0], INTERVALS[3]
COLUMNS = (
    "symbol, timestamp, interval_minutes, open, high, low, close, volume, quote_volume, trade_count, vwap"
)
# As large as volumes get, and a price with all decimals.
VALUES = (
    "p, p + 5, p - 5, p + 1, CAST(random() * 1e11 AS numeric(38,10)), NULL, 3,"
    " p + CAST(0.1234567891 AS numeric)"
)
INSERT = (
    f"INSERT INTO candles ({COLUMNS}) SELECT :symbol, g, CAST(:minutes AS smallint), {VALUES}"
    " FROM generate_series(CAST(:first AS timestamptz), CAST(:last AS timestamptz),"
    " CAST(:step AS interval)) g, LATERAL (SELECT CAST(100 + random() * 100 AS numeric(20,10)) AS p) x"
    " ON CONFLICT (timestamp, symbol, interval_minutes) DO {conflict}"
)
NOTHING = INSERT.format(conflict="NOTHING")
UPSERT = INSERT.format(conflict="UPDATE SET volume = excluded.volume, close = excluded.close")
WHERE = "WHERE symbol = :symbol AND timestamp >= :first AND timestamp < :last"
# What another program changes beside the minutes, on plain PostgreSQL.
BESIDE = (
    f"UPDATE rolled_candles SET volume = volume + 1 {WHERE}",
    f"DELETE FROM rolled_candles {WHERE} AND interval_minutes >= 1440",
    "DELETE FROM pending_refresh WHERE symbol = :symbol AND :first < :last",
    "INSERT INTO pending_refresh (symbol, stale) VALUES (:symbol, tstzrange(:first, :last))",
    "INSERT INTO dropped_ranges VALUES (:symbol, 'candles_1m', tstzmultirange(tstzrange(:first, :last)))"
    " ON CONFLICT (symbol, data_type) DO UPDATE SET dropped = excluded.dropped",
    "UPDATE rolled_candles SET kept = NOT kept WHERE symbol = :symbol AND :first < :last",
)
_Change = Callable[[], Awaitable[None]]


@dataclass
class Outcome:
    """What a storm has seen. ``wrong``: reads that differ from the same read without the cache."""

    commits: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    spoiled: int = 0
    whole: int = 0
    """Reads that the cache had all of."""
    wrong: list[str] = field(default_factory=list)


def _difference(one: Any, other: Any) -> str:
    """How many rows there are, and the first that the other one has not."""
    rows, others = one.to_pylist(), other.to_pylist()
    only = [row for row in rows if row not in others][:1], [row for row in others if row not in rows][:1]
    return f"{len(rows)} and {len(others)} rows; {only}"


class CacheStorm:
    def __init__(self, store: Store, folder: Path, seed: int, *, readers: int = 2) -> None:
        self.store = store
        self.outcome = Outcome()
        self._random = Random(seed)
        # Each as a process of its own would have it; all of them in one directory.
        self._caches = [CandleCache.in_folder(folder) for _ in range(readers)]
        self._is_plain = store.backend.chunks is None

    async def run(self, commits: int, reads: int, *, until_wrong: bool = False) -> Outcome:
        """So many at least, of each: whoever is done first goes on until the other is.

        ``until_wrong``: no more than it takes until one read is wrong.
        """
        goals = {"commits": commits, "reads": reads}
        async with self.store.database.begin() as connection:
            for symbol in SYMBOLS:
                all_of_it = {"first": FIRST, "last": LAST, "step": timedelta(minutes=10), "minutes": 1}
                await connection.execute(text(NOTHING), {"symbol": symbol, **all_of_it})

        def is_over() -> bool:
            if until_wrong and self.outcome.wrong:
                return True
            done = {"commits": self.outcome.commits.total(), "reads": self.outcome.reads}
            return all(done[what] >= goals[what] for what in goals)

        # Neither runs ahead of the other.
        def is_ahead(what: str, of: str) -> bool:
            done = {"commits": self.outcome.commits.total(), "reads": self.outcome.reads}
            return done[what] * goals[of] > (done[of] + 5) * goals[what]

        async def write(random: Random) -> None:
            while not is_over():
                if is_ahead("commits", of="reads"):
                    await asyncio.sleep(0.002)
                else:
                    await self.commit(random)

        async def read(cache: CandleCache, random: Random) -> None:
            while not is_over():
                await self.read(cache, random)

        writers = [write(Random(self._random.random())) for _ in range(2)]
        readers = [read(cache, Random(self._random.random())) for cache in self._caches]
        await asyncio.gather(*writers, *readers)
        return self.outcome

    # --- reading ---

    async def read(self, cache: CandleCache, random: Random) -> None:
        """One read, compared in its snapshot."""
        symbol, interval = random.choice(SYMBOLS), random.choice(INTERVALS)
        start, end = self._range(random, longest=60)
        if random.random() < 0.7:
            # Whole months are what is stored, and some of them are read all the time.
            interval = random.choice((*FAVOURITES, interval))
            start = start.replace(day=1, hour=0, minute=0)
            end = start + timedelta(days=random.choice((28, 28, 95)))
        # Without an end, months are looked for as far as counters say, and some here say what is not so.
        if interval.grid is not None and random.random() < 0.1:
            end = datetime(9999, 1, 1, tzinfo=UTC)
        async with self.store.database.read() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                before = await self._layout(connection, symbol, interval)
                stored = await cache._stored(connection, self.store, symbol, interval, start, end)
                candles = SnapshotCandles(connection, self.store, cache)
                cached = await candles.table(symbol, interval, start, end)
                direct = await SnapshotCandles(connection, self.store, None).table(
                    symbol, interval, start, end
                )
            is_kept = await candles.keep()
            if not is_kept or await self._layout(connection, symbol, interval) != before:
                self.outcome.spoiled += 1
                return
        self.outcome.reads += 1
        self.outcome.whole += stored is not None
        for what, table in (("cache", cached), ("stored", stored)):
            if table is not None and not table.equals(direct):
                self.outcome.wrong.append(
                    f"{what}: {symbol} {interval} {start} {end}: {_difference(table, direct)}"
                )

    async def _layout(self, connection: AsyncConnection, symbol: str, interval: Interval) -> object:
        versions = CandleVersionRepository(connection, self.store.backend)
        return (await versions.state(symbol, interval, FIRST, LAST)).layout

    # --- writing ---

    async def commit(self, random: Random) -> None:
        """One change by one of the ways there are."""
        rare = random.random() < 0.03
        ways: list[Callable[[Random], Awaitable[None]]] = (
            [self._truncate, self._retention, self._compress, self._stale, self._refresh]
            if rare
            else [self._sql, self._sql, self._sql, self._sql, self._many, self._isolated, self._savepoint]
        )
        if self._is_plain:
            ways.append(self._beside)
        way = random.choice(ways)
        # A deadlock, or a row that another one has changed: nothing is committed then.
        with suppress(DBAPIError, KrakenDBError):
            await way(random)
            self.outcome.commits[way.__name__.strip("_")] += 1

    def _range(self, random: Random, longest: int = 3) -> tuple[datetime, datetime]:
        start = FIRST + timedelta(minutes=random.randrange((LAST - FIRST) // timedelta(minutes=1)))
        return start, start + timedelta(
            minutes=random.choice((1, 60, 1440, random.randint(1, longest) * 1440))
        )

    async def _change(self, connection: AsyncConnection, random: Random) -> None:
        start, end = self._range(random)
        place: dict[str, Any] = {"symbol": random.choice(SYMBOLS), "first": start, "last": end}
        dense = {"step": timedelta(minutes=random.choice((1, 7, 60, 600))), "minutes": 1}
        match random.randrange(9):
            case 0 | 1:
                await connection.execute(text(NOTHING), place | dense)
            case 2:
                await connection.execute(text(UPSERT), place | dense)
            case 3:
                await connection.execute(text(f"UPDATE candles SET volume = volume + 1 {WHERE}"), place)
            case 4:
                await connection.execute(text(f"DELETE FROM candles {WHERE}"), place)
            case 5:
                # To another pair, where nothing is in the way.
                other = {"other": random.choice(SYMBOLS)}
                await connection.execute(
                    text(f"DELETE FROM candles {WHERE}"), place | {"symbol": other["other"]}
                )
                await connection.execute(text(f"UPDATE candles SET symbol = :other {WHERE}"), place | other)
            case 6:
                # To another month.
                far = {"first": start + timedelta(days=35), "last": end + timedelta(days=35)}
                await connection.execute(text(f"DELETE FROM candles {WHERE}"), place | far)
                later = f"UPDATE candles SET timestamp = {moved('timestamp', timedelta(days=35))}"
                await connection.execute(text(f"{later} {WHERE}"), place)
            case 7:
                await self._file(connection, random, place)
            case 8:
                start = start.replace(second=0)
                one = place | {"first": start, "last": start, "step": timedelta(minutes=1), "minutes": 1}
                await connection.execute(text(UPSERT), one)

    async def _file(self, connection: AsyncConnection, random: Random, place: dict[str, Any]) -> None:
        """Rows of a file of hours, and the counters that say from when on it answers."""
        hour = place["first"].replace(minute=0)
        rows = {"first": hour, "last": hour + timedelta(hours=5), "step": timedelta(hours=1), "minutes": 60}
        await connection.execute(text(UPSERT), place | rows)
        await connection.execute(
            text(
                "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp)"
                " VALUES (:symbol, :kind, :first, :last) ON CONFLICT (symbol, data_type) DO UPDATE SET"
                " oldest_timestamp = excluded.oldest_timestamp, newest_timestamp = excluded.newest_timestamp"
            ),
            place | {"kind": random.choice(("candles_1m", "candles_1h"))},
        )

    async def _sql(self, random: Random) -> None:
        async with self.store.database.begin() as connection:
            await self._change(connection, random)

    async def _many(self, random: Random) -> None:
        """Several changes that become visible at once."""
        async with self.store.database.begin() as connection:
            for _ in range(random.randint(2, 5)):
                await self._change(connection, random)

    async def _isolated(self, random: Random) -> None:
        async with self.store.database.read() as connection:
            await connection.execution_options(
                isolation_level=random.choice(("REPEATABLE READ", "SERIALIZABLE"))
            )
            async with connection.begin():
                await self._change(connection, random)

    async def _savepoint(self, random: Random) -> None:
        """A change, one that is taken back, and one in its place."""
        async with self.store.database.begin() as connection:
            if random.random() < 0.5:
                await self._change(connection, random)
            savepoint = await connection.begin_nested()
            await self._change(connection, random)
            await savepoint.rollback()
            await self._change(connection, random)

    async def _truncate(self, random: Random) -> None:
        async with self.store.database.begin() as connection:
            await connection.execute(text("TRUNCATE candles"))
            if random.random() < 0.5:
                await self._change(connection, random)

    async def _refresh(self, random: Random) -> None:
        await self.store.refresh_pending()

    async def _stale(self, random: Random) -> None:
        async with self.store.database.begin() as connection:
            await self.store.backend.mark_stale(
                connection, random.choice(SYMBOLS), [self._range(random, longest=40)]
            )

    async def _retention(self, random: Random) -> None:
        before = FIRST + timedelta(days=random.randint(0, 60))
        async with self.store.database.read() as connection:
            old = await self.store.backend.droppable(connection, "candles", before)
        if old:
            await self._drop(random.choice(old))

    async def _drop(self, old: OldRows) -> None:
        async with self.store.database.begin() as connection:
            await self.store.backend.drop(connection, old)

    async def _compress(self, random: Random) -> None:
        if self.store.backend.compression is None:
            return
        async with self.store.database.begin() as connection:
            chunks = await connection.scalars(text("SELECT CAST(c AS text) FROM show_chunks('candles') c"))
            if found := sorted(chunks):
                way = random.choice(("compress_chunk", "compress_chunk", "decompress_chunk", "drop"))
                chunk = random.choice(found)
                # A chunk is a table of its own for those who look for it.
                does = f"DROP TABLE {chunk}" if way == "drop" else f"SELECT {way}('{chunk}', true)"
                await connection.execute(text(does))

    async def _beside(self, random: Random) -> None:
        start, end = self._range(random, longest=20)
        async with self.store.database.begin() as connection:
            await connection.execute(
                text(random.choice(BESIDE)),
                {"symbol": random.choice(SYMBOLS), "first": start, "last": end},
            )
