"""Whatever is done to minutes, by whomever: the views show what follows from them, at any moment.

Plain PostgreSQL. After each step of a drawn sequence all eight views are compared with a computation in
Python from the rows of ``candles``; for minutes that retention dropped, with what the views had to show when
it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import rolled_candles as rolling
from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.data_types import DataType
from kraken_db.errors import KrakenDBError
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.maintenance import Maintenance
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.ledger import Ledger
from kraken_db.store import Store
from tests.support.archives import write
from tests.support.rolled import COLUMNS, Key, Row, Views, expected_views, rows

SYMBOLS = {"BTC/USD": "XBTUSD", "ETH/USD": "ETHUSD"}
MONDAY = datetime(2023, 1, 2, tzinfo=UTC)
NOW = datetime(2024, 6, 1, tzinfo=UTC)
# Around borders of hours, days, weeks and of a refresh's slices (2023-03-27 is one), and a year later.
TIMES = [
    start + timedelta(minutes=number)
    for start in (
        MONDAY,
        MONDAY + timedelta(minutes=57),
        MONDAY + timedelta(days=1, hours=23, minutes=58),
        MONDAY + timedelta(days=6, hours=23, minutes=57),
        datetime(2023, 3, 26, 23, 58, tzinfo=UTC),
        datetime(2024, 1, 10, 12, 13, tzinfo=UTC),
    )
    for number in range(6)
]
EVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))

symbols = st.sampled_from(sorted(SYMBOLS))
times = st.sampled_from(TIMES)
amounts = st.decimals("0.0001", "900", places=4)


@st.composite
def minutes(draw: st.DrawFn, *, full: bool = True) -> Row:
    prices = sorted(draw(st.lists(amounts, min_size=4, max_size=4)))
    low, first, last, high = prices
    if draw(st.booleans()):
        first, last = last, first
    volume, vwap = draw(amounts), draw(st.none() | amounts)
    quote = draw(st.none() | amounts)
    return Row("", draw(times), 1, first, high, low, last, volume, quote, draw(st.integers(1, 9)), vwap)


some_minutes = st.lists(minutes(), min_size=1, max_size=5, unique_by=lambda row: row.timestamp)
spans = st.tuples(times, times).map(lambda span: (min(span), max(span) + timedelta(minutes=1)))
steps = st.one_of(
    st.tuples(st.just("import"), symbols, some_minutes, st.booleans()),
    st.tuples(st.just("import, killed before the refresh"), symbols, some_minutes, st.booleans()),
    st.tuples(st.just("insert"), symbols, some_minutes),
    st.tuples(st.just("replace"), symbols, some_minutes),
    st.tuples(st.just("move"), symbols, times, times),
    st.tuples(st.just("delete"), symbols, spans),
    st.tuples(st.just("truncate")),
    st.tuples(st.just("retention"), st.sampled_from([MONDAY + timedelta(days=n) for n in (1, 3, 8, 90)])),
    st.tuples(st.just("retention without a refresh"), st.sampled_from([MONDAY + timedelta(days=8)])),
    st.tuples(st.just("known to be quiet"), symbols, spans),
    st.tuples(st.just("refresh")),
    st.tuples(st.just("refresh, killed"), st.integers(0, 3)),
    st.tuples(st.just("refresh beside a writer"), symbols, some_minutes, st.booleans()),
    st.tuples(st.just("write while a refresh reads"), symbols, some_minutes),
)


class KilledError(Exception):
    """The refresh ends here."""


class History:
    """One store, and the steps that are done to it."""

    def __init__(self, url: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.url, self.folder, self.patch = url, folder, patch
        self.kept: dict[Key, Row] = {}

    async def __aenter__(self) -> History:
        self._open = AsyncExitStack()
        importer = BulkCSVImporter(self.url, workers=1, clock=lambda: NOW)
        self.importer = await self._open.enter_async_context(importer)
        self.service = await self._open.enter_async_context(Maintenance(self.url, clock=lambda: NOW))
        self.store = await Store.open(self.url, clock=lambda: NOW)
        self._open.push_async_callback(self.store.close)
        return self

    async def begin(self) -> None:
        """Forget everything."""
        self.kept.clear()
        await self.run(
            "TRUNCATE candles, rolled_candles, pending_refresh, dropped_ranges, data_coverage,"
            " unproven_ranges, data_sync_status, retention_periods"
        )

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def run(self, statement: str, **values: Any) -> list[Any]:
        async with self.store.database.begin() as connection:
            result = await connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    # --- what is done ---

    async def step(self, name: str, *values: Any) -> None:
        doing: dict[str, Callable[..., Awaitable[None]]] = {
            "import": self.load,
            "import, killed before the refresh": self.load_and_die,
            "insert": self.insert,
            "replace": self.replace,
            "move": self.move,
            "delete": self.delete,
            "truncate": self.truncate,
            "retention": self.retention,
            "retention without a refresh": self.drop_at_once,
            "known to be quiet": self.quiet,
            "refresh": self.refresh,
            "refresh, killed": self.refresh_and_die,
            "refresh beside a writer": self.refresh_beside,
            "write while a refresh reads": self.write_between,
        }
        await doing[name](*values)

    async def load(self, symbol: str, given: list[Row], replace: bool) -> None:
        content = "".join(
            f"{int(m.timestamp.timestamp())},{m.open},{m.high},{m.low},{m.close},{m.volume},{m.trade_count}\n"
            for m in sorted(given, key=lambda m: m.timestamp)
        )
        path = write(self.folder, f"{SYMBOLS[symbol]}_1.csv", content)
        report = await self.importer.run(self.importer.plan([path]), replace=replace)
        assert not [done.error for done in report.files if done.error], report.files

    async def load_and_die(self, symbol: str, given: list[Row], replace: bool) -> None:
        async def killed() -> None:
            raise KrakenDBError("killed")

        with self.patch.context() as patch:
            patch.setattr(self.importer._connected(), "refresh_pending", killed)
            await self.load(symbol, given, replace)

    async def insert(self, symbol: str, given: list[Row]) -> None:
        """As another program does: what is there stays."""
        async with self.store.database.begin() as connection:
            await _insert(connection, symbol, given, "DO NOTHING")

    async def replace(self, symbol: str, given: list[Row]) -> None:
        async with self.store.database.begin() as connection:
            await _insert(connection, symbol, given, f"DO UPDATE SET {_EXCLUDED}")

    async def move(self, symbol: str, old: datetime, new: datetime) -> None:
        free = "NOT EXISTS (SELECT FROM candles WHERE symbol = :symbol AND timestamp = :new)"
        await self.run(
            f"UPDATE candles SET timestamp = :new WHERE symbol = :symbol AND timestamp = :old AND {free}",
            symbol=symbol,
            old=old,
            new=new,
        )

    async def delete(self, symbol: str, span: TimeRange) -> None:
        await self.run(
            "DELETE FROM candles WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end",
            symbol=symbol,
            start=span[0],
            end=span[1],
        )

    async def truncate(self) -> None:
        await self.run("TRUNCATE candles")

    async def retention(self, before: datetime) -> None:
        await self.run("TRUNCATE retention_periods")
        await self.run("INSERT INTO retention_periods VALUES ('candles', :age)", age=NOW - before)
        await self._dropping(self.service.run())

    async def drop_at_once(self, before: datetime) -> None:
        """As if the notes had come between the refresh and the drop."""

        async def drop() -> None:
            series = self.store.backend
            async with self.store.database.read() as connection:
                pieces = await series.droppable(connection, "candles", before)
            for piece in pieces:
                async with self.store.database.begin() as connection:
                    await series.drop(connection, piece)

        await self._dropping(drop())

    async def _dropping(self, work: Awaitable[object]) -> None:
        views, there = await self.expected(), await self.minutes()
        await work
        left = {(row.symbol, row.timestamp) for row in await self.minutes()}
        gone = [row for row in there if (row.symbol, row.timestamp) not in left]
        for interval in (5, 15, 30, 60):
            length = timedelta(minutes=interval)
            for key, row in views[interval].items():
                start = row.timestamp
                if any(g.symbol == row.symbol and start <= g.timestamp < start + length for g in gone):
                    self.kept[key] = row

    async def quiet(self, symbol: str, span: TimeRange) -> None:
        """A download has shown that nothing but what is stored was ever traded there."""
        async with self.store.database.begin() as connection:
            await Ledger(connection).restore(symbol, DataType.CANDLES_1M, [span])

    async def refresh(self) -> None:
        await self.store.refresh_pending()
        assert await self.run("SELECT * FROM pending_refresh") == []

    async def refresh_and_die(self, after: int) -> None:
        roll, done = rolling._roll, 0

        async def killed(*values: Any) -> None:
            nonlocal done
            await roll(*values)
            done += 1
            if done > after:
                raise KilledError

        with self.patch.context() as patch:
            patch.setattr(rolling, "_roll", killed)
            with suppress(KilledError):
                await self.store.refresh_pending()

    async def refresh_beside(self, symbol: str, given: list[Row], commits: bool) -> None:
        """Somebody has written and not committed while a refresh runs."""
        async with self.store.database.engine.connect() as connection:
            await _insert(connection, symbol, given, f"DO UPDATE SET {_EXCLUDED}")
            await asyncio.wait_for(self.store.refresh_pending(), 60)
            await self.check()
            await (connection.commit() if commits else connection.rollback())

    async def write_between(self, symbol: str, given: list[Row]) -> None:
        """Somebody writes after a refresh has claimed its notes, and before it takes them off."""
        claim, roll = rolling._claim, rolling._roll

        async def claim_and_write(*values: Any) -> Any:
            notes = await claim(*values)
            await self.replace(symbol, given)
            return notes

        async def roll_and_write(*values: Any) -> None:
            await roll(*values)
            await self.replace(symbol, [row._replace(volume=row.volume + 1) for row in given])

        with self.patch.context() as patch:
            patch.setattr(rolling, "_claim", claim_and_write)
            patch.setattr(rolling, "_roll", roll_and_write)
            await self.store.refresh_pending()

    # --- what is seen ---

    async def minutes(self) -> list[Row]:
        return rows(await self.run(f"SELECT {COLUMNS} FROM candles WHERE interval_minutes = 1"))

    async def expected(self) -> Views:
        dropped = {
            symbol: list(ranges)
            for symbol, ranges in await self.run(
                "SELECT symbol, dropped FROM dropped_ranges WHERE data_type = 'candles_1m'"
            )
        }

        def is_missing(symbol: str, start: datetime, end: datetime) -> bool:
            return any(r.lower < end and start < r.upper for r in dropped.get(symbol, ()))

        # What came back is forgotten, even should it be dropped again.
        for key in list(self.kept):
            if not is_missing(key[0], key[2], key[2] + timedelta(minutes=key[1])):
                del self.kept[key]
        return expected_views(await self.minutes(), self.kept, is_missing)

    async def check(self) -> None:
        expected = await self.expected()
        found: Views = {interval: {} for interval in expected}
        for row in rows(await self.run(_ALL_VIEWS)):
            key = (row.symbol, row.interval_minutes, row.timestamp)
            assert key not in found[row.interval_minutes], row
            found[row.interval_minutes][key] = row
        assert found == expected

    async def check_the_provider(self) -> None:
        expected = await self.expected()
        async with self.store.database.read() as connection:
            candles = CandleRepository(connection, self.store.backend)
            for interval, view in expected.items():
                for symbol in SYMBOLS:
                    of_symbol = sorted(row for key, row in view.items() if key[0] == symbol)
                    wanted = [(row.timestamp, row.close, row.volume, row.vwap) for row in of_symbol]
                    found = await candles.between(symbol, interval, *EVER)
                    assert [(c.timestamp, c.close, c.volume, c.vwap) for c in found] == wanted
                    newest = await candles.latest(symbol, interval, 3)
                    assert [c.timestamp for c in newest] == [row[0] for row in wanted[-3:]]


_ALL_VIEWS = " UNION ALL ".join(
    f"SELECT {COLUMNS} FROM {view}" for interval, view in INTERVAL_VIEWS.items() if interval > 1
)
_VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "vwap")
_EXCLUDED = ", ".join(f"{name} = excluded.{name}" for name in _VALUES)


async def _insert(connection: AsyncConnection, symbol: str, given: list[Row], conflict: str) -> None:
    """All of it in one statement."""
    lines = [
        f"(:symbol, '{m.timestamp.isoformat()}', 1, {m.open}, {m.high}, {m.low}, {m.close}, {m.volume},"
        f" {_sql(m.quote_volume)}, {m.trade_count}, {_sql(m.vwap)})"
        for m in given
    ]
    await connection.execute(
        text(
            f"INSERT INTO candles ({COLUMNS}) VALUES {', '.join(lines)}"
            f" ON CONFLICT (timestamp, symbol, interval_minutes) {conflict}"
        ),
        {"symbol": symbol},
    )


def _sql(value: Decimal | None) -> str:
    return "NULL" if value is None else f"CAST({value} AS numeric)"


def minute(moment: datetime) -> Row:
    first, high, low, last, volume = map(Decimal, (10, 12, 9, 11, 2))
    return Row("", moment, 1, first, high, low, last, volume, None, 3, None)


_HOUR = MONDAY + timedelta(hours=1)
# The archive knows that the hour was quiet, and its days are dropped. What another program then writes into
# it, twice, was never kept.
_INTO_A_QUIET_HOUR: list[tuple[Any, ...]] = [
    ("import", "BTC/USD", [minute(MONDAY), minute(MONDAY + timedelta(days=1, hours=23, minutes=59))], False),
    ("retention", MONDAY + timedelta(days=3)),
    ("insert", "BTC/USD", [minute(_HOUR)]),
    ("refresh",),
    ("insert", "BTC/USD", [minute(_HOUR + timedelta(minutes=1))]),
]

# Minutes that no refresh has seen are not dropped.
_DROPPED_TOO_EARLY: list[tuple[Any, ...]] = [
    ("import, killed before the refresh", "BTC/USD", [minute(MONDAY), minute(_HOUR)], False),
    ("retention without a refresh", MONDAY + timedelta(days=8)),
    ("refresh",),
    ("retention without a refresh", MONDAY + timedelta(days=8)),
]

_KEPT_AND_QUIET_AFTER_ALL: list[tuple[Any, ...]] = [
    ("import", "BTC/USD", [minute(MONDAY), minute(_HOUR)], False),
    ("retention", MONDAY + timedelta(days=3)),
    ("known to be quiet", "BTC/USD", (MONDAY, MONDAY + timedelta(days=1))),
]


@pytest.fixture
def history(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[asyncio.Runner, History]]:
    """One store for all examples: to open it takes longer than to use it."""
    with asyncio.Runner() as runner:
        opened = runner.run(History(plain_url, tmp_path, monkeypatch).__aenter__())
        yield runner, opened
        runner.run(opened.__aexit__())


# The same examples each time.
@settings(
    derandomize=True,
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@example(_INTO_A_QUIET_HOUR)
@example(_DROPPED_TOO_EARLY)
@example(_KEPT_AND_QUIET_AFTER_ALL)
@given(st.lists(steps, min_size=4, max_size=10))
def test_the_views_show_what_follows_from_the_minutes(
    history: tuple[asyncio.Runner, History], drawn: list[tuple[Any, ...]]
) -> None:
    runner, store = history

    async def run() -> None:
        await store.begin()
        for step in drawn:
            await store.step(*step)
            await store.check()
        await store.check_the_provider()
        await store.refresh()
        await store.check()
        await store.check_the_provider()

    runner.run(run())
