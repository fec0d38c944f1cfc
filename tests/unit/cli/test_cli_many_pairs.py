"""Three hundred pairs on one screen: what terminals of 80 x 24, 120 x 40 and 50 x 24 show, as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from kraken_db.bulk_csv_importer.report import ArchiveFile, FileReport, ImportPlan, ImportReport
from kraken_db.cli.backfill import show_reports
from kraken_db.cli.bars import Row, Rows
from kraken_db.cli.export import _show as show_export
from kraken_db.cli.gaps import show_filled, show_gaps
from kraken_db.cli.import_csv import show_plan, show_report
from kraken_db.cli.output import cell_width, console, folded, note
from kraken_db.cli.progress import BarProgress, LineProgress
from kraken_db.cli.record import screen_lines
from kraken_db.cli.status import Shown, print_status
from kraken_db.cli.verify import show_certificates
from kraken_db.data_types import DataType
from kraken_db.errors import ExchangeUnavailableError, ImportFileError, UnknownPairError
from kraken_db.exporting import ExportReport
from kraken_db.exporting import FileReport as ExportedFile
from kraken_db.gap_filler import Filled, FillReport, FoundGap, GapKind, SymbolGaps
from kraken_db.historical_backfill import BackfillReport
from kraken_db.progress import PairsProgress
from kraken_db.recorder import PairStatus, RecorderStatus
from kraken_db.recorder.symbol_feed import State
from kraken_db.status import DataStatus, StoreStatus
from kraken_db.types import DataGap
from kraken_db.verification.certificate import Certificate, Finding, Part
from tests.support.screens import Screen

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SYMBOLS = [f"C{number:03}/USD" for number in range(300)]
SIZES = [(80, 24), (120, 40), (50, 24)]


def stored(number: int, *, gaps: int = 0, lag: timedelta = timedelta(minutes=3)) -> DataStatus:
    return DataStatus(
        symbol=SYMBOLS[number],
        data_type=DataType.TRADES,
        rows=1_234_567 + number,
        oldest=datetime(2013, 10, 6, 21, 34, tzinfo=UTC),
        newest=NOW - lag,
        last_sync=NOW - lag,
        sources=("rest",),
        ranges=1 + gaps,
        covered=(),
        gaps=gaps,
        lag=lag,
        months=(),
    )


def store_of(data: list[DataStatus]) -> StoreStatus:
    return StoreStatus(NOW, data, (), 1_000_000_000, (), (), 0, None, 0, False, NOW, last_prices=PRICES)


DATABASE = {
    "kind": "PostgreSQL",
    "embedded": True,
    "where": "/home/ann/db",
    "schema_revision": "1003",
    "retention_seconds": {},
}
STORED = [stored(number) for number in range(300)]
STORED[290] = stored(290, gaps=2)
STORED[7] = stored(7, lag=timedelta(days=3, hours=5))
PRICES = {symbol: Decimal("42011.3") for symbol in SYMBOLS}


def status_on(screen: Screen, columns: int, lines: int, shown: Shown) -> list[str]:
    screen.resize(columns, lines)
    print_status(DATABASE, store_of(STORED), shown)
    return screen.out()


DAY = timedelta(days=1)


def test_status_at_80_columns(screen: Screen) -> None:
    lines = status_on(screen, 80, 24, Shown(max_lag=DAY))
    assert lines[:5] == [
        "Database  PostgreSQL, embedded, /home/ann/db",
        "Schema    revision 1003",
        "Size      1.0 GB: ",
        "Pairs     300: 1 with gaps, 1 behind by more than 1 day; 370,414,950 trades",
        "",
    ]
    assert lines[5:10] == [
        "symbol       trades  candles  from (UTC)  to (UTC)    gaps     lag  last price",
        "─" * 78,
        "C290/USD  1,234,857        -  2013-10-06  2026-11-28     2   3 min     42011.3",
        "C007/USD  1,234,574        -  2013-10-06  2026-11-25     0  3 days     42011.3",
        "C000/USD  1,234,567        -  2013-10-06  2026-11-28     0   3 min     42011.3",
    ]
    assert lines[-2:] == [
        "(no room for: last sync (UTC))",
        "... and 288 more, none with gaps or behind; --limit 0 shows all",
    ]


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_status_fits_each_screen(screen: Screen, columns: int, lines: int) -> None:
    shown = status_on(screen, columns, lines, Shown(max_lag=DAY))
    assert len(shown) < lines
    assert max(map(len, shown)) <= columns
    text = " ".join(shown)
    assert "C290/USD" in text
    assert "... and " in text


@pytest.mark.parametrize(
    ("order", "first"),
    [("trouble", "C290"), ("symbol", "C000"), ("rows", "C299"), ("gaps", "C290"), ("lag", "C007")],
)
def test_status_in_another_order(screen: Screen, order: str, first: str) -> None:
    lines = status_on(screen, 80, 24, Shown(order=order, limit=1, max_lag=DAY))  # type: ignore[arg-type]  # a word
    assert lines[7].startswith(first)
    assert lines[-1].startswith("... and 299 more, ")


def test_status_of_all_and_on_a_pipe(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(line.startswith("C") for line in status_on(screen, 80, 24, Shown(limit=0))) == 300
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    print_status(DATABASE, store_of(STORED), Shown(max_lag=DAY))
    lines = screen.out()
    rows = [line for line in lines if line.startswith("C")]
    assert len(rows) == 300
    assert " ".join(rows[0].split()) == (
        "C290/USD 1,234,857 - 2013-10-06 21:34 2026-11-28 11:57 2 3 min 42011.3 2026-11-28 11:57"
    )
    assert not any("..." in line for line in lines)


def reports(stopped: int, failed: int) -> list[BackfillReport]:
    found = [
        BackfillReport(symbol, "caught up", received=1000, new=900, candles_new=30) for symbol in SYMBOLS
    ]
    for report in found[300 - stopped :]:
        report.outcome = "stopped"
    for report in found[:failed]:
        report.outcome = "failed"
        report.error = UnknownPairError(f"Kraken does not list {report.symbol}", hint="near it: BTC/USD")
    return found


def test_backfill_ends_with_totals_and_what_failed(screen: Screen) -> None:
    screen.resize(80, 24)
    show_reports(reports(stopped=271, failed=1), as_json=False)
    out, err = screen.read()
    assert out == [
        "pairs  done  stopped  failed  received      new  new candles",
        "─" * 60,
        "  300    28      271       1   300,000  270,000        9,000",
    ]
    assert err == [
        "Failed: C000/USD: Kraken does not list C000/USD. Near it: BTC/USD",
        "271 pairs stopped; --resume goes on from there",
    ]


def test_backfill_with_details_has_a_row_each(screen: Screen) -> None:
    screen.resize(80, 24)
    show_reports(reports(stopped=0, failed=30), as_json=False, details=True)
    out, err = screen.read()
    assert sum(line.startswith("C") for line in out) == 300
    assert max(map(len, out)) <= 80
    assert len(err) == 30
    show_reports(reports(stopped=0, failed=30), as_json=False)
    _, err = screen.read()
    assert len(err) == 21
    assert err[-1] == "... and 10 more; --details or --json has them all"


def gaps_of(number: int, *found: tuple[GapKind, timedelta]) -> SymbolGaps:
    """Gaps of these lengths, each of which ends now."""
    gaps = [
        FoundGap(DataGap(SYMBOLS[number], "trades", NOW - length, NOW, length), kind)
        for kind, length in found
    ]
    return SymbolGaps(SYMBOLS[number], tuple(gaps), None, {})


HOUR = timedelta(hours=1)
GAPPED = [
    *(gaps_of(number, ("end", HOUR)) for number in range(23)),
    gaps_of(23, ("end", 36 * HOUR)),
    gaps_of(24, ("ids", HOUR), ("end", timedelta(minutes=30))),
]


def test_gaps_of_many_pairs_have_a_row_a_pair_and_the_worst_comes_first(screen: Screen) -> None:
    screen.resize(80, 24)
    show_gaps([*GAPPED, gaps_of(25)], as_json=False)
    out, err = screen.read()
    assert [line.split() for line in out[:5]] == [
        ["symbol", "gaps", "within", "length", "from", "(UTC)", "to", "(UTC)"],
        ["─" * len(out[1])],
        ["C024/USD", "2", "1", "90", "min", "2026-11-28", "11:00", "2026-11-28", "12:00"],
        ["C023/USD", "1", "0", "36.0", "h", "2026-11-27", "00:00", "2026-11-28", "12:00"],
        ["C000/USD", "1", "0", "60", "min", "2026-11-28", "11:00", "2026-11-28", "12:00"],
    ]
    assert len(out) == 2 + 16 + 1
    assert out[-1] == "... and 9 other pairs; --details shows each gap"
    assert err == ["26 gaps in 25 pairs. To fill: kraken-db gaps fill --stored"]


def test_gaps_with_details_have_a_row_each_and_all_notes(screen: Screen) -> None:
    screen.resize(80, 24)
    dropped = [replace(one, kept_from={"trades": NOW - number * DAY}) for number, one in enumerate(GAPPED)]
    show_gaps(dropped, as_json=False, details=True)
    out, err = screen.read()
    assert sum(line.startswith("C") for line in out) == 26
    assert " ".join(err).count("are dropped by the retention policy") == 25
    show_gaps(dropped, as_json=False)
    _, err = screen.read()
    assert " ".join(err).count("are dropped by the retention policy") == 20
    assert "... and 5 more; --details or --json has them all" in err


def test_of_many_pairs_without_data_the_number_is_told(screen: Screen) -> None:
    screen.resize(200, 24)
    show_gaps([gaps_of(number, ("no data", 30 * DAY)) for number in range(6)], as_json=False)
    _, err = screen.read()
    assert err[0] == (
        "Note: 6 pairs: nothing is stored; wanted: 30 days up to now (--window); imported files above 1m do"
        " not count"
    )


def test_filled_gaps_of_many_pairs_end_with_totals_and_what_failed(screen: Screen) -> None:
    screen.resize(100, 24)
    filled = [FillReport(one, 1, Filled(100, 20, 3, 4)) for one in GAPPED]
    filled[3] = FillReport(GAPPED[3], errors=["C003/USD: HTTP 503"])
    filled[4] = FillReport(GAPPED[4], is_elsewhere=True)
    filled[5] = FillReport(GAPPED[5], was_stopped=True)
    show_filled(filled, as_json=False)
    out, err = screen.read()
    assert [line.split() for line in out[::2]] == [
        ["pairs", "stopped", "failed", "gaps", "filled", "candles", "trades"],
        ["25", "1", "1", "26", "22", "154", "2,640"],
    ]
    assert err == [
        "Failed: C003/USD: HTTP 503",
        "C004/USD: left to another process, which is at work on it (kraken-db jobs)",
        "1 pair stopped; the same command goes on from there",
    ]


def certificate(number: int, *, wrong: bool) -> Certificate:
    part = Part("1h of minutes", "candles", compared=24)
    if wrong:
        part.add(Finding("candle differs", f"{SYMBOLS[number]} differs", NOW - HOUR, NOW))
    return Certificate(SYMBOLS[number], None, None, parts=[part])


def test_a_verification_of_many_pairs_ends_with_totals_and_what_is_wrong(screen: Screen) -> None:
    screen.resize(80, 24)
    away = ExchangeUnavailableError("C022/USD: HTTP 503", hint="try again")
    found = [
        certificate(0, wrong=False),
        *(certificate(number, wrong=True) for number in range(1, 22)),
        Certificate(SYMBOLS[22], None, None, error=away),
    ]
    show_certificates(found, as_json=False)
    out, err = screen.read()
    assert out[:2] == ["pairs  nothing wrong  wrong  not verified", "─" * 41]
    assert out[2].split() == ["23", "1", "21", "1"]
    verdicts = [line for line in out if line.startswith("C")]
    assert verdicts == [f"C{number:03}/USD  WRONG: candle differs (1)" for number in range(1, 21)]
    assert out[-1] == "... and 2 other pairs; --details or --json has all"
    assert err == [
        "Failed: C022/USD: HTTP 503. Try again",
        "To put it right: kraken-db verify C001/USD ... --repair",
    ]


def test_a_verification_with_details_has_every_certificate(screen: Screen) -> None:
    screen.resize(80, 24)
    show_certificates([certificate(number, wrong=False) for number in range(30)], as_json=False, details=True)
    out, err = screen.read()
    assert [line for line in out if line.startswith("C")] == [
        f"{symbol}  nothing is wrong" for symbol in SYMBOLS[:30]
    ]
    assert err == []


def exported() -> ExportReport:
    files = [
        ExportedFile(Path(symbol), symbol, 60, "written", 1_000, 0, 50_000)
        for symbol in SYMBOLS
        for _ in range(2)
    ]
    files[:2] = replace(files[0], outcome="unchanged"), replace(files[1], kept_rows=7)
    return ExportReport(files, empty=[f"D{number:03}/USD 1h" for number in range(30)])


def test_an_export_of_many_pairs_ends_with_totals(screen: Screen) -> None:
    screen.resize(80, 24)
    show_export(exported(), as_json=False, details=False)
    out, err = screen.read()
    assert out == [
        "pairs  files written  unchanged     rows     size",
        "─" * 49,
        "  300            599          1  600,000  30.0 MB",
    ]
    assert err[0] == "Note: nothing is stored of D000/USD 1h in this range"
    assert err[-2:] == [
        "... and 10 more; --details or --json has them all",
        "Note: 7 rows in the files are no longer in the store, and were kept",
    ]


def test_an_export_with_details_has_a_row_each_and_all_notes(screen: Screen) -> None:
    screen.resize(120, 24)
    show_export(exported(), as_json=False, details=True)
    out, err = screen.read()
    assert sum(line.startswith("C") for line in out) == 300
    assert sum(line.startswith("Note: nothing is stored of D") for line in err) == 30


def run_of_many(bars: Rows) -> None:
    run = PairsProgress(BarProgress(bars), "backfill", SYMBOLS, unit="trades", what="trades")
    for number, symbol in enumerate(SYMBOLS[:40]):
        task = run.task(symbol)
        task.update(total=20_000, note="at 2024-01-01 00:10")
        task.advance(5_000)
        if number < 10:
            task.advance(15_000)
            task.done("caught up")


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_a_run_fits_each_screen(screen: Screen, columns: int, lines: int) -> None:
    screen.resize(columns, lines)
    bars = Rows(console(err=True))
    run_of_many(bars)
    shown = bars.lines(columns, lines - 1)
    assert len(shown) <= lines - 1
    assert max(map(len, shown)) <= columns
    assert shown[0].startswith("10 of 300 pairs, ")
    assert shown[1].startswith("C010/USD ")
    hidden = 30 - (len(shown) - 2)
    assert shown[-1] == (
        f"... and {hidden + 260} more: {hidden} at work, 260 waiting"
        if hidden
        else "... and 260 more waiting"
    )


def test_a_run_at_80_columns(screen: Screen) -> None:
    screen.resize(80, 24)
    bars = Rows(console(err=True))
    run_of_many(bars)
    head, row, *_ = bars.lines(80, 23)
    assert head.startswith("10 of 300 pairs, 350,000 of about 6,000,000 trades, ") or head.startswith(
        "10 of 300 pairs, 0.3 of about 6 M trades"
    )
    assert row == "C010/USD   25%  5,000 of 20,000 trades  at 2024-01-01 00:10"


def test_what_is_silent_for_long_comes_first() -> None:
    bars = Rows(console(err=True))
    for symbol in SYMBOLS[:5]:
        bars.add(Row(symbol, began=0, changed=100, at_work=True))
    bars._rows[3].changed = 55
    assert bars.lines(80, 3, now=101) == [
        "C003/USD  nothing for 0:46",
        "C000/USD",
        "... and 3 more at work",
    ]


def test_of_many_pairs_those_that_have_no_room_are_not_laid_out() -> None:
    """Ten times a second: all of Kraken's would take most of it."""

    class Counted(Row):
        def cells(self, now: float) -> tuple[str, ...]:
            laid_out.append(self.label)
            return super().cells(now)

    bars, laid_out = Rows(console(err=True)), list[str]()
    for number in range(1_635):
        bars.add(Counted(f"C{number:04}/USD", 0.5, "1,000 of 2,000 trades", remark="at 2024", at_work=True))
    assert len(bars.lines(80, 23)) == 23
    assert len(laid_out) == 22


def test_on_a_pipe_a_failure_is_told_at_once_and_pairs_that_are_through_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    run = PairsProgress(LineProgress(lambda: now), "backfill", SYMBOLS, unit="trades", what="trades")
    for number, symbol in enumerate(SYMBOLS):
        now += 1
        task = run.task(symbol)
        task.advance(1000)
        failed = number == 150
        task.done("caught up", failed=failed, reason=f"{symbol}: no answer" if failed else "")
    run.done()
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("C150/USD: failed: no answer") == 1
    assert lines[0] == "4 of 300 pairs, 5,000 of about 300,000 trades, 4:55 left"
    assert lines[-1] == "backfill: done"
    assert len(lines) < 50  # in 300 seconds: every 5, then less often
    assert not any("caught up" in line for line in lines)


def test_of_few_pairs_each_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    run = PairsProgress(LineProgress(), "backfill", ["A/USD", "B/USD"], unit="trades", what="trades")
    run.task("A/USD").done("caught up")
    run.task("B/USD").done("failed", failed=True, reason="B/USD: no answer")
    run.done()
    single = PairsProgress(LineProgress(), "backfill", ["A/USD"], unit="trades", what="trades")
    single.task("A/USD").done("failed", failed=True, reason="no answer")
    single.done()
    assert capsys.readouterr().err.splitlines() == [
        "A/USD: caught up",
        "B/USD: failed: no answer",
        "A/USD: failed",
    ]


def test_the_whole_is_estimated_by_those_that_are_known() -> None:
    run = PairsProgress(LineProgress(), "backfill", ["A", "B", "C", "D"], unit="trades", what="trades")
    run.expect("A", 100)
    run.expect("B", 300)
    assert (run.overview.of_rows, run.overview.is_estimate) == (800, True)
    task = run.task("A")
    task.update(total=500)
    run.expect("A", 100)  # what the pair has said counts
    run.expect("C", 0)
    run.expect("D", 200)
    assert (run.overview.of_rows, run.overview.is_estimate) == (1000, False)
    task.advance(40)
    task.done("failed", failed=True)
    assert (run.overview.of_rows, run.overview.rows, run.overview.pairs, run.overview.failed) == (
        540,
        40,
        1,
        1,
    )


def recorded(symbol: str, number: int) -> PairStatus:
    state: State = "refused" if number == 290 else "catching up" if number == 120 else "live"
    price = None if state == "refused" else Decimal("42011.3")
    moment = None if price is None else NOW - timedelta(seconds=number)
    return PairStatus(symbol, state, True, 1, moment, 300 - number, 0, 0, 0, 0, 0, None, price)


RECORDED = RecorderStatus(
    NOW,
    True,
    "online",
    tuple(recorded(symbol, number) for number, symbol in enumerate(SYMBOLS)),
    154.8,
    0.1,
    1,
    0,
    0,
    128,
    0,
)


def test_record_at_80_columns(screen: Screen) -> None:
    lines = screen_lines(RECORDED, 80, 23)
    assert lines[:6] == [
        "12:00:00 300 pairs (298 live), 154.8 trades/s, 45,150 trades received, lag",
        "         0.1 s, 0 reconnects, 0 repaired, buffer 128",
        "symbol    state        last (UTC)  last price  received  holes  waiting",
        "C290/USD  refused      -                    -        10      0        0",
        "C120/USD  catching up  11:58:00       42011.3       180      0        0",
        "C000/USD  live         12:00:00       42011.3       300      0        0",
    ]
    assert lines[-1] == "and 281 more: 281 live"


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_record_fits_each_screen(screen: Screen, columns: int, lines: int) -> None:
    shown = screen_lines(RECORDED, columns, lines - 1)
    assert len(shown) == lines - 1
    assert max(map(len, shown)) <= columns
    assert "C290/USD" in "".join(shown)
    assert "42011.3" in "".join(shown)


def test_messages_are_folded_between_words(screen: Screen) -> None:
    screen.resize(50, 24)
    note("Note: trades older than 30 days will be dropped again by the retention policy")
    _, err = screen.read()
    assert err == ["Note: trades older than 30 days will be dropped", "again by the retention policy"]


@pytest.mark.parametrize("columns", [*range(20, 50, 7), 79, 80, 81, 99, 100, 101, 132, 200])
@pytest.mark.parametrize("lines", [4, 5, 10, 24, 60])
def test_no_screen_is_too_small(screen: Screen, columns: int, lines: int) -> None:
    screen.resize(columns, lines)
    bars = Rows(console(err=True))
    run_of_many(bars)
    for shown in (bars.lines(columns, lines - 1), screen_lines(RECORDED, columns, lines - 1)):
        assert 1 <= len(shown) <= lines - 1
        assert max(map(len, shown)) <= columns
        assert all(shown)


def test_nothing_wide_or_hostile_breaks_a_row(screen: Screen) -> None:
    bars = Rows(console(err=True))
    for label in ("日本/USD", "\x1b]52;c;cm0=\x07", "a\nb", "x" * 300, ""):
        bars.add(Row(label, 0.5, "1 of 2", remark="é" * 200, at_work=True))
    for columns in (10, 50, 120):
        for line in bars.lines(columns, 23):
            assert cell_width(line) <= columns
            assert "\x1b" not in line
            assert "\n" not in line


FILES = [
    ArchiveFile(Path(f"C{number:03}USD_1.csv"), None, 90_000 + number, symbol, 1)
    for number, symbol in enumerate(SYMBOLS)
]


def test_a_planned_import_has_a_row_a_pair_on_a_terminal(screen: Screen) -> None:
    screen.resize(80, 24)
    counts = {file.name: 3_000 for file in FILES} | {
        FILES[7].name: ImportFileError(FILES[7].path, "not a number", line=1)
    }
    assert show_plan(ImportPlan(FILES), counts, as_json=False) is False
    out, err = screen.read()
    assert out[:4] == [
        "symbol    files   rows     size  unreadable",
        "─" * 43,
        "C007/USD      1      0  90.0 kB           1",
        "C299/USD      1  3,000  90.3 kB           -",
    ]
    assert out[-1] == "... and 286 other pairs; --details shows each file"
    assert err[0] == "Would import 300 files, 897,000 rows, 27.0 MB. Nothing was changed."


def imported() -> ImportReport:
    files = [
        FileReport(file, read=3_000, new=2_000, unchanged=1_000, oldest=NOW - timedelta(days=9), newest=NOW)
        for file in FILES
    ]
    files[7] = FileReport(FILES[7], error=ImportFileError(FILES[7].path, "not a number", line=1), rejected=1)
    return ImportReport(ImportPlan(FILES), files, seconds=75)


def test_an_import_ends_with_totals_and_what_failed(screen: Screen) -> None:
    screen.resize(80, 24)
    assert show_report(imported(), as_json=False) is False
    out, err = screen.read()
    assert out == [
        "pairs  files     read      new  changed  failed     time",
        "─" * 56,
        "  300    300  897,000  598,000        0       1  0:01:15",
        "",
        "symbol    data  files  read  new  unchanged  rejected  from (UTC)  to (UTC)",
        "─" * 75,
        "C007/USD  1m        1     0    0          0         1  -           -",
        *out[7:],  # which columns have no room
    ]
    assert err[0] == "Failed: C007USD_1.csv, line 1: not a number"


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_an_import_with_details_has_a_row_each_and_what_failed_first(
    screen: Screen, columns: int, lines: int
) -> None:
    screen.resize(columns, lines)
    show_report(imported(), as_json=False, details=True)
    out, _ = screen.read()
    rows = [line for line in out if line.startswith("C")]
    assert len(rows) == 300
    assert rows[0].startswith("C007/USD")
    assert max(map(len, out)) <= columns


def test_a_pair_that_is_not_stored_is_told_with_what_was_meant(screen: Screen) -> None:
    names = ["BTC/USD", "ETH/EUR"]
    store = replace(store_of([]), stored=names)
    for columns, expected in [
        (80, ["Nothing is stored of BTC/USDT. Did you mean BTC/USD? Stored: BTC/USD, ETH/EUR"]),
        (50, ["Nothing is stored of BTC/USDT. Did you mean", "BTC/USD? Stored: BTC/USD, ETH/EUR"]),
    ]:
        screen.resize(columns, 24)
        print_status(DATABASE, store, Shown(), ["BTC/USDT"])
        assert screen.out()[-len(expected) :] == expected


def test_a_pair_that_is_not_stored_is_told_beside_those_that_are(screen: Screen) -> None:
    screen.resize(80, 24)
    store = replace(store_of(STORED[:2]), stored=SYMBOLS[:2])
    print_status(DATABASE, store, Shown(), [SYMBOLS[0], "C001/EUR"])
    shown = screen.out()
    assert "Nothing is stored of C001/EUR. Did you mean C001/USD? Stored: C000/USD, C001/USD" in shown
    assert any(line.startswith("C000/USD  1,234,567") for line in shown)


@pytest.mark.parametrize("columns", [50, 80])
def test_details_have_one_line_a_row_and_a_last_sync_with_its_time(screen: Screen, columns: int) -> None:
    shown = status_on(screen, columns, 24, Shown(details=True))
    rows = [line for line in shown if line.startswith("C")]
    assert len(rows) == 300
    assert max(map(len, rows)) <= columns
    if columns == 80:
        assert rows[0].split() == [
            *("C000/USD", "trades", "1,234,567", "2013-10-06", "2026-11-28", "0", "3", "min"),
        ]


def test_a_last_sync_has_its_time_or_no_place(screen: Screen) -> None:
    screen.resize(85, 24)
    print_status(DATABASE, store_of(STORED[:1]), Shown(details=True))
    row = next(line for line in screen.out() if line.startswith("C000"))
    assert row.endswith("2013-10-06  2026-11-28     0  3 min  2026-11-28 11:57")


@pytest.mark.parametrize("columns", range(20, 90))
def test_a_number_and_its_unit_stay_together(columns: int) -> None:
    text = "Size      24.4 GB: trades 3.1 GB, candles 21.3 GB, higher intervals 512 kB; lag 3 days 5 h, 7 min"
    lines = folded(text, columns, " " * 10)
    assert not any(line[-1].isdigit() for line in lines)
    assert max(map(len, lines)) <= columns
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
