"""What an import would do, on one screen: a row a pair."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from shutil import get_terminal_size

from kraken_db.bulk_csv_importer.report import ArchiveFile, ImportPlan
from kraken_db.cli.output import Column, Row, count_text, plural, print_folded, print_table, size_text
from kraken_db.errors import KrakenDBError

RowCounts = Mapping[str, int | KrakenDBError | None]
"""The rows of each file of a plan by its name, or why they cannot be counted; None of one on a server."""

_LEAST_ROWS = 5
_OTHER_LINES = 10  # heading, rule, what is hidden, and what is said of skipped files below


def print_planned_pairs(plan: ImportPlan, counts: RowCounts) -> None:
    """What cannot be read comes first, then what is largest; as many pairs as the screen has room for."""
    pairs: defaultdict[str, list[ArchiveFile]] = defaultdict(list)
    for file in plan.files:
        pairs[file.symbol].append(file)
    known = {name: count if isinstance(count, int) else 0 for name, count in counts.items()}
    wrong = {
        symbol: sum(isinstance(counts[file.name], KrakenDBError) for file in files)
        for symbol, files in pairs.items()
    }
    size = {symbol: sum(file.size for file in files) for symbol, files in pairs.items()}
    ordered = sorted(pairs, key=lambda symbol: (-wrong[symbol], -size[symbol], symbol))
    shown = ordered[: max(_LEAST_ROWS, get_terminal_size().lines - _OTHER_LINES)]
    columns = [
        Column("symbol"),
        *(Column(title, right=True) for title in ("files", "rows", "size", "unreadable")),
    ]
    rows = [
        Row(
            (
                symbol,
                count_text(len(pairs[symbol])),
                count_text(sum(known[file.name] for file in pairs[symbol])),
                size_text(size[symbol]),
                count_text(wrong[symbol]) if wrong[symbol] else "-",
            ),
            "red" if wrong[symbol] else "",
        )
        for symbol in shown
    ]
    print_table(columns, rows)
    if len(ordered) > len(shown):
        print_folded(f"... and {plural(len(ordered) - len(shown), 'other pair')}; --details shows each file")
