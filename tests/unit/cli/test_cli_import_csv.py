"""``import-csv`` as far as it needs no database: the plan, and what is refused before anything starts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kraken_db.bulk_csv_importer.report import ArchiveFile, FileReport, ImportPlan, ImportReport
from kraken_db.cli import cli
from kraken_db.cli.import_csv import group_files, show_report
from kraken_db.errors import DatabaseError, ImportFileError

ROWS = "1672531200,100.5,102,99.5,101,2.5,7\n1672531260,101,101,100,100,1,2\n"


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:s3cr3t@localhost:1/none")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in ("XBTUSDC_1.csv", "XBTUSDC_60.csv", "deep/down/ETHUSD_1.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROWS)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["import-csv", *map(str, arguments)])


def test_a_dry_run_shows_the_plan(archive: Path) -> None:
    done = run(archive, "--dry-run")
    assert done.exit_code == 0
    assert [line.split()[:4] for line in done.stdout.splitlines()] == [
        ["symbol", "data", "rows", "size"],
        ["BTC/USDC", "1m", "2", "67"],
        ["ETH/USD", "1m", "2", "67"],
    ]
    assert "Skipped 1 file: only 1m is imported" in done.stderr
    assert "[XBTUSDC_60.csv]" in done.stderr
    assert "Would import 2 files, 4 rows, 134 bytes. Nothing was changed." in done.stderr


def test_a_dry_run_as_json(archive: Path) -> None:
    done = run(archive, "--dry-run", "--json", "--all", "--symbols", "BTC/USDC")
    document = json.loads(done.stdout)
    assert document["dry_run"] is True
    assert [(file["symbol"], file["data"], file["rows"], file["bytes"]) for file in document["files"]] == [
        ("BTC/USDC", "1m", 2, 67),
        ("BTC/USDC", "1h", 2, 67),
    ]
    assert document["skipped"] == [
        {"file": str(archive / "deep/down/ETHUSD_1.csv"), "reason": "not among the symbols asked for"}
    ]
    assert document["failures"] == []


def test_what_cannot_be_read_is_a_failure_of_the_plan(archive: Path) -> None:
    (archive / "LTCUSD_1.csv").write_text("")
    (archive / "SOLUSD_1.csv").write_bytes(b"\x00\xff\x00 rubbish\n")
    done = run(archive, "--dry-run")
    assert done.exit_code == 1
    assert f"Failed: {archive / 'LTCUSD_1.csv'}: the file is empty. " in done.stderr
    assert f"Failed: {archive / 'SOLUSD_1.csv'}" in done.stderr
    assert "Traceback" not in done.output


def test_paths_and_dir_go_together(archive: Path) -> None:
    done = run(archive / "XBTUSDC_1.csv", "--dir", archive / "deep", "--dry-run")
    assert done.exit_code == 0
    assert "Would import 2 files" in done.stderr


@pytest.mark.parametrize(
    "arguments", [[""], ["", "--symbols", "BTC/USDC"], ["--dir", ""], ["--symbols", "BTC/USDC", ""]]
)
def test_an_empty_path_is_not_the_current_folder(
    archive: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(archive)
    done = run(*arguments, "--dry-run")
    assert done.exit_code == 2
    assert "a path is empty; the current folder is written as ." in done.stderr
    assert run(".", "--dry-run").exit_code == 0


def test_the_default_folder(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(archive)
    done = run("--dry-run")
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: no files were named, and there is no folder ./data/kraken_csv. ")
    default = archive / "data" / "kraken_csv"
    default.mkdir(parents=True)
    (archive / "XBTUSDC_1.csv").rename(default / "XBTUSDC_1.csv")
    assert "Would import 1 file," in run("--dry-run").stderr


def test_without_any_file_to_import_no_database_is_asked(archive: Path) -> None:
    done = run(archive / "nothing.csv")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"Failed: {archive / 'nothing.csv'}: there is no such file",
        "Error: 1 of 1 file not imported; nothing of it is stored.",
    ]


def test_a_database_that_does_not_answer_is_one_line(archive: Path) -> None:
    done = run(archive)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "no PostgreSQL answers there" in done.stderr
    assert "s3cr3t" not in done.output


def test_reports_of_one_symbol_and_interval_become_one_row() -> None:
    def report(name: str, interval: int | None, day: int, **counts: Any) -> FileReport:
        file = ArchiveFile(Path(name), None, 1, "BTC/USD", interval)
        oldest = datetime(2023, 1, day, tzinfo=UTC)
        return FileReport(file, oldest=oldest, newest=oldest.replace(hour=23), **counts)

    bad = report("c", 1, 9, read=1, rejected=1)
    bad.error = ImportFileError("c", "broken")
    groups = group_files(
        [
            report("a", 60, 1, read=2, new=2),
            report("b", 1, 3, read=5, new=3, changed=1, unchanged=1),
            bad,
            report("d", 1, 2, read=1, unchanged=1),
            report("e", None, 1, read=4, new=4),
        ]
    )
    assert [(group.kind, group.files, group.failed, group.read, group.new) for group in groups] == [
        ("trades", 1, 0, 4, 4),
        ("1m", 3, 1, 7, 3),
        ("1h", 1, 0, 2, 2),
    ]
    minutes = groups[1]
    assert (minutes.changed, minutes.unchanged, minutes.rejected) == (1, 2, 1)
    assert minutes.oldest == datetime(2023, 1, 2, tzinfo=UTC)
    assert minutes.newest == datetime(2023, 1, 3, 23, tzinfo=UTC)


def report_of(count: int, *, failed: int = 0, candles: int = 0) -> ImportReport:
    """Files of so many pairs, the first ones of which failed; 1,000 rows each, an hour and two seconds."""
    files = [ArchiveFile(Path(f"A{n}USD.csv"), None, 1, f"A{n}/USD", None) for n in range(count)]
    done = [
        FileReport(file, read=1000, rejected=1, error=ImportFileError(file.name, f"no {n}"))
        if n < failed
        else FileReport(file, read=1000, new=990, changed=7, unchanged=3, candles=candles)
        for n, file in enumerate(files)
    ]
    return ImportReport(ImportPlan(files), done, seconds=3602.4)


def shown(report: ImportReport, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    show_report(report, as_json=False)
    out, err = capsys.readouterr()
    return [" ".join(line.split()) for line in out.splitlines()], err.splitlines()


def test_of_many_pairs_the_totals_are_shown_and_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(report_of(1200, failed=2), capsys)
    assert out == [
        "pairs files read new changed failed time",
        # 1,198 x 990 and 1,198 x 7
        "1,200 1,200 1,200,000 1,186,020 8,386 2 1:00:02",
        "",
        "symbol data files read new changed unchanged rejected from (UTC) to (UTC)",
        "A0/USD trades 1 1,000 0 0 0 1 - -",
        "A1/USD trades 1 1,000 0 0 0 1 - -",
    ]
    assert err == [
        "Failed: A0USD.csv: no 0",
        "Failed: A1USD.csv: no 1",
        "Error: 2 of 1,200 files not imported; nothing of them is stored.",
    ]


def test_of_many_pairs_that_all_went_well_there_are_totals_alone(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(report_of(21, candles=40), capsys)
    assert out == [
        "pairs files read new changed candles failed time",
        "21 21 21,000 20,790 147 840 0 1:00:02",
    ]
    assert err == []
    out, _ = shown(report_of(20), capsys)
    assert len(out) == 21  # each of its own


def test_failures_of_one_reason_are_told_together(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"A{number}USD.csv").write_text("")
    (tmp_path / "XBTUSD_1.csv").write_bytes(b"\x00\xff\x00 rubbish\n")
    done = run(tmp_path, "--dry-run")
    lines = [line for line in done.stderr.splitlines() if line.startswith("Failed")]
    assert lines[0] == (
        "Failed: 5 files: the file is empty [A0USD.csv, A1USD.csv, A2USD.csv and 2 more]."
        " --skip-empty passes over such files"
    )
    assert len(lines) == 2


def test_notes_without_end_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(30)
    for number, done in enumerate(report.files):
        done.notes += ["by the way", f"this is number {number}"]
    _, err = shown(report, capsys)
    assert err[0] == "Note: 30 files: by the way [A0USD.csv, A1USD.csv, A2USD.csv and 27 more]"
    assert err[19:] == ["Note: A18USD.csv: this is number 18", "Note: and 11 more; --json has them all"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["http://localhost:1/X.zip", "--check-sums"], "--check-sums works on files only. What comes from a"),
        (["a.csv", "--product", "trades"], "--product goes with an address"),
        (["http://localhost:1/X.zip", "--as", "BTC/USD"], "--as takes one file."),
        (["http://localhost:1/X.zip", "--product", "books"], "'books' is not one of"),
    ],
)
def test_what_does_not_go_with_an_address(arguments: list[str], told: str) -> None:
    done = run(*arguments, "--dry-run")
    assert done.exit_code == 2
    assert told in done.stderr


@pytest.mark.parametrize("with_bad_file", [True, False])
def test_a_refresh_that_failed_is_not_counted_as_a_file(
    capsys: pytest.CaptureFixture[str], with_bad_file: bool
) -> None:
    file = ArchiveFile(Path("a.csv"), None, 1, "BTC/USD", 1)
    done = FileReport(file, error=ImportFileError("a.csv", "broken") if with_bad_file else None)
    refresh = DatabaseError(
        "the higher intervals are not up to date: no", hint="they are refreshed next time"
    )
    report = ImportReport(ImportPlan([file]), [done], refresh)
    assert show_report(report, as_json=True) is False
    out, err = capsys.readouterr()
    told = ["Failed: a.csv: broken", "Error: 1 of 1 file not imported; nothing of it is stored."]
    assert err.splitlines() == [
        *(told if with_bad_file else []),
        "Error: the higher intervals are not up to date: no. They are refreshed next time",
    ]
    document = json.loads(out)
    assert [failure["file"] for failure in document["failures"]] == (["a.csv"] if with_bad_file else [])
    assert document["refresh_error"] == {
        "reason": "the higher intervals are not up to date: no",
        "hint": "they are refreshed next time",
    }
