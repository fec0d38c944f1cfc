"""The command line ``kraken-db``: one module a command or group, loaded when it is called."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from kraken_db.cli.base import LazyCommand, LazyGroup, hide_secrets
from kraken_db.cli.options import root_db_url_option
from kraken_db.cli.output import guard_streams

_DISTRIBUTION = "kraken-historical-data"
PROGRAM = "kraken-db"
COMPLETE_VARIABLE = "_KRAKEN_DB_COMPLETE"
"""Set by the scripts of ``kraken-db completion``: a shell asks what could stand at its cursor."""

_COMMANDS = {
    "backfill": LazyCommand(
        "kraken_db.cli.backfill:backfill",
        "Download every trade of a pair from Kraken, and build its candles.",
    ),
    "cache": LazyCommand("kraken_db.cli.cache:cache", "Show and clear the cache of repeated reads."),
    "candles": LazyCommand("kraken_db.cli.candles:candles", "Print stored candles as table, CSV or JSON."),
    "chart": LazyCommand("kraken_db.cli.chart:chart", "Draw stored candles, here or into a file."),
    "completion": LazyCommand(
        "kraken_db.cli.completion:completion", "Complete commands, options and pairs at Tab, in your shell."
    ),
    "config": LazyCommand(
        "kraken_db.cli.config:config", "Show and change what every command takes from the config file."
    ),
    "db": LazyCommand("kraken_db.cli.db:db", "Upgrade, dump, restore; start and stop the embedded database."),
    "export": LazyCommand(
        "kraken_db.cli.export:export", "Write candles or trades into Parquet, CSV or feather."
    ),
    "gaps": LazyCommand("kraken_db.cli.gaps:gaps", "List what is missing, and fill it from Kraken."),
    "help": LazyCommand("kraken_db.cli.about:show_help", "Explain a command: kraken-db help backfill."),
    "import-csv": LazyCommand("kraken_db.cli.import_csv:import_csv", "Import Kraken's CSV files and zips."),
    "jobs": LazyCommand("kraken_db.cli.jobs:jobs", "Show who is at work, on any machine."),
    "pairs": LazyCommand("kraken_db.cli.pairs:pairs", "List the pairs of Kraken, by all their names."),
    "policies": LazyCommand(
        "kraken_db.cli.policies:policies", "Show and change when old rows are compressed and dropped."
    ),
    "record": LazyCommand("kraken_db.cli.record:record", "Record live trades, and build their candles."),
    "serve": LazyCommand("kraken_db.cli.serve:serve", "Show what is stored in a browser, and over HTTP."),
    "simulate": LazyCommand("kraken_db.cli.simulate:simulate", "Serve a made-up Kraken to try things on."),
    "sql": LazyCommand("kraken_db.cli.sql:sql", "Run a statement of your own."),
    "status": LazyCommand("kraken_db.cli.status:status", "Show what is stored: ranges, gaps, sizes, jobs."),
    "verify": LazyCommand("kraken_db.cli.verify:verify", "Prove that what is stored is complete and right."),
    "version": LazyCommand("kraken_db.cli.about:show_version", "Print the version."),
}


def version() -> str:
    """Of the distribution."""
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"{PROGRAM} {version()}")
        context.exit()


@click.group(cls=LazyGroup, lazy_commands=_COMMANDS)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and exit.",
)
@root_db_url_option
def cli() -> None:
    """The whole history of Kraken's markets in your own PostgreSQL.

    Without --db-url, DATABASE_URL and a database in the config file an embedded PostgreSQL is used, which
    starts and stops by itself.

    \b
    Begin with:
      kraken-db backfill BTC/USD                    every trade, from Kraken
      kraken-db import-csv Kraken_OHLCVT.zip        or candles, from its archive
      kraken-db record BTC/USD                      from now on, live
      kraken-db status
      kraken-db candles BTC/USD --interval 1h --last 24
    """


def complete() -> NoReturn:
    """Answer the shell that asks what could stand at the cursor, and end. Errors would spoil its prompt."""
    from click.shell_completion import shell_complete

    code = 1
    with suppress(Exception):
        code = shell_complete(cli, {}, PROGRAM, COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE])
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    0 done; 1 an error that is explained in one line; 2 wrong usage; 70 a bug in here; 130 interrupted;
    143 ended by SIGTERM.
    """
    if arguments is None and COMPLETE_VARIABLE in os.environ:
        complete()
    hide_secrets(arguments)
    guard_streams()
    cli.main(None if arguments is None else list(arguments), prog_name=PROGRAM)
