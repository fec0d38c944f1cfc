"""Which archives a server or a folder has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kraken_db.archives.catalog import (
    PublishedArchive,
    begin_of,
    find_archives,
    following,
    open_archive,
    quarter_of,
)
from kraken_db.errors import ConfigurationError, ImportFileError
from kraken_db.retry import REQUEST
from tests.support.file_server import FileServer, serving, status
from tests.support.zips import contents, cut, sums_of, zip_bytes

NOW = datetime(2026, 11, 28, tzinfo=UTC)
TRADES = zip_bytes(
    {"XBTUSD.csv": b"timestamp,price,volume,type,order_type,misc,trade_id\n", "README.md": b"{}"}
)


def parts_of(name: str, data: bytes, count: int = 3) -> dict[str, bytes]:
    pieces = cut(data, -(-len(data) // count))
    return {f"{name}.part{number:02}": piece for number, piece in enumerate(pieces)}


FULL = parts_of("Kraken_Trades_Full_2026Q2.zip", TRADES)
SUMS = {"Trades_Full_PARTS_SHA256SUMS.txt": sums_of(FULL).encode()}
QUARTERS = {f"Kraken_Trades_2026Q{number}.zip": TRADES for number in (1, 2, 3)}
CANDLES = parts_of("Kraken_OHLCVT_Full_2026Q2.zip", TRADES, 2)
CANDLE_SUMS = {"OHLCVT_Full_PARTS_SHA256SUMS.txt": sums_of(CANDLES).encode()}


async def found(place: str, **options: Any) -> list[PublishedArchive]:
    return await find_archives(place, clock=lambda: NOW, **options)


async def found_on(files: Mapping[str, bytes], **options: Any) -> list[PublishedArchive]:
    async with serving(files) as server:
        return await found(server.url, **options)


def names(archives: list[PublishedArchive]) -> list[str]:
    return [archive.name for archive in archives]


def write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_quarters() -> None:
    assert [quarter_of(datetime(2026, month, 28, tzinfo=UTC)) for month in (1, 3, 4, 12)] == [
        (2026, 1), (2026, 1), (2026, 2), (2026, 4),
    ]  # fmt: skip
    assert (following((2026, 3)), following((2026, 4))) == ((2026, 4), (2027, 1))
    assert begin_of((2026, 4)) == datetime(2026, 10, 1, tzinfo=UTC)


# --- a server ---


async def test_what_kraken_has() -> None:
    async with serving(FULL | SUMS | QUARTERS | CANDLES | CANDLE_SUMS) as server:
        full, quarter, candles = await found(server.url)
        assert names([full, quarter, candles]) == [
            "Kraken_Trades_Full_2026Q2.zip", "Kraken_Trades_2026Q3.zip", "Kraken_OHLCVT_Full_2026Q2.zip",
        ]  # fmt: skip
        assert (full.product, full.quarter, full.is_full) == ("trades", (2026, 2), True)
        assert full.covers == (None, datetime(2026, 7, 1, tzinfo=UTC))
        assert full.parts == tuple((server.url + name, len(piece)) for name, piece in FULL.items())
        assert full.size == len(TRADES)
        assert (quarter.quarter, quarter.is_full) == ((2026, 3), False)
        assert quarter.covers == (datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
        assert quarter.parts == ((f"{server.url}Kraken_Trades_2026Q3.zip", len(TRADES)),)
        assert candles.product == "ohlcvt"
        assert not server.gets[2:], "only the two lists are fetched, sizes are asked for by HEAD"
        source = open_archive(full, connections=2)
        assert source.name == "Kraken_Trades_Full_2026Q2.zip (3 parts)"
        assert set(await contents(source)) == {"XBTUSD.csv", "README.md"}
        await source.close()


async def test_one_product_alone() -> None:
    files = FULL | SUMS | CANDLES | CANDLE_SUMS
    assert names(await found_on(files, product="ohlcvt")) == ["Kraken_OHLCVT_Full_2026Q2.zip"]


async def test_the_newest_full_archive_of_a_list_of_several() -> None:
    old = parts_of("Kraken_Trades_Full_2025Q4.zip", TRADES)
    future = parts_of("Kraken_Trades_Full_2031Q1.zip", TRADES)
    sums = {"Trades_Full_PARTS_SHA256SUMS.txt": sums_of(old | FULL | future | QUARTERS).encode()}
    assert names(await found_on(old | FULL | sums)) == ["Kraken_Trades_Full_2026Q2.zip"]


@pytest.mark.parametrize("full", [FULL, {"Kraken_Trades_Full_2026Q2.zip": TRADES}])
async def test_without_a_list_names_are_tried(full: dict[str, bytes]) -> None:
    first, second = await found_on(full | QUARTERS)
    assert names([first, second]) == ["Kraken_Trades_Full_2026Q2.zip", "Kraken_Trades_2026Q3.zip"]
    assert (first.is_full, first.size) == (True, len(TRADES))


async def test_quarters_alone() -> None:
    archives = await found_on(QUARTERS)
    assert names(archives) == sorted(QUARTERS)
    assert not any(archive.is_full for archive in archives)


async def test_head_is_refused() -> None:
    async with serving(FULL | SUMS | QUARTERS) as server:
        server.head = status(405)
        assert names(await found(server.url)) == ["Kraken_Trades_Full_2026Q2.zip", "Kraken_Trades_2026Q3.zip"]


async def test_a_part_that_the_server_does_not_have() -> None:
    name = "Kraken_Trades_Full_2026Q2.zip.part01"
    with pytest.raises(ImportFileError, match=f"{name}: the server does not have this part.*HTTP 404"):
        await found_on({key: value for key, value in (FULL | SUMS).items() if key != name})


async def test_a_list_with_a_hole() -> None:
    listed = {key: value for key, value in FULL.items() if not key.endswith("01")}
    sums = {"Trades_Full_PARTS_SHA256SUMS.txt": sums_of(listed).encode()}
    with pytest.raises(ImportFileError, match=r"zip.part01: this part is missing"):
        await found_on(FULL | sums)


async def test_a_part_of_a_wrong_size() -> None:
    name = "Kraken_Trades_Full_2026Q2.zip.part01"
    with pytest.raises(ImportFileError, match=f"{name}: this part has"):
        await found_on(parts_of("Kraken_Trades_Full_2026Q2.zip", TRADES, 5) | SUMS | {name: b"x"})


async def test_nothing_there() -> None:
    async with serving({}) as server:
        with pytest.raises(ImportFileError) as error:
            await found(server.url)
        reason = "there is no archive of Kraken's (HTTP 404: the server does not have it)"
        assert str(error.value) == f"{server.url}: {reason} (check KRAKEN_ARCHIVE_URL)"


async def test_nobody_there() -> None:
    async with serving({}) as server:
        pass
    with pytest.raises(ImportFileError, match="cannot be reached") as error:
        await found(server.url, retry=replace(REQUEST, attempts=2, pause=0.01, jitter=0.0))
    assert "\n" not in str(error.value)


async def test_a_redirect_is_told() -> None:
    async with serving(FULL | SUMS) as server:
        server.always = server.head = status(301, Location="https://example.com/elsewhere?key=secret")
        with pytest.raises(ImportFileError, match=r"a redirect to https://example.com/elsewhere") as error:
            await found(server.url)
        assert "secret" not in str(error.value)


async def test_a_web_page_in_place_of_every_file() -> None:
    async with serving({}) as server:
        server.always = server.head = status(200, "<html>welcome</html>", Content_Type="text/html")
        with pytest.raises(ImportFileError, match="the server has a web page"):
            await found(server.url)


async def test_a_list_without_end() -> None:
    with pytest.raises(ImportFileError, match="more than 65,536 bytes"):
        await found_on({"Trades_Full_PARTS_SHA256SUMS.txt": b"0" * 100_000})


def _with_password(server: FileServer) -> str:
    return server.url.replace("http://", "http://me:secret@")


async def test_credentials_are_not_shown() -> None:
    async with serving(FULL | SUMS) as server:
        archives = await found(_with_password(server))
        assert "secret" not in repr(archives)
        assert "secret" in archives[0].parts[0].place
        source = open_archive(archives[0])
        assert "secret" not in source.name
    async with serving({}) as server:
        with pytest.raises(ImportFileError) as error:
            await found(_with_password(server))
        assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "place", ["http://", "https:/x", "http://[::1", "http://h:99999/", "http://h/?a=secret"]
)
async def test_an_address_that_is_not_one(place: str) -> None:
    with pytest.raises(ConfigurationError, match="KRAKEN_ARCHIVE_URL") as error:
        await found(place)
    assert "secret" not in str(error.value)


# --- a folder ---


async def test_a_folder(tmp_path: Path) -> None:
    write_all(tmp_path, FULL | SUMS | QUARTERS | {"Kraken_OHLCVT_2026Q3.zip": TRADES, "other.zip": b"x"})
    full, quarter, candles = await found(str(tmp_path))
    assert names([full, quarter, candles]) == [
        "Kraken_Trades_Full_2026Q2.zip", "Kraken_Trades_2026Q3.zip", "Kraken_OHLCVT_2026Q3.zip",
    ]  # fmt: skip
    assert full.parts == tuple((str(tmp_path / name), len(piece)) for name, piece in FULL.items())
    source = open_archive(full)
    assert set(await contents(source)) == {"XBTUSD.csv", "README.md"}


async def test_older_names(tmp_path: Path) -> None:
    files = (
        "Kraken_OHLCVT.zip", "Kraken_OHLCVT_Q1_2026.zip", "Kraken_Trading_History_Q4_2025.zip",
        "Kraken_Trading_History_Q1_2026.zip", "kraken_trading_history.ZIP", "Kraken_Trades_Full.zip",
        "Kraken_Trades_2026Q5.zip",
    )  # fmt: skip
    write_all(tmp_path, dict.fromkeys(files, TRADES))
    assert [(a.product, a.name, a.quarter, a.is_full, a.covers[1]) for a in await found(str(tmp_path))] == [
        ("trades", "kraken_trading_history.ZIP", None, True, None),
        ("trades", "Kraken_Trading_History_Q4_2025.zip", (2025, 4), False, datetime(2026, 1, 1, tzinfo=UTC)),
        ("trades", "Kraken_Trading_History_Q1_2026.zip", (2026, 1), False, datetime(2026, 4, 1, tzinfo=UTC)),
        ("ohlcvt", "Kraken_OHLCVT.zip", None, True, None),
        ("ohlcvt", "Kraken_OHLCVT_Q1_2026.zip", (2026, 1), False, datetime(2026, 4, 1, tzinfo=UTC)),
    ]


async def test_a_set_in_a_folder_that_is_not_whole(tmp_path: Path) -> None:
    write_all(tmp_path, FULL)
    (tmp_path / "Kraken_Trades_Full_2026Q2.zip.part01").unlink()
    with pytest.raises(ImportFileError, match=r"part01: this part is missing"):
        await found(str(tmp_path))


async def test_what_is_not_used_may_be_incomplete(tmp_path: Path) -> None:
    write_all(tmp_path, FULL | {"Kraken_Trades_Full_2025Q4.zip.part03": b"x"})
    assert names(await found(str(tmp_path))) == ["Kraken_Trades_Full_2026Q2.zip"]


async def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="there is no archive of Kraken's in this folder"):
        await found(str(tmp_path))
    with pytest.raises(ImportFileError, match="No such file"):
        await found(str(tmp_path / "nowhere"))
    with pytest.raises(ImportFileError, match="Not a directory"):
        await found(os.devnull)
