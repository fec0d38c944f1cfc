"""``kraken-db jobs``: who works on the store, on whichever machine, and how it stands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import db_url_option, json_option
from kraken_db.cli.output import Column, moment_text, note, print_json, print_table
from kraken_db.documents import job_document, life_of

if TYPE_CHECKING:
    from kraken_db.repositories.running_jobs import RunningJob

_MOST_NAMES = 3


@click.command(
    short_help="Show who is at work, on any machine.",
    epilog="Example: kraken-db jobs --all",
)
@click.option("--all", "with_ended", is_flag=True, help="Those of the last week that have ended, too.")
@json_option
@db_url_option
def jobs(with_ended: bool, as_json: bool, db_url: str) -> None:
    """Show every process that works on this database, on whichever machine it runs.

    Downloads, recordings, imports, gap fills and maintenance report every ten seconds: which pairs, how far
    they are, the last error. One without a word for 45 seconds was killed, or has lost the database.
    """
    found = asyncio.run(_read(db_url))
    shown = [job for job in found if with_ended or job.ended_at is None]
    if as_json:
        print_json([job_document(job) for job in shown])
        return
    columns = ("job", "pairs", "where", "since (UTC)", "last word (UTC)", "state")
    if shown:
        print_table([Column(title) for title in columns], [_row(job) for job in shown])
    for job in shown:
        if job.last_error:
            note(f"{job}: {job.last_error}")
    if not shown:
        note("Nobody is at work." if with_ended else "Nobody is at work; --all shows who was.")


def _row(job: RunningJob) -> tuple[str, ...]:
    names = " ".join(job.symbols[:_MOST_NAMES])
    more = f" and {len(job.symbols) - _MOST_NAMES:,} more" if len(job.symbols) > _MOST_NAMES else ""
    life = life_of(job)
    return (
        job.kind,
        names + more or "-",
        f"{job.host}, process {job.pid}",
        moment_text(job.started_at),
        moment_text(job.heard_at),
        job.state if life == "alive" else f"{life}: {job.state}",
    )


async def _read(db_url: str) -> list[RunningJob]:
    from kraken_db.repositories.running_jobs import RunningJobRepository
    from kraken_db.store import Store

    store = await Store.open(db_url, pool_min_size=1, pool_max_size=1, creates=False)
    try:
        return await store.database.reading(lambda connection: RunningJobRepository(connection).all())
    finally:
        await store.close()
