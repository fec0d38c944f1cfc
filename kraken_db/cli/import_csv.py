"""``kraken-db import-csv``: Kraken's files into the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import (
    MultiValueCommand,
    SourcePath,
    db_url_option,
    json_option,
    symbols_option,
)
from kraken_db.errors import ConfigurationError, KrakenDBError

if TYPE_CHECKING:
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.bulk_csv_importer.report import ImportPlan, ImportReport
    from kraken_db.progress import Progress

DEFAULT_DIRECTORY = Path("./data/kraken_csv")


@click.command(
    cls=MultiValueCommand,
    short_help="Import Kraken's CSV files and zips.",
    epilog="Example: kraken-db import-csv Kraken_OHLCVT.zip --symbols BTC/USD ETH/USD --dry-run",
)
@click.argument("paths", nargs=-1, type=SourcePath())
@click.option(
    "--dir",
    "directory",
    type=SourcePath(),
    help=f"A folder to import, with all its subfolders. Default, without PATHS: ./{DEFAULT_DIRECTORY}",
)
@symbols_option("Only these pairs.")
@click.option("--all", "every_interval", is_flag=True, help="Files of all intervals, not only those of 1m.")
@click.option("--replace", is_flag=True, help="Overwrite stored candles that differ, whichever is better.")
@click.option("--skip-empty", is_flag=True, help="An empty file is left out instead of being an error.")
@click.option("--dry-run", is_flag=True, help="Show what would be imported; needs no database.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Records per batch insert.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Files at a time. Default: what is fastest."
)
@json_option
@db_url_option
@click.pass_context
def import_csv(
    context: click.Context,
    paths: tuple[Path, ...],
    directory: Path | None,
    symbols: tuple[str, ...] | None,
    every_interval: bool,
    replace: bool,
    skip_empty: bool,
    dry_run: bool,
    batch_size: int,
    jobs: int | None,
    as_json: bool,
    db_url: str,
) -> None:
    """Import Kraken's archive: PATHS are files, folders and zips (read in place).

    OHLCVT files (XBTUSD_1.csv) become candles, Time & Sales files (XBTUSD.csv) become trades. Each file is
    stored whole or not at all, and may be imported again: what is stored already is not written twice. The
    exit code is 1 if a file failed; the others are imported all the same.
    """
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.cli.import_report import show_plan, show_report
    from kraken_db.cli.progress import show_progress

    with show_progress() as progress:
        importer = BulkCSVImporter(db_url, batch_size, workers=jobs, progress=progress)
        plan = importer.plan(
            _sources(paths, directory), only_1m=not every_interval, symbols=symbols, skip_empty=skip_empty
        )
        outcome: dict[str, int | KrakenDBError] | ImportReport
        if dry_run:
            outcome = asyncio.run(_count(importer, plan, progress))
        else:
            outcome = asyncio.run(_run(importer, plan, replace))
    # Only here, where the bars are gone: they share the screen.
    went_well = (
        show_plan(plan, outcome, as_json=as_json)
        if isinstance(outcome, dict)
        else show_report(outcome, as_json=as_json)
    )
    context.exit(0 if went_well else 1)


def _sources(paths: Sequence[Path], directory: Path | None) -> list[Path]:
    """What to import: everything that was named, else the default folder."""
    if paths or directory:
        return [*paths, *([directory] if directory else [])]
    if not DEFAULT_DIRECTORY.is_dir():
        raise ConfigurationError(
            f"no files were named, and there is no folder ./{DEFAULT_DIRECTORY}",
            hint="name files, folders or zips: kraken-db import-csv PATH...",
        )
    return [DEFAULT_DIRECTORY]


async def _run(importer: BulkCSVImporter, plan: ImportPlan, replace: bool) -> ImportReport:
    from kraken_db.bulk_csv_importer import ImportReport

    if not plan.files:
        return ImportReport(plan)  # nothing that a database would be needed for
    async with importer:
        return await importer.run(plan, replace=replace)


async def _count(
    importer: BulkCSVImporter, plan: ImportPlan, progress: Progress
) -> dict[str, int | KrakenDBError]:
    """The rows of each file of a plan, or why they cannot be read, by the file's name."""
    task = progress.task("counting rows", plan.size, unit="bytes")
    counts: dict[str, int | KrakenDBError] = {}
    for file in plan.files:
        try:
            counts[file.name] = await importer.count_rows(file)
        except KrakenDBError as error:
            counts[file.name] = error
        task.advance(file.size)
    task.done()
    return counts
