"""``MANIFEST.json``: of the archive of all trades as Kraken made it, and of others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.archives.layouts import trade_layout
from kraken_db.archives.manifest import LARGEST_MANIFEST, ManifestError, parse_manifest

TRADES: dict[str, Any] = {
    "product": "trades",
    "schema_version": 2,
    "columns": ["timestamp", "price", "volume", "type", "order_type", "misc", "trade_id"],
    "has_header": True,
    "coverage": {"start": "2013-09-11", "end": "2026-06-30"},
    "pairs": 1659,
    "files": 1659,
    "rows": 1873113017,
    "generated": "2026-08-17",
}


def text(**changes: Any) -> bytes:
    return json.dumps(TRADES | changes).encode()


def test_the_archive_of_all_trades() -> None:
    for content in (text(), b"\xef\xbb\xbf" + text(), text(more={"a": [1]}, note="new")):
        found = parse_manifest(content)
        assert (found.product, found.schema_version, found.has_header) == ("trades", 2, True)
        assert found.columns == ("time", "price", "volume", "side", "order_type", "misc", "trade_id")
        assert found.start == datetime(2013, 9, 11, tzinfo=UTC)
        assert found.end == datetime(2026, 7, 1, tzinfo=UTC)  # the whole last day
        assert (found.pairs, found.files, found.rows) == (1659, 1659, 1873113017)
        assert found.generated == "2026-08-17"


def test_its_columns_are_what_a_file_is_measured_by() -> None:
    rows = b"1758535295.6007776,3.1060000,31.41050,b,l,,1\n"
    found = parse_manifest(text())
    assert trade_layout(rows, now=1_790_000_000, declared=found.columns).columns == found.columns


def test_the_archive_of_candles() -> None:
    content = {"product": "OHLCVT", "schema_version": 1, "has_header": False, "files": 12037}
    found = parse_manifest(json.dumps(content).encode())
    assert (found.product, found.schema_version, found.has_header) == ("ohlcvt", 1, False)
    unknown = (found.columns, found.start, found.end, found.pairs, found.rows, found.generated)
    assert unknown == (None,) * 6
    assert found.files == 12037
    columns = ["timestamp", "open", "high", "low", "close", "volume", "trades"]
    found = parse_manifest(json.dumps(content | {"columns": columns}).encode())
    assert found.columns == ("timestamp", "open", "high", "low", "close", "volume", "trades")


@pytest.mark.parametrize(
    ("coverage", "start", "end"),
    [
        ({"from": "2026-01-01", "to": "2026-03-31"}, "2026-01-01", "2026-04-01"),
        ({"first": "2026-01-01", "last": "2026-03-31"}, "2026-01-01", "2026-04-01"),
        (["2026-01-01", "2026-03-31"], "2026-01-01", "2026-04-01"),
        (["2026-01-01T00:00:00Z", "2026-03-31T23:59:59Z"], "2026-01-01", "2026-03-31T23:59:59"),
        ({"start": "2026-01-01T01:00:00+01:00", "end": "2026-03-31"}, "2026-01-01", "2026-04-01"),
    ],
)  # fmt: skip
def test_coverage(coverage: Any, start: str, end: str) -> None:
    found = parse_manifest(text(coverage=coverage))
    assert found.start == datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert found.end == datetime.fromisoformat(end).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "coverage",
    [
        None,
        "all of it",
        {},
        [],
        [1, 2],
        ["2026-01-01"],
        {"start": "2026-01-01"},
        ["2026-01-01", "9999-12-31"],
    ],
)
def test_a_coverage_that_says_nothing(coverage: Any) -> None:
    found = parse_manifest(text(coverage=coverage))
    assert (found.start, found.end) == (None, None)


def test_lists_are_counted() -> None:
    found = parse_manifest(text(pairs=["XBTUSD", "XBTEUR"], files={"XBTUSD.csv": 5}))
    assert (found.pairs, found.files) == (2, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "MANIFEST.json is no JSON"),
        (b"<html>", "MANIFEST.json is no JSON"),
        (b"[" * 100_000, "MANIFEST.json is no JSON"),
        (b"\xff\xfe\x00", "MANIFEST.json is no JSON"),
        (b'{"rows": ' + b"9" * 5000 + b"}", "MANIFEST.json is no JSON"),
        (b"[]", "MANIFEST.json is no JSON object"),
        (b" " * (LARGEST_MANIFEST + 1), "MANIFEST.json has 16,777,217 bytes: this is none"),
        (b"{}", "MANIFEST.json says no product"),
        (text(product=5), "MANIFEST.json says product 5"),
        (text(product="orderbook"), "of the product 'orderbook'; known are trades and ohlcvt"),
        (text(schema_version=3), "has schema version 3 of trades; known here: 1 and 2"),
        (text(product="ohlcvt", schema_version=2), "has schema version 2 of ohlcvt; known here: 1"),
        (text(schema_version="2"), 'MANIFEST.json says schema_version "2"'),
        (text(schema_version=True), "MANIFEST.json says schema_version true"),
        (text(has_header="yes"), 'MANIFEST.json says has_header "yes"'),
        (text(rows=-1), "MANIFEST.json says rows -1"),
        (text(rows=1.5), "MANIFEST.json says rows 1.5"),
        (text(rows=True), "MANIFEST.json says rows true"),
        (text(files=10**30), "MANIFEST.json says files 1000"),
        (text(columns="timestamp"), "MANIFEST.json says columns"),
        (text(columns=["timestamp", 5]), "MANIFEST.json says columns"),
        (text(columns=["timestamp", "price"]), "MANIFEST.json names no volume"),
        (text(columns=["timestamp", "price", "volume", "pair"]), "MANIFEST.json names a column 'pair'"),
        (text(coverage=["2026-03-31", "2026-01-01"]), "covers 2026-03-31 to 2026-01-01: no time at all"),
    ],
)
def test_what_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(content)
    assert reason in caught.value.message
    assert caught.value.hint


def test_what_was_found_against_what_it_says() -> None:
    found = parse_manifest(text())
    assert found.contradiction(1659, 1873113017) is None
    assert found.contradiction(1658, 1873113017) == "MANIFEST.json says 1,659 files, and there are 1,658"
    assert found.contradiction(1658, 1873113016) == (
        "MANIFEST.json says 1,659 files, and there are 1,658; 1,873,113,017 rows, and there are 1,873,113,016"
    )
    assert parse_manifest(text(files=None, rows=None)).contradiction(1, 1) is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(TRADES)), anything))
def test_any_values_are_a_manifest_or_an_error(changes: dict[str, Any]) -> None:
    try:
        found = parse_manifest(text(**changes))
    except ManifestError as error:
        assert "MANIFEST.json" in str(error)
    else:
        assert (found.start is None) == (found.end is None)
