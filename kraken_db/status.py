"""What is stored, and whether anything is wrong with it: from counters and catalogs, never from the rows.

Times are UTC, ranges half-open, sizes bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Literal, TypeAlias, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend, Node, PendingRefresh, StaleRange, TableStorage
from kraken_db.backends.storage import database_size
from kraken_db.data_types import DataType
from kraken_db.db.disk import DiskRoom
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.policies import BackgroundJob, job_fails, job_state
from kraken_db.problems import Problem
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.coverage import CoverageSummary, CoverageSummaryRepository, MonthCoverage
from kraken_db.repositories.retention import PausedJobRepository
from kraken_db.repositories.running_jobs import RunningJob, RunningJobRepository
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository, end_of
from kraken_db.times import period_text

MonthState: TypeAlias = Literal["full", "part", "none", "dropped"]
"""How much of a month is covered; ``dropped``: covered, and all of its rows are gone by now.

The first month of a symbol counts from where its coverage begins, the running one up to where it ends.
"""


@dataclass(frozen=True, slots=True)
class Month:
    first_day: date
    state: MonthState


@dataclass(frozen=True, slots=True)
class DataStatus:
    """What is stored of one symbol and data type (``trades``, ``candles_1m``, ...).

    ``oldest`` and ``newest`` are the times of records, both included; ``rows`` counts the distinct records
    ever stored. Everything else is about what is covered: known to be complete.
    """

    symbol: str
    data_type: str
    rows: int
    oldest: datetime | None
    newest: datetime | None
    last_sync: datetime
    sources: Sequence[str]
    ranges: int
    covered: Sequence[TimeRange] | None
    """None where there are very many."""
    gaps: int | None
    """Between the ranges; None where nothing is covered."""
    lag: timedelta | None
    """From the last moment that is known until now; None for a pair that has ended."""
    months: Sequence[Month]
    """From the first that is covered to the running one, or to the last one of a pair that has ended."""
    ended_at: datetime | None = None
    """From when on nothing is expected: Kraken has delisted the pair. None: it goes on."""
    watched_until: datetime | None = None
    """The last word of a recording that had the pair live; its trades may not be there yet, or be none."""
    is_watched: bool = False
    """Whether a recording has it live now: then its lag says how quiet the market is."""
    missing: timedelta | None = None
    """How long the gaps are together; None where nothing is covered."""
    start: datetime | None = None
    end: datetime | None = None
    """Of what is covered; the end is exclusive."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store at a moment: ``read_status`` makes it."""

    now: datetime
    data: Sequence[DataStatus]
    """By symbol; of each, trades before candles and short intervals before long ones."""
    tables: Sequence[TableStorage]
    database_size: int
    jobs: Sequence[BackgroundJob]
    """Of the database."""
    running: Sequence[RunningJob]
    """Recordings, downloads, .. of any process and machine, the ended ones too."""
    pending_refreshes: int
    """Ranges that no refresh has been over yet."""
    pending_from: datetime | None
    stalled_refreshes: int
    """Those of them whose symbol nobody has been writing for an hour: their run was killed."""
    retention_paused: bool
    last_sync: datetime | None
    """Of the whole store, whatever symbols were asked for; None if nothing is stored."""
    symbols: Sequence[str] | None = None
    """Which it is of; None: of all."""
    stored: Sequence[str] = ()
    """All of which something is stored, whatever was asked for; in alphabetical order."""
    nodes: Sequence[Node] = ()
    """Of a distributed store: its machines."""
    disk: DiskRoom | None = None
    """Of the embedded server; of another one nothing is known."""
    last_prices: Mapping[str, Decimal] = field(default_factory=dict)
    """Of the newest trade of each symbol, or the close of its newest candle; not read by ``read_status``."""

    @property
    def drops_by_itself(self) -> bool:
        """Whether a job of the database drops old rows."""
        return any(job.task == "retention" for job in self.jobs)


UNEVEN_BY, SMALL = 0.25, 2**30
"""How much more than its share a machine may hold, if a move to another one would help; or so few bytes."""


def unbalanced(nodes: Sequence[Node]) -> tuple[Node, Node] | None:
    """The machine with the most rows and the one with the fewest, if parts should move; None: it is well.

    What a single part holds cannot be divided: one that would only make the other machine the fullest stays.
    """
    nodes = [node for node in nodes if node.takes_shards]
    if len(nodes) < 2:
        return None
    least, most = min(nodes, key=lambda node: node.stored), max(nodes, key=lambda node: node.stored)
    share = sum(node.stored for node in nodes) / len(nodes)
    movable = any(0 < part < most.stored - least.stored for part in most.shards)
    return (most, least) if movable and most.stored > max(share * (1 + UNEVEN_BY), SMALL) else None


MOST_RANGES = 100
"""Of a symbol with more ranges than these, only their number is read."""
RUN_IS_DEAD_AFTER = timedelta(hours=1)
"""A run that writes says so in the time of the sync; one that has not for so long has ended."""


async def read_status(
    connection: AsyncConnection,
    backend: Backend,
    now: datetime,
    symbols: Sequence[str] | None = None,
    *,
    months: bool = True,
) -> StoreStatus:
    """The state of a store, of all symbols or of some, in time that does not depend on its rows.

    ``months``: whether the months of each are worked out and its ranges read, which takes the longest where
    there are many pairs. Without them ``covered`` is None.
    """
    records = await SyncStatusRepository(connection).all()
    summaries = CoverageSummaryRepository(connection, symbols)
    covered = {
        (item.symbol, item.data_type): item for item in await summaries.all(MOST_RANGES if months else 0)
    }
    by_month: dict[tuple[str, str], list[MonthCoverage]] = {}
    for month in await summaries.by_month() if months else ():
        by_month.setdefault((month.symbol, month.data_type), []).append(month)
    pending = await PendingRefresh(connection).unrefreshed()
    tables = await backend.storage(connection)
    nodes = await backend.shards.nodes(connection) if backend.shards is not None else ()
    kept_from: dict[str | None, datetime | None] = {table.table: table.kept_from for table in tables}
    ended = _ended(records)
    running = await RunningJobRepository(connection).all()
    data = [
        _data_status(
            record,
            covered.get((record.symbol, record.data_type)),
            by_month.get((record.symbol, record.data_type), ()) if months else None,
            kept_from.get(DataType.parse(record.data_type).table),
            now,
            ended.get(record.symbol),
            [job for job in running if job.watches(record.symbol)],
        )
        for record in records
        if symbols is None or record.symbol in symbols
    ]
    return StoreStatus(
        now=now,
        data=sorted(data, key=lambda item: (item.symbol, _order(item.data_type))),
        tables=tables,
        database_size=sum(node.size for node in nodes) or await database_size(connection),
        nodes=nodes,
        jobs=await backend.jobs.all(connection) if backend.jobs is not None else (),
        running=running,
        pending_refreshes=len(pending),
        pending_from=min((item.start for item in pending), default=None),
        stalled_refreshes=_stalled(pending, records, running, now),
        retention_paused=bool(await PausedJobRepository(connection).all()),
        last_sync=max((record.last_sync for record in records), default=None),
        symbols=symbols,
        stored=sorted({record.symbol for record in records}),
    )


def _data_status(
    record: SyncStatus,
    covered: CoverageSummary | None,
    months: Sequence[MonthCoverage] | None,
    kept_from: datetime | None,
    now: datetime,
    ended_at: datetime | None,
    watching: Sequence[RunningJob],
) -> DataStatus:
    known = max([moment for moment in (record.newest, covered and covered.end) if moment], default=None)
    until = now if ended_at is None else ended_at - TICK
    return DataStatus(
        symbol=record.symbol,
        data_type=record.data_type,
        rows=record.total_records,
        oldest=record.oldest,
        newest=record.newest,
        last_sync=record.last_sync,
        sources=covered.sources if covered else (),
        ranges=covered.ranges if covered else 0,
        covered=covered.covered if covered else (),
        start=covered.start if covered else None,
        end=covered.end if covered else None,
        gaps=covered.gaps if covered else None,
        missing=covered.missing if covered else None,
        lag=max(now - known, timedelta(0)) if known and ended_at is None else None,
        months=month_states(covered, months, kept_from, until) if covered and months is not None else (),
        ended_at=ended_at,
        watched_until=max((job.heard_at for job in watching), default=None),
        is_watched=any(job.is_alive for job in watching),
    )


def _ended(records: Sequence[SyncStatus]) -> dict[str, datetime]:
    """The pairs that have ended, and when."""
    by_symbol: dict[str, list[SyncStatus]] = {}
    for record in records:
        by_symbol.setdefault(record.symbol, []).append(record)
    ends = {symbol: end_of(rows) for symbol, rows in by_symbol.items()}
    return {symbol: ended_at for symbol, ended_at in ends.items() if ended_at is not None}


def month_states(
    summary: CoverageSummary, months: Sequence[MonthCoverage], kept_from: datetime | None, now: datetime
) -> list[Month]:
    """Every month from the first that is covered to the running one (or to the last that is covered)."""
    found = {item.month: item for item in months}
    states: list[Month] = []
    month = summary.start.astimezone(UTC).date().replace(day=1)
    last = max(now, summary.end - TICK).astimezone(UTC).date()
    while month <= last:
        states.append(Month(month, _state(summary, found.get(month), month, kept_from, now)))
        month = _next(month)
    return states


def _state(
    summary: CoverageSummary,
    covered: MonthCoverage | None,
    month: date,
    kept_from: datetime | None,
    now: datetime,
) -> MonthState:
    if covered is None:
        return "none"
    start, end = (datetime(day.year, day.month, 1, tzinfo=UTC) for day in (month, _next(month)))
    if covered.dropped >= covered.covered or (kept_from is not None and end <= kept_from):
        return "dropped"
    past = min(end, summary.end) if end > now else end
    wanted = past - max(start, summary.start)
    return "full" if covered.covered >= wanted else "part"


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _stalled(
    pending: Sequence[StaleRange],
    records: Sequence[SyncStatus],
    running: Sequence[RunningJob],
    now: datetime,
) -> int:
    at_work = {symbol for job in running if job.is_alive for symbol in job.symbols}
    newest: Mapping[str, datetime] = {
        record.symbol: record.last_sync for record in sorted(records, key=lambda record: record.last_sync)
    }
    return sum(
        item.symbol not in newest or newest[item.symbol] < now - RUN_IS_DEAD_AFTER
        for item in pending
        if item.symbol not in at_work
    )


def _order(data_type: str) -> int:
    """Candles by the length of their interval, behind everything else."""
    names = list(INTERVAL_NAMES.values())
    name = data_type.removeprefix("candles_")
    return names.index(name) + 1 if name in names else 0


DEFAULT_MAX_LAG = timedelta(days=1)

# Coverage of files that were imported with --all above 1m is not kept.
_CHECKED = (DataType.TRADES, DataType.CANDLES_1M)


def problems(
    status: StoreStatus,
    max_lag: timedelta | None = DEFAULT_MAX_LAG,
    symbols: Sequence[str] | None = None,
) -> list[Problem]:
    """What has to be looked after, the worst first; empty if all is well.

    Wrong are: a symbol of ``symbols`` of which nothing is stored (without any, an empty store); a recording
    that was killed; gaps in trades or minutes; a lag above ``max_lag`` (None: any will do) of a pair that no
    recording has live, and no killed one had; a disk with nothing but its reserve;
    a job of the database that fails or is not started; minutes that a killed run has left out of the higher
    intervals; and retention that such a run has left switched off.
    """
    return [
        *_missing(status, symbols),
        *_killed(status, symbols),
        *_with_gaps(status),
        *_behind(status, max_lag),
        *disk_problems(status.disk),
        *job_problems(status.jobs, status.now),
        *_left_undone(status),
    ]


def _missing(status: StoreStatus, symbols: Sequence[str] | None) -> Iterator[Problem]:
    stored = {item.symbol for item in status.data}
    for symbol in symbols or ():
        if symbol not in stored:
            yield Problem(f"nothing {symbol}", f"nothing is stored of {symbol}")
    if not symbols and not stored:
        yield Problem("nothing", "nothing is stored")


def _killed(status: StoreStatus, symbols: Sequence[str] | None) -> Iterator[Problem]:
    is_of_all = status.symbols is None and not symbols
    asked_for = {*(status.symbols or ()), *(symbols or ())}
    for job in status.running:
        concerned = is_of_all or not asked_for.isdisjoint(job.symbols)
        if job.kind == "recording" and job.is_dead and concerned:
            last_word = f"{job.heard_at:%Y-%m-%d %H:%M:%S} UTC"
            yield Problem(f"killed {job.id}", f"{job} was killed: its last word is of {last_word}")


def _checked(status: StoreStatus) -> list[DataStatus]:
    return [item for item in status.data if item.data_type in _CHECKED]


def _with_gaps(status: StoreStatus) -> Iterator[Problem]:
    for item in _checked(status):
        if item.gaps:
            count = f"{item.gaps:,} gap" + ("" if item.gaps == 1 else "s")
            todo = f"To fill: kraken-db gaps fill {item.symbol}"
            text = f"{_named(item)} has {count}{_where(item)}. {todo}"
            yield Problem(f"gaps {_named(item)}", text, size=item.gaps)


def _where(item: DataStatus) -> str:
    """The time of the gap, or of the longest one; else how to see them.

    A hole in the trades whose minutes are known is no gap: where there is one, nothing tells which it is.
    """
    holes = [(before[1], after[0]) for before, after in pairwise(item.covered or ())]
    if len(holes) != item.gaps:
        return f" (kraken-db gaps list {item.symbol})"
    start, end = max(holes, key=lambda hole: hole[1] - hole[0])
    which = "from" if item.gaps == 1 else "the longest from"
    return f", {which} {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def _behind(status: StoreStatus, max_lag: timedelta | None) -> Iterator[Problem]:
    """One problem for all pairs: where thousands are behind it has one cause, and is one line."""
    killed = {
        symbol for job in status.running if job.kind == "recording" and job.is_dead for symbol in job.symbols
    }
    worst: dict[str, tuple[timedelta, DataStatus]] = {}
    for item in _checked(status):
        if max_lag is None or item.lag is None or item.is_watched or item.symbol in killed:
            continue
        if item.lag > max(max_lag, worst[item.symbol][0] if item.symbol in worst else max_lag):
            worst[item.symbol] = item.lag, item
    if not worst or max_lag is None:
        return
    lag, item = max(worst.values(), key=lambda one: one[0])
    allowed = period_text(max_lag)
    by = f"just over {allowed}" if lag_text(lag) == lag_text(max_lag) else lag_text(lag)
    text = f"{_named(item)} is {by} behind (allowed: {allowed})"
    if len(worst) > 1:
        text = f"{len(worst):,} pairs are behind (allowed: {allowed}), {item.symbol} most: {by}"
    # Said again where twice as many are behind, not for each that joins them.
    yield Problem(f"lag{_selection(status)}", text, size=len(worst).bit_length())


def _selection(status: StoreStatus) -> str:
    """Which pairs a status is of, as part of a key: two checks of different pairs both report theirs."""
    if status.symbols is None:
        return ""
    return f" of {hashlib.sha256(' '.join(sorted(status.symbols)).encode()).hexdigest()[:8]}"


def disk_problems(disk: DiskRoom | None) -> Iterator[Problem]:
    """Whether only the reserve is left; None: nothing is known of the disk."""
    if disk is not None and not disk.usable:
        yield Problem("disk", f"{disk.shortage}. Downloads and imports stop until you make room there")


def job_problems(jobs: Sequence[BackgroundJob], now: datetime) -> Iterator[Problem]:
    """The jobs of the database whose work is not being done."""
    for job in jobs:
        if job_fails(job, now):
            # Of a crash there is no word.
            reason = (
                f": {' '.join(job.last_error.split())}" if job.last_error and job.succeeded is False else ""
            )
            verb = "" if job.crashed_at is not None else "is "
            what = f"{job.task} of {job.relation}"
            yield Problem(f"job {what}", f"{what} {verb}{job_state(job, now)}{reason}")


def _left_undone(status: StoreStatus) -> Iterator[Problem]:
    if status.stalled_refreshes:
        ranges = f"{status.stalled_refreshes:,} range" + ("" if status.stalled_refreshes == 1 else "s")
        yield Problem(
            "refresh",
            f"{ranges} of a killed run not in the higher intervals (kraken-db db maintain does it)",
        )
    idle = status.last_sync is None or status.last_sync < status.now - RUN_IS_DEAD_AFTER
    if status.retention_paused and idle:
        yield Problem(
            "retention",
            "retention is switched off by a run that was killed (kraken-db db maintain switches it on)",
        )


def _named(item: DataStatus) -> str:
    return f"{item.symbol} {item.data_type.replace('candles_', '')}"


def lag_text(lag: timedelta) -> str:
    """``12 min``, ``5 h 10 min``, ``3 days 5 h``: rounded down."""
    minutes = int(lag.total_seconds() // 60)
    hours, days = minutes // 60, minutes // 1440
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{days:,} days" if days > 99 else f"{days} days {hours % 24} h"


Order: TypeAlias = Literal["trouble", "symbol", "rows", "gaps", "lag"]
ORDERS: Sequence[Order] = get_args(Order)


@dataclass(slots=True)
class PairRow:
    """All that is stored of a pair. ``gaps`` and ``lag`` are of trades and minutes: the worse of the two."""

    symbol: str
    trades: int = 0
    candles: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    gaps: int | None = None
    lag: timedelta | None = None
    is_watched: bool = False
    ended_at: datetime | None = None
    last_sync: datetime | None = None
    price: Decimal | None = field(default=None)

    @classmethod
    def of(cls, items: Sequence[DataStatus], price: Decimal | None) -> PairRow:
        row = cls(items[0].symbol, price=price)
        row.trades = sum(item.rows for item in items if item.data_type == DataType.TRADES)
        row.candles = sum(item.rows for item in items) - row.trades
        row.oldest = min((item.oldest for item in items if item.oldest), default=None)
        row.newest = max((item.newest for item in items if item.newest), default=None)
        row.last_sync = max(item.last_sync for item in items)
        row.ended_at = next((item.ended_at for item in items if item.ended_at), None)
        row.is_watched = any(item.is_watched for item in items)
        checked = [item for item in items if item.data_type in _CHECKED]
        row.gaps = max((item.gaps for item in checked if item.gaps is not None), default=None)
        row.lag = max((item.lag for item in checked if item.lag is not None), default=None)
        return row

    @property
    def rows(self) -> int:
        return self.trades + self.candles

    def trouble(self, max_lag: timedelta | None) -> str:
        """``gaps``, ``behind``, or empty; ``delisted`` is none, and is shown in the same place."""
        if self.gaps:
            return "gaps"
        if self.ended_at is not None:
            return "delisted"
        is_behind = max_lag is not None and self.lag is not None and self.lag > max_lag
        return "behind" if is_behind and not self.is_watched else ""


def pair_rows(data: Sequence[DataStatus], prices: Mapping[str, Decimal]) -> list[PairRow]:
    """``data`` by symbol, as ``read_status`` has it."""
    return [
        PairRow.of(list(items), prices.get(symbol))
        for symbol, items in groupby(data, key=lambda item: item.symbol)
    ]


def in_order(rows: Sequence[PairRow], order: Order, max_lag: timedelta | None) -> list[PairRow]:
    """The most of it first; equal ones by symbol. ``trouble``: gaps, then what is furthest behind."""
    states = ("gaps", "behind")
    never = timedelta(0)

    def weight(row: PairRow) -> tuple[float, ...]:
        match order:
            case "trouble":
                state = row.trouble(max_lag)
                if state not in states:
                    return (len(states),)
                amount = (row.gaps or 0) if state == "gaps" else (row.lag or never).total_seconds()
                return (states.index(state), -amount)
            case "symbol":
                return ()
            case "rows":
                return (-row.rows,)
            case "gaps":
                return (-(row.gaps or 0),)
            case "lag":
                return (-(row.lag or never).total_seconds(),)

    return sorted(rows, key=lambda row: (weight(row), row.symbol))


def newest_records(status: StoreStatus) -> dict[str, tuple[DataType, datetime]]:
    """Where the last price of each symbol is: the newest trade, or the newest candle if it ends later."""
    found: dict[str, tuple[datetime, DataType, datetime]] = {}
    for item in status.data:
        if item.newest is not None:
            kind = DataType.parse(item.data_type)
            end = item.newest + timedelta(minutes=kind.interval or 0)
            found[item.symbol] = max(
                found.get(item.symbol, (end, kind, item.newest)), (end, kind, item.newest)
            )
    return {symbol: (kind, moment) for symbol, (_, kind, moment) in found.items()}
