"""Frames of the CSV that the database sends."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.extras import require
from kraken_db.frames import CANDLE_COLUMNS, TRADE_COLUMNS, FrameBackend, Numbers, frame_builder

BLOCKS = [
    b"1704067200000000,1.0000000001,9999999999.9999999999,0.0000000001,2.5,0,3,\n",
    b"1704067260123456,1,2,0.5,1.5,99999999999999999999.1234567891,4,1.25\n",
]
BACKENDS: list[FrameBackend] = ["polars", "pandas", "arrow"]


def build(backend: FrameBackend, numbers: Numbers, blocks: list[bytes] = BLOCKS) -> Any:
    builder = frame_builder(backend, numbers, CANDLE_COLUMNS)
    for block in blocks:
        builder.add(block)
    return builder.finish()


def column(frame: Any, name: str) -> list[Any]:
    if isinstance(frame, pa.Table):
        return list(frame.column(name).to_pylist())
    if isinstance(frame, pd.DataFrame):
        values = frame.index if name == "timestamp" else frame[name]
        return [None if value is pd.NA else value for value in values]
    return list(frame[name].to_list())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("blocks", [BLOCKS, [b"".join(BLOCKS)]], ids=["in blocks", "at once"])
def test_every_digit_is_there(backend: FrameBackend, blocks: list[bytes]) -> None:
    frame = build(backend, "decimal", blocks)
    assert column(frame, "timestamp") == [
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, 0, 1, 0, 123456, tzinfo=UTC),
    ]
    assert column(frame, "open") == [Decimal("1.0000000001"), Decimal(1)]
    assert column(frame, "high") == [Decimal("9999999999.9999999999"), Decimal(2)]
    assert column(frame, "low") == [Decimal("0.0000000001"), Decimal("0.5")]
    # A sum of volumes may be longer than the column of a minute.
    assert column(frame, "volume") == [Decimal(0), Decimal("99999999999999999999.1234567891")]
    assert column(frame, "trade_count") == [3, 4]
    assert column(frame, "vwap") == [None, Decimal("1.25")]


@pytest.mark.parametrize("backend", BACKENDS)
def test_floats_are_the_nearest_ones(backend: FrameBackend) -> None:
    frame = build(backend, "float")
    assert column(frame, "open") == [1.0000000001, 1.0]
    assert column(frame, "volume") == [0.0, 99999999999999999999.1234567891]
    missing, known = column(frame, "vwap")
    assert (missing is None or missing != missing) and known == 1.25


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("numbers", ["decimal", "float"])
def test_an_empty_frame_has_the_same_types(backend: FrameBackend, numbers: Numbers) -> None:
    empty, filled = build(backend, numbers, []), build(backend, numbers)
    assert len(empty) == 0
    if isinstance(empty, pl.DataFrame | pa.Table):
        assert empty.schema == filled.schema
    else:
        assert dict(empty.dtypes) == dict(filled.dtypes)
        assert (empty.index.name, empty.index.dtype) == ("timestamp", filled.index.dtype)
        assert str(empty.index.tz) == "UTC"


@pytest.mark.parametrize("backend", BACKENDS)
def test_words_of_trades_are_never_missing(backend: FrameBackend) -> None:
    builder = frame_builder(backend, "decimal", TRADE_COLUMNS)
    builder.add(b'1704067200000000,-9223372036854775808,1.5,2,buy,"",""\n')
    builder.add(b'1704067200000001,7,1.5,2,"","market","a ""b"", c"\n')
    frame = builder.finish()
    assert column(frame, "id") == [-(2**63), 7]
    assert column(frame, "side") == ["buy", ""]
    assert column(frame, "order_type") == ["", "market"]
    assert column(frame, "misc") == ["", 'a "b", c']


@pytest.mark.parametrize(
    ("backend", "package"), [("polars", "polars"), ("arrow", "pyarrow"), ("pandas", "pandas")]
)
def test_a_missing_package_is_told_with_the_way_out(
    backend: FrameBackend, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"need the Python package {package}.*\[frames\]"):
        build(backend, "decimal")


def test_what_is_missing_inside_a_package_is_not_told_as_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To install it again would not help."""
    (tmp_path / "broken_package.py").write_text("import a_part_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_missing"):
        require("broken_package", "frames of it")


def test_unknown_kinds_are_errors() -> None:
    with pytest.raises(ConfigurationError, match="backend='dask' is not known"):
        build("dask", "decimal")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="numbers='double' is not known"):
        build("polars", "double")  # type: ignore[arg-type]
