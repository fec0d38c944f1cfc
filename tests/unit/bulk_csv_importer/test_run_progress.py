"""How far an import is: rows that a manifest has counted, and rows that are told from bytes."""

from __future__ import annotations

from pathlib import Path

from kraken_db.archives.manifest import Manifest, parse_manifest
from kraken_db.archives.sources import FileSource
from kraken_db.bulk_csv_importer.report import ArchiveFile, FileReport, ImportPlan, WholeArchive
from kraken_db.bulk_csv_importer.run_progress import FileProgress, RunProgress
from kraken_db.errors import ImportFileError
from kraken_db.progress import NullProgress


class Reader:
    """As much of a reader as says how many rows were read."""

    rows = 0


def file_of(name: str, size: int, symbol: str, source: FileSource | None = None) -> ArchiveFile:
    return ArchiveFile(Path(name), None, size, symbol, 1, source=source)


def manifest(rows: int) -> Manifest:
    return parse_manifest(b'{"product": "ohlcvt", "schema_version": 1, "rows": %d}' % rows)


def read(share: FileProgress, rows: int, size: int) -> None:
    """So many rows in all were handed out before the next bytes came."""
    reader = Reader()
    reader.rows = rows
    share.reader = reader  # type: ignore[assignment]  # of a reader nothing else is asked
    share.advance(size)


def test_rows_are_told_from_the_bytes_that_were_read() -> None:
    one, other = file_of("a", 6400, "BTC/USD"), file_of("b", 3200, "ETH/USD")
    run = RunProgress(NullProgress(), ImportPlan([one, other]))
    seen = run.overview
    # 9,600 bytes, of 64 each.
    assert (seen.pairs, seen.of_pairs, seen.rows, seen.of_rows, seen.is_estimate) == (0, 2, 0, 150, True)
    share = run.file(one)
    share.advance(3200)
    assert (seen.rows, seen.of_rows) == (0, 150)
    read(share, 100, 3200)  # the first 3,200 bytes were 100 rows: of 32 bytes
    assert (seen.rows, seen.of_rows) == (100, 300)
    share.restart()
    assert (seen.rows, seen.of_rows) == (0, 150)
    done = FileReport(one, read=200)
    share.finish(done)
    run.is_over(done)
    assert (seen.pairs, seen.rows, seen.of_rows) == (1, 200, 300)


def test_the_rest_of_a_file_that_failed_is_not_read() -> None:
    one, other = file_of("a", 6400, "BTC/USD"), file_of("b", 3200, "BTC/USD")
    run = RunProgress(NullProgress(), ImportPlan([one, other]))
    share = run.file(one)
    share.advance(640)
    read(share, 20, 640)
    failed = FileReport(one, error=ImportFileError("a", "broken"))
    share.finish(failed)
    run.is_over(failed)
    seen = run.overview
    # 20 rows of 32 bytes, and the 3,200 bytes of the other file.
    assert (seen.rows, seen.of_rows, seen.failed) == (20, 120, 1)
    assert (seen.pairs, seen.of_pairs) == (0, 1)  # its other file is still to come
    whole = FileReport(other, read=100)
    run.file(other).finish(whole)
    run.is_over(whole)
    assert (seen.pairs, seen.rows, seen.of_rows) == (1, 120, 120)


def test_a_manifest_knows_the_rows(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"0")
    source = FileSource(tmp_path / "a.zip")
    files = [file_of("a.zip", 6400, "BTC/USD", source), file_of("a.zip", 640, "ETH/USD", source)]
    archive = WholeArchive(source, manifest(77), files=2, empty=0)
    seen = RunProgress(NullProgress(), ImportPlan(files, whole_archives=[archive])).overview
    assert (seen.of_rows, seen.is_estimate) == (77, False)
    # With a file of somewhere else, which nobody has counted: 640 bytes.
    more = [*files, file_of("b", 640, "SOL/USD")]
    run = RunProgress(NullProgress(), ImportPlan(more, whole_archives=[archive]))
    assert (run.overview.of_rows, run.overview.is_estimate) == (87, True)
    run.file(files[0]).finish(FileReport(files[0], read=70))
    assert (run.overview.rows, run.overview.of_rows) == (70, 87)


def test_what_archives_say_of_their_rows(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"0")
    source = FileSource(tmp_path / "a.zip")
    files = [file_of("a.zip", 6400, "BTC/USD", source), file_of("a.zip", 640, "ETH/USD", source)]
    plan = ImportPlan(files, whole_archives=[WholeArchive(source, manifest(1077), files=2, empty=1)])
    assert plan.contradictions([(files[0], 1000), (files[1], 77)]) == []
    (wrong,) = plan.contradictions([(files[0], 1000), (files[1], 76)])
    assert f"{tmp_path / 'a.zip'}: MANIFEST.json says 1,077 rows, and there are 1,076" == wrong.message
    # One of its files was not read to its end.
    assert plan.contradictions([(files[0], 1000)]) == []
