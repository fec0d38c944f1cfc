"""``kraken-db db copy``: a store copied to another database."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import FROM_ENVIRONMENT, sentence
from kraken_db.cli.options import MultiValueCommand, exclude_option, json_option, symbols_option
from kraken_db.cli.output import Column, count_text, note, plural, print_folded, print_json, print_table
from kraken_db.errors import ConfigurationError
from kraken_db.times import period_text

if TYPE_CHECKING:
    from kraken_db.progress import Progress
    from kraken_db.store_copy import CopyReport, PairToCopy


@click.command(
    "copy",
    cls=MultiValueCommand,
    epilog="Example: kraken-db db copy embedded: postgresql://kraken@db.example/kraken",
)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@symbols_option("Default: all that are stored in FROM.")
@exclude_option
@click.option("--replace", "replaces", is_flag=True, help="Replace pairs of which TO has something else.")
@click.option("--check/--no-check", "checks", default=True, help="Compare all rows, too; it is the default.")
@click.option("--dry-run", is_flag=True, help="Show what is to be copied; change nothing.")
@json_option
@click.pass_context
def copy(
    context: click.Context,
    source: str,
    target: str,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    replaces: bool,
    checks: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy a store exactly from the database FROM to the database TO: embedded, PostgreSQL or TimescaleDB.

    Both are addresses as in --db-url. "embedded:" is the embedded database, "-" the one that the other
    commands use, and "env:NAME" the address in a variable of the environment. Trades, candles, counters and
    coverage are equal afterwards; so are candles whose minutes retention has dropped. An empty TO gets its
    tables and FROM's retention first.

    Each pair is copied as it is at one moment, in one transaction: whole, or not at all. It may be stopped or
    killed at any moment, and repeated: pairs that are there and equal are passed over. A pair of which TO has
    something else is left alone, and makes the exit code 1.
    """
    from kraken_db.cli.progress import show_progress

    urls = _address(source), _address(target)
    if dry_run:
        _show(asyncio.run(_plan(*urls, symbols, exclude, checks)), as_json=as_json)
        return
    with show_progress() as progress:
        report = asyncio.run(_run(*urls, symbols, exclude, replaces, checks, progress))
    _report(report, as_json=as_json)
    context.exit(1 if report.failed or report.refresh_error else 0)


def _address(url: str) -> str:
    """What an argument means. Raises ConfigurationError for a variable that is not set."""
    from kraken_db.settings import Settings

    if not url.startswith(FROM_ENVIRONMENT):
        return Settings.from_environment().database_url if url == "-" else url
    name = url.removeprefix(FROM_ENVIRONMENT)
    if not (found := os.environ.get(name)):
        raise ConfigurationError(f"{url}: there is no variable {name} in the environment")
    return found


async def _plan(
    source: str, target: str, symbols: tuple[str, ...] | None, exclude: tuple[str, ...], checks: bool
) -> list[PairToCopy]:
    from kraken_db.store_copy import StoreCopy

    async with StoreCopy(source, target, dry=True) as service:
        return await service.plan(symbols, exclude, checks=checks)


async def _run(
    source: str,
    target: str,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    replaces: bool,
    checks: bool,
    progress: Progress,
) -> CopyReport:
    from kraken_db.store_copy import StoreCopy

    async with StoreCopy(source, target, progress=progress) as service:
        return await service.run(symbols, exclude, replaces=replaces, checks=checks)


def _show(pairs: list[PairToCopy], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "dry_run": True,
                "pairs": [
                    {
                        "symbol": pair.symbol,
                        "trades": pair.trades,
                        "candles": pair.candles,
                        "target": pair.target,
                    }
                    for pair in pairs
                ],
            }
        )
        return
    columns = [
        Column("symbol"),
        Column("trades", right=True),
        Column("candles", right=True),
        Column("in the target"),
    ]
    rows = [(pair.symbol, count_text(pair.trades), count_text(pair.candles), pair.target) for pair in pairs]
    print_table(columns, rows)
    missing, different = (sum(pair.target == state for pair in pairs) for state in ("missing", "different"))
    left = f", and replace {plural(different, 'pair')} with --replace" if different else ""
    note(f"Would copy {plural(missing, 'pair')}{left}. Nothing was changed.")


def _report(report: CopyReport, *, as_json: bool) -> None:
    from kraken_db.progress import MANY

    if as_json:
        print_json(_document(report))
    else:
        for symbol, rows in report.copied.items() if len(report.copied) < MANY else ():
            kept = f", {plural(rows.kept, 'candle')} without minutes" if rows.kept else ""
            print_folded(
                f"{symbol}: copied {plural(rows.trades, 'trade')}, {plural(rows.candles, 'candle')}{kept}"
            )
        print_folded(
            f"Copied {plural(len(report.copied), 'pair')}; {plural(len(report.equal), 'pair')} were there"
            " already"
        )
    for symbol, error in report.failed:
        note(f"Failed: {symbol}: {sentence(error).removeprefix(f'{symbol}: ')}")
    for table, period in report.keeps_less.items():
        note(
            f"The target drops {table} after {period_text(period)}, sooner than the source. To change it:"
            " kraken-db policies set"
        )
    if report.refresh_error is not None:
        note(sentence(report.refresh_error))


def _document(report: CopyReport) -> dict[str, Any]:
    return {
        "dry_run": False,
        "copied": [
            {"symbol": symbol, "trades": rows.trades, "candles": rows.candles, "kept_candles": rows.kept}
            for symbol, rows in report.copied.items()
        ],
        "equal": report.equal,
        "failed": [
            {"symbol": symbol, "reason": error.message, "hint": error.hint} for symbol, error in report.failed
        ],
        "keeps_less_seconds": {table: period.total_seconds() for table, period in report.keeps_less.items()},
        "refresh_error": None if report.refresh_error is None else report.refresh_error.message,
    }
