"""``kraken-db status``: what is stored, from the counters that every write keeps. Never looks at the data."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.options import AgeType, MultiValueCommand, db_url_option, json_option, symbols_option
from kraken_db.cli.output import print_json
from kraken_db.errors import KrakenDBError
from kraken_db.policies import period_text

if TYPE_CHECKING:
    from kraken_db.status import StoreStatus
    from kraken_db.store import Store

_SHOWN_PROBLEMS = 3


@click.command(
    cls=MultiValueCommand,
    short_help="Show what is stored: ranges, gaps, sizes, jobs.",
    epilog="Example: kraken-db status --check --max-lag 15min",
)
@symbols_option("Only these pairs. Default: all that are stored.")
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 1, and one line that says why, if anything is wrong: nothing stored, gaps in trades or"
    " minutes, a lag above --max-lag, jobs of the database that fail or are not started, what a killed run"
    " left undone.",
)
@click.option(
    "--max-lag",
    type=AgeType(),
    default="1d",
    show_default=True,
    help="How far trades and minutes may be behind now, for --check: 15min, 2h, 1d, 1w, or never.",
)
@json_option
@db_url_option
def status(
    symbols: tuple[str, ...] | None,
    check: bool,
    max_lag: tuple[timedelta | None],
    as_json: bool,
    db_url: str,
) -> None:
    """Show what is stored of each symbol, in which database, and how it is doing.

    Instant, however much is stored. Ranges are the times of the oldest and the newest record, UTC; gaps
    are stretches between them that no source has covered; lag is from the last known moment until now. The
    strip has a character for each month. Intervals above 1m are computed from the minutes.
    """
    from kraken_db.cli.status_document import status_document
    from kraken_db.cli.status_report import print_status
    from kraken_db.status import problems

    database, found = asyncio.run(_read(db_url, symbols))
    wrong = problems(found, max_lag[0], symbols)
    if as_json:
        checked = {"max_lag_seconds": max_lag[0], "problems": wrong}
        print_json({**status_document(database, found), "check": checked})
    else:
        print_status(database, found)
    if check and wrong:
        more = len(wrong) - _SHOWN_PROBLEMS
        told = "; ".join(wrong[:_SHOWN_PROBLEMS]) + (f"; and {more:,} more" if more > 0 else "")
        raise KrakenDBError(f"check failed: {told}")
    if check and not as_json:
        lag = "any lag allowed" if max_lag[0] is None else f"lag at most {period_text(max_lag[0])}"
        click.echo(f"\nCheck passed: no gaps, {lag}, no failing jobs, nothing left undone")


async def _read(db_url: str, symbols: tuple[str, ...] | None) -> tuple[dict[str, Any], StoreStatus]:
    """Which database it is, and the state of what is stored in it."""
    from kraken_db.db.migrations import current_revision
    from kraken_db.status import read_status
    from kraken_db.store import Store

    store = await Store.open(db_url, pool_min_size=1, pool_max_size=1)
    try:
        async with store.database.read() as connection:
            found = await read_status(connection, store.timeseries, store.clock(), symbols)
            policies = await store.timeseries.policies(connection)
            revision = await current_revision(connection)
        database = {
            "kind": store.timeseries.name,
            "where": await asyncio.to_thread(_where, store, db_url),
            "embedded": store.database.is_embedded,
            "schema_revision": revision,
            "retention_seconds": {policy.table: policy.retention for policy in policies},
        }
        return database, found
    finally:
        await store.close()


def _where(store: Store, db_url: str) -> str:
    """The address without password, or the folder of the embedded database."""
    if not store.database.is_embedded:
        return store.database.display
    from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
    from kraken_db.settings import Settings

    directory = resolve_embedded(db_url) or Settings.from_environment().data_dir
    return str(EmbeddedServer(directory).status().data_dir)
