"""``kraken-db import-csv``: Kraken's files into the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from kraken_db.archives.parts import check_file
from kraken_db.bulk_csv_importer.report import (
    ArchiveFile,
    FileReport,
    ImportPlan,
    ImportReport,
    SkippedFile,
)
from kraken_db.cli.base import sentence
from kraken_db.cli.options import (
    IntervalType,
    MultiValueCommand,
    SourcePath,
    db_url_option,
    json_option,
    symbols_option,
)
from kraken_db.cli.output import (
    Column,
    count_text,
    moment_text,
    note,
    plural,
    print_json,
    print_table,
    size_text,
)
from kraken_db.errors import ConfigurationError, DatabaseUnavailableError, ImportFileError, KrakenDBError
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.pairs import parse_symbol

if TYPE_CHECKING:
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.progress import Progress

RowCounts = Mapping[str, int | KrakenDBError]
"""The rows of each file of a plan by its name, or why they cannot be counted."""

_EXAMPLES = 3
_COUNTERS = ("read", "new", "changed", "unchanged", "rejected")
_JSON_COUNTERS = (*_COUNTERS, "differing")
_KINDS = ["trades", *INTERVAL_NAMES.values()]

Failures = Sequence[tuple[str, KrakenDBError]]


@dataclass(slots=True)
class Group:
    """All files of one symbol and interval together; counters as in FileReport."""

    symbol: str
    kind: str
    files: int = 0
    failed: int = 0
    read: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    differing: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, done: FileReport) -> None:
        self.files += 1
        self.failed += done.error is not None
        for name in _JSON_COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(done, name))
        if done.error is None:  # of a failed file nothing is stored, so its range says nothing
            self.oldest = min((t for t in (self.oldest, done.oldest) if t), default=None)
            self.newest = max((t for t in (self.newest, done.newest) if t), default=None)


def group_files(files: Iterable[FileReport]) -> list[Group]:
    """By symbol and length of the interval, trades first."""
    groups: dict[tuple[str, str], Group] = {}
    for done in files:
        key = done.file.symbol, done.file.kind
        groups.setdefault(key, Group(*key)).add(done)
    return sorted(groups.values(), key=lambda group: (group.symbol, _KINDS.index(group.kind)))


def show_report(report: ImportReport, *, as_json: bool) -> bool:
    """Print what an import did; returns whether all of it went well."""
    groups = group_files(report.files)
    failures: Failures = report.failures
    if as_json:
        print_json(_report_document(report, groups))
    elif groups:
        columns = [
            Column("symbol"),
            Column("data"),
            *(Column(name, right=True) for name in ("files", *_COUNTERS)),
        ]
        print_table([*columns, Column("from (UTC)"), Column("to (UTC)")], map(_row, groups))
    _remarks(
        report.plan.skipped, [f"{done.file.name}: {text}" for done in report.files for text in done.notes]
    )
    if report.stopped is not None:  # that is said once, and not of each file that was on its way
        failures = [one for one in failures if not isinstance(one[1], DatabaseUnavailableError)]
    for _, error in failures:
        note(f"Failed: {sentence(error)}")
    missing = len(report.failures) + report.not_tried
    if missing:
        total = plural(len(report.plan.files) + len(report.plan.refused), "file")
        why = f"{sentence(report.stopped)}. " if report.stopped else ""
        begun = sum(done.error is not None and done.new + done.unchanged > 0 for done in report.files)
        rest = f"{begun} of them in part: import again to go on" if begun else "nothing of them is stored"
        note(f"Error: {why}{missing} of {total} not imported; {rest}.")
    if report.refresh_error is not None:
        note(f"Error: {sentence(report.refresh_error)}")
    return not report.errors


def show_plan(plan: ImportPlan, counts: RowCounts, *, as_json: bool) -> bool:
    """Print what an import would do; returns whether all of it can be read."""
    unreadable = [(name, count) for name, count in counts.items() if isinstance(count, KrakenDBError)]
    failures = [*((file.name, file.error) for file in plan.refused), *unreadable]
    if as_json:
        print_json(_plan_document(plan, counts, failures))
    elif plan.files:
        columns = [
            Column("symbol"),
            Column("data"),
            Column("rows", True),
            Column("size", True),
            Column("file"),
        ]
        rows = [
            (file.symbol, file.kind, _rows_text(counts[file.name]), size_text(file.size), file.name)
            for file in plan.files
        ]
        print_table(columns, rows)
    _remarks(plan.skipped, [])
    known = sum(count for count in counts.values() if isinstance(count, int))
    note(
        f"Would import {plural(len(plan.files), 'file')}, {plural(known, 'row')}, {size_text(plan.size)}."
        " Nothing was changed."
    )
    for _, error in failures:
        note(f"Failed: {sentence(error)}")
    if failures:
        note(f"Error: {plural(len(failures), 'file')} cannot be imported.")
    return not failures


def _row(group: Group) -> tuple[str, ...]:
    counters = (getattr(group, name) for name in ("files", *_COUNTERS))
    return (
        group.symbol,
        group.kind,
        *map(count_text, counters),
        moment_text(group.oldest),
        moment_text(group.newest),
    )


def _rows_text(count: int | KrakenDBError) -> str:
    return count_text(count) if isinstance(count, int) else "unreadable"


def _remarks(skipped: Sequence[SkippedFile], notes: Sequence[str]) -> None:
    """Skipped files by reason, an archive has thousands of them; then the notes."""
    by_reason: dict[str, list[str]] = {}
    for file in skipped:
        by_reason.setdefault(file.reason, []).append(PurePath(file.name).name)
    for reason, names in by_reason.items():
        more = f" and {count_text(len(names) - _EXAMPLES)} more" if len(names) > _EXAMPLES else ""
        note(f"Skipped {plural(len(names), 'file')}: {reason} [{', '.join(names[:_EXAMPLES])}{more}]")
    for text in notes:
        note(f"Note: {text}")


def _report_document(report: ImportReport, groups: Sequence[Group]) -> dict[str, Any]:
    return {
        "dry_run": False,
        "totals": {
            name: sum(getattr(group, name) for group in groups)
            for name in ("files", "failed", *_JSON_COUNTERS)
        },
        "groups": [
            {
                "symbol": group.symbol,
                "data": group.kind,
                **{name: getattr(group, name) for name in ("files", "failed", *_JSON_COUNTERS)},
                "oldest": group.oldest,
                "newest": group.newest,
            }
            for group in groups
        ],
        "files": [_file_document(done) for done in report.files],
        "not_tried": report.not_tried,
        "stopped": _error_document(report.stopped),
        "refresh_error": _error_document(report.refresh_error),
        **_leftovers(report.plan, report.failures),
    }


def _file_document(done: FileReport) -> dict[str, Any]:
    return {
        "file": done.file.name,
        "symbol": done.file.symbol,
        "data": done.file.kind,
        "stored": done.error is None,
        **{name: getattr(done, name) for name in _JSON_COUNTERS},
        "candles": done.candles,
        "oldest": done.oldest,
        "newest": done.newest,
        "notes": done.notes,
    }


def _plan_document(plan: ImportPlan, counts: RowCounts, failures: Failures) -> dict[str, Any]:
    files = []
    for file in plan.files:
        count = counts[file.name]
        rows = count if isinstance(count, int) else None
        files.append(
            {"file": file.name, "symbol": file.symbol, "data": file.kind, "bytes": file.size, "rows": rows}
        )
    return {"dry_run": True, "files": files, **_leftovers(plan, failures)}


def _leftovers(plan: ImportPlan, failures: Failures) -> dict[str, Any]:
    return {
        "skipped": [{"file": file.name, "reason": file.reason} for file in plan.skipped],
        "failures": [
            {
                "file": name,
                "line": error.line if isinstance(error, ImportFileError) else None,
                **(_error_document(error) or {}),
            }
            for name, error in failures
        ],
    }


def _error_document(error: KrakenDBError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    reason = error.reason if isinstance(error, ImportFileError) else error.message
    return {"reason": reason, "hint": error.hint}


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
@click.option("--replace", is_flag=True, help="Overwrite stored rows that differ, whichever is better.")
@click.option("--no-candles", is_flag=True, help="Store trades without building their candles.")
@click.option("--no-trades", is_flag=True, help="Store only the candles of the trades: a tenth of the space.")
@click.option(
    "--as",
    "symbol",
    metavar="PAIR",
    help="The one file named is of this pair, whatever its name; with --interval it has candles.",
)
@click.option("--interval", type=IntervalType(), help="Of the candles in the file named with --as.")
@click.option("--check-sums", is_flag=True, help="Compare the parts of an archive with the sums beside them.")
@click.option("--skip-empty", is_flag=True, help="An empty file is left out instead of being an error.")
@click.option("--dry-run", is_flag=True, help="Show what would be imported; needs no database.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Rows, about, that are read and handed on at a time.",
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
    no_candles: bool,
    no_trades: bool,
    symbol: str | None,
    interval: int | None,
    check_sums: bool,
    skip_empty: bool,
    dry_run: bool,
    batch_size: int,
    jobs: int | None,
    as_json: bool,
    db_url: str,
) -> None:
    """Import Kraken's archive: PATHS are files, folders and zips (read in place, also in parts).

    OHLCVT files (XBTUSD_1.csv) become candles, Time & Sales files (XBTUSD.csv) become trades, and candles of
    them. A file with trade ids is stored in steps, and goes on where it ended; any other is stored whole or
    not at all. Each may be imported again: what is stored already is not written twice. The exit code is 1
    if a file failed; the others are imported all the same.
    """
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.cli.progress import show_progress

    if interval is not None and symbol is None:
        raise click.UsageError("--interval goes with --as: it says what is in the one file named.")
    if no_candles and no_trades:
        raise click.UsageError("--no-candles and --no-trades leave nothing to store.")
    with show_progress() as progress:
        importer = BulkCSVImporter(db_url, batch_size, workers=jobs, progress=progress)
        if symbol is not None:
            plan = _named(paths, symbol, interval)
        else:
            discovering = importer.discover(
                _sources(paths, directory),
                only_1m=not every_interval,
                symbols=symbols,
                skip_empty=skip_empty,
                check_sums=check_sums,
            )
            plan = asyncio.run(discovering)
        outcome: dict[str, int | KrakenDBError] | ImportReport
        if dry_run:
            outcome = asyncio.run(_count(importer, plan, progress))
        else:
            running = _run(
                importer, plan, replace=replace, build_candles=not no_candles, keeps_trades=not no_trades
            )
            outcome = asyncio.run(running)
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


def _named(paths: Sequence[Path], symbol: str, interval: int | None) -> ImportPlan:
    if len(paths) != 1:
        raise click.UsageError("--as takes one file.")
    size = check_file(paths[0]).st_size
    return ImportPlan([ArchiveFile(paths[0], None, size, parse_symbol(symbol), interval)])


async def _run(importer: BulkCSVImporter, plan: ImportPlan, **options: bool) -> ImportReport:
    from kraken_db.bulk_csv_importer import ImportReport

    if not plan.files:
        return ImportReport(plan)  # nothing that a database would be needed for
    async with importer:
        return await importer.run(plan, **options)


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
