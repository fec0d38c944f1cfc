"""``kraken-db status``: what is stored, from the counters that every write keeps. Never looks at the data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.options import db_url_option, json_option
from kraken_db.cli.output import (
    Column,
    count_text,
    moment_text,
    plural,
    print_json,
    print_table,
)
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.policies import period_text
from kraken_db.ranges import union

if TYPE_CHECKING:
    from kraken_db.repositories.coverage import Coverage
    from kraken_db.repositories.sync_status import SyncStatus
    from kraken_db.store import Store

_CANDLES = "candles_"
_MINUTES = "candles_1m"
_MAINTAIN = "kraken-db db maintain drops older ones"
_NEXT_STEP = """Nothing is stored yet. To begin:
  kraken-db backfill --symbols BTC/USD     every trade, from Kraken
  kraken-db import-csv FILE-OR-FOLDER...   Kraken's archives"""


@click.command(
    short_help="Show what is stored: ranges, rows, sync times.", epilog="Example: kraken-db status --json"
)
@json_option
@db_url_option
def status(as_json: bool, db_url: str) -> None:
    """Show what is stored of each symbol, and in which database.

    Instant, however much is stored. Ranges are the times of the oldest and the newest record, UTC; gaps
    are stretches between them that no source has covered. All intervals above 1m are computed from it.
    """
    document = asyncio.run(_read(db_url))
    if as_json:
        print_json(document)
    else:
        _print(document)


async def _read(db_url: str) -> dict[str, Any]:
    from kraken_db.db.migrations import current_revision
    from kraken_db.repositories.coverage import CoverageRepository
    from kraken_db.repositories.paused_jobs import PausedJobRepository
    from kraken_db.repositories.pending_refresh import PendingRefreshRepository
    from kraken_db.repositories.sync_status import SyncStatusRepository
    from kraken_db.store import Store

    store = await Store.open(db_url, pool_min_size=1, pool_max_size=1)
    try:
        async with store.database.read() as connection:
            records = await SyncStatusRepository(connection).all()
            coverage = await CoverageRepository(connection).all()
            _, stale = await PendingRefreshRepository(connection).all()
            policies = await store.timeseries.policies(connection)
            jobs = await store.timeseries.jobs(connection)
            paused = await PausedJobRepository(connection).all()
            revision = await current_revision(connection)
        # The others wait for their candles to close, not for anybody.
        pending = [item for item in stale if item.refreshed_at is None]
        return {
            "database": {
                "kind": store.timeseries.name,
                "where": await asyncio.to_thread(_where, store, db_url),
                "embedded": store.database.is_embedded,
                "schema_revision": revision,
                "retention_seconds": {policy.table: policy.retention for policy in policies},
                "drops_by_itself": any(job.task == "retention" for job in jobs),
                "retention_paused": bool(paused),
            },
            "pending_refresh": {
                "ranges": len(pending),
                "oldest": min((item.start for item in pending), default=None),
            },
            "symbols": _by_symbol(records, coverage),
        }
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


def _by_symbol(records: Sequence[SyncStatus], coverage: Sequence[Coverage]) -> list[dict[str, Any]]:
    symbols: dict[str, dict[str, Any]] = {}
    for record in records:
        entry = symbols.setdefault(record.symbol, {"symbol": record.symbol, "intervals": [], "data": []})
        sources = [
            item for item in coverage if (item.symbol, item.data_type) == (record.symbol, record.data_type)
        ]
        entry["intervals"] = _intervals(entry["intervals"], record.data_type)
        entry["data"].append(
            {
                "data_type": record.data_type,
                "rows": record.total_records,
                "oldest": record.oldest,
                "newest": record.newest,
                "covered": union(*(source.ranges for source in sources)),
                "sources": [source.source for source in sources],
                "last_sync": record.last_sync,
            }
        )
    for entry in symbols.values():
        entry["data"].sort(key=lambda item: _order(item["data_type"]))
    return list(symbols.values())


def _order(data_type: str) -> int:
    """Candles by the length of their interval, behind everything else."""
    names = list(INTERVAL_NAMES.values())
    name = data_type.removeprefix(_CANDLES)
    return names.index(name) + 1 if name in names else 0


def _intervals(known: Sequence[str], data_type: str) -> list[str]:
    """The intervals that can be read, in order of length: minutes give all of them."""
    if data_type == _MINUTES:
        return list(INTERVAL_NAMES.values())
    names = {*known, data_type.removeprefix(_CANDLES)}
    return [name for name in INTERVAL_NAMES.values() if name in names]


def _print(document: Mapping[str, Any]) -> None:
    database = document["database"]
    kind = f"{database['kind']}, embedded" if database["embedded"] else database["kind"]
    click.echo(f"Database  {kind}, {database['where']}")
    click.echo(f"Schema    revision {database['schema_revision']}")
    kept = ", ".join(
        f"{table} {period_text(period)}" for table, period in database["retention_seconds"].items() if period
    )
    if kept:
        who = "older ones are dropped" if database["drops_by_itself"] else _MAINTAIN
        click.echo(f"Kept      {kept} ({who}; higher intervals stay)")
    if database["retention_paused"]:
        click.echo(
            "          nothing is dropped until the run that writes old rows, or the next one, is through"
        )
    pending = document["pending_refresh"]
    if pending["ranges"]:
        click.echo(
            f"Pending   {plural(pending['ranges'], 'range')} from {moment_text(pending['oldest'])} on not yet"
            " in the higher intervals; the next import or backfill brings them up to date"
        )
    if not document["symbols"]:
        click.echo(_NEXT_STEP)
        return
    click.echo()
    columns = [
        Column("symbol"),
        Column("data"),
        Column("intervals"),
        Column("rows", right=True),
        Column("from (UTC)"),
        Column("to (UTC)"),
        Column("gaps", right=True),
        Column("last sync (UTC)"),
    ]
    print_table(
        columns, [_row(entry["symbol"], item) for entry in document["symbols"] for item in entry["data"]]
    )


def _row(symbol: str, item: Mapping[str, Any]) -> tuple[str, ...]:
    names = _intervals((), item["data_type"])
    covered: Sequence[tuple[datetime, datetime]] = item["covered"]
    return (
        symbol,
        "candles" if item["data_type"].startswith(_CANDLES) else item["data_type"],
        f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names) or "-",
        count_text(item["rows"]),
        moment_text(item["oldest"]),
        moment_text(item["newest"]),
        count_text(len(covered) - 1) if covered else "-",
        moment_text(item["last_sync"]),
    )
