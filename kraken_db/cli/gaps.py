"""``kraken-db gaps``: what is missing in the store, and filling it from Kraken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.moments import PeriodType, SpanType
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
    is_quiet,
    is_terminal,
    moment_text,
    note,
    plural,
    print_folded,
    print_json,
    print_table,
)
from kraken_db.cli.summaries import details_option, note_some, print_totals
from kraken_db.documents import GAP_REASONS, gaps_document
from kraken_db.pairs import DEFAULT_SYMBOLS
from kraken_db.progress import MANY
from kraken_db.times import period_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kraken_db.gap_filler import FillReport, FoundGap, SymbolGaps

_SHOWN = 5
"""Delisted pairs that are named; of more, the number is told."""


def show_gaps(symbols: Sequence[SymbolGaps], *, as_json: bool, details: bool = False) -> None:
    """The gaps on stdout; what a person has to know beside them on stderr. Where many pairs have some a
    terminal gets a row a pair, as many as it has room for; ``details``: each gap all the same.
    """
    gapped = [symbol for symbol in symbols if symbol.found]
    is_short = len(gapped) > MANY and is_terminal() and not details
    if as_json:
        print_json({"symbols": [gaps_document(symbol) for symbol in symbols]})
    elif is_short:
        _print_by_pair(gapped)
    elif gapped:
        columns = [
            Column("symbol"),
            Column("data", rank=2, is_spare=True),
            day_column("from (UTC)"),
            day_column("to (UTC)"),
            Column("length", right=True),
            Column("why", rank=1, is_spare=True),
        ]
        rows = [(_gap_row(found), _COLOURS.get(found.kind, "")) for one in symbols for found in one.found]
        print_table(columns, [Row(cells, colour) for cells, colour in rows])
    notes = [f"Note: {message}" for message in _messages(symbols)]
    if details:
        for line in notes:
            note(line)
    else:
        note_some(notes)
    if not gapped:
        note(f"No gaps in {plural(len(symbols), 'pair')}.")
        return
    total = plural(sum(len(symbol.found) for symbol in gapped), "gap")
    pairs = " ".join(one.symbol for one in gapped)
    which = f"--symbols {pairs}" if len(gapped) <= _SHOWN else "--stored"
    note(f"{total} in {plural(len(gapped), 'pair')}. To fill: kraken-db gaps fill {which}")


_COLOURS = {"ids": "red", "inside": "red", "not built": "yellow"}
_OTHER_LINES = 8  # heading, rule, what is hidden, and what is said below
_LEAST_ROWS = 5


def _print_by_pair(symbols: Sequence[SymbolGaps]) -> None:
    """What is missing within comes first, then what is longest."""

    def length(symbol: SymbolGaps) -> timedelta:
        return sum((found.gap.duration for found in symbol.found), timedelta(0))

    def inside(symbol: SymbolGaps) -> int:
        return sum(found.kind in ("inside", "ids") for found in symbol.found)

    ordered = sorted(symbols, key=lambda one: (-inside(one), -length(one), one.symbol))
    shown = ordered[: max(_LEAST_ROWS, get_terminal_size().lines - _OTHER_LINES)]
    columns = [
        Column("symbol"),
        Column("gaps", right=True),
        Column("within", right=True),
        Column("length", right=True),
        day_column("from (UTC)"),
        day_column("to (UTC)"),
    ]
    rows = [
        Row(
            (
                one.symbol,
                count_text(len(one.found)),
                count_text(inside(one)),
                _length(length(one)),
                moment_text(min(found.gap.start_time for found in one.found)),
                moment_text(max(found.gap.end_time for found in one.found)),
            ),
            "red" if inside(one) else "",
        )
        for one in shown
    ]
    print_table(columns, rows)
    if hidden := len(ordered) - len(shown):
        print_folded(f"... and {plural(hidden, 'other pair')}; --details shows each gap")


def show_filled(reports: Sequence[FillReport], *, as_json: bool, details: bool = False) -> None:
    """What was filled on stdout, and what stays on stderr. Of many pairs the totals, then what failed."""
    is_short = len(reports) > MANY and not details
    if as_json:
        from kraken_db.gap_filler.filler import summary

        print_json(summary(reports) | {"symbols": [_fill_document(report) for report in reports]})
    elif is_quiet() and not any(report.gaps.found for report in reports):
        pass  # a line of cron's: it mails what is printed
    elif is_short:
        _print_filled_totals(reports)
    else:
        columns = [
            Column("symbol"),
            Column("gaps", right=True),
            Column("filled", right=True),
            Column("candles", right=True, rank=2),
            Column("trades", right=True, rank=1),
            day_column("known to (UTC)", rank=3),
        ]
        print_table(columns, [Row(_fill_row(report), "red" if report.errors else "") for report in reports])
    notes = [f"Note: {message}" for message in _messages([report.gaps for report in reports])]
    if is_short:
        note_some([f"Failed: {error}" for report in reports for error in report.errors])
        note_some([f"{one.symbol}: {_ELSEWHERE}" for one in reports if one.is_elsewhere])
        note_some(notes)
        if stopped := sum(report.was_stopped for report in reports):
            note(f"{plural(stopped, 'pair')} stopped; the same command goes on from there")
        return
    for line in notes:
        note(line)
    for report in reports:
        for error in report.errors:
            note(f"Failed: {error}")
        if report.is_elsewhere:
            note(f"{report.symbol}: {_ELSEWHERE}")
        if report.was_stopped:
            note(f"{report.symbol}: stopped; the same command goes on from there")


_ELSEWHERE = "left to another process, which is at work on it (kraken-db jobs)"


def _print_filled_totals(reports: Sequence[FillReport]) -> None:
    stopped = sum(report.was_stopped for report in reports)
    counts = [
        ("pairs", len(reports)),
        *([("stopped", stopped)] if stopped else []),
        ("failed", sum(bool(report.errors) for report in reports)),
        ("gaps", sum(len(report.gaps.found) for report in reports)),
        ("filled", sum(report.filled for report in reports)),
        ("candles", sum(report.written.candles for report in reports)),
        ("trades", sum(report.written.trades for report in reports)),
    ]
    print_totals([(title, count_text(number)) for title, number in counts])


def _messages(symbols: Sequence[SymbolGaps]) -> Iterable[str]:
    """Each once."""
    return dict.fromkeys(_all_messages(symbols))


def _all_messages(symbols: Sequence[SymbolGaps]) -> Iterator[str]:
    unstored = [(one.symbol, found) for one in symbols for found in one.found if found.kind == "no data"]
    if unstored:
        window = period_text(unstored[0][1].gap.duration)
        why = f"wanted: {window} up to now (--window); imported files above 1m do not count"
        if len(unstored) <= _SHOWN:
            for name, _ in unstored:
                yield f"{name}: nothing is stored; {why}"
        else:
            yield f"{plural(len(unstored), 'pair')}: nothing is stored; {why}"
    if ended := [one for one in symbols if one.ended_at is not None]:
        shown = [f"{one.symbol} (to {moment_text(one.ended_at)} UTC)" for one in ended[:_SHOWN]]
        more = f" and {plural(len(ended) - _SHOWN, 'other')}" if len(ended) > _SHOWN else ""
        yield f"delisted, and known to the end: {', '.join(shown)}{more}"
    for symbol in symbols:
        for table, kept_from in symbol.kept_from.items():
            if kept_from is not None:
                yield f"{table} from before {moment_text(kept_from)} UTC are dropped by the retention policy"


def _gap_row(found: FoundGap) -> tuple[str, ...]:
    gap = found.gap
    data = "candles" if gap.data_type.startswith("candles") else gap.data_type
    return (
        gap.symbol,
        data,
        moment_text(gap.start_time),
        moment_text(gap.end_time),
        _length(gap.duration),
        GAP_REASONS[found.kind],
    )


def _length(duration: timedelta) -> str:
    """``45 s``, ``12 min``, ``5.3 h``, ``31.0 days``."""
    if duration < timedelta(minutes=1):
        return f"{duration.total_seconds():.0f} s"
    if duration < timedelta(hours=2):
        return f"{duration / timedelta(minutes=1):.0f} min"
    if duration < timedelta(days=2):
        return f"{duration / timedelta(hours=1):.1f} h"
    return f"{duration / timedelta(days=1):,.1f} days"


def _fill_row(report: FillReport) -> tuple[str, ...]:
    return (
        report.symbol,
        count_text(len(report.gaps.found)),
        count_text(report.filled),
        count_text(report.written.candles),
        count_text(report.written.trades),
        moment_text(report.known_to),
    )


def _fill_document(report: FillReport) -> dict[str, Any]:
    return gaps_document(report.gaps) | {
        "gaps_filled": report.filled,
        "candles_new": report.written.candles_new,
        "candles_changed": report.written.candles_changed,
        "trades_new": report.written.trades_new,
        "trades_changed": report.written.trades_changed,
        "known_to": report.known_to,
        "stopped": report.was_stopped,
        "elsewhere": report.is_elsewhere,
        "errors": report.errors,
    }


_DEFAULT = " ".join(DEFAULT_SYMBOLS)
_MIN_GAP = 2
_LONGEST_GAP = 60_000_000  # minutes: more than a century
_WINDOW_DAYS = 30


def _window(_context: click.Context, option: click.Parameter, value: tuple[timedelta | None]) -> timedelta:
    (window,) = value
    if not window:
        raise click.BadParameter("write a period that ends, e.g. 30d", param=option)
    return window


def _gap_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option(
            "--min-gap",
            type=SpanType(timedelta(minutes=1), click.IntRange(0, _LONGEST_GAP)),
            default=_MIN_GAP,
            show_default=True,
            metavar="MINUTES",
            help="The time since the newest minute counts as a gap once it is this long. Earlier holes always"
            " count.",
        ),
        click.option(
            "--window",
            type=PeriodType(),
            callback=_window,
            default=f"{_WINDOW_DAYS}d",
            show_default=True,
            metavar="PERIOD",
            help="How far back to look where nothing is stored of a pair.",
        ),
        json_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    cls=LazyGroup, short_help="List what is missing, and fill it.", epilog="Begin with: kraken-db gaps list"
)
def gaps() -> None:
    """Find what is missing between the oldest stored moment and now, and fill it from Kraken.

    A gap is what no source has shown to be complete: a minute without trades that was looked at is none.
    """


@gaps.command("list", cls=MultiValueCommand, short_help="List the gaps; asks nobody but the database.")
@pair_options(f"Default: {_DEFAULT}.")
@exclude_option
@stored_option
@_gap_options
@details_option("each gap")
@db_url_option
def list_gaps(
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    stored: bool,
    min_gap: int,
    window: timedelta,
    details: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """List the gaps, from coverage alone: whatever the size of the history, it takes a moment.

    If nothing is stored of a pair, all of --window is one gap. Patterns match stored pairs.
    """
    from kraken_db.gap_filler import GapFiller

    async def run() -> list[SymbolGaps]:
        async with GapFiller(db_url, window=window, creates=False) as filler:
            wanted = None if stored else symbols or DEFAULT_SYMBOLS
            filler.symbols = await filler.select_stored(wanted, exclude)
            await tell_default(filler.symbols, filler)
            return await filler.survey(min_gap)

    show_gaps(asyncio.run(run()), as_json=as_json, details=details)


@gaps.command(
    "fill",
    cls=MultiValueCommand,
    short_help="Fill the gaps from Kraken.",
    epilog="Example: kraken-db gaps fill --symbols XRP/USDT BTC/USDT",
)
@pair_options(f"Default: {_DEFAULT}.")
@exclude_option
@stored_option
@click.option(
    "--max-concurrent",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Pairs at a time.",
)
@rate_limit_option
@_gap_options
@details_option()
@db_url_option
@click.pass_context
def fill_gaps(
    context: click.Context,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    stored: bool,
    max_concurrent: int,
    rate_limit: float,
    min_gap: int,
    window: timedelta,
    details: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Fill the gaps: the newest twelve hours by candles, everything else by trades.

    It may be stopped or killed at any moment, and repeated. What Kraken cannot fill stays a gap, is
    reported, and makes the exit code 1. Ctrl-C stores what has been received; a second one ends it at once.
    Patterns are of what Kraken lists.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL names.
    """
    from kraken_db.cli.base import Signals
    from kraken_db.cli.progress import show_progress
    from kraken_db.gap_filler import GapFiller

    signals = Signals()

    async def run() -> list[FillReport]:
        async with GapFiller(
            db_url, [], rate_limit, window=window, progress=progress, creates=not stored
        ) as filler:
            if stored:
                filler.symbols = await filler.select_stored(None, exclude)
            else:
                filler.symbols = await filler.select_listed(symbols or DEFAULT_SYMBOLS, exclude)
            await tell_default(filler.symbols, filler, progress.note)
            with signals.stopping(filler):
                return await filler.fill(max_concurrent=max_concurrent, min_gap_minutes=min_gap)

    with show_progress() as progress:
        reports = asyncio.run(run())
    show_filled(reports, as_json=as_json, details=details)
    context.exit(signals.exit_code(is_flawed=any(report.errors for report in reports)))
