"""What a download did, as people and as programs want to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any

from kraken_db.cli.diagnostics import sentence
from kraken_db.cli.output import Column, count_text, moment_text, note, plural, print_json, print_table

if TYPE_CHECKING:
    from kraken_db.historical_backfill import BackfillReport

_COUNTERS = ("received", "new", "changed", "candles_new", "candles_changed", "removed")


def show_reports(reports: Sequence[BackfillReport], *, as_json: bool) -> None:
    """Results on stdout; what a person has to know or do on stderr."""
    if as_json:
        print_json({"pairs": [_document(report) for report in reports]})
    else:
        _print(reports)
    for report in reports:
        _tell(report)


def _print(reports: Sequence[BackfillReport]) -> None:
    """What is zero nearly always has a column only where it is not: the table fits 80 characters."""
    counters = {"received": "received", "new": "new"}
    if any(report.changed for report in reports):
        counters["changed"] = "changed"
    counters["candles_new"] = "new candles"
    columns = [
        Column("symbol"),
        Column("outcome"),
        *(Column(title, right=True) for title in counters.values()),
        Column("from (UTC)"),
        Column("to (UTC)"),
    ]
    print_table(columns, [_row(report, counters) for report in reports])


def _row(report: BackfillReport, counters: Iterable[str]) -> tuple[str, ...]:
    return (
        report.symbol,
        report.outcome,
        *(count_text(getattr(report, name)) for name in counters),
        moment_text(report.oldest),
        moment_text(report.newest),
    )


def _tell(report: BackfillReport) -> None:
    if report.removed:
        count = plural(report.removed, "trade")
        note(f"Note: {report.symbol}: {count} without an id gave way to those with one")
    if report.outcome == "stopped":
        where = f" at {report.newest.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if report.newest else ""
        note(f"{report.symbol}: stopped{where}; --resume goes on from there")
    for hole in report.holes:
        note(f"Warning: {report.symbol}: Kraken has no trade for {hole}; it counts as a gap")
    for conflict in report.conflict_examples:
        note(f"Error: {report.symbol}: {conflict}; the stored one was left as it is")
    if more := report.conflicts - len(report.conflict_examples):
        note(f"Error: {report.symbol}: and {count_text(more)} more such trades")
    if report.error is not None:
        reason = sentence(report.error).removeprefix(f"{report.symbol}: ")
        note(f"Failed: {report.symbol}: {reason}")


def _document(report: BackfillReport) -> dict[str, Any]:
    return {
        "symbol": report.symbol,
        "outcome": report.outcome,
        "requests": report.pages,
        **{name: getattr(report, name) for name in _COUNTERS},
        "oldest": report.oldest,
        "newest": report.newest,
        "cursor": None if report.cursor is None else str(report.cursor),
        "missing_ids": [asdict(hole) for hole in report.holes],
        "conflicts": report.conflicts,
        "conflict_examples": report.conflict_examples,
        "error": report.error and {"reason": report.error.message, "hint": report.error.hint},
    }
