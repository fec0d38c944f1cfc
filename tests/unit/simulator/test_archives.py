"""The archives that the simulator writes: Kraken's shapes, and the market's content."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import (
    ARCHIVE_INTERVALS,
    Archive,
    Market,
    Packing,
    Product,
    Quarter,
    Scenario,
    TradeLayout,
    TradeText,
    TrueCandle,
    write_archive,
)
from kraken_db.simulator.archive_rows import candle_price_text, volume_text
from kraken_db.simulator.truth import true_candles
from tests.support.archive_making import (
    ARCHIVES,
    FULL,
    FULL_CANDLES,
    FULL_TRADES,
    LATER,
    LATER_CANDLES,
    LATER_TRADES,
    ArchivedMarkets,
    archived_markets,
    lines_of,
    opened,
)

Q2_2026 = Quarter(2026, 2)
NAMES = {"BTC/USD": "XBTUSD", "ETH/USD": "ETHUSD", "MATIC/USD": "MATICUSD"}


@pytest.fixture(scope="module")
def made() -> ArchivedMarkets:
    return archived_markets()


@contextmanager
def archived(folder: Path, archive: Archive, markets: Iterable[Market]) -> Iterator[zipfile.ZipFile]:
    with opened(write_archive(folder, archive, markets), folder / "joined") as found:
        yield found


# --- Kraken's own bytes ---


def test_a_real_file_of_trades_is_written_byte_for_byte(real_data: Path, tmp_path: Path) -> None:
    real = (real_data / "archives/1INCHEUR.csv").read_text()
    rows = csv.DictReader(real.splitlines())
    texts = [
        TradeText(r["price"], r["volume"], r["timestamp"], r["type"], r["order_type"], "", 0) for r in rows
    ]
    market = Market.scripted("1INCH/EUR", texts)
    with archived(
        tmp_path, Archive(product=Product.TRADES, quarter=Q2_2026, is_full=True), [market]
    ) as archive:
        assert archive.read("1INCHEUR.csv").decode() == real


def test_numbers_of_candles_are_written_as_kraken_does(real_data: Path) -> None:
    checked = 0
    with (real_data / "ohlcvt/XBTUSDC_1.csv").open() as lines:
        for _, *prices, volume, _ in csv.reader(lines):
            assert volume_text(int(Decimal(volume).scaleb(8))) == volume
            assert [candle_price_text(int(Decimal(price).scaleb(2)), 2) for price in prices] == prices
            checked += 1
    assert checked == 56_717


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (1_000_000_000, "1E+1"),
        (55_000_000_000, "5.5E+2"),
        (1_200_000_000, "12"),
        (50_000_000, "0.5"),
        (100, "0.000001"),
        (10, "1E-7"),
    ],
)
def test_volume_text(units: int, text: str) -> None:
    assert volume_text(units) == text


def test_price_text() -> None:
    assert candle_price_text(6_100_000, 0) == "6100000.0"
    assert candle_price_text(165_200, 1) == "16520.0"
    assert candle_price_text(1464, 8) == "0.00001464"


# --- packing ---


def test_parts_are_one_large_zip_and_their_sums_are_right(made: ArchivedMarkets, tmp_path: Path) -> None:
    for written in made.write(tmp_path):
        paths = [file.path for file in written.files]
        if not written.archive.is_full:
            assert [path.name for path in paths] == [written.archive.name]
            continue
        assert [path.name for path in paths] == [
            f"Kraken_{written.archive.product}_Full_2024Q1.zip.part{number:02d}"
            for number in range(len(paths))
        ]
        sizes = [path.stat().st_size for path in paths]
        assert len(sizes) > 2
        assert set(sizes[:-1]) == {40_000}
        assert 0 < sizes[-1] <= 40_000
        sums = (tmp_path / f"{written.archive.product}_Full_PARTS_SHA256SUMS.txt").read_text()
        assert sums == "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths
        )
        with opened(written, tmp_path / "joined") as archive:
            assert archive.testzip() is None
            # The fields of a large archive: its directory is found through the record for them.
            assert (tmp_path / "joined").read_bytes()[-42:-38] == b"PK\x06\x07"
            assert all(info.extra[:4] == b"\x01\x00\x18\x00" for info in archive.infolist())


def test_members_are_flat_and_in_alphabetical_order(made: ArchivedMarkets, tmp_path: Path) -> None:
    trades, _, candles, _ = made.write(tmp_path)
    with opened(trades, tmp_path / "joined") as archive:
        assert archive.namelist() == [
            "ETHUSD.csv",
            "MATICUSD.csv",
            "XBTUSD.csv",
            "MANIFEST.json",
            "README.md",
        ]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    with opened(candles, tmp_path / "joined") as archive:
        names = archive.namelist()
        expected = [f"{name}_{minutes}.csv" for name in NAMES.values() for minutes in ARCHIVE_INTERVALS]
        assert names == [*sorted(expected), "MANIFEST.json", "README.md"]


def test_the_same_arguments_give_the_same_bytes(made: ArchivedMarkets, tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    made.write(tmp_path / "one")
    archived_markets().write(tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_small_form_of_a_zip_and_each_level(made: ArchivedMarkets, tmp_path: Path) -> None:
    sizes = []
    for level in (1, 6):
        (written,) = made.write(tmp_path / str(level), [FULL_TRADES], level=level, zip64=False)
        with opened(written, tmp_path / "joined") as archive:
            assert archive.testzip() is None
            assert not any(info.extra for info in archive.infolist())
        sizes.append((tmp_path / "joined").stat().st_size)
    assert sizes[0] > sizes[1]


def test_a_part_holds_at_least_a_byte(made: ArchivedMarkets, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least one byte"):
        made.write(tmp_path, [FULL_TRADES], part_size=0)


# --- MANIFEST ---


def test_the_manifest_says_what_is_there(made: ArchivedMarkets, tmp_path: Path) -> None:
    for written in made.write(tmp_path):
        with opened(written, tmp_path / "joined") as archive:
            manifest = json.loads(archive.read("MANIFEST.json"))
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            lines = sum(len(lines_of(archive, name)) for name in names)
        header_lines = len(names) if manifest["has_header"] else 0
        assert (manifest["rows"], manifest["files"]) == (lines - header_lines, len(names))
        assert (written.rows, written.members) == (manifest["rows"], manifest["files"])
        assert manifest["pairs"] == 3
        assert manifest["coverage"] == (
            {"start": "2024-02-01", "end": "2024-03-31"}
            if written.archive.is_full
            else {"start": "2024-04-01", "end": "2024-06-30"}
        )
        if written.archive.product is Product.TRADES:
            assert (manifest["product"], manifest["schema_version"], manifest["has_header"]) == (
                "trades",
                2,
                True,
            )
            assert ",".join(manifest["columns"]) == TradeLayout.SCHEMA_2.header
        else:
            assert (manifest["schema_version"], manifest["has_header"]) == (1, False)
            assert manifest["intervals"] == [1, 5, 15, 60, 240, 720, 1440]


def test_a_manifest_can_lie(made: ArchivedMarkets, tmp_path: Path) -> None:
    archive = Archive(product=Product.TRADES, quarter=LATER, manifest={"rows": 5})
    (written,) = made.write(tmp_path, [archive])
    with opened(written, tmp_path / "joined") as found:
        assert json.loads(found.read("MANIFEST.json"))["rows"] == 5
    assert written.rows == 7742


# --- content ---


@pytest.mark.parametrize("symbol", NAMES)
def test_the_trades_are_those_of_the_market(symbol: str, made: ArchivedMarkets, tmp_path: Path) -> None:
    full, later = made.write(tmp_path, [FULL_TRADES, LATER_TRADES])
    found: list[list[str]] = []
    for written, quarter in ((full, FULL), (later, LATER)):
        with opened(written, tmp_path / "joined") as archive:
            header, *rows = lines_of(archive, f"{NAMES[symbol]}.csv")
        assert header == "timestamp,price,volume,type,order_type,misc,trade_id"
        fields = [row.split(",") for row in rows]
        assert all(Decimal(row[0]) < int(quarter.end.timestamp()) for row in fields)
        if quarter is LATER:
            assert all(Decimal(row[0]) >= int(LATER.begin.timestamp()) for row in fields)
        found += fields
    market = made.market(symbol)
    texts = list(market.texts(0, len(found) + 1))
    assert [row[6] for row in found] == [str(number + 1) for number in range(len(found))]
    assert [row[:6] for row in found] == [
        [text.time, text.price, text.volume, text.side, text.order_type, text.misc]
        for text in texts[: len(found)]
    ]
    if symbol == "MATIC/USD":
        assert len(found) == market.size
    else:  # REST alone has the next one
        assert Decimal(texts[-1].time) >= int(LATER.end.timestamp())
    zeros = sum(text.trade_id == 0 for text in texts)
    assert (zeros > 0) == (symbol == "ETH/USD")


def test_ids_that_leave_no_room_stay_zero(tmp_path: Path) -> None:
    market = Market("BTC/USD", trades=2_000, scenario=Scenario.ZERO_IDS)
    full = Archive(product=Product.TRADES, quarter=FULL, is_full=True)
    with archived(tmp_path, full, [market]) as archive:
        rows = lines_of(archive, "XBTUSD.csv")[1:]
    assert [int(row.rpartition(",")[2]) for row in rows] == [
        text.trade_id for text in market.texts(0, len(rows))
    ]
    assert sum(row.endswith(",0") for row in rows) == 40


@pytest.mark.parametrize("interval", ARCHIVE_INTERVALS)
def test_the_candles_are_those_of_the_trades(interval: int, made: ArchivedMarkets, tmp_path: Path) -> None:
    full, later = made.write(tmp_path, [FULL_CANDLES, LATER_CANDLES])
    for written, quarter in ((full, FULL), (later, LATER)):
        with opened(written, tmp_path / "joined") as archive:
            for symbol, name in NAMES.items():
                begin = datetime(2013, 1, 1, tzinfo=UTC) if quarter is FULL else quarter.begin
                trades = made.market(symbol).truth_trades(quarter.end)
                candles = true_candles((t for t in trades if t.timestamp >= begin), interval)
                expected = [_numbers(candle) for candle in candles]
                lines = lines_of(archive, f"{name}_{interval}.csv")
                assert [tuple(map(Decimal, line.split(","))) for line in lines] == expected
                assert len(expected) > 5


def _numbers(candle: TrueCandle) -> tuple[Decimal, ...]:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (Decimal(int(candle.timestamp.timestamp())), *prices, candle.volume, Decimal(candle.trade_count))


def _at(*times: str) -> list[TradeText]:
    return [TradeText("100.5", "1.0", time, "b", "l", "", 0) for time in times]


def test_a_quarter_ends_before_the_first_moment_of_the_next(tmp_path: Path) -> None:
    # 1711929600 is 2024-04-01 00:00:00 UTC.
    market = Market.scripted("BTC/USD", _at("1711929597.5", "1711929600.0", "1711929601.25"))
    with archived(tmp_path, FULL_TRADES, [market]) as archive:
        assert lines_of(archive, "XBTUSD.csv")[1:] == ["1711929597.5,100.50000,1.00000000,b,l,,1"]
    with archived(tmp_path, LATER_TRADES, [market]) as archive:
        assert lines_of(archive, "XBTUSD.csv")[1:] == [
            "1711929600.0,100.50000,1.00000000,b,l,,2",
            "1711929601.25,100.50000,1.00000000,b,l,,3",
        ]


def test_who_is_in_an_archive(tmp_path: Path) -> None:
    early = Market.scripted("BTC/USD", _at("1711929597.5"))
    never = Market("ADA/USD", trades=0)
    with archived(tmp_path, LATER_TRADES, [early, never]) as archive:
        assert archive.namelist() == ["MANIFEST.json", "README.md"]
    with archived(tmp_path, LATER_CANDLES, [early, never]) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist() if "_" in info.filename}
    assert sizes == {f"ADAUSD_{interval}.csv": 0 for interval in ARCHIVE_INTERVALS}


SCHEMA_2 = "1711929601.25,100.50000,1.00000000,b,l,,1"
SCHEMA_1 = "100.50000,1.00000000,1711929601.25,b,l,,1"


@pytest.mark.parametrize(
    ("layout", "has_header", "lines"),
    [
        (TradeLayout.SCHEMA_2, False, [SCHEMA_2]),
        (TradeLayout.SCHEMA_1, None, ["Price,Volume,Timestamp,Type,Miscellaneous,Trade ID", SCHEMA_1]),
        (TradeLayout.SCHEMA_1, False, [SCHEMA_1]),
        (TradeLayout.OLD, None, ["1711929601,100.50000,1.00000000"]),
    ],
)
def test_older_layouts(
    layout: TradeLayout, has_header: bool | None, lines: list[str], tmp_path: Path
) -> None:
    market = Market.scripted("BTC/USD", _at("1711929601.25"))
    wanted = Archive(product=Product.TRADES, quarter=LATER, layout=layout, has_header=has_header)
    with archived(tmp_path, wanted, [market]) as archive:
        assert lines_of(archive, "XBTUSD.csv") == lines
        assert ("MANIFEST.json" in archive.namelist()) == (layout is TradeLayout.SCHEMA_2)


def test_names_and_quarters() -> None:
    assert [archive.name for archive in ARCHIVES] == [
        "Kraken_Trades_Full_2024Q1.zip",
        "Kraken_Trades_2024Q2.zip",
        "Kraken_OHLCVT_Full_2024Q1.zip",
        "Kraken_OHLCVT_2024Q2.zip",
    ]
    quarter = Quarter.parse("2023q4")
    assert (quarter.begin, quarter.end) == (
        datetime(2023, 10, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=UTC),
    )
    assert (quarter.next, quarter.next.previous) == (FULL, quarter)
    assert [Quarter.of(datetime(2024, month, 1, tzinfo=UTC)).number for month in (1, 3, 4, 12)] == [
        1,
        1,
        2,
        4,
    ]
    with pytest.raises(ConfigurationError, match="2024Q1"):
        Quarter.parse("2024")


def test_each_file_is_announced_before_it_is_made(made: ArchivedMarkets, tmp_path: Path) -> None:
    said: list[str] = []

    def announce(name: str) -> None:
        assert not (tmp_path / name).exists()
        said.append(name)

    write_archive(tmp_path, FULL_TRADES, made.all, Packing(part_size=100_000, announce=announce))
    assert set(said) == {path.name for path in tmp_path.iterdir()}
