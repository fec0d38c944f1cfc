"""What an import is going to do, and what it did: as a table with remarks, or as one JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from kraken_db.bulk_csv_importer.report import FileReport, ImportPlan, ImportReport, SkippedFile
from kraken_db.cli.diagnostics import sentence
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
from kraken_db.errors import DatabaseUnavailableError, ImportFileError, KrakenDBError
from kraken_db.intervals import INTERVAL_NAMES

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
        note(f"Error: {why}{missing} of {total} not imported; nothing of them is stored.")
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
