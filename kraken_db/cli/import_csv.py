"""``kraken-db import-csv``: Kraken's files into the store."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
    as_failure,
)
from kraken_db.cli.base import sentence
from kraken_db.cli.import_plan import RowCounts, print_planned_pairs
from kraken_db.cli.moments import IntervalType
from kraken_db.cli.options import (
    MultiValueCommand,
    SourcePath,
    db_url_option,
    exclude_option,
    is_symbol,
    json_option,
    symbols_option,
)
from kraken_db.cli.output import (
    Column,
    Row,
    count_text,
    day_column,
    duration,
    is_terminal,
    moment_text,
    note,
    plural,
    print_json,
    print_table,
    size_text,
)
from kraken_db.cli.summaries import details_option, print_totals
from kraken_db.errors import DatabaseUnavailableError, ImportFileError, KrakenDBError, WrongValueError
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.pairs import parse_symbol
from kraken_db.patterns import parse_pair

if TYPE_CHECKING:
    from kraken_db.archives.catalog import Product
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.cli.base import Signals
    from kraken_db.progress import Progress

_EXAMPLES = 3
_MANY = 20
"""Series from which on totals are shown instead of each, and notes from which on only their number is."""
_COUNTERS = ("read", "new", "changed", "unchanged", "rejected")
_JSON_COUNTERS = (*_COUNTERS, "differing", "candles")
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
    candles: int = 0
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


def show_report(report: ImportReport, *, as_json: bool, details: bool = False) -> bool:
    """Print what an import did; returns whether all of it went well. Of many series the totals and what
    failed; ``details``: a row for each all the same.
    """
    groups = group_files(report.files)
    failures: Failures = report.failures
    if as_json:
        print_json(_report_document(report, groups))
    elif len(groups) > _MANY and not details:
        _print_totals(report, groups)
        groups = [group for group in groups if group.failed]
        if groups:
            click.echo()
    if groups and not as_json:
        _print_groups(groups)
    _remarks(report.plan.skipped, [(done.file.name, text) for done in report.files for text in done.notes])
    if report.stopped is not None:  # that is said once, and not of each file that was on its way
        failures = [one for one in failures if not isinstance(one[1], DatabaseUnavailableError)]
    _show_failures(failures)
    missing = len(report.failures) + report.not_tried
    if report.interrupted:
        done = plural(len(report.files), "file")
        note(f"{done} imported, {count_text(report.not_tried)} not; the same command goes on from there")
    elif missing:
        total = plural(len(report.plan.files) + len(report.plan.refused), "file")
        why = f"{sentence(report.stopped)}. " if report.stopped else ""
        what = "it" if missing == 1 else "them"
        begun = sum(done.error is not None and done.new + done.unchanged > 0 for done in report.files)
        rest = f"{begun} of them in part: import again to go on" if begun else f"nothing of {what} is stored"
        note(f"Error: {why}{missing} of {total} not imported; {rest}.")
    for contradiction in report.contradictions:
        note(f"Error: {sentence(contradiction)}")
    if report.refresh_error is not None:
        note(f"Error: {sentence(report.refresh_error)}")
    return not report.errors


def show_plan(plan: ImportPlan, counts: RowCounts, *, as_json: bool, details: bool = False) -> bool:
    """Print what an import would do; returns whether all of it can be read, and is what it says it is.

    Of many files a terminal gets a row a pair; ``details``: a row for each file all the same.
    """
    unreadable = [(name, count) for name, count in counts.items() if isinstance(count, KrakenDBError)]
    failures = [*((file.name, file.error) for file in plan.refused), *unreadable]
    contradictions = plan.contradictions(
        (file, count) for file in plan.files if isinstance(count := counts[file.name], int)
    )
    if as_json:
        print_json(_plan_document(plan, counts, failures, contradictions))
    elif len(plan.files) > _MANY and is_terminal() and not details:
        print_planned_pairs(plan, counts)
    elif plan.files:
        columns = [
            Column("symbol"),
            Column("data", rank=1),
            Column("rows", True),
            Column("size", True),
            Column("file", may_hang=True),
        ]
        print_table(columns, [_plan_row(file, counts[file.name]) for file in plan.files])
    _remarks(plan.skipped, [])
    note(f"Would import {_extent(plan, counts)}. Nothing was changed.")
    _show_failures(failures)
    if failures:
        note(f"Error: {plural(len(failures), 'file')} cannot be imported.")
    for contradiction in contradictions:
        note(f"Error: {sentence(contradiction)}")
    return not (failures or contradictions)


def _plan_row(file: ArchiveFile, count: int | KrakenDBError | None) -> Row:
    cells = (file.symbol, file.kind, _rows_text(count), size_text(file.size), file.name)
    return Row(cells, "red" if isinstance(count, KrakenDBError) else "")


def _extent(plan: ImportPlan, counts: RowCounts) -> str:
    parts = [plural(len(plan.files), "file")]
    if not plan.files or any(count is not None for count in counts.values()):
        parts.append(plural(sum(count for count in counts.values() if isinstance(count, int)), "row"))
    parts.append(size_text(plan.size))
    download = sum(file.entry.packed_size for file in plan.files if file.is_remote and file.entry)
    if download:
        parts.append(f"{size_text(download)} to download (rows on a server are not counted)")
    return ", ".join(parts)


def _print_totals(report: ImportReport, groups: Sequence[Group]) -> None:
    """Pairs, files, rows and time in one row."""
    totals: list[tuple[str, str]] = [
        ("pairs", count_text(len({group.symbol for group in groups}))),
        ("files", count_text(len(report.plan.files) + len(report.plan.refused))),
        *(
            (name, count_text(sum(getattr(group, name) for group in groups)))
            for name in _columns(groups)
            if name not in ("unchanged", "rejected")
        ),
        ("failed", count_text(len(report.failures))),
        ("time", duration(report.seconds)),
    ]
    print_totals(totals)


def _print_groups(groups: Sequence[Group]) -> None:
    counters = _columns(groups)
    columns = [
        Column("symbol"),
        Column("data"),
        *(Column(name, right=True, rank=_rank(name, groups)) for name in ("files", *counters)),
        day_column("from (UTC)", rank=2),
        day_column("to (UTC)", rank=1),
    ]
    ordered = sorted(groups, key=lambda group: group.failed == 0)
    print_table(columns, [Row(_row(group, counters), "red" if group.failed else "") for group in ordered])


_RANKS = {"files": 3, "candles": 4, "unchanged": 5, "changed": 6}


def _rank(name: str, groups: Sequence[Group]) -> int:
    """What is zero everywhere is left out first."""
    always = name in ("read", "new")
    return 0 if always else _RANKS.get(name, 0) if any(getattr(group, name) for group in groups) else 7


def _columns(groups: Sequence[Group]) -> Sequence[str]:
    """The counters to show: candles only where some were built of trades."""
    return (*_COUNTERS, "candles") if any(group.candles for group in groups) else _COUNTERS


def _row(group: Group, counters: Sequence[str]) -> tuple[str, ...]:
    return (
        group.symbol,
        group.kind,
        *(count_text(getattr(group, name)) for name in ("files", *counters)),
        moment_text(group.oldest),
        moment_text(group.newest),
    )


def _rows_text(count: int | KrakenDBError | None) -> str:
    if count is None:
        return "-"
    return count_text(count) if isinstance(count, int) else "unreadable"


def _remarks(skipped: Sequence[SkippedFile], notes: Sequence[tuple[str, str]]) -> None:
    """Skipped files by reason, an archive has thousands of them; then the notes on files, in the same way."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for file in skipped:
        by_reason[file.reason].append(file.name)
    for reason, names in by_reason.items():
        note(f"Skipped {plural(len(names), 'file')}: {reason} {_examples(names)}")
    by_text: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in notes:
        by_text[text].append(name)
    lines = [
        line
        for text, names in by_text.items()
        for line in (
            [f"{plural(len(names), 'file')}: {text} {_examples(names)}"]
            if len(names) > _EXAMPLES
            else [f"{name}: {text}" for name in names]
        )
    ]
    for line in lines[:_MANY]:
        note(f"Note: {line}")
    if len(lines) > _MANY:
        note(f"Note: and {count_text(len(lines) - _MANY)} more; --json has them all")


def _show_failures(failures: Failures) -> None:
    """Each in a line; those with one reason together, an archive may have a thousand empty files."""
    alike: defaultdict[tuple[str, str | None], list[tuple[str, KrakenDBError]]] = defaultdict(list)
    for name, error in failures:
        alike[_reason(error), error.hint].append((name, error))
    for (reason, hint), group in alike.items():
        if len(group) > _EXAMPLES:
            names = _examples([name for name, _ in group])
            what = f"{plural(len(group), 'file')}: {reason} {names}"
            note(f"Failed: {sentence(KrakenDBError(what, hint=hint))}")
            continue
        for _, error in group:
            note(f"Failed: {sentence(error)}")


def _reason(error: KrakenDBError) -> str:
    """What is wrong, without the file's name where it is wrong with the file as a whole."""
    return error.reason if isinstance(error, ImportFileError) and error.line is None else error.message


def _examples(names: Sequence[str]) -> str:
    shown = [PurePath(name).name.rpartition(":")[2] for name in names[:_EXAMPLES]]
    more = f" and {count_text(len(names) - _EXAMPLES)} more" if len(names) > _EXAMPLES else ""
    return f"[{', '.join(shown)}{more}]"


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
        "contradictions": [_error_document(error) for error in report.contradictions],
        "seconds": round(report.seconds, 3),
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
        "oldest": done.oldest,
        "newest": done.newest,
        "notes": done.notes,
    }


def _plan_document(
    plan: ImportPlan, counts: RowCounts, failures: Failures, contradictions: Sequence[KrakenDBError]
) -> dict[str, Any]:
    files = []
    for file in plan.files:
        count = counts[file.name]
        rows = count if isinstance(count, int) else None
        files.append(
            {"file": file.name, "symbol": file.symbol, "data": file.kind, "bytes": file.size, "rows": rows}
        )
    return {
        "dry_run": True,
        "files": files,
        "contradictions": [_error_document(error) for error in contradictions],
        **_leftovers(plan, failures),
    }


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


class SourcePlace(SourcePath):
    """A path, or an http(s) address, which stays a text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from kraken_db.bulk_csv_importer.addresses import is_address

        return value if is_address(value) else super().convert(value, param, ctx)


@click.command(
    cls=MultiValueCommand,
    short_help="Import Kraken's CSV files and zips.",
    epilog="Example: kraken-db import-csv Kraken_OHLCVT.zip --symbols BTC/USD ETH/USD --dry-run",
)
@click.argument("places", metavar="[PATHS]...", nargs=-1, type=SourcePlace())
@click.option(
    "--dir",
    "directory",
    type=SourcePath(),
    help=f"A folder to import, with all its subfolders. Default, without PATHS: ./{DEFAULT_DIRECTORY}",
)
@symbols_option("Default: all that there are files of.")
@exclude_option
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
@click.option(
    "--product",
    type=click.Choice(["trades", "ohlcvt"]),
    help="Which archives of an address that has both: trades bring their candles.",
)
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
@details_option("a row for each pair and interval at the end, with --dry-run one for each file")
@json_option
@db_url_option
@click.pass_context
def import_csv(
    context: click.Context,
    places: tuple[Path | str, ...],
    directory: Path | None,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    every_interval: bool,
    replace: bool,
    no_candles: bool,
    no_trades: bool,
    symbol: str | None,
    interval: int | None,
    product: Product | None,
    check_sums: bool,
    skip_empty: bool,
    dry_run: bool,
    batch_size: int,
    jobs: int | None,
    details: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Import Kraken's archive: PATHS are files, folders and zips (read in place, also in parts).

    A PATH that does not exist and reads as a pair counts as --symbols.

    An http(s) address of a zip, of one of its parts, or of a folder with Kraken's archives is a path too:
    only the wanted files are downloaded.

    OHLCVT files (XBTUSD_1.csv) become candles, Time & Sales files (XBTUSD.csv) become trades, and candles of
    them. A file with trade ids is stored in steps, and goes on where it ended; any other is stored whole or
    not at all. Each may be imported again: what is stored already is not written twice. The exit code is 1
    if a file failed; the others are imported all the same.
    """
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.cli.base import Signals
    from kraken_db.cli.progress import show_progress

    signals = Signals()
    places, symbols = _without_pairs(places, symbols)
    addresses = [place for place in places if isinstance(place, str)]
    if interval is not None and symbol is None:
        raise click.UsageError("--interval goes with --as: it says what is in the one file named.")
    if no_candles and no_trades:
        raise click.UsageError("--no-candles and --no-trades leave nothing to store.")
    if check_sums and addresses:
        raise click.UsageError(
            "--check-sums works on files only. What comes from a server is checked by the CRC of each member."
        )
    if product and not addresses:
        raise click.UsageError("--product goes with an address: of paths, name the archives that you want.")
    with show_progress() as progress:
        importer = BulkCSVImporter(db_url, batch_size, workers=jobs, progress=progress)

        async def work() -> tuple[ImportPlan, RowCounts | ImportReport]:
            if symbol is not None:
                plan = _named(places, symbol, interval)
            else:
                plan = await importer.discover(
                    _sources(places, directory),
                    only_1m=not every_interval,
                    symbols=symbols,
                    exclude=exclude,
                    skip_empty=skip_empty,
                    check_sums=check_sums,
                    product=product,
                )
            try:
                if dry_run:
                    return plan, await _count(importer, plan, progress)
                options = {"replace": replace, "build_candles": not no_candles, "keeps_trades": not no_trades}
                return plan, await _run(importer, plan, signals, **options)
            finally:
                await plan.close()

        plan, outcome = asyncio.run(work())
    # Only here, where the bars are gone: they share the screen.
    went_well = (
        show_report(outcome, as_json=as_json, details=details)
        if isinstance(outcome, ImportReport)
        else show_plan(plan, outcome, as_json=as_json, details=details)
    )
    if signals.came:
        note("interrupted")
    context.exit(signals.exit_code(is_flawed=not went_well))


def _without_pairs(
    places: Sequence[Path | str], symbols: tuple[str, ...] | None
) -> tuple[tuple[Path | str, ...], tuple[str, ...] | None]:
    """What was named, without the pairs in it; and these, with those of ``--symbols``.

    A word is a pair where it reads as one, and nothing of this name is there.
    """
    named = [place for place in places if isinstance(place, Path) and is_symbol(place.as_posix())]
    pairs = [parse_pair(item) for place in named for item in place.as_posix().split(",") if item.strip()]
    left = tuple(place for place in places if place not in named)
    return left, tuple(dict.fromkeys([*pairs, *(symbols or ())])) or None


def _sources(places: Sequence[Path | str], directory: Path | None) -> list[Path | str]:
    """What to import: everything that was named, else the default folder."""
    if places or directory:
        return [*places, *([directory] if directory else [])]
    if not DEFAULT_DIRECTORY.is_dir():
        raise WrongValueError(
            f"no files were named, and there is no folder ./{DEFAULT_DIRECTORY}",
            hint="name files, folders or zips: kraken-db import-csv PATH...",
        )
    return [DEFAULT_DIRECTORY]


def _named(places: Sequence[Path | str], symbol: str, interval: int | None) -> ImportPlan:
    if len(places) != 1 or isinstance(places[0], str):
        raise click.UsageError("--as takes one file.")
    size = check_file(places[0]).st_size
    return ImportPlan([ArchiveFile(places[0], None, size, parse_symbol(symbol), interval)])


async def _run(
    importer: BulkCSVImporter, plan: ImportPlan, signals: Signals, **options: bool
) -> ImportReport:
    if not plan.files:
        return ImportReport(plan)  # nothing that a database would be needed for
    async with importer:
        with signals.stopping(importer):
            return await importer.run(plan, **options)


async def _count(importer: BulkCSVImporter, plan: ImportPlan, progress: Progress) -> RowCounts:
    """The rows of each file of a plan by its name, or why they cannot be read; nothing is downloaded."""
    task = progress.task("counting rows", plan.size, unit="bytes")
    counts: dict[str, int | KrakenDBError | None] = {}
    for file in plan.files:
        try:
            counts[file.name] = None if file.is_remote else await importer.count_rows(file)
        except Exception as error:
            counts[file.name] = as_failure(file.name, error)
        task.advance(file.size)
    task.done()
    return counts
