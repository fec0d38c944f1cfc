"""``kraken-db status``: what is stored, from the counters that every write keeps. Never looks at the data."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from kraken_db.backends import Node, TableStorage
from kraken_db.cli.alarms import alarm_source, tell, telling_failures, test_alarm
from kraken_db.cli.base import sentence
from kraken_db.cli.moments import PeriodType
from kraken_db.cli.options import (
    MultiValueCommand,
    db_url_option,
    exclude_option,
    json_option,
    notify_options,
    pair_options,
)
from kraken_db.cli.output import (
    Column,
    count_text,
    day_column,
    folded,
    is_terminal,
    moment_text,
    plural,
    print_folded,
    print_json,
    print_styled,
    print_table,
    size_text,
    wants_colour,
)
from kraken_db.cli.pair_table import (
    delisted_lines,
    hidden_text,
    print_pairs,
    totals_text,
)
from kraken_db.data_types import DataType
from kraken_db.documents import intervals_of, status_document
from kraken_db.errors import KrakenDBError, PairError
from kraken_db.pairs import known_spelling
from kraken_db.patterns import is_pattern, select, without
from kraken_db.policies import job_fails, job_state
from kraken_db.status import (
    ORDERS,
    DataStatus,
    Month,
    MonthState,
    Order,
    PairRow,
    StoreStatus,
    in_order,
    lag_text,
    pair_rows,
    unbalanced,
)
from kraken_db.times import period_text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from kraken_db.alarms import Webhook
    from kraken_db.policies import TablePolicy
    from kraken_db.store import Store

_MONTHS = 12
_GAP = 2
_COLOURS: dict[MonthState, str] = {
    "full": "green",
    "part": "yellow",
    "none": "red",
    "dropped": "bright_black",
}
_MEANINGS: dict[MonthState, str] = {
    "full": "whole month",
    "part": "part of it",
    "none": "nothing",
    "dropped": "dropped by retention",
}
_BLOCKS: dict[MonthState, str] = {"full": "█", "part": "▒", "none": "·", "dropped": "-"}
_ASCII: dict[MonthState, str] = {"full": "#", "part": "+", "none": ".", "dropped": "-"}


@dataclass(frozen=True, slots=True)
class StripStyle:
    """The character of each state, and whether colours say the same once more."""

    characters: Mapping[MonthState, str]
    colour: bool = False

    @classmethod
    def of_output(cls, encoding: str | None, *, terminal: bool, colour: bool) -> StripStyle:
        """Blocks on a terminal that has them, plain ASCII everywhere else."""
        return cls(_BLOCKS if terminal and _can_show("".join(_BLOCKS.values()), encoding) else _ASCII, colour)

    def paint(self, state: MonthState) -> str:
        character = self.characters[state]
        return click.style(character, fg=_COLOURS[state]) if self.colour else character


def strip_lines(rows: Sequence[tuple[str, Sequence[Month]]], width: int, style: StripStyle) -> list[str]:
    """Labels and their months, as many years on a line as fit into ``width``, and what the characters mean.

    Before the first month of a row there is nothing to show: its places are blank.
    """
    rows = [(label, months) for label, months in rows if months]
    if not rows:
        return []
    indent = max(len(label) for label, _ in rows) + _GAP
    each = max(1, (width - indent + 1) // (_MONTHS + 1))
    first = min(months[0].first_day.year for _, months in rows)
    last = max(months[-1].first_day.year for _, months in rows)
    lines: list[str] = []
    for begin in range(first, last + 1, each):
        years = range(begin, min(begin + each, last + 1))
        if lines:
            lines.append("")
        lines.append(" " * indent + " ".join(str(year).ljust(_MONTHS) for year in years).rstrip())
        for label, months in rows:
            cells = _cells(months, years, style)
            if cells.strip():
                lines.append(label.ljust(indent) + cells)
    shown = {month.state for _, months in rows for month in months} | {"full", "part", "none"}
    meanings = [f"{style.paint(state)} {meaning}" for state, meaning in _MEANINGS.items() if state in shown]
    return [*lines, "", "   ".join(meanings)]


def _cells(months: Sequence[Month], years: range, style: StripStyle) -> str:
    states = {(month.first_day.year, month.first_day.month): month.state for month in months}
    texts = []
    for year in years:
        row = [states.get((year, month)) for month in range(1, _MONTHS + 1)]
        texts.append("".join(" " if state is None else style.paint(state) for state in row))
    return " ".join(texts).rstrip()


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


_KINDS: dict[str, str] = {DataType.TRADES: "trades", DataType.CANDLES_1M: "candles"}
_INDENT = " " * 10
_MAINTAIN = "kraken-db db maintain drops older ones"
_NEXT_STEP = """Nothing is stored yet. To begin:
  kraken-db backfill --symbols BTC/USD     every trade, from Kraken
  kraken-db import-csv FILE-OR-FOLDER...   Kraken's archives"""
_COLUMNS = [
    Column("symbol"),
    Column("data"),
    Column("intervals", rank=4),
    Column("rows", right=True),
    day_column("from (UTC)", rank=2),
    day_column("to (UTC)", rank=1),
    Column("gaps", right=True),
    Column("lag", right=True),
    Column("last sync (UTC)", rank=3),
]
_FEW = 10
"""Pairs up to which the months of each are shown without being asked for."""
_AT_LEAST = 5
"""Rows that are shown on however small a terminal."""
_BELOW = 8  # the heading of the table and its rule, what is hidden or has no room, blank lines, the prompt


@dataclass(frozen=True, slots=True)
class Shown:
    """What of the pairs is shown. ``limit``: None for what fits the screen, 0 for all."""

    order: Order = "trouble"
    limit: int | None = None
    details: bool = False
    max_lag: timedelta | None = None


def print_status(
    database: Mapping[str, Any], status: StoreStatus, shown: Shown, named: Sequence[str] = ()
) -> None:
    """``database``: kind, where, embedded, schema_revision, retention_seconds; ``named``: pairs by name."""
    width, height = shutil.get_terminal_size()
    pairs = pair_rows(status.data, status.last_prices)
    lines = list(_database_lines(database, status))
    if pairs:
        lines.append(f"Pairs     {totals_text(pairs, shown.max_lag)}")
    if is_terminal():
        lines = [line for text in lines for line in folded(text, width, _INDENT)]
    for line in lines:
        click.echo(line)
    if status.last_sync is None:
        click.echo(_NEXT_STEP)
        return
    missing = [symbol for symbol in named if symbol not in status.stored]
    if missing or not status.data:
        click.echo()
        print_folded(_missing_text(missing, status.stored))
    if not status.data:
        return
    click.echo()
    if shown.details:
        print_table(_COLUMNS, [_row(item) for item in status.data])
    else:
        fits = max(_AT_LEAST, height - len(lines) - _BELOW) if is_terminal() else 0
        _print_pairs(pairs, shown, shown.limit if shown.limit is not None else fits)
    if more := list(delisted_lines(status.data)):
        click.echo()
        for line in more:
            print_folded(line)
    if shown.details or len(pairs) <= _FEW:
        _print_months(status, width)


def _missing_text(missing: Sequence[str], stored: Sequence[str]) -> str:
    from kraken_db.nothing_found import stored_instead

    if not missing:
        return "Nothing is stored of these pairs."
    return sentence(
        PairError(f"Nothing is stored of {', '.join(missing)}", hint=stored_instead(missing, stored))
    )


def _print_pairs(pairs: Sequence[PairRow], shown: Shown, limit: int) -> None:
    """The first of them; 0: all."""
    ordered, most = in_order(pairs, shown.order, shown.max_lag), limit or len(pairs)
    print_pairs(ordered, shown.max_lag, most=most)
    if (hidden := hidden_text(ordered, most, shown.max_lag)) is not None:
        print_folded(hidden)


def _print_months(status: StoreStatus, width: int) -> None:
    style = StripStyle.of_output(sys.stdout.encoding, terminal=is_terminal(), colour=wants_colour())
    rows = [(f"{item.symbol} {item.data_type.removeprefix('candles_')}", item.months) for item in status.data]
    if lines := strip_lines(rows, width, style):
        print_styled("\n" + "\n".join(lines))


def _database_lines(database: Mapping[str, Any], status: StoreStatus) -> Iterator[str]:
    kind = f"{database['kind']}, embedded" if database["embedded"] else database["kind"]
    yield f"Database  {kind}, {database['where']}"
    yield f"Schema    revision {database['schema_revision']}"
    yield from _size_lines(status)
    kept = ", ".join(
        f"{table} {period_text(period)}" for table, period in database["retention_seconds"].items() if period
    )
    if kept:
        who = "older ones are dropped" if status.drops_by_itself else _MAINTAIN
        yield f"Kept      {kept} ({who}; higher intervals stay)"
    if status.retention_paused:
        yield f"{_INDENT}nothing is dropped until the run that writes old rows, or the next one, is through"
    yield from _job_lines(status)
    yield from _running_lines(status)
    if status.pending_refreshes:
        yield (
            f"Pending   {plural(status.pending_refreshes, 'range')} from {moment_text(status.pending_from)}"
            " on to be rolled up; a recording does it each minute, kraken-db db maintain now"
        )


def _node_lines(nodes: Sequence[Node]) -> Iterator[str]:
    for at, node in enumerate(node for node in nodes if node.takes_shards or node.shards):
        label = "Nodes     " if at == 0 else _INDENT
        yield f"{label}{node.name}: {plural(len(node.shards), 'shard')}, {size_text(node.stored)}"
    if (uneven := unbalanced(nodes)) is not None:
        most, least = uneven
        yield (
            f"{_INDENT}{most.name} holds {size_text(most.stored - least.stored)} more than {least.name}:"
            " in psql, SELECT citus_rebalance_start(rebalance_strategy => 'by_disk_size') moves shards"
            " while all goes on"
        )


def _size_lines(status: StoreStatus) -> Iterator[str]:
    sizes = ", ".join(f"{table.table} {size_text(table.size)}" for table in status.tables)
    free = "" if status.disk is None else f"; {size_text(status.disk.free)} of the disk are free"
    yield f"Size      {size_text(status.database_size)}: {sizes}{free}"
    yield from _node_lines(status.nodes)
    packed = ", ".join(
        f"{table.table} {table.compression_ratio:.1f} : 1"
        f" ({table.compressed_chunks:,} of {plural(table.chunks, 'chunk')}{_partly(table)})"
        for table in status.tables
        if table.compression_ratio is not None
    )
    if packed:
        yield f"Packed    {packed}"


def _partly(table: TableStorage) -> str:
    """Of the chunks that were written after they had been compressed."""
    return f", {table.partly_compressed_chunks:,} partly" if table.partly_compressed_chunks else ""


def _job_lines(status: StoreStatus) -> Iterator[str]:
    if not status.jobs:
        return
    failing = [job for job in status.jobs if job_fails(job, status.now)]
    if not failing:
        yield f"Jobs      {len(status.jobs)}, none of them failing"
        return
    yield f"Jobs      {len(failing)} of {len(status.jobs)} failing (kraken-db db maintain does their work)"
    for job in failing:
        reason = f": {' '.join(job.last_error.split())}" if job.last_error and job.succeeded is False else ""
        yield f"{_INDENT}{job.task} of {job.relation}: {job_state(job, status.now)}{reason}"


def _running_lines(status: StoreStatus) -> Iterator[str]:
    """Who is at work, and who was killed at it; what ended by itself is not shown."""
    shown = [job for job in status.running if job.ended_at is None]
    for number, job in enumerate(shown):
        word = f"killed, last word {moment_text(job.heard_at)}" if job.is_dead else job.state
        error = f"; last error: {job.last_error}" if job.last_error else ""
        head = _INDENT if number else "At work".ljust(len(_INDENT))
        yield f"{head}{job}, since {moment_text(job.started_at)}: {word}{error}"


def _row(item: DataStatus) -> tuple[str, ...]:
    names = intervals_of((), item.data_type)
    return (
        item.symbol,
        _KINDS.get(item.data_type, "candles, file"),
        f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names) or "-",
        count_text(item.rows),
        moment_text(item.oldest),
        moment_text(item.newest),
        "-" if item.gaps is None else count_text(item.gaps),
        _lag(item),
        moment_text(item.last_sync),
    )


def _lag(item: DataStatus) -> str:
    if item.ended_at is not None:
        return "delisted"
    return "-" if item.lag is None else lag_text(item.lag)


_SHOWN_PROBLEMS = 3


@click.command(
    cls=MultiValueCommand,
    short_help="Show what is stored: ranges, gaps, sizes, jobs.",
    epilog="Example: kraken-db status --check --max-lag 15min",
)
@pair_options("Default: all that are stored.")
@exclude_option
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 1, and one line that says why, if anything is wrong: nothing stored, gaps in trades or"
    " minutes, a lag above --max-lag of a pair that is not recorded, a recording that was killed, jobs of the"
    " database that fail or are not started, what a killed run"
    " left undone.",
)
@click.option(
    "--max-lag",
    type=PeriodType(),
    default="1d",
    show_default=True,
    help="How far trades and minutes may be behind now, for --check: 15min, 2h, 1d, 1w, or never.",
)
@click.option(
    "--sort",
    "order",
    type=click.Choice(ORDERS),
    default="trouble",
    show_default=True,
    help="What comes first: gaps and what is furthest behind; or by symbol, the most rows, gaps, or lag.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="Show N pairs; 0 for all. Default: what fits the screen; all of them where it is no terminal.",
)
@click.option(
    "--details", is_flag=True, help="A row for trades and one for candles of each pair, and months."
)
@notify_options
@json_option
@db_url_option
def status(
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    check: bool,
    max_lag: tuple[timedelta | None],
    order: Order,
    limit: int | None,
    details: bool,
    webhook: Webhook | None,
    notify_test: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Show what is stored of each symbol, in which database, and how it is doing.

    Instant, however much is stored. A row a pair, trouble first. Ranges are the times of the oldest and the
    newest record, UTC; gaps are stretches between them that no source has covered; lag is from the last
    known moment until now. With --details, or for few pairs, a strip has a character for each month.
    Intervals above 1m are computed from the minutes; "candles, file" are rows of an imported file, which are
    read where there are no minutes yet.
    """
    from kraken_db.status import problems

    if not check and (webhook is not None or notify_test):
        raise click.UsageError("--notify and --notify-test need --check")
    source = alarm_source("status --check", symbols, exclude)
    with telling_failures(webhook, db_url, source, is_test=notify_test):
        database, found = asyncio.run(_read(db_url, symbols, exclude))
    named = _named(symbols, exclude, found)
    wrong = problems(found, max_lag[0], named)
    if notify_test:
        asyncio.run(test_alarm(webhook, source, wrong))
        return
    if as_json:
        checked = {"max_lag_seconds": max_lag[0], "problems": [problem.text for problem in wrong]}
        print_json({**status_document(database, found), "check": checked})
    else:
        print_status(database, found, Shown(order, limit, details, max_lag[0]), named)
    if webhook is not None:
        asyncio.run(tell(webhook, db_url, source, wrong))
    if check and wrong:
        more = len(wrong) - _SHOWN_PROBLEMS
        summary = "; ".join(map(str, wrong[:_SHOWN_PROBLEMS])) + (f"; and {more:,} more" if more > 0 else "")
        raise KrakenDBError(f"check failed: {summary}")
    if check and not as_json:
        lag = "any lag allowed" if max_lag[0] is None else f"lag at most {period_text(max_lag[0])}"
        click.echo(f"\nCheck passed: no gaps, {lag}, no failing jobs, nothing left undone")


def _named(symbols: Sequence[str] | None, exclude: Sequence[str], found: StoreStatus) -> list[str]:
    """The pairs that were asked for by name: of these something has to be stored."""
    named = [known_spelling(symbol, found.stored) for symbol in symbols or () if not is_pattern(symbol)]
    return without(named, exclude)


async def _read(
    db_url: str, symbols: Sequence[str] | None, exclude: Sequence[str] = ()
) -> tuple[dict[str, Any], StoreStatus]:
    """Which database it is, and the state of what is stored in it, with the last prices."""
    from kraken_db.store import Store

    store = await Store.open(db_url, pool_min_size=1, pool_max_size=1, creates=False)
    try:
        found, policies, revision = await store.database.reading(
            lambda connection: _read_all(connection, store, symbols, exclude)
        )
        database = {
            "kind": store.backend.name,
            "where": await asyncio.to_thread(_where, store, db_url),
            "embedded": store.database.is_embedded,
            "schema_revision": revision,
            "retention_seconds": {policy.table: policy.retention for policy in policies},
        }
        return database, found
    finally:
        await store.close()


async def _read_all(
    connection: AsyncConnection, store: Store, symbols: Sequence[str] | None, exclude: Sequence[str]
) -> tuple[StoreStatus, Sequence[TablePolicy], str | None]:
    from kraken_db.db.migrations import current_revision
    from kraken_db.repositories.last_prices import LastPrices
    from kraken_db.repositories.sync_status import SyncStatusRepository
    from kraken_db.status import newest_records, read_status

    names: Sequence[str] | None = None
    if symbols or exclude:
        stored = {record.symbol for record in await SyncStatusRepository(connection).all()}
        names = select(symbols, sorted(stored), exclude=exclude) or None
    found = await read_status(connection, store.backend, store.clock(), names)
    return (
        replace(
            found,
            disk=store.database.disk,
            last_prices=await LastPrices(connection).of(newest_records(found)),
        ),
        await store.backend.policies(connection),
        await current_revision(connection),
    )


def _where(store: Store, db_url: str) -> str:
    """The address without password, or the folder of the embedded database."""
    if not store.database.is_embedded:
        return store.database.display
    from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
    from kraken_db.settings import Settings

    directory = resolve_embedded(db_url) or Settings.from_environment().data_dir
    return str(EmbeddedServer(directory).status().data_dir)
