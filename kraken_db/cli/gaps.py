"""``kraken-db gaps``: what is missing in the store, and filling it from Kraken."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.options import (
    MultiValueCommand,
    PeriodType,
    db_url_option,
    json_option,
    rate_limit_option,
    symbols_option,
)
from kraken_db.pairs import DEFAULT_SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kraken_db.gap_filler import FillReport, SymbolGaps

_DEFAULT = " ".join(DEFAULT_SYMBOLS)
_MIN_GAP = 2
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
            type=click.IntRange(min=0),
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
@symbols_option(f"Pairs. Default: all that are stored, or {_DEFAULT} if none is.")
@_gap_options
def list_gaps(
    symbols: tuple[str, ...] | None, min_gap: int, window: timedelta, as_json: bool, db_url: str
) -> None:
    """List the gaps, from coverage alone: whatever the size of the history, it takes a moment.

    Of a pair of which nothing is stored the whole window is a gap.
    """
    from kraken_db.cli.gaps_report import show_gaps
    from kraken_db.gap_filler import GapFiller

    async def run() -> list[SymbolGaps]:
        async with GapFiller(db_url, list(symbols or DEFAULT_SYMBOLS), window=window) as filler:
            if symbols is None:
                filler.symbols = await filler.stored_symbols() or DEFAULT_SYMBOLS
            return await filler.survey(min_gap)

    show_gaps(asyncio.run(run()), as_json=as_json)


@gaps.command(
    "fill",
    cls=MultiValueCommand,
    short_help="Fill the gaps from Kraken.",
    epilog="Example: kraken-db gaps fill --symbols XRP/USDT BTC/USDT",
)
@symbols_option(f"Pairs. Default: {_DEFAULT}.")
@click.option("--stored", is_flag=True, help="All pairs of which something is stored.")
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
    stored: bool,
    max_concurrent: int,
    rate_limit: float,
    min_gap: int,
    window: timedelta,
    as_json: bool,
    db_url: str,
) -> None:
    """Fill the gaps: the newest twelve hours by candles, everything else by trades.

    It may be stopped or killed at any moment, and repeated. What Kraken cannot fill stays a gap, is told, and
    makes the exit code 1. Ctrl-C stores what has been received; a second one ends it at once.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL names.
    """
    if symbols and stored:
        raise click.UsageError("--stored cannot be combined with --symbols: it means all of them")
    from kraken_db.cli.gaps_report import show_filled
    from kraken_db.cli.output import plural
    from kraken_db.cli.progress import show_progress
    from kraken_db.cli.stopping import Signals
    from kraken_db.gap_filler import GapFiller

    signals = Signals()

    async def run() -> list[FillReport]:
        wanted = list(symbols or DEFAULT_SYMBOLS)
        async with GapFiller(db_url, wanted, rate_limit, window=window, progress=progress) as filler:
            everything = await filler.stored_symbols()
            if stored:
                filler.symbols = everything
            elif symbols is None and (others := set(everything) - set(wanted)):
                progress.note(f"Note: {plural(len(others), 'other pair')} stored; --stored fills them all")
            with signals.stopping(filler):
                return await filler.fill(max_concurrent=max_concurrent, min_gap_minutes=min_gap)

    with show_progress() as progress:
        reports = asyncio.run(run())
    show_filled(reports, as_json=as_json)
    context.exit(signals.exit_code(is_flawed=any(report.errors for report in reports)))
