"""The tables of few pairs at 50 columns, as text: one line a row, and no word in two."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kraken_db.bulk_csv_importer.report import ArchiveFile, FileReport, ImportPlan, ImportReport
from kraken_db.cli.backfill import show_estimate, show_reports
from kraken_db.cli.bars import Row, Rows
from kraken_db.cli.gaps import show_filled
from kraken_db.cli.import_csv import show_plan, show_report
from kraken_db.cli.output import Column, cell_width, console, folded, print_table
from kraken_db.errors import ImportFileError, UnknownPairError
from kraken_db.gap_filler import FillReport, FoundGap, SymbolGaps
from kraken_db.gap_filler.gaps import Filled
from kraken_db.historical_backfill import BackfillReport
from kraken_db.historical_backfill.estimate import BackfillEstimate, PairEstimate
from kraken_db.progress import Failures
from kraken_db.types import DataGap
from tests.support.screens import Screen

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
LATER = datetime(2024, 1, 18, 7, 31, tzinfo=UTC)
UNKNOWN = UnknownPairError("Kraken does not list NOPE/USD", hint="near it: DOGE/USD, XRP/USD")
NAMES = ("XRP/USDT", "BTC/USD", "NOPE/USD")


def backfilled() -> Sequence[BackfillReport]:
    done = [
        BackfillReport(name, "reached the end", received=40_314, new=40_314, oldest=JANUARY, newest=LATER)
        for name in NAMES[:2]
    ]
    return [*done, BackfillReport(NAMES[2], "failed", error=UNKNOWN)]


def test_a_backfill(screen: Screen) -> None:
    screen.resize(50, 24)
    show_reports(backfilled(), as_json=False)
    out, err = screen.read()
    assert out == [
        "symbol    outcome          received     new",
        "─" * 43,
        "XRP/USDT  reached the end    40,314  40,314",
        "BTC/USD   reached the end    40,314  40,314",
        "NOPE/USD  failed                  0       0",
        "(no room for: new candles, from (UTC), to (UTC))",
    ]
    assert err == ["Failed: NOPE/USD: Kraken does not list NOPE/USD.", "Near it: DOGE/USD, XRP/USD"]


def test_an_estimate(screen: Screen) -> None:
    screen.resize(50, 24)
    fine = PairEstimate("BTC/USD", 103_000_000, 1_938_204, 2_100_000_000, 19_900_000_000, 3_725)
    estimate = BackfillEstimate([fine, PairEstimate("NOPE/USD", error=UNKNOWN)], 10)
    assert not show_estimate(estimate, as_json=False)
    out, _ = screen.read()
    assert out == [
        "symbol       archives  download  database    about",
        "─" * 50,
        "BTC/USD   103,000,000    2.1 GB   19.9 GB  1:02:05",
        "NOPE/USD            -         -         -        -",
        "(no room for: by REST)",
    ]


def filled() -> Sequence[FillReport]:
    found = FoundGap(DataGap("BTC/USD", "trades", JANUARY, LATER, LATER - JANUARY), "inside")
    gaps = [SymbolGaps(name, (found,), None, {}) for name in NAMES]
    wrote = Filled(candles_new=1_411, trades_new=1_023_351)
    failed = FillReport(gaps[2], errors=[f"NOPE/USD: {found} stays a gap: HTTP 503"])
    return [*(FillReport(one, 1, wrote, known_to=LATER) for one in gaps[:2]), failed]


def test_filled_gaps(screen: Screen) -> None:
    screen.resize(50, 24)
    show_filled(filled(), as_json=False)
    out, err = screen.read()
    assert out == [
        "symbol    gaps  filled  candles     trades",
        "─" * 42,
        "XRP/USDT     1       1    1,411  1,023,351",
        "BTC/USD      1       1    1,411  1,023,351",
        "NOPE/USD     1       0        0          0",
        "(no room for: known to (UTC))",
    ]
    assert err == ["Failed: NOPE/USD: 2024-01-01 00:00 to 2024-01-18", "07:31 UTC stays a gap: HTTP 503"]


FILES = [
    ArchiveFile(
        Path("in/a_folder_with_a_name/Kraken_Trades_2024Q1.zip"), "XBTUSD.csv", 3_200_000, "BTC/USD", None
    ),
    ArchiveFile(Path("ETHUSD.csv"), None, 21, "ETH/USD", None),
]
BAD = ImportFileError(FILES[1].path, "time 'x' is not a number (read as time,price,volume)", line=2)


def test_a_planned_import(screen: Screen) -> None:
    screen.resize(50, 24)
    assert not show_plan(ImportPlan(FILES), {FILES[0].name: 60_000, FILES[1].name: BAD}, as_json=False)
    out, _ = screen.read()
    assert out == [
        "symbol   data          rows      size  file",
        "─" * 49,
        "BTC/USD  trades      60,000    3.2 MB",
        # Longer than a line, and of one word: a path is never changed.
        "  in/a_folder_with_a_name/Kraken_Trades_2024Q1.zip:XBTUSD.csv",
        "ETH/USD  trades  unreadable  21 bytes  ETHUSD.csv",
    ]


def test_an_import(screen: Screen) -> None:
    screen.resize(50, 24)
    reports = [
        FileReport(FILES[0], read=60_000, new=60_000, candles=3_610, oldest=JANUARY, newest=LATER),
        FileReport(FILES[1], error=BAD, rejected=1),
    ]
    assert not show_report(ImportReport(ImportPlan(FILES), reports, seconds=7), as_json=False)
    out, err = screen.read()
    assert out == [
        "symbol   data      read     new  rejected",
        "─" * 41,
        "ETH/USD  trades       0       0         1",
        "BTC/USD  trades  60,000  60,000         0",
        "(no room for: files, changed, unchanged, candles,",
        "from (UTC), to (UTC))",
    ]
    assert max(map(len, err)) <= 50


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_no_table_is_wider_than_its_screen(screen: Screen, columns: int) -> None:
    screen.resize(columns, 24)
    show_reports(backfilled(), as_json=False)
    show_filled(filled(), as_json=False)
    out, err = screen.read()
    assert max(map(len, [*out, *err])) <= columns
    first_words = [line.split()[0] for line in out if line[0].isupper()]
    assert first_words == [*NAMES, *NAMES], "one line a pair"


@pytest.mark.parametrize("columns", range(20, 60))
def test_titles_that_have_no_room_are_whole(screen: Screen, columns: int) -> None:
    screen.resize(columns, 24)
    rare = [Column(title, rank=1) for title in ("last sync (UTC)", "new candles", "from (UTC)")]
    print_table([Column("symbol"), *rare], [["BTC/USD", *["2024-01-18 07:31"] * 3]])
    lines = [line for line in screen.out()[3:] if line]
    text = " ".join(lines)
    assert not any(
        line.endswith(("last", "sync", "new", "from")) or line.startswith("(UTC") for line in lines
    )
    assert "\0" not in text


def test_a_list_without_blanks_is_cut_behind_a_comma() -> None:
    columns = "timestamp,price,volume,type,order_type,misc,trade_id"
    text = f"name its columns in a header line, such as {columns}"
    assert folded(text, 50) == [
        "name its columns in a header line, such as",
        "timestamp,price,volume,type,order_type,misc,",
        "trade_id",
    ]
    assert folded(text, 53)[1:] == [columns]


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (83, "at 2024-01-07 08:36, 48% of the time range"),
        (67, "at 2024-01-07 08:36, ..."),
        (59, "at 2024-01-07 ..."),
        (55, "at ..."),
    ],
)
def test_a_remark_is_cut_between_words(room: int, shown: str) -> None:
    bars = Rows(console(err=True))
    bars.add(
        Row(
            "XRP/BTC",
            0.5,
            "1 of 2 trades",
            "0:05 left",
            "at 2024-01-07 08:36, 48% of the time range",
            at_work=True,
        )
    )
    (line,) = bars.lines(room, 5)
    assert line == f"XRP/BTC   50%  1 of 2 trades  0:05 left  {shown}"
    assert cell_width(line) <= room


def test_a_failure_names_its_file_once() -> None:
    told: list[str] = []

    class Progress:
        def note(self, message: str) -> None:
            told.append(message)

    failures = Failures(Progress())  # type: ignore[arg-type]  # of which nothing else is called
    failures.tell("bad/ETHUSD.csv", "bad/ETHUSD.csv, line 2: time 'x' is not a number")
    failures.tell("BTC/USD", "BTC/USD: no answer")
    failures.tell("BTC/USD", "BTC/USDT is another pair")
    assert told == [
        "bad/ETHUSD.csv: failed: line 2: time 'x' is not a number",
        "BTC/USD: failed: no answer",
        "BTC/USD: failed: BTC/USDT is another pair",
    ]
