"""``kraken-db gaps``: what is missing in the store, and filling it from Kraken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.options import (
    MultiValueCommand,
    PeriodType,
    db_url_option,
    exclude_option,
    json_option,
    rate_limit_option,
    stored_option,
    symbols_option,
)
from kraken_db.cli.output import Column, count_text, moment_text, note, plural, print_json, print_table
from kraken_db.pairs import DEFAULT_SYMBOLS
from kraken_db.patterns import select
from kraken_db.times import period_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kraken_db.gap_filler import FillReport, FoundGap, SymbolGaps

_WHY = {
    "no data": "nothing stored",
    "end": "up to now",
    "inside": "within",
    "ids": "missing ids",
    "not built": "candles not built",
}


_SHOWN = 5
"""Delisted pairs that are named; of more, the number is told."""


def show_gaps(symbols: Sequence[SymbolGaps], *, as_json: bool) -> None:
    """The gaps on stdout; what a person has to know beside them on stderr."""
    if as_json:
        print_json({"symbols": [_gaps_document(symbol) for symbol in symbols]})
    elif any(symbol.found for symbol in symbols):
        columns = [
            Column("symbol"),
            Column("data"),
            Column("from (UTC)"),
            Column("to (UTC)"),
            Column("length", right=True),
            Column("why"),
        ]
        print_table(columns, [_gap_row(found) for symbol in symbols for found in symbol.found])
    _print_notes(symbols)
    if not any(symbol.found for symbol in symbols):
        note(f"No gaps in {plural(len(symbols), 'pair')}.")


def show_filled(reports: Sequence[FillReport], *, as_json: bool) -> None:
    """What was filled on stdout, and what stays on stderr."""
    if as_json:
        from kraken_db.gap_filler.filler import summary

        print_json(summary(reports) | {"symbols": [_fill_document(report) for report in reports]})
    else:
        columns = [
            Column("symbol"),
            Column("gaps", right=True),
            Column("filled", right=True),
            Column("candles", right=True),
            Column("trades", right=True),
            Column("known to (UTC)"),
        ]
        print_table(columns, [_fill_row(report) for report in reports])
    _print_notes([report.gaps for report in reports])
    for report in reports:
        for error in report.errors:
            note(f"Failed: {error}")
        if report.is_elsewhere:
            note(f"{report.symbol}: left to another process, which is at work on it (kraken-db jobs)")
        if report.was_stopped:
            note(f"{report.symbol}: stopped; the same command goes on from there")


def _print_notes(symbols: Sequence[SymbolGaps]) -> None:
    for message in dict.fromkeys(_messages(symbols)):
        note(f"Note: {message}")


def _messages(symbols: Sequence[SymbolGaps]) -> Iterator[str]:
    for symbol in symbols:
        for found in symbol.found:
            if found.kind == "no data":
                window = period_text(found.gap.duration)
                why = f"wanted: {window} up to now (--window); imported files above 1m do not count"
                yield f"{symbol.symbol}: nothing is stored; {why}"
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
        _WHY[found.kind],
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


def _gaps_document(symbol: SymbolGaps) -> dict[str, Any]:
    return {
        "symbol": symbol.symbol,
        "has_data": symbol.has_data,
        "known_from": symbol.known[0] if symbol.known else None,
        "known_to": symbol.known[1] if symbol.known else None,
        "kept_from": dict(symbol.kept_from),
        "ended_at": symbol.ended_at,
        "gaps": [
            {
                "data_type": found.gap.data_type,
                "start": found.gap.start_time,
                "end": found.gap.end_time,
                "seconds": found.gap.duration,
                "kind": found.kind,
            }
            for found in symbol.found
        ],
    }


def _fill_document(report: FillReport) -> dict[str, Any]:
    return _gaps_document(report.gaps) | {
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
            type=click.IntRange(0, _LONGEST_GAP),
            default=_MIN_GAP,
            show_default=True,
            metavar="MINUTES",
            help="From how many minutes on the stretch up to now is a gap. Holes before it always are.",
        ),
        click.option(
            "--window",
            type=PeriodType(),
            callback=_window,
            default=f"{_WINDOW_DAYS}d",
            show_default=True,
            metavar="PERIOD",
            help="How far back a pair is wanted of which nothing is stored.",
        ),
        json_option,
        db_url_option,
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
@symbols_option(f"Default: all that are stored, or {_DEFAULT} if none is.")
@exclude_option
@_gap_options
def list_gaps(
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    min_gap: int,
    window: timedelta,
    as_json: bool,
    db_url: str,
) -> None:
    """List the gaps, from coverage alone: whatever the size of the history, it takes a moment.

    Of a pair of which nothing is stored the whole window is a gap. Patterns are of what is stored.
    """
    from kraken_db.gap_filler import GapFiller

    async def run() -> list[SymbolGaps]:
        async with GapFiller(db_url, window=window) as filler:
            filler.symbols = await filler.select_stored(symbols, exclude) or select(
                DEFAULT_SYMBOLS, (), exclude=exclude
            )
            return await filler.survey(min_gap)

    show_gaps(asyncio.run(run()), as_json=as_json)


@gaps.command(
    "fill",
    cls=MultiValueCommand,
    short_help="Fill the gaps from Kraken.",
    epilog="Example: kraken-db gaps fill --symbols XRP/USDT BTC/USDT",
)
@symbols_option(f"Default: {_DEFAULT}.")
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
    as_json: bool,
    db_url: str,
) -> None:
    """Fill the gaps: the newest twelve hours by candles, everything else by trades.

    It may be stopped or killed at any moment, and repeated. What Kraken cannot fill stays a gap, is
    reported, and makes the exit code 1. Ctrl-C stores what has been received; a second one ends it at once.
    Patterns are of what Kraken lists.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL names.
    """
    if symbols and stored:
        raise click.UsageError("--stored cannot be combined with --symbols: it means all of them")
    from kraken_db.cli.base import Signals
    from kraken_db.cli.output import plural
    from kraken_db.cli.progress import show_progress
    from kraken_db.gap_filler import GapFiller

    signals = Signals()

    async def run() -> list[FillReport]:
        async with GapFiller(db_url, [], rate_limit, window=window, progress=progress) as filler:
            if stored:
                filler.symbols = await filler.select_stored(None, exclude)
            else:
                filler.symbols = await filler.select_listed(symbols or DEFAULT_SYMBOLS, exclude)
            others = set() if symbols or stored or exclude else set(await filler.stored_symbols())
            if others := others.difference(filler.symbols):
                progress.note(f"Note: {plural(len(others), 'other pair')} stored; --stored fills them all")
            with signals.stopping(filler):
                return await filler.fill(max_concurrent=max_concurrent, min_gap_minutes=min_gap)

    with show_progress() as progress:
        reports = asyncio.run(run())
    show_filled(reports, as_json=as_json)
    context.exit(signals.exit_code(is_flawed=any(report.errors for report in reports)))
