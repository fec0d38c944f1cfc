"""``kraken-db backfill``: a pair's whole history of trades from Kraken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import sentence
from kraken_db.cli.metrics import Address, metrics_of, metrics_option
from kraken_db.cli.moments import range_options
from kraken_db.cli.options import (
    MultiValueCommand,
    db_url_option,
    exclude_option,
    json_option,
    pair_options,
    rate_limit_option,
    stored_option,
    tell_default,
)
from kraken_db.cli.output import (
    Column,
    Row,
    count_text,
    day_column,
    duration,
    iso,
    moment_text,
    note,
    plural,
    print_json,
    print_table,
    size_text,
)
from kraken_db.cli.summaries import details_option, note_some, print_totals
from kraken_db.errors import KrakenDBError
from kraken_db.pairs import DEFAULT_SYMBOLS
from kraken_db.progress import MANY
from kraken_db.times import utc_now

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kraken_db.historical_backfill import BackfillReport, KrakenTradesBackfill
    from kraken_db.historical_backfill.archive import BackfillSource
    from kraken_db.historical_backfill.estimate import BackfillEstimate, PairEstimate

_COUNTERS = ("received", "new", "changed", "candles_new", "candles_changed", "removed")


def show_reports(reports: Sequence[BackfillReport], *, as_json: bool, details: bool = False) -> None:
    """Results on stdout; what a person has to know or do on stderr. Of many pairs the totals, then what
    failed; ``details``: a row for each all the same.
    """
    is_short = len(reports) > MANY and not details
    if as_json:
        print_json({"pairs": [_document(report) for report in reports]})
    elif is_short:
        _print_totals(reports)
    else:
        _print(reports)
    if not is_short:
        for report in reports:
            for line in _notes(report):
                note(line)
        return
    lines = [line for report in reports if report.outcome != "stopped" for line in _notes(report)]
    note_some(sorted(lines, key=lambda line: not line.startswith("Failed: ")))
    if stopped := sum(report.outcome == "stopped" for report in reports):
        note(f"{plural(stopped, 'pair')} stopped; --resume goes on from there")


def _print_totals(reports: Sequence[BackfillReport]) -> None:
    stopped, failed = (sum(one.outcome == word for one in reports) for word in ("stopped", "failed"))
    counts = [
        ("pairs", len(reports)),
        ("done", len(reports) - stopped - failed),
        *([("stopped", stopped)] if stopped else []),
        ("failed", failed),
        *((_COUNTER_TITLES[name], sum(getattr(one, name) for one in reports)) for name in _shown(reports)),
    ]
    print_totals([(title, count_text(number)) for title, number in counts])


_COUNTER_TITLES = {
    "archived": "archived",
    "received": "received",
    "new": "new",
    "changed": "changed",
    "candles_new": "new candles",
}


def _shown(reports: Sequence[BackfillReport]) -> list[str]:
    """The counters with a column: two of them are nearly always zero."""
    rare = ("archived", "changed")
    return [name for name in _COUNTER_TITLES if name not in rare or any(getattr(r, name) for r in reports)]


_RANKS = {"archived": 4, "changed": 3, "candles_new": 5}


def _print(reports: Sequence[BackfillReport]) -> None:
    """A row each; where there is no room for all of it, the rarer columns are left out."""
    counters = _shown(reports)
    columns = [
        Column("symbol"),
        Column("outcome"),
        *(Column(_COUNTER_TITLES[name], right=True, rank=_RANKS.get(name, 0)) for name in counters),
        day_column("from (UTC)", rank=2),
        day_column("to (UTC)", rank=1),
    ]
    rows = [Row(_row(report, counters), "red" if report.outcome == "failed" else "") for report in reports]
    print_table(columns, rows)


def _row(report: BackfillReport, counters: Iterable[str]) -> tuple[str, ...]:
    return (
        report.symbol,
        report.outcome,
        *(count_text(getattr(report, name)) for name in counters),
        moment_text(report.oldest),
        moment_text(report.newest),
    )


def _notes(report: BackfillReport) -> Iterator[str]:
    if report.removed:
        count = plural(report.removed, "trade")
        yield f"Note: {report.symbol}: {count} without an id gave way to those with one"
    if report.outcome == "stopped":
        where = f" at {report.newest.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if report.newest else ""
        yield f"{report.symbol}: stopped{where}; --resume goes on from there"
    for text in report.notes:
        yield f"Note: {report.symbol}: {text}"
    for hole in report.holes:
        yield f"Warning: {report.symbol}: Kraken has no trade for {hole}; it counts as a gap"
    for conflict in report.conflict_examples:
        yield f"Error: {report.symbol}: {conflict}; the stored one was left as it is"
    if more := report.conflicts - len(report.conflict_examples):
        yield f"Error: {report.symbol}: and {count_text(more)} more such trades"
    if report.error is not None:
        reason = sentence(report.error).removeprefix(f"{report.symbol}: ")
        yield f"Failed: {report.symbol}: {reason}"


def _error(error: KrakenDBError | None) -> dict[str, Any] | None:
    return None if error is None else {"reason": error.message, "hint": error.hint}


def _document(report: BackfillReport) -> dict[str, Any]:
    return {
        "symbol": report.symbol,
        "outcome": report.outcome,
        "requests": report.pages,
        "archived": report.archived,
        **{name: getattr(report, name) for name in _COUNTERS},
        "oldest": report.oldest,
        "newest": report.newest,
        "cursor": None if report.cursor is None else str(report.cursor),
        "notes": report.notes,
        "missing_ids": [asdict(hole) for hole in report.holes],
        "conflicts": report.conflicts,
        "conflict_examples": report.conflict_examples,
        "error": _error(report.error),
        "refresh_error": _error(report.refresh_error),
    }


_ESTIMATED = {"archives": 2, "by REST": 3, "download": 1, "database": 0, "about": 0}
"""The columns of an estimate, and in which order they are left out."""


def show_estimate(estimate: BackfillEstimate, *, as_json: bool) -> bool:
    """What a run would take, on stdout; returns whether it can begin."""
    if as_json:
        print_json(_estimate_document(estimate))
    else:
        columns = [
            Column("symbol"),
            *(Column(title, right=True, rank=rank) for title, rank in _ESTIMATED.items()),
        ]
        rows = [Row(_estimate_row(pair), "red" if pair.error else "") for pair in estimate.pairs]
        print_table(columns, rows)
    for pair in estimate.pairs:
        if pair.error is not None:
            note(f"Failed: {pair.symbol}: {sentence(pair.error)}")
    disk = estimate.disk
    free = "free space is not known" if disk is None else f"{size_text(disk.usable)} can be used there"
    note(
        f"Would download {plural(estimate.trades, 'trade')}: {size_text(estimate.download)} to download,"
        f" about {size_text(estimate.size)} in the database ({free}), about {duration(estimate.seconds)} if"
        " the line is fast. Nothing was changed."
    )
    refusal = estimate.refusal()
    if refusal is not None:
        note(f"Error: {sentence(refusal)}")
    return refusal is None and not any(pair.error for pair in estimate.pairs)


def _estimate_row(pair: PairEstimate) -> tuple[str, ...]:
    if pair.error is not None:
        return (pair.symbol, *["-"] * 5)
    return (
        pair.symbol,
        count_text(pair.archived),
        count_text(pair.by_rest),
        size_text(pair.download),
        size_text(pair.size),
        duration(pair.seconds),
    )


def _estimate_document(estimate: BackfillEstimate) -> dict[str, Any]:
    disk, figures = estimate.disk, ("trades", "download", "size", "seconds")
    return {
        "dry_run": True,
        "totals": {name: getattr(estimate, name) for name in figures},
        "disk": disk and {"path": disk.path, "free": disk.free, "usable": disk.usable, "log": estimate.wal},
        "pairs": [
            {
                "symbol": pair.symbol,
                "archived": pair.archived,
                "by_rest": pair.by_rest,
                **{name: getattr(pair, name) for name in figures},
                "error": _error(pair.error),
            }
            for pair in estimate.pairs
        ],
        "refusal": _error(estimate.refusal()),
    }


def _families(service: KrakenTradesBackfill) -> Iterator[Metric]:
    from kraken_db.metrics.families import of_job, of_pools, of_requests

    if service.overview is not None:
        yield from of_job("backfill", service.overview)
    yield from of_requests(service.requests)
    yield from of_pools({"backfill": service.store.database.pool if service.store else None})


@click.command(
    cls=MultiValueCommand,
    short_help="Download every trade of a pair from Kraken.",
    epilog="Example: kraken-db backfill --symbols XRP/USDT BTC/USDT --resume",
)
@pair_options(f"Default: {' '.join(DEFAULT_SYMBOLS)}.")
@exclude_option
@stored_option
@click.option("--resume", is_flag=True, help="Go on where the last download of each pair ended.")
@range_options(
    "Trades from this time on. Default: the pair's first trade.", "Trades before this time. Default: now."
)
@click.option(
    "--source",
    type=click.Choice(["auto", "archive", "rest"]),
    default="auto",
    show_default=True,
    help="Where trades come from; auto: Kraken's archives, then REST up to now.",
)
@click.option(
    "--archive",
    metavar="PLACE",
    help="A folder or an address with Kraken's archives. Default: KRAKEN_ARCHIVE_URL, or Kraken's own.",
)
@click.option("--no-candles", is_flag=True, help="Store trades only; a later run builds their candles.")
@click.option(
    "--no-auto-stop", is_flag=True, help="When everything is there, wait for new trades until Ctrl-C."
)
@click.option("--dry-run", is_flag=True, help="Say what it would take; download and store nothing.")
@rate_limit_option
@click.option(
    "--jobs", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Pairs at a time."
)
@metrics_option
@details_option()
@json_option
@db_url_option
@click.pass_context
def backfill(
    context: click.Context,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    stored: bool,
    resume: bool,
    since: datetime | None,
    until: datetime | None,
    source: BackfillSource,
    archive: str | None,
    no_candles: bool,
    no_auto_stop: bool,
    dry_run: bool,
    rate_limit: float,
    jobs: int,
    metrics: Address | None,
    details: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Download every trade since a pair's first one, and build its candles.

    What Kraken's archives have comes from there, as fast as the database takes it; the rest comes by REST,
    1,000 trades a request and about one request a second for each pair. Pairs are downloaded side by side.
    It may be stopped or killed at any moment, and repeated: nothing is stored twice, and --resume goes on
    where it ended. Ctrl-C stores what has been received; a second one ends it at once. Patterns are of what
    Kraken lists or its archives have.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL and KRAKEN_ARCHIVE_URL name.
    """
    if resume and since:
        raise click.UsageError("--resume cannot be combined with --since: choose where to begin")
    if since and since > utc_now():
        raise click.UsageError(f"--since is in the future: {iso(since)}")
    if archive and source == "rest":
        raise click.UsageError("--archive goes with --source auto or archive")
    from kraken_db.cli.base import Signals
    from kraken_db.cli.progress import show_progress
    from kraken_db.historical_backfill import KrakenTradesBackfill
    from kraken_db.kraken.page_walk import to_cursor

    signals = Signals()
    wanted: Any = {
        "exclude": exclude,
        "since": to_cursor(since) if since else 0,
        "end_timestamp": until,
        "resume": resume,
        "build_candles": not no_candles,
        "source": source,
        "archive": archive,
    }

    async def run() -> list[BackfillReport] | BackfillEstimate:
        async with KrakenTradesBackfill(
            db_url, rate_limit, pairs_at_once=jobs, creates=not stored, progress=progress
        ) as service:
            names = await service.stored_symbols() if stored else symbols or DEFAULT_SYMBOLS
            await tell_default(names, service, progress.note)
            if dry_run:
                return await service.estimate(names, **wanted)
            metered = metrics_of(service, "backfill", lambda: _families(service), metrics, progress.note)
            async with metered:
                with signals.stopping(service):
                    return await service.backfill(names, auto_stop_realtime=not no_auto_stop, **wanted)

    with show_progress() as progress:
        reports = asyncio.run(run())
    if not isinstance(reports, list):
        context.exit(0 if show_estimate(reports, as_json=as_json) else 1)
    show_reports(reports, as_json=as_json, details=details)
    context.exit(signals.exit_code(is_flawed=any(report.is_flawed for report in reports)))
