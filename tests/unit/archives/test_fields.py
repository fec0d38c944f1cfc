"""One grammar of numbers: for the first rows of a file and for all others, whatever the file."""

from __future__ import annotations

import random
import re
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.archives.fields import RowGrammar, is_number
from kraken_db.archives.layouts import CANDLE_COLUMNS, SCHEMA_1, SCHEMA_2

LAYOUTS = {
    "3": (SCHEMA_2[:3], "1672531200.5,100.5,1"),
    "6": (SCHEMA_1[:-1], "100.5,1,1672531200.5,b,l,"),
    "7, schema 1": (SCHEMA_1, "100.5,1,1672531200.5,b,l,,5"),
    "7, schema 2": (SCHEMA_2, "1672531200.5,100.5,1,b,l,,5"),
    "candles": (CANDLE_COLUMNS, "1672531200,100.5,102,99.5,101,2.5,7"),
    "candles with more": ((*CANDLE_COLUMNS, "vwap", "quote_volume"), "1672531200,1,2,1,1,2.5,7,1.5,2"),
}
RIGHT = (
    "1",
    "0",
    "007",
    "1.5",
    "1.",
    ".5",
    "+1",
    "-1",
    "1E+1",
    "5.5E+2",
    "1e-7",
    "2019.9138159998",
    "1E+4000",
)
# What PostgreSQL 16 or Python read as a number, and what nobody does.
WRONG = (
    "0x10", "0X1F", "0b1", "0o17", "1_0", "1_000.5", " 2.0", "2.0 ", "\t2", "\u0661\u0662", "\uff11", "1.0.5",
    "NaN", "nan", "Infinity", "-inf", "1e", "e5", ".", "+", "-", "--1", "+-1", "1e+", "1e5.5", "1,",
    "1" * 61, "1." + "1" * 61, "1L", "$1", "1%", "(1)", "1'000", "=1+1", "TRUE", "None",
    "null", "\x00", "1\x00", "1e00005",
)  # fmt: skip


def fields(columns: tuple[str, ...]) -> list[int]:
    """Where a number stands that need not be whole."""
    words = ("side", "order_type", "misc", "trade_id", "timestamp", "trades")
    return [at for at, name in enumerate(columns) if name not in words]


@pytest.mark.parametrize("text", RIGHT)
def test_numbers(text: str) -> None:
    assert is_number(text)
    Decimal(text)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_number(text: str) -> None:
    assert not is_number(text)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_number_of_every_layout(layout: str) -> None:
    columns, row = LAYOUTS[layout]
    good = row.encode() + b"\n"
    assert RowGrammar(columns).misfit(good * 100) is None
    for at in fields(columns):
        for text in RIGHT + WRONG:
            if "," in text:
                continue
            changed = row.split(",")
            changed[at] = text
            line = ",".join(changed).encode() + b"\n"
            found = RowGrammar(columns).misfit(good * 3 + line + good)
            if text in RIGHT:
                assert found is None, text
            else:
                assert found is not None, text
                assert found[0] == 3
                assert re.fullmatch(
                    rf"{columns[at].replace('_', ' ')} .* is not a number", found[1], re.DOTALL
                )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_numbers(layout: str) -> None:
    columns, row = LAYOUTS[layout]
    for at in set(range(len(columns))) - set(fields(columns)):
        if columns[at] in ("side", "order_type", "misc"):
            continue
        for text in ("7.5", "1E5", "1_0", "0x10", " 7", "1" * 41):
            changed = row.split(",")
            changed[at] = text
            found = RowGrammar(columns).misfit(",".join(changed).encode() + b"\n")
            assert found is not None and found[1].endswith("is not a whole number"), text


def test_what_the_database_tells() -> None:
    """Empty fields and rows of another width: it knows which column they lack."""
    grammar = RowGrammar(CANDLE_COLUMNS)
    assert grammar.misfit(b"1672531200,,102,99.5,101,2.5,7\n\n1672531200,1\n1,2,3,4,5,6,7,8\nx\n") is None


def test_a_shape_that_was_wrong_is_wrong_again() -> None:
    grammar = RowGrammar(SCHEMA_2[:3])
    for _ in range(2):
        assert grammar.misfit(b"1.5,2,3\n1.5,0x2,3\n") == (1, "price '0x2' is not a number")


def test_words_are_not_numbers() -> None:
    grammar = RowGrammar(SCHEMA_2)
    assert grammar.misfit(b"1672531200.5,100.5,1,0x1,1_0, 2.0,5\n") is None


@given(st.text("0123456789.eE+-x_ ", max_size=12))
def test_what_is_a_number_python_reads_too(text: str) -> None:
    """The other way round it reads more: underscores and blanks."""
    row = f"1672531200.5,{text},1\n".encode()
    is_right = RowGrammar(SCHEMA_2[:3]).misfit(row) is None
    assert is_right == (is_number(text) or not text)
    try:
        Decimal(text)
    except InvalidOperation:
        assert not is_number(text)


def test_shapes_without_end_are_not_kept() -> None:
    draw = random.Random(5)
    grammar = RowGrammar(SCHEMA_2)
    for _ in range(30):
        words = ["".join(draw.choices("abcdefgh", k=8)) for _ in range(1000)]
        rows = "".join(f"1672531200.5,100.5,1,b,l,{word},5\n" for word in words)
        assert grammar.misfit(rows.encode()) is None
    assert len(grammar._known) <= 11_000
