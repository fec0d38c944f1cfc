"""A file fails alone, whatever it fails by: the others are imported, and the report is printed."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kraken_db.archives.zip_reading import read_directory
from kraken_db.bulk_csv_importer import discovery, files, importer, reading
from kraken_db.store import Store
from tests.support.archives import minutes, query, write
from tests.support.shell import run
from tests.support.zips import with_entry, zip_bytes

GOOD = minutes(3).encode()
ROWS = b"1704067200.5,100,1,b,l,,1\n1704067201.5,101,1,s,m,,2\n"


def stored(url: str) -> list[Any]:
    return asyncio.run(query(url, "SELECT symbol, count(*) FROM candles GROUP BY 1 ORDER BY 1"))


def zip_of_kind(kind: int, *, is_damaged: bool) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("XBTUSD_1.csv", GOOD * 100, kind)
        archive.writestr("ETHUSD_1.csv", GOOD, zipfile.ZIP_DEFLATED)
    data = bytearray(packed.getvalue())
    if is_damaged:
        data[60:70] = bytes(10)
    return bytes(data)


@pytest.mark.parametrize(("kind", "method"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_packings_that_are_not_read(
    kind: int, method: int, is_damaged: bool, plain_url: str, tmp_path: Path
) -> None:
    write(tmp_path, "a.zip", zip_of_kind(kind, is_damaged=is_damaged))
    write(tmp_path, "SOLUSD_1.csv", GOOD)
    done = run(plain_url, "import-csv", str(tmp_path), "--json")
    assert done.exit_code == 1
    (failed,) = json.loads(done.stdout)["failures"]
    assert failed["file"] == f"{tmp_path}/a.zip:XBTUSD_1.csv"
    assert failed["reason"] == f"the file is packed by method {method}, which is not read"
    assert stored(plain_url) == [("ETH/USD", 3), ("SOL/USD", 3)]


@pytest.mark.parametrize("name", ["", ".csv", "/", "/.csv", "a/", "\x00.csv", "..", "__MACOSX"])
def test_members_without_a_name(name: str, plain_url: str, tmp_path: Path) -> None:
    data = zip_bytes({"XXXX_1.csv": GOOD, "ETHUSD_1.csv": GOOD})
    # zipfile itself writes none of these.
    whole = name.encode().ljust(10, b"/") if name else b""
    if name:
        data = data.replace(b"XXXX_1.csv", whole)
    else:
        data = with_entry(data, 0, name_length=0).replace(b"XXXX_1.csv", b"", 2)
    write(tmp_path, "a.zip", data)
    write(tmp_path, "SOLUSD_1.csv", GOOD)
    done = run(plain_url, "import-csv", str(tmp_path), "--json")
    assert done.exit_code in (0, 1), done.output
    json.loads(done.stdout)
    assert ("SOL/USD", 3) in stored(plain_url)


LIES = {
    "3 GiB in 2,289 bytes": ({"method": 12, "size": 3 << 30}, "more than text can be packed"),
    "2 MB in 2,289 bytes": ({"method": 12, "size": 2_000_000}, "packed by method 12, which is not read"),
    "a method of nobody": ({"method": 99}, "packed by method 99, which is not read"),
    "empty, and is not": ({"size": 0, "method": 8}, "it is called empty, and has 2,289 bytes in the zip"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("options", [(), ("--skip-empty",)])
def test_members_that_lie(lie: str, options: tuple[str, ...], tmp_path: Path) -> None:
    changes, reason = LIES[lie]
    packed = zip_bytes({"XBTUSD_1.csv": bytes(2289), "ETHUSD_1.csv": GOOD}, kind=zipfile.ZIP_STORED)
    write(tmp_path, "a.zip", with_entry(packed, 0, **changes))
    done = run("postgresql://nobody@127.0.0.1:1/none", "import-csv", str(tmp_path), "--dry-run", *options)
    assert done.exit_code == 1
    assert f"Failed: {tmp_path}/a.zip:XBTUSD_1.csv: " in done.stderr
    assert reason in done.stderr
    assert "ETH/USD" in done.stdout


BUGS: dict[str, tuple[Any, str]] = {
    "reading": (reading, "trade_layout"),
    "batches": (files, "trade_batches"),
    "the end of a file": (files, "note_trades"),
    "what follows": (importer, "build_missing"),
}


@pytest.mark.parametrize("where", BUGS)
def test_a_bug(where: str, plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("nobody thought\x1b[2J of it")

    monkeypatch.setattr(*BUGS[where], fail)
    path = write(tmp_path, "XBTUSD.csv", ROWS)
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    done = run(plain_url, "import-csv", str(tmp_path))
    assert done.exit_code == 1
    assert f"Failed: {path}: internal error KeyError: " in done.stderr
    assert "; the others went on. Run it again with --debug\n" in done.stderr
    assert "Traceback" not in done.output
    assert ("ETH/USD", 3) in stored(plain_url)
    again = run(plain_url, "import-csv", str(tmp_path), "--json", "--debug")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["failures"][0]["file"] == str(path)
    assert "Traceback" in again.stderr


def test_a_bug_in_the_middle_of_a_transaction(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the file is stored, and its row of the report says so."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(files, "whole_minutes", fail)
    write(tmp_path, "XBTUSD_1.csv", GOOD)
    write(tmp_path, "ETHUSD.csv", ROWS)
    done = run(plain_url, "import-csv", str(tmp_path), "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert [failed["reason"] for failed in report["failures"]] == [
        "internal error ZeroDivisionError; the others went on"
    ]
    counts = {file["symbol"]: (file["stored"], file["new"]) for file in report["files"]}
    assert counts == {"BTC/USD": (False, 0), "ETH/USD": (True, 2)}
    assert stored(plain_url) == []


def test_a_bug_while_looking(plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(source: Any) -> Any:
        if source.name.endswith("bad.zip"):
            raise IndexError("list index out of range")
        return await read_directory(source)

    monkeypatch.setattr(discovery, "read_directory", fail)
    write(tmp_path, "bad.zip", zip_bytes({"XBTUSD_1.csv": GOOD}))
    write(tmp_path, "good.zip", zip_bytes({"ETHUSD_1.csv": GOOD}))
    for options in ((), ("--dry-run",)):
        done = run(plain_url, "import-csv", str(tmp_path), *options)
        assert done.exit_code == 1
        assert "bad.zip: internal error IndexError: list index out of range" in done.stderr
        assert "ETH/USD" in done.stdout
    assert stored(plain_url) == [("ETH/USD", 3)]


ENDS: dict[str, tuple[Any, str]] = {
    "the refresh": (Store, "refresh_pending"),
    "the notes": (importer.BulkCSVImporter, "_warn_of_retention"),
}


@pytest.mark.parametrize("what", ENDS)
def test_a_bug_at_the_end(what: str, plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("no end")

    monkeypatch.setattr(*ENDS[what], fail)
    write(tmp_path, "ETHUSD_1.csv", GOOD)
    done = run(plain_url, "import-csv", str(tmp_path), "--json")
    assert done.exit_code == 1
    assert "internal error RuntimeError: no end" in json.loads(done.stdout)["refresh_error"]["reason"]
    assert stored(plain_url) == [("ETH/USD", 3)]


def test_a_bug_while_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> int:
        raise OverflowError("too large")

    write(tmp_path, "ETHUSD_1.csv", GOOD)
    monkeypatch.setattr(importer.BulkCSVImporter, "count_rows", fail)
    done = run("postgresql://nobody@127.0.0.1:1/none", "import-csv", str(tmp_path), "--dry-run", "--json")
    assert done.exit_code == 1
    assert "internal error OverflowError: too large" in json.loads(done.stdout)["failures"][0]["reason"]
