"""Files that are not accepted: each with its line and reason, and without a trace in the store."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_db.bulk_csv_importer import ImportFailedError, ImportReport, importer
from kraken_db.bulk_csv_importer.importer import BulkCSVImporter
from kraken_db.errors import DatabaseError
from kraken_db.store import Store
from tests.support.archives import ROW, START, import_paths, minutes, query, write

GOOD = minutes(3)
NOBODY = 65534
HEADER = "price,volume,time,buy/sell,market/limit,miscellaneous\n"


def second_line(row: str) -> str:
    return minutes(1) + row + "\n" + minutes(1, start=START + 120)


# name: content of XBTUSD_1.csv, the line at fault, a piece of the reason
CANDLES: dict[str, tuple[str | bytes, int | None, str]] = {
    "too few columns": (second_line(f"{START + 60},1,2,3"), 2, "missing data for column"),
    "too many columns": (second_line(f"{START + 60},{ROW},9"), 2, "extra data after last expected column"),
    "text": (second_line(f"{START + 60},abc,102,99.5,101,2.5,7"), 2, "'abc' where a number belongs"),
    "text as last": (second_line(f"{START + 60},100.5,102,99.5,101,2.5,seven"), 2, "'seven'"),
    "two points": (second_line(f"{START + 60},1.0.5,102,99.5,101,2.5,7"), 2, "1.0.5"),
    "empty field": (second_line(f"{START + 60},,102,99.5,101,2.5,7"), 2, "field of open is empty"),
    "half a trade": (second_line(f"{START + 60},100.5,102,99.5,101,2.5,7.5"), 2, "7.5"),
    "NaN": (second_line(f"{START + 60},NaN,102,99.5,101,2.5,7"), 2, "'NaN' where a number belongs"),
    "Infinity": (second_line(f"{START + 60},100.5,Infinity,99.5,101,2.5,7"), 2, "'Infinity'"),
    "negative price": (second_line(f"{START + 60},100.5,102,-99.5,101,2.5,7"), 2, "not above zero"),
    "zero price": (second_line(f"{START + 60},0,102,0,101,2.5,7"), 2, "not above zero"),
    "price below the scale": (second_line(f"{START + 60},1E-11,102,1E-11,101,2.5,7"), 2, "not above zero"),
    "high below open": (second_line(f"{START + 60},103,102,99.5,101,2.5,7"), 2, "high is below"),
    "high below low": (second_line(f"{START + 60},100,100,100.5,100,2.5,7"), 2, "100 100 100.5 100"),
    "low above close": (second_line(f"{START + 60},101,102,100.5,100,2.5,7"), 2, "low is above"),
    "negative volume": (second_line(f"{START + 60},100.5,102,99.5,101,-2.5,7"), 2, "volume is negative"),
    "negative count": (
        second_line(f"{START + 60},100.5,102,99.5,101,2.5,-7"),
        2,
        "number of trades is negative",
    ),
    "beyond the column": (
        second_line(f"{START + 60},100.5,12345678901,99.5,101,2.5,7"),
        2,
        "12345678901 does not fit NUMERIC(20,10)",
    ),
    "huge exponent": (second_line(f"{START + 60},100.5,1E+4000,99.5,101,2.5,7"), 2, "does not fit"),
    "count beyond integer": (
        second_line(f"{START + 60},100.5,102,99.5,101,2.5,99999999999"),
        2,
        "99999999999",
    ),
    "milliseconds": (minutes(1) + f"{START + 60}000,{ROW}\n", 2, "looks like milliseconds"),
    "before all time": (f"-60,{ROW}\n", 1, "not a Unix time"),
    "off the grid": (minutes(1) + f"{START + 61},{ROW}\n", 2, "grid of 1m"),
    "future": (minutes(1) + f"4102444800,{ROW}\n", 2, "in the future"),
    "duplicate": (minutes(2) + minutes(1, start=START + 60), 3, "there twice"),
    "unordered": (minutes(1, start=START + 60) + minutes(1), 2, "earlier than that of the line before"),
    "UTF-16": (GOOD.encode("utf-16"), 1, "byte-order mark"),
    "CR alone": (GOOD.replace("\n", "\r"), 1, ""),
    "another header": ("timestamp,open,high,low,close,volume,profit\n" + GOOD, 1, "profit"),
    "empty": ("", None, "the file is empty"),
    "blank line": (minutes(1) + "\n" + minutes(1, start=START + 60), 2, "timestamp is empty"),
    "cut in mid-line": (minutes(2) + f"{START + 120},100.5,102,99", 3, "missing data"),
    "cut before the last field": (
        minutes(2) + f"{START + 120},100.5,102,99.5,101,2.5,",
        3,
        "field of trades is empty",
    ),
    "binary": (bytes(range(256)) * 40, 1, "binary data"),
    "binary after good rows": (GOOD.encode() + b"\x00\x01\x02\n", 4, "binary data"),
    "no line ends": ("1" * 100_000, 1, "no end"),
    "a quote": (second_line(f'{START + 60},"100.5,102,99.5,101,2.5,7'), 2, "where a number belongs"),
    "end of data": (minutes(1) + "\\.\n" + minutes(1, start=START + 60), 2, "where a number belongs"),
    "underscore": (second_line(f"{START + 60},1_00.5,102,99.5,101,2.5,7"), 2, "'1_00.5'"),
}


async def left_behind(url: str) -> int:
    rows = await query(
        url,
        "SELECT (SELECT count(*) FROM candles WHERE symbol = 'BTC/USD')"
        " + (SELECT count(*) FROM trades WHERE symbol = 'BTC/USD')"
        " + (SELECT count(*) FROM data_coverage WHERE symbol = 'BTC/USD')"
        " + (SELECT count(*) FROM data_sync_status WHERE symbol = 'BTC/USD')"
        " + (SELECT count(*) FROM pending_refresh)",
    )
    return int(rows[0][0])


def the_failure(report: ImportReport, line: int | None, reason: str) -> None:
    ((name, error),) = report.failures
    assert "XBTUSD" in name
    assert reason in str(error)
    if line is not None:
        assert f", line {line}: " in str(error)
    assert "XBTUSD" in str(error)


@pytest.mark.parametrize("road", ["straight", "staged"])
@pytest.mark.parametrize("case", CANDLES)
async def test_candle_file(
    case: str, road: str, plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if road == "straight":
        monkeypatch.setattr(importer, "LARGE_FILE", 0)
    content, line, reason = CANDLES[case]
    write(tmp_path, "XBTUSD_1.csv", content)
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    report = await import_paths(plain_url, tmp_path)
    the_failure(report, line, reason)
    assert await left_behind(plain_url) == 0
    assert await query(plain_url, "SELECT symbol, count(*) FROM candles GROUP BY 1") == [("ETH/USD", 3)]


@pytest.mark.parametrize("case", ["NaN", "off the grid", "beyond the column", "duplicate"])
async def test_candle_file_on_both_lanes(case: str, db_url: str, tmp_path: Path) -> None:
    content, line, reason = CANDLES[case]
    write(tmp_path, "XBTUSD_1.csv", content)
    the_failure(await import_paths(db_url, tmp_path), line, reason)
    assert await left_behind(db_url) == 0


TRADES: dict[str, tuple[str, int | None, str]] = {
    "four columns": ("1672531200,100.5,1,2\n", 1, "4 fields"),
    "columns change": ("1672531200,100.5,1\n1672531201,100.5\n", 2, "missing data"),
    "text": ("1672531200,100.5,1\n1672531201,abc,1\n", 2, "'abc'"),
    "zero price": ("1672531200,0,1\n", 1, "not above zero"),
    "unordered": ("1672531201,100.5,1\n1672531200,100.5,1\n", 2, "earlier"),
    "future": ("4102444800,100.5,1\n", 1, "future"),
    "milliseconds": ("1672531200123,100.5,1\n", 1, "milliseconds"),
    **{
        f"{text} as {what}, {count} columns": (good + row.format(text) + good, 2, f"{text!r}")
        for text in ("0x10", "0b1", "1_0", " 2.0", "2.0 ")
        for what, count, good, row in (
            ("price", 3, "1672531200,100.5,1\n", "1672531200,{},1\n"),
            ("volume", 6, "100.5,1,1672531200.1,b,l,\n", "100.5,{},1672531200.1,b,l,\n"),
            ("price", 7, "100.5,1,1672531200.1,b,l,,\n", "{},1,1672531200.1,b,l,,\n"),
            ("id", 7, "100.5,1,1672531200.1,b,l,,\n", "100.5,1,1672531200.1,b,l,,{}\n"),
        )
    },
    "NaN price with a side": ("NaN,1,1672531200.1,b,l,,5\n", 1, "NaN"),
    "unknown side": ("100.5,1,1672531200.1,x,l,,5\n", 1, "side is neither"),
    "unknown type": ("100.5,1,1672531200.1,b,z,,5\n", 1, "order type is no word"),
    "id twice": (
        "100.5,1,1672531200.1,b,l,,5\n100.5,1,1672531200.2,b,l,,5\n",
        1,
        "trade id 5 is there twice",
    ),
    "id twice behind a trade that is there twice": (
        "100.5,1,1672531200.1,b,l,,4\n100.5,1,1672531200.1,b,l,,4\n"
        "100.5,1,1672531200.2,b,l,,5\n100.5,2,1672531200.2,b,l,,5\n",
        3,
        "trade id 5 is there twice",
    ),
    "an id of nobody": (
        "100.5,1,1672531200.1,b,l,,5\n100.5,1,1672531200.2,b,l,,10000007\n",
        2,
        "no trade of the pair has this id: 10000007 behind 5",
    ),
    "an id of nobody between others": (
        "100.5,1,1672531200.1,b,l,,5\n100.5,1,1672531200.2,b,l,,4611686018427387904\n"
        "100.5,1,1672531200.3,b,l,,6\n",
        2,
        "no trade of the pair has this id: 4611686018427387904 behind 5",
    ),
    "negative id": ("100.5,1,1672531200.1,b,l,,-5\n", 1, "trade id is negative"),
    "after a header": (
        "price,volume,time,buy/sell,market/limit,miscellaneous\nx,1,1,b,l,,5\n",
        2,
        "price 'x' is not a number",
    ),
}


@pytest.mark.parametrize("case", TRADES)
async def test_trade_file(case: str, plain_url: str, tmp_path: Path) -> None:
    content, line, reason = TRADES[case]
    write(tmp_path, "XBTUSD.csv", content)
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    the_failure(await import_paths(plain_url, tmp_path), line, reason)
    assert await left_behind(plain_url) == 0
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(3,)]


async def test_a_broken_zip(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "XBTUSD.zip", b"PK\x03\x04 this is not an archive")
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    the_failure(await import_paths(plain_url, tmp_path), None, "not a readable zip archive")
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(3,)]


def packed(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


async def test_a_damaged_member_of_a_zip(plain_url: str, tmp_path: Path) -> None:
    """One bit is wrong, the rows read well: only the checksum at the member's end can tell."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/XBTUSD_1.csv", GOOD)
        archive.writestr("a/ETHUSD_1.csv", GOOD)
    damaged = stream.getvalue().replace(b"100.5", b"100.6", 1)
    write(tmp_path, "archive.zip", damaged)
    the_failure(await import_paths(plain_url, tmp_path), None, "check sum (CRC)")
    assert await left_behind(plain_url) == 0
    assert await query(plain_url, "SELECT symbol FROM candles GROUP BY 1") == [("ETH/USD",)]


async def test_names_that_lead_out_of_a_zip(plain_url: str, tmp_path: Path) -> None:
    members = {"../XBTUSD_1.csv": GOOD, "ok/ETHUSD_1.csv": GOOD}
    write(tmp_path, "archive.zip", packed(**members))
    the_failure(await import_paths(plain_url, tmp_path), None, "leads out of the archive")
    assert await left_behind(plain_url) == 0
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(3,)]


async def test_a_zip_bomb_is_not_unpacked(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "archive.zip", packed(**{"XBTUSD_1.csv": "1" * 50_000_000}))
    the_failure(await import_paths(plain_url, tmp_path), None, "unpacks to 50,000,000 bytes")


async def test_an_unknown_pair(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "XBTUSDFOO_1.csv", GOOD)
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    report = await import_paths(plain_url, tmp_path)
    assert len(report.failures) == 1
    assert "XBTUSDFOO" in str(report.failures[0][1])
    assert await query(plain_url, "SELECT symbol FROM candles GROUP BY 1") == [("ETH/USD",)]


async def test_a_folder_without_csv_files(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "README.txt", "nothing here")
    ((name, error),) = (await import_paths(plain_url, tmp_path)).failures
    assert name == str(tmp_path)
    assert "no CSV files" in str(error)


async def test_a_path_that_is_not_there(plain_url: str, tmp_path: Path) -> None:
    ((_, error),) = (await import_paths(plain_url, tmp_path / "missing.csv")).failures
    assert "no such file" in str(error)


@pytest.mark.one_server("the fault is a trigger, which Citus has on shards only")
async def test_the_database_runs_out_of_space(plain_url: str, tmp_path: Path) -> None:
    """The server's own error for a full disk, raised where the second symbol is written."""
    await query(
        plain_url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.symbol = 'BTC/USD' AND NEW.timestamp > '2023-01-01 00:01+00' THEN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';"
        " END IF; RETURN NEW; END $$",
    )
    await query(
        plain_url,
        "CREATE TRIGGER full_disk BEFORE INSERT ON candles FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    write(tmp_path, "XBTUSD_1.csv", GOOD)
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    report = await import_paths(plain_url, tmp_path)
    ((name, error),) = report.failures
    assert "XBTUSD_1.csv" in name
    assert "disk of the database is full" in str(error)
    assert await left_behind(plain_url) == 0
    assert await query(plain_url, "SELECT symbol FROM candles GROUP BY 1") == [("ETH/USD",)]


@pytest.fixture
def ordinary_folder(open_checkout: None) -> Iterator[Path]:
    """A folder anybody may enter, with this process as a user whom permissions hold for."""
    folder = Path(tempfile.mkdtemp(prefix="kraken-db-test-"))
    folder.chmod(0o755)
    is_root = os.geteuid() == 0
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


async def test_no_permission(plain_url: str, ordinary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(ordinary_folder))
    write(ordinary_folder, "XBTUSD_1.csv", GOOD).chmod(0)
    write(ordinary_folder, "ETHUSD_1.csv", GOOD).chmod(0o644)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    the_failure(await import_paths(plain_url, ordinary_folder), None, "no permission to read it")
    assert await query(plain_url, "SELECT symbol FROM candles GROUP BY 1") == [("ETH/USD",)]


async def test_import_directory_tells_of_failures_after_the_others(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "XBTUSD_1.csv", "abc\n")
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    async with BulkCSVImporter(plain_url) as importer:
        with pytest.raises(ImportFailedError, match=r"XBTUSD_1\.csv, line 1") as failed:
            await importer.import_directory(tmp_path)
    assert failed.value.report.written == {"ETH/USD": {1: 3}}


async def test_a_refresh_that_fails_is_told_apart_from_the_files(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: Store) -> None:
        raise DatabaseError("no refresh today")

    monkeypatch.setattr(Store, "refresh_pending", refuse)
    path = write(tmp_path, "XBTUSD_1.csv", GOOD)
    report = await import_paths(plain_url, path)
    assert (report.failures, report.files[0].new) == ([], 3)
    async with BulkCSVImporter(plain_url) as importer:
        with pytest.raises(ImportFailedError, match=r"^the higher intervals are not up to date: no refresh"):
            await importer.import_directory(tmp_path)
        with pytest.raises(DatabaseError, match="no refresh today"):
            await importer.import_csv_file(path, "BTC/USD", 1)


async def test_the_line_is_counted_across_blocks(plain_url: str, tmp_path: Path) -> None:
    rows = minutes(5000).splitlines(keepends=True)
    rows[4321] = rows[4321].replace("100.5", "10O.5")
    path = write(tmp_path, "XBTUSD_1.csv", "".join(rows))
    async with BulkCSVImporter(plain_url, batch_size=10) as importer:
        report = await importer.run(importer.plan([path]))
    the_failure(report, 4322, "'10O.5'")


async def test_a_last_line_without_its_end_is_kept_but_proves_nothing(plain_url: str, tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD_1.csv", GOOD.rstrip("\n"))
    report = await import_paths(plain_url, path)
    (done,) = report.files
    assert (done.new, done.error) == (3, None)
    assert "no line end" in done.notes[0]
    covered = await query(plain_url, "SELECT upper(covered) FROM data_coverage")
    assert covered[0][0].timestamp() == START + 120


async def test_empty_files_can_be_passed_over(plain_url: str, tmp_path: Path) -> None:
    write(tmp_path, "XBTUSD_1.csv", "")
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    report = await import_paths(plain_url, tmp_path, skip_empty=True)
    assert not report.failures
    assert [skipped.reason for skipped in report.plan.skipped] == ["empty: nothing was traded"]
