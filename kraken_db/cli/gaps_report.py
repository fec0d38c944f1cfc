"""Gaps, found and filled, as people and as programs want to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kraken_db.cli.output import Column, count_text, moment_text, note, plural, print_json, print_table
from kraken_db.policies import period_text

if TYPE_CHECKING:
    from kraken_db.gap_filler import FillReport, FoundGap, SymbolGaps

_WHY = {
    "no data": "nothing stored",
    "end": "up to now",
    "inside": "within",
    "ids": "missing ids",
    "not built": "candles not built",
}


def show_gaps(symbols: Sequence[SymbolGaps], *, as_json: bool) -> None:
    """The gaps on stdout; what a person has to know beside them on stderr."""
    if as_json:
        print_json({"symbols": [_gaps_document(symbol) for symbol in symbols]})
    elif any(symbol.found for symbol in symbols):
        columns = [
            Column("symbol"),
            Column("data"),
            Column("from (UTC)"),
            Column("to (UTC)"),
            Column("length", right=True),
            Column("why"),
        ]
        print_table(columns, [_gap_row(found) for symbol in symbols for found in symbol.found])
    _tell_of_symbols(symbols)
    if not any(symbol.found for symbol in symbols):
        note(f"No gaps in {plural(len(symbols), 'pair')}.")


def show_filled(reports: Sequence[FillReport], *, as_json: bool) -> None:
    """What was filled on stdout, and what stays on stderr."""
    if as_json:
        from kraken_db.gap_filler.filler import summary

        print_json(summary(reports) | {"symbols": [_fill_document(report) for report in reports]})
    else:
        columns = [
            Column("symbol"),
            Column("gaps", right=True),
            Column("filled", right=True),
            Column("candles", right=True),
            Column("trades", right=True),
            Column("known to (UTC)"),
        ]
        print_table(columns, [_fill_row(report) for report in reports])
    _tell_of_symbols([report.gaps for report in reports])
    for report in reports:
        for error in report.errors:
            note(f"Failed: {error}")
        if report.was_stopped:
            note(f"{report.symbol}: stopped; the same command goes on from there")


def _tell_of_symbols(symbols: Sequence[SymbolGaps]) -> None:
    for message in dict.fromkeys(_messages(symbols)):
        note(f"Note: {message}")


def _messages(symbols: Sequence[SymbolGaps]) -> Iterator[str]:
    for symbol in symbols:
        for found in symbol.found:
            if found.kind == "no data":
                window = period_text(found.gap.duration)
                yield f"{symbol.symbol}: nothing is stored; wanted: {window} up to now (--window)"
    for symbol in symbols:
        for table, kept_from in symbol.kept_from.items():
            if kept_from is not None:
                yield f"{table} from before {moment_text(kept_from)} UTC are dropped by the retention policy"


def _gap_row(found: FoundGap) -> tuple[str, ...]:
    gap = found.gap
    data = "candles" if gap.data_type.startswith("candles") else gap.data_type
    return (
        gap.symbol,
        data,
        moment_text(gap.start_time),
        moment_text(gap.end_time),
        _length(gap.duration),
        _WHY[found.kind],
    )


def _length(duration: timedelta) -> str:
    """``45 s``, ``12 min``, ``5.3 h``, ``31.0 days``."""
    if duration < timedelta(minutes=1):
        return f"{duration.total_seconds():.0f} s"
    if duration < timedelta(hours=2):
        return f"{duration / timedelta(minutes=1):.0f} min"
    if duration < timedelta(days=2):
        return f"{duration / timedelta(hours=1):.1f} h"
    return f"{duration / timedelta(days=1):,.1f} days"


def _fill_row(report: FillReport) -> tuple[str, ...]:
    return (
        report.symbol,
        count_text(len(report.gaps.found)),
        count_text(report.filled),
        count_text(report.written.candles),
        count_text(report.written.trades),
        moment_text(report.known_to),
    )


def _gaps_document(symbol: SymbolGaps) -> dict[str, Any]:
    return {
        "symbol": symbol.symbol,
        "has_data": symbol.has_data,
        "known_from": symbol.known[0] if symbol.known else None,
        "known_to": symbol.known[1] if symbol.known else None,
        "kept_from": dict(symbol.kept_from),
        "gaps": [
            {
                "data_type": found.gap.data_type,
                "start": found.gap.start_time,
                "end": found.gap.end_time,
                "seconds": found.gap.duration,
                "kind": found.kind,
            }
            for found in symbol.found
        ],
    }


def _fill_document(report: FillReport) -> dict[str, Any]:
    return _gaps_document(report.gaps) | {
        "gaps_filled": report.filled,
        "candles_new": report.written.candles_new,
        "candles_changed": report.written.candles_changed,
        "trades_new": report.written.trades_new,
        "trades_changed": report.written.trades_changed,
        "known_to": report.known_to,
        "stopped": report.was_stopped,
        "errors": report.errors,
    }
