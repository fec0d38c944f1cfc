"""``kraken-db db remove-pair``: everything that is stored of a pair goes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import sentence
from kraken_db.cli.options import MultiValueCommand, db_url_option, exclude_option, json_option, pair_options
from kraken_db.cli.output import (
    Column,
    count_text,
    day_column,
    moment_text,
    note,
    plural,
    print_json,
    print_table,
)
from kraken_db.errors import KrakenDBError, PairError

if TYPE_CHECKING:
    from kraken_db.progress import Progress
    from kraken_db.removal import PairRemoval, StoredPair
    from kraken_db.repositories.removal import Removed

_Failed = list[tuple[str, KrakenDBError]]


@click.command(
    "remove-pair",
    cls=MultiValueCommand,
    epilog="Example: kraken-db db remove-pair MY/TRADES",
)
@pair_options("They have to be typed: there is no default.", required=True, must_be_typed=True)
@exclude_option
@click.option("--dry-run", is_flag=True, help="Show what would go; remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before.")
@json_option
@db_url_option
@click.pass_context
def remove_pair(
    context: click.Context,
    symbols: tuple[str, ...],
    exclude: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Remove everything that is stored of each SYMBOL: trades, candles of all intervals, and what is known.

    It shows what goes, and asks. Each pair goes in one transaction: whole, or not at all. A pair that a
    recording, a download or an import works on is left alone, and makes the exit code 1. What is removed can
    only come back from Kraken, an archive or a dump. Patterns are of stored pairs.
    """
    from kraken_db.cli.progress import show_progress

    found = asyncio.run(_survey(db_url, symbols, exclude))
    if not as_json:
        _show(found)
    if dry_run:
        if as_json:
            print_json({"dry_run": True, "pairs": [_pair_document(pair) for pair in found], "failed": []})
        note(f"Would remove {plural(len(found), 'pair')}. Nothing was changed.")
        return
    if not yes:
        _ask(len(found))
    with show_progress() as progress:
        removed, failed = asyncio.run(_remove(db_url, [pair.symbol for pair in found], progress))
    _report(removed, failed, as_json=as_json)
    context.exit(1 if failed else 0)


async def _survey(db_url: str, symbols: Sequence[str], exclude: Sequence[str]) -> list[StoredPair]:
    """Raises PairError for a pair that was named and of which nothing is stored: nothing is removed then."""
    from kraken_db.nothing_found import stored_instead

    async with _opened(db_url) as service:
        found = await service.survey(symbols, exclude)
        names = [pair.symbol for pair in found]
        for symbol in await service.select_stored(symbols, exclude):
            if symbol not in names:
                advice = stored_instead([symbol], await service.stored_symbols())
                raise PairError(f"nothing is stored of {symbol}; nothing was removed", hint=advice)
    return found


def _opened(db_url: str) -> PairRemoval:
    from kraken_db.removal import PairRemoval

    return PairRemoval(db_url)


def _show(found: Sequence[StoredPair]) -> None:
    columns = [
        Column("symbol"),
        Column("trades", right=True),
        Column("candles", right=True),
        day_column("from (UTC)", rank=2),
        day_column("to (UTC)", rank=1),
    ]
    rows = [
        (
            pair.symbol,
            count_text(pair.trades),
            count_text(pair.candles),
            moment_text(pair.oldest),
            moment_text(pair.newest),
        )
        for pair in found
    ]
    print_table(columns, rows)


def _ask(pairs: int) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: --yes removes without asking")
    question = f"Remove {plural(pairs, 'pair')} for good?"
    if not click.confirm(question, err=True):
        raise KrakenDBError("nothing was removed")


async def _remove(db_url: str, symbols: Sequence[str], progress: Progress) -> tuple[list[Removed], _Failed]:
    removed: list[Removed] = []
    failed: _Failed = []
    task = progress.task("removing", len(symbols), unit="pairs")
    try:
        async with _opened(db_url) as service:
            for symbol in symbols:
                task.update(note=symbol)
                try:
                    removed.append(await service.remove(symbol))
                except KrakenDBError as error:
                    failed.append((symbol, error))
                task.advance()
    finally:
        task.done()
    return removed, failed


def _report(removed: Sequence[Removed], failed: _Failed, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "dry_run": False,
                "pairs": [
                    {"symbol": one.symbol, "trades": one.trades, "candles": one.candles} for one in removed
                ],
                "failed": [
                    {"symbol": symbol, "reason": error.message, "hint": error.hint}
                    for symbol, error in failed
                ],
            }
        )
    for one in removed:
        note(f"{one.symbol}: removed {plural(one.trades, 'trade')} and {plural(one.candles, 'candle')}")
    for symbol, error in failed:
        note(f"Failed: {symbol}: {sentence(error).removeprefix(f'{symbol}: ')}")


def _pair_document(pair: StoredPair) -> dict[str, Any]:
    return {
        "symbol": pair.symbol,
        "trades": pair.trades,
        "candles": pair.candles,
        "oldest": pair.oldest,
        "newest": pair.newest,
    }
