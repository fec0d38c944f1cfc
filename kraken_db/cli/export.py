"""``kraken-db export SYMBOL...``: what is stored as files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kraken_db.cli.base import sentence
from kraken_db.cli.moments import INTERVALS_HELP, interval_options, range_options
from kraken_db.cli.options import (
    MultiValueCommand,
    db_url_option,
    exclude_option,
    json_option,
    pair_options,
    stored_option,
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
from kraken_db.cli.summaries import details_option, note_some, print_totals
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import INTERVAL_NAMES, Interval, as_interval
from kraken_db.progress import MANY

if TYPE_CHECKING:
    from kraken_db.cli.base import Signals
    from kraken_db.exporting import ExportReport, FileReport
    from kraken_db.progress import Progress


class _Out(click.Path):
    """A folder, or the URL of a place in an object store."""

    name = "folder or URL"

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            return value
        folder = Path(os.fsdecode(super().convert(value, param, context)))
        if folder.suffix.lower() in (".parquet", ".csv", ".feather") and not folder.is_dir():
            raise click.UsageError(
                f"--out is a folder for many files, and {folder} reads as one file", context
            )
        return folder


@click.command(
    cls=MultiValueCommand,
    short_help="Write candles or trades into Parquet, CSV or feather: a folder, or S3.",
    epilog="Example: kraken-db export BTC/USD ETH/USD -i 1h,1d --out data",
)
@pair_options("Or --stored.", required=True)
@exclude_option
@stored_option
@click.option("--what", type=click.Choice(["candles", "trades"]), default="candles", show_default=True)
@interval_options(
    f"Of candles: {INTERVALS_HELP}; several as 1h,1d or by repeating it. Default: 1m.",
    name="intervals",
    multiple=True,
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["parquet", "delta", "csv", "feather"]),
    default="parquet",
    show_default=True,
    help="A Parquet data set; a Delta table; CSV as Kraken's archives; feather as freqtrade has it.",
)
@click.option(
    "--out",
    "folder",
    type=_Out(),
    required=True,
    help="A folder for the files, made if it is not there; or s3://bucket/path, gs://..., az://...",
)
@range_options(
    "Only what is at or after this time. Default: everything.",
    "Only what is before this time. Default: everything.",
)
@click.option(
    "--recheck",
    is_flag=True,
    help="Compare the rows even of pairs that were not written since the last export.",
)
@details_option("a row for each pair and interval at the end")
@json_option
@db_url_option
@click.pass_context
def export(
    context: click.Context,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    stored: bool,
    what: Literal["candles", "trades"],
    intervals: tuple[Interval, ...],
    style: Literal["parquet", "delta", "csv", "feather"],
    folder: Path,
    since: datetime | None,
    until: datetime | None,
    recheck: bool,
    details: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Write the stored history of each SYMBOL into files below --out.

    SYMBOL is a pair, or a pattern in quotes: 'XRP/*', '*/USD', '*x/USD' (tokenized).

    Run it again to bring them up to date: a file is written again only if its rows have changed. Only closed
    candles are exported. Times in the files are UTC; those after --since and --until are, too, or of --tz.

    For s3://, gs:// and az:// the credentials come from the environment: AWS_ACCESS_KEY_ID and so on,
    AWS_ENDPOINT_URL for any other store that speaks S3.
    """
    if what == "trades" and intervals:
        raise click.UsageError("--interval belongs to candles; trades have none")
    from kraken_db.cli.base import Signals
    from kraken_db.cli.progress import show_progress

    options = {"what": what, "intervals": intervals or (1,), "style": style, "recheck": recheck}
    signals = Signals()
    with show_progress() as progress:
        running = _run(
            db_url, progress, signals, symbols, exclude, folder, since=since, until=until, **options
        )
        report = asyncio.run(running)
    if report.files or not report.was_stopped:
        _show(report, as_json=as_json, details=details)
    if report.was_stopped:
        note("interrupted; the same command goes on from there")
    context.exit(signals.exit_code(is_flawed=bool(report.failed)))


async def _run(
    db_url: str,
    progress: Progress,
    signals: Signals,
    symbols: Sequence[str] | None,
    exclude: Sequence[str],
    folder: Path | str,
    **options: Any,
) -> ExportReport:
    from kraken_db.exporting import Exporter

    async with Exporter(db_url, progress=progress) as exporter:
        names = await exporter.select_stored(symbols, exclude)
        if not names:
            raise ConfigurationError("nothing is stored yet", hint="see: kraken-db status")
        with signals.stopping(exporter):
            return await exporter.export(names, folder, **options)


def _show(report: ExportReport, *, as_json: bool, details: bool) -> None:
    """Results on stdout; what a person has to know on stderr."""
    if not report.files and not report.failed:
        raise ConfigurationError(
            f"nothing is stored of {', '.join(report.empty)} in this range", hint="see: kraken-db status"
        )
    if as_json:
        files = [asdict(file) for file in report.files]
        failed = {label: sentence(error) for label, error in report.failed.items()}
        print_json({"files": files, "empty": report.empty, "failed": failed})
    elif len(_by_series(report)) > MANY and not details:
        _print_totals(report)
    elif report.files:
        _print(report)
    lines = [f"Error: {label}: {sentence(error)}" for label, error in report.failed.items()]
    lines += [f"Note: nothing is stored of {label} in this range" for label in report.empty]
    lines += _notes_of_files(report)
    if details:
        for line in lines:
            note(line)
    else:
        note_some(lines)
    kept = sum(file.kept_rows if file.outcome != "kept" else file.rows for file in report.files)
    if kept:
        note(f"Note: {plural(kept, 'row')} in the files are no longer in the store, and were kept")


def _notes_of_files(report: ExportReport) -> Iterator[str]:
    for files in _by_series(report):
        taken = max((file.taken_until for file in files if file.taken_until is not None), default=None)
        if taken is not None and files[0].interval is not None:
            interval = files[0].interval
            name, is_stored = _name(interval), interval in INTERVAL_NAMES
            source = f"taken from an imported file of {name}" if is_stored else "made of an imported file"
            yield (
                f"Note: {files[0].symbol} {name} from before {moment_text(taken)} UTC is {source}, not"
                " computed from minutes"
            )


def _print_totals(report: ExportReport) -> None:
    written = sum(file.outcome == "written" for file in report.files)
    print_totals(
        [
            ("pairs", count_text(len({file.symbol for file in report.files}))),
            ("files written", count_text(written)),
            ("unchanged", count_text(len(report.files) - written)),
            ("rows", count_text(sum(file.rows for file in report.files))),
            ("size", size_text(sum(file.size for file in report.files))),
        ]
    )


def _print(report: ExportReport) -> None:
    columns = [
        Column("symbol"),
        Column("what"),
        Column("written", right=True, rank=1),
        Column("unchanged", right=True, rank=3),
        Column("rows", right=True),
        Column("size", right=True, rank=2),
        Column("where", may_hang=True),
    ]
    print_table(columns, [_row(files) for files in _by_series(report)])


def _by_series(report: ExportReport) -> list[list[FileReport]]:
    series: dict[tuple[str, int | str | None], list[FileReport]] = {}
    for file in report.files:
        series.setdefault((file.symbol, file.interval), []).append(file)
    return list(series.values())


def _name(interval: int | str) -> str:
    return interval if isinstance(interval, str) else as_interval(interval).name


def _row(files: Sequence[FileReport]) -> tuple[str, ...]:
    first = files[0]
    written = sum(file.outcome == "written" for file in files)
    # A data set is named by the folder of its years.
    where = str(first.path).partition("/year=")[0]
    return (
        first.symbol,
        "trades" if first.interval is None else _name(first.interval),
        plural(written, "file") if written else "-",
        plural(len(files) - written, "file") if written < len(files) else "-",
        count_text(sum(file.rows for file in files)),
        size_text(sum(file.size for file in files)),
        where,
    )
