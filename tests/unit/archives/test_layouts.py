"""The columns of a file. Rows and headers are Kraken's own, or of files that are not Kraken's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.archives.layouts import (
    CandleLayout,
    LayoutError,
    NoRowsError,
    TradeLayout,
    candle_layout,
    trade_layout,
)

NOW = 1_764_000_000.0  # November 2025
SCHEMA_2 = ("time", "price", "volume", "side", "order_type", "misc", "trade_id")
SCHEMA_1 = ("price", "volume", "time", "side", "order_type", "misc", "trade_id")
HEADER_2 = "timestamp,price,volume,type,order_type,misc,trade_id\n"
HEADER_1 = "Price,Volume,Timestamp,Type,Miscellaneous,Trade ID\n"
HEADER_THIRD = "price,volume,time,buy/sell,market/limit,miscellaneous\n"
ROW_2 = "1758535295.6007776,3.1060000,31.41050,b,l,,1\n"
ROW_1 = "100.5,1.0,1700000000.0,b,l,,1\n"
WAY_OUT = (
    "if the file is right, name its columns in a header line, "
    "such as timestamp,price,volume,type,order_type,misc,trade_id"
)
OHLCVT = ("timestamp", "open", "high", "low", "close", "volume", "trades")
CANDLE = "1672531200,16535.97,16535.97,16522.66,16522.66,0.01429883,2\n"


def layout(text: str | bytes, declared: tuple[str, ...] | None = None) -> TradeLayout:
    return trade_layout(text.encode() if isinstance(text, str) else text, now=NOW, declared=declared)


def refusal(text: str | bytes, declared: tuple[str, ...] | None = None) -> LayoutError:
    with pytest.raises(LayoutError) as caught:
        layout(text, declared)
    return caught.value


def candles(text: str | bytes, interval: int = 1) -> CandleLayout:
    return candle_layout(text.encode() if isinstance(text, str) else text, now=NOW, interval=interval)


def candle_refusal(text: str | bytes, interval: int = 1) -> LayoutError:
    with pytest.raises(LayoutError) as caught:
        candles(text, interval)
    return caught.value


@pytest.mark.parametrize("name", ["0GEUR", "0GUSD", "1INCHEUR"])
def test_files_of_krakens_archive(real_data: Path, name: str) -> None:
    content = (real_data / "archives" / f"{name}.csv").read_bytes()
    header, _, rows = content.partition(b"\n")
    assert header == HEADER_2.encode().rstrip()
    assert layout(content) == TradeLayout(SCHEMA_2, 1)
    assert layout(rows) == TradeLayout(SCHEMA_2, 0)
    assert layout(content).has_ids
    assert layout(content, SCHEMA_2) == TradeLayout(SCHEMA_2, 1)
    assert layout(rows, SCHEMA_2) == TradeLayout(SCHEMA_2, 0)
    for size in range(len(header) + 1, len(content)):  # however the first block is cut
        try:
            assert layout(content[:size]) == TradeLayout(SCHEMA_2, 1)
        except LayoutError as error:
            assert size < len(header) + 46, error


def test_recorded_trades_with_their_recorders_header(real_data: Path) -> None:
    content = (real_data / "trades" / "kraken_eth_usd_historical_price_source.csv").read_bytes()
    assert layout(content[:65536]) == TradeLayout(SCHEMA_1[:6], 1)
    assert layout(content.partition(b"\n")[2][:65536]) == TradeLayout(SCHEMA_1[:6], 0)
    assert not layout(content[:65536]).has_ids


@pytest.mark.parametrize("interval", [1, 5, 15, 60, 720, 1440])
def test_candles_of_krakens_archive(real_data: Path, interval: int) -> None:
    content = (real_data / "ohlcvt" / f"XBTUSDC_{interval}.csv").read_bytes()[:65536]
    assert candles(content, interval) == CandleLayout(OHLCVT, 0)
    assert "these are candles" in refusal(content).reason


@pytest.mark.parametrize(
    ("text", "columns", "header_lines"),
    [
        (HEADER_2 + ROW_2, SCHEMA_2, 1),
        (HEADER_2.upper() + ROW_2, SCHEMA_2, 1),
        (ROW_2, SCHEMA_2, 0),
        (HEADER_1 + ROW_1, SCHEMA_1, 1),  # six names over seven fields
        (HEADER_1.upper() + ROW_1, SCHEMA_1, 1),
        (ROW_1, SCHEMA_1, 0),
        (HEADER_THIRD + ROW_1, SCHEMA_1, 1),  # our export
        (HEADER_THIRD + "100.5,1.0,1700000000.0,b,l,\n", SCHEMA_1[:6], 1),
        ("100.5,1.0,1700000000.0,b,l,\n", SCHEMA_1[:6], 0),
        ("1700000000.0,100.5,1.0,b,l,\n", SCHEMA_2[:6], 0),
        ("1700000000,100.5,1.0\n", SCHEMA_2[:3], 0),
        ("timestamp,price,volume\n1700000000,100.5,1.0\n", SCHEMA_2[:3], 1),
        ("Volume,Price,Time\n1,100.5,1700000000\n", ("volume", "price", "time"), 1),
        # All seven names over seven fields.
        (
            "Price,Volume,Timestamp,Type,Order Type,Misc,Trade ID\n" + ROW_1,
            SCHEMA_1,
            1,
        ),
        # Six names that are all there are.
        (HEADER_1 + "100.5,1.0,1700000000.0,b,,1\n",
         ("price", "volume", "time", "side", "misc", "trade_id"), 1),
        # Where another name says the side, the type is that of the order.
        ("price,volume,time,side,type,misc\n100.5,1.0,1700000000.0,b,l,\n", SCHEMA_1[:6], 1),
        ("price,volume,time,type,side,misc\n100.5,1.0,1700000000.0,l,b,\n",
         ("price", "volume", "time", "order_type", "side", "misc"), 1),
        ('"timestamp","price","volume"\n1700000000,100.5,1.0\n', SCHEMA_2[:3], 1),
        # What may be unknown: side, type, flags, the id.
        ("1378857600.1,130.5,0.1,,,,1\n1378857601.1,130.5,0.1,buy,market,x,2\n", SCHEMA_2, 0),
        ("100.5,1.0,1700000000.0,,,,0\n", SCHEMA_1, 0),
        ("100.5,1.0,1700000000.0,,,some flags,\n", SCHEMA_1, 0),
        ("1700000000,100.5,1.0,b,stop-loss,,1\n", SCHEMA_2, 0),
        # Numbers as archives write them.
        ("1700000000,1E+1,5.5E+2,b,l,,1\n", SCHEMA_2, 0),
        ("1.7E+9,2019.9138159998,.5\n", SCHEMA_2[:3], 0),
        # Prices of one satoshi; a volume that looks like a time, in one of the rows.
        ("1700000000,0.00001,1700000000,b,l,,1\n1700000001,0.00001,5,b,l,,2\n", SCHEMA_2, 0),
        ("0.00001,1700000000,1700000000,b,l,,1\n0.00001,5,1700000001,b,l,,2\n", SCHEMA_1, 0),
        (HEADER_2 + "1700000000,0.00001,1700000000,b,l,,1\n", SCHEMA_2, 1),
        # The first and the last moment.
        ("1377993600,100.5,1.0\n1764000005,100.5,1.0\n", SCHEMA_2[:3], 0),
    ],
)  # fmt: skip
def test_layouts(text: str, columns: tuple[str, ...], header_lines: int) -> None:
    expected = TradeLayout(columns, header_lines)
    assert layout(text) == expected
    assert layout(text.replace("\n", "\r\n")) == expected
    assert layout(b"\xef\xbb\xbf" + text.encode()) == expected
    assert layout(text.removesuffix("\n")) == expected
    assert layout(text, columns) == expected
    assert expected.has_ids == (columns[-1] == "trade_id")
    with pytest.raises(LayoutError):
        candle_layout(text.encode(), now=NOW, interval=1)


def test_all_rows_count_and_not_just_the_first() -> None:
    text = ROW_2 + ROW_1
    error = refusal(text)
    assert error.line == 2
    assert error.reason == (
        "time 100.5 is before September 2013, when Kraken's history begins"
        " (read as time,price,volume,side,order_type,misc,trade_id, which it comes nearest to)"
    )
    assert error.hint == WAY_OUT
    assert str(error) == f"{error.reason} ({WAY_OUT})"


def test_a_row_of_another_width_is_for_the_database() -> None:
    assert layout(ROW_2 + "1758535296,3.1\n\n" + ROW_2).columns == SCHEMA_2


def test_a_cut_last_line_is_not_looked_at() -> None:
    assert layout(ROW_2 + ROW_2 + "x,y,z,x,y,z,x").columns == SCHEMA_2
    assert refusal(ROW_2 + "x,y,z,x,y,z,x\n").line == 2


# text, the line, the reason
REFUSED: dict[str, tuple[str | bytes, int | None, str]] = {
    "prices where times belong": (
        "26975.7,0.01,1696118400\n",
        1,
        "time 26975.7 is before September 2013, when Kraken's history begins (read as time,price,volume,"
        " which it comes nearest to)",
    ),
    "two times": ("1696118400,1696118401,0.5\n", 1, "price 1696118401 looks like a time"),
    "all volumes like times": (
        "1700000000,0.00001,1700000001,b,l,,1\n",
        1,
        "two fields of each row can be its time: '1700000000' and '1700000001'",
    ),
    "price like a time under a header": (
        "price,volume,time\n1700000000,1,1700000000\n",
        2,
        "price 1700000000 looks like a time (read as price,volume,time, as its header has it)",
    ),
    "no time at all": (
        "100.5,1.0,17.0,b,l,,1\n",
        1,
        "neither the first nor the third of 7 fields is a time between September 2013 and now, in seconds:"
        " '100.5,1.0,17.0,b,l,,1'",
    ),
    "milliseconds": ("1700000000123,100.5,1\n", 1, "time 1700000000123 looks like milliseconds"),
    "future": ("1764000006,100.5,1\n", 1, "time 1764000006 lies in the future"),
    "before Kraken": ("1377993599.9,100.5,1\n", 1, "time 1377993599.9 is before September 2013"),
    "no Unix time": ("0,100.5,1\n", 1, "time 0 is not a Unix time in seconds"),
    "ISO times": ("time,price,volume\n2023-01-01T00:00:00Z,1,1\n", 2, "time '2023-01-01T00:00:00Z' is not"),
    "price": ("1700000000,100.5,1\n1700000000,abc,1\n", 2, "price 'abc' is not a number"),
    "volume": ("1700000000,100.5,\n", 1, "volume '' is not a number"),
    "NaN": ("NaN,1,1672531200.1,b,l,,5\n", 1, "price 'NaN' is not a number"),
    "side": ("100.5,1,1672531200.1,x,l,,5\n", 1, "the side is neither buy (b) nor sell (s): 'x'"),
    "type": ("100.5,1,1672531200.1,b,z,,5\n", 1, "the order type is no word such as market or limit: 'z'"),
    "negative id": ("100.5,1,1672531200.1,b,l,,-5\n", 1, "the trade id is negative: -5"),
    "id of text": ("100.5,1,1672531200.1,b,l,,abc\n", 1, "trade id 'abc' is not a whole number"),
    "large id": (f"100.5,1,1672531200.1,b,l,,{2**62 + 1}\n", 1, f"no trade id is as large as {2**62 + 1}"),
    "endless id": (f"1,1,1672531200.1,b,l,,{'9' * 5000}\n", 1, "no trade id is as large as 9999"),
    "six fields, an id": (
        "1700000000,100.5,1.0,b,l,17\n",
        1,
        "the last field may be flags or a trade id: '17'",
    ),
    "another site's trades": ("1500000000,0.5,100,50,1700000000123,True,True\n", 1, "the side is neither"),
    "four fields": (
        "1672531200,100.5,1,2\n",
        1,
        "4 fields, but trades have 3 (timestamp,price,volume), 6 or 7: '1672531200,100.5,1,2'",
    ),
    "many fields": ("1," * 100 + "1\n", 1, "101 fields: this is none of Kraken's files"),
    "semicolons": ("1700000000;100.5;1.0\n", 1, "its fields are separated by semicolons, Kraken's by commas"),
    "tabs under a header": ("time\tprice\tvolume\n1\t2\t3\n", 1, "its fields are separated by tabs"),
    "unknown name": (
        "time,pair,price,volume\n1700000000,XBTUSD,1,1\n",
        1,
        "its header names a column 'pair', which Kraken's files don't have",
    ),
    "empty name": ("time,price,volume,\n1700000000,1,1,\n", 1, "its header names a column ''"),
    "a name twice": (
        "time,price,volume,Timestamp\n1700000000,1,1,1700000000\n",
        1,
        "its header has two names for the time: 'time' and 'Timestamp'",
    ),
    "no time": ("price,volume\n1,1\n", 1, "its header names no time: 'price,volume'"),
    "only ids": ("trade_id,misc\n1,1\n", 1, "its header names no time and no price and no volume"),
    "more fields than names": (
        "time,price,volume\n1700000000,1,1,b\n",
        2,
        "its header has 3 names (time,price,volume), the rows have 4 fields",
    ),
    "more names than fields": (HEADER_2 + "1700000000,1,1\n", 2, "its header has 7 names (time,price,"),
    "candles": (
        CANDLE,
        1,
        "these are candles (timestamp,open,high,low,close,volume,trades), not trades",
    ),
    "candles with a header": (",".join(OHLCVT) + "\n" + CANDLE, 1, "these are candles"),
    "empty": ("", None, "the file is empty"),
    "only a mark": (b"\xef\xbb\xbf", None, "the file is empty"),
    "empty lines": ("\n\n", None, "there is nothing but empty lines in it"),
    "an empty first line": ("\n" + ROW_2, 1, "the line is empty"),
    "only a header": (HEADER_2, None, "there is no trade in it, only a header line"),
    "a header without an end": (HEADER_2.rstrip(), None, "there is no trade in it, only a header line"),
    "UTF-16": (ROW_2.encode("utf-16"), 1, "it is UTF-16 text: it begins with that byte-order mark"),
    "UTF-16 without a mark": (ROW_2.encode("utf-16-le"), 1, "binary data (byte 0x00)"),
    "a zip": (b"PK\x03\x04" + bytes(range(256)), 1, "binary data (byte 0x03)"),
    "no line ends": ("1" * 65536, 1, "the line has no end: this is not a CSV file"),
    "a page of a proxy": ("<html><head>\n<title>403</title>\n", 1, "names a column '<html><head>'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    text, line, reason = REFUSED[case]
    error = refusal(text)
    assert reason in error.reason
    assert error.line == line
    assert str(error).isprintable()
    assert isinstance(error, NoRowsError) == (line is None)


@pytest.mark.parametrize(
    ("text", "declared", "line", "reason"),
    [
        (
            HEADER_1 + ROW_1,
            SCHEMA_2,
            1,
            "its header means price,volume,time,side,order_type,misc,trade_id, but MANIFEST.json says"
            " time,price,volume,side,order_type,misc,trade_id",
        ),
        (
            ROW_1,
            SCHEMA_2,
            1,
            "time 100.5 is before September 2013, when Kraken's history begins"
            " (read as time,price,volume,side,order_type,misc,trade_id, as MANIFEST.json has it)",
        ),
        ("1700000000,100.5,1.0\n", SCHEMA_2, 1, "MANIFEST.json has 7 names"),
    ],
)
def test_a_manifest_that_contradicts_the_file(
    text: str, declared: tuple[str, ...], line: int, reason: str
) -> None:
    error = refusal(text, declared)
    assert reason in error.reason
    assert error.line == line


def test_a_manifest_settles_what_the_values_do_not() -> None:
    text = "1700000000,0.00001,1700000001,b,l,,1\n"
    assert layout(text, SCHEMA_2) == TradeLayout(SCHEMA_2, 0)
    six = ("price", "volume", "time", "side", "misc", "trade_id")  # as the header of the quarterlies
    assert layout(ROW_1, six) == TradeLayout(SCHEMA_1, 0)


@pytest.mark.parametrize(
    ("text", "columns", "header_lines"),
    [
        (CANDLE, OHLCVT, 0),
        (",".join(OHLCVT).upper() + "\n" + CANDLE, OHLCVT, 1),
        ("Time,Open,High,Low,Close,Volume,Count\n" + CANDLE, OHLCVT, 1),
        (
            "timestamp,open,high,low,close,volume,trades,vwap\n" + CANDLE.replace("\n", ",16530.1\n"),
            (*OHLCVT, "vwap"),
            1,
        ),
        (
            "timestamp,open,high,low,close,volume,trade_count,vwap,quote_volume\n"
            + CANDLE.replace("\n", ",16530.1,236.4\n"),
            (*OHLCVT, "vwap", "quote_volume"),
            1,
        ),
        # The order of Kraken's REST.
        (
            "time,open,high,low,close,vwap,volume,count\n"
            + CANDLE.replace("16522.66,0.0", "16522.66,16530.1,0.0"),
            ("timestamp", "open", "high", "low", "close", "vwap", "volume", "trades"),
            1,
        ),
        ("1672531200,1E+1,1E+1,1E+1,1E+1,5.5E+2,2\n", OHLCVT, 0),
        # A row at fault is for the rules of a row, with its line.
        (CANDLE + "1672531260,abc,102,99.5,101,2.5,7\n", OHLCVT, 0),
        ("0,1,1,1,1,1,1\n", OHLCVT, 0),
        (f"{'1' * 4050},1,1,1,1,1,1\n", OHLCVT, 0),
    ],
)
def test_layouts_of_candles(text: str, columns: tuple[str, ...], header_lines: int) -> None:
    expected = CandleLayout(columns, header_lines)
    assert candles(text) == expected
    assert candles(text.replace("\n", "\r\n")) == expected
    assert candles(b"\xef\xbb\xbf" + text.encode()) == expected
    with pytest.raises(LayoutError):
        layout(text)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (ROW_2, 1, "these are trades, not candles of 1h"),
        (ROW_1, 1, "these are trades"),
        ("1700000000,100.5,1.0\n", 1, "these are trades"),
        (HEADER_2 + ROW_2, 1, "these are trades"),
        (HEADER_1, 1, "these are trades"),
        (
            "1672531200,1,2,1,2,1.5,10,3\n",
            1,
            "8 fields, but candles of 1h have 7: timestamp,open,high,low,close,volume,trades; seen"
            " '1672531200,1,2,1,2,1.5,10,3'",
        ),
        ("1672531200,1,2,1,2,10\n", 1, "6 fields, but candles of 1h have 7"),
        ("timestamp,open,high,low,close,volume\n1672531200,1,2,1,2,10\n", 1, "names no trades"),
        (",".join(OHLCVT) + "\n1672531200,1,2,1,2,10\n", 2, "has 7 names, the rows have 6 fields"),
        (",".join(OHLCVT), None, "there is no candle in it, only a header line"),
        ("", None, "the file is empty"),
        ("abc\n", 1, "names a column 'abc'"),
        (CANDLE.encode("utf-16"), 1, "UTF-16"),
        (bytes(range(256)) * 40, 1, "binary data"),
        ("1" * 65536, 1, "no end"),
    ],
)
def test_what_are_no_candles(text: str | bytes, line: int | None, reason: str) -> None:
    error = candle_refusal(text, 60)
    assert reason in error.reason
    assert error.line == line


numbers = st.decimals(0, 10**10, places=8).map(str) | st.integers(0, 2 * 10**9).map(str)
times = st.integers(1377993600, 1764000000).map(str) | st.decimals(
    1377993600, 1764000000, places=7, allow_nan=False
).map(str)
rows = st.fixed_dictionaries(
    {
        "time": times,
        "price": numbers,
        "volume": numbers,
        "side": st.sampled_from(["b", "s", "buy", "sell", ""]),
        "order_type": st.sampled_from(["m", "l", "market", "limit", ""]),
        "misc": st.sampled_from(["", "x", "some flags", "17"]),
        "trade_id": st.integers(0, 2**62).map(str) | st.just(""),
    }
)
HEADERS = {
    SCHEMA_2: HEADER_2,
    SCHEMA_1: HEADER_1,
    SCHEMA_1[:6]: HEADER_THIRD,
    SCHEMA_2[:6]: "timestamp,price,volume,type,order_type,misc\n",
    SCHEMA_2[:3]: "timestamp,price,volume\n",
}


@given(
    columns=st.sampled_from(sorted(HEADERS)),
    content=st.lists(rows, min_size=1, max_size=5),
    has_header=st.booleans(),
    is_declared=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_file_is_read_as_what_it_is_or_refused(
    columns: tuple[str, ...],
    content: list[dict[str, str]],
    has_header: bool,
    is_declared: bool,
    end: str,
) -> None:
    text = "".join(",".join(row[name] for name in columns) + end for row in content)
    if has_header:
        text = HEADERS[columns].rstrip() + end + text
    expected = TradeLayout(columns, int(has_header))
    plausible = all(not 1377993600 <= float(row["price"]) <= 1764000005 for row in content)
    clear = any(not 1377993600 <= float(row["volume"]) <= 1764000005 for row in content)
    no_id = columns[-1] != "misc" or all(row["misc"] != "17" for row in content)
    if plausible and (has_header or is_declared or (clear and no_id)):
        assert layout(text, columns if is_declared else None) == expected
        return
    try:
        assert layout(text, columns if is_declared else None) == expected
    except LayoutError as error:
        assert error.hint == WAY_OUT


@given(st.binary(max_size=300) | st.text("0123456789.,\r\n-eEbsltimeprcvou;\t", max_size=300).map(str.encode))
def test_any_bytes_are_a_layout_or_refused_in_one_line(sample: bytes) -> None:
    for read in (layout, candles):
        try:
            found = read(sample)
        except LayoutError as error:
            assert str(error).isprintable()
        else:
            assert found.header_lines in (0, 1)
            assert len(set(found.columns)) == len(found.columns) >= 3


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("2024-01-01T00:00:00Z,42283.6,0.01,buy", "write unix seconds, UTC, such as 1704067200.5"),
        ("1704067200000,42283.6,0.01,buy", "write unix seconds, UTC, such as 1704067200.5"),
        ("1704067200,42283.6,0.01,SELL", "write buy or sell, or leave the field empty"),
        ("1704067200, 42283.6,0.01,buy", "write digits and a point, without blanks, such as 42283.6"),
        ('1704067200,42283.6,"0.01",buy', "write digits and a point, without blanks, such as 42283.6"),
    ],
)
def test_with_a_header_the_field_is_what_is_wrong(row: str, hint: str) -> None:
    with pytest.raises(LayoutError) as caught:
        layout(f"time,price,volume,side\n{row}\n")
    assert (caught.value.hint, caught.value.line) == (hint, 2)


def test_the_smallest_file_of_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "importing.md").read_text()
    _, _, rest = page.partition("Save it as `my-trades.csv`:\n\n")
    block, _, _ = rest.partition("\n\n")
    text = "\n".join(line.strip() for line in block.splitlines()) + "\n"
    assert text.count("\n") == 3
    assert layout(text) == TradeLayout(("time", "price", "volume", "side"), 1)
