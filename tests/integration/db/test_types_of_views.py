"""Engines that attach to the database read a number without a width as a float: each view has the tables'."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.support.archives import START, at, query
from tests.support.stores import opened

VIEWS = [f"candles_{name}" for name in ("5m", "15m", "30m", "1h", "4h", "12h", "1d", "1w")]
PRICES, AMOUNTS = ("open", "high", "low", "close", "vwap"), ("volume", "quote_volume")


async def test_the_views_have_the_widths_of_the_tables(db_url: str) -> None:
    """On both kinds of database: as pg_attribute has them, and as information_schema tells them."""
    rows = await query(
        db_url,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = CAST('public' AS regnamespace) AND a.attname = ANY(:names)"
        " AND c.relname = ANY(:views)",
        names=[*PRICES, *AMOUNTS],
        views=VIEWS,
    )
    kinds = {**dict.fromkeys(PRICES, "numeric(20,10)"), **dict.fromkeys(AMOUNTS, "numeric(38,10)")}
    assert {tuple(row) for row in rows} == {(view, *kind) for view in VIEWS for kind in kinds.items()}
    told = await query(
        db_url,
        "SELECT DISTINCT column_name, numeric_precision, numeric_scale FROM information_schema.columns"
        " WHERE table_name = ANY(:views) AND data_type = 'numeric'",
        views=VIEWS,
    )
    assert {tuple(row) for row in told} == {
        *((name, 20, 10) for name in PRICES),
        *((name, 38, 10) for name in AMOUNTS),
    }


@pytest.mark.parametrize("is_refreshed", [False, True])
async def test_all_digits_survive(db_url: str, is_refreshed: bool) -> None:
    """Two minutes of 12,345,678,901,234,567.0123456789 units: 24,691,357,802,469,134.0246913578 together."""
    volume = "12345678901234567.0123456789"
    for number in range(2):
        await query(
            db_url,
            "INSERT INTO candles (symbol, timestamp, interval_minutes, open, high, low, close, volume,"
            " quote_volume, trade_count, vwap) VALUES ('SHIB/USD', :at, 1,"
            " 9999999999.9999999999, 9999999999.9999999999, 0.0000000001,"
            f" 0.0000000001, {volume}, {volume}, 1, 0.0000000003)",
            at=at(START + 60 * number),
        )
    if is_refreshed:
        async with opened(db_url) as store:
            await store.refresh_pending()
    for view in VIEWS:
        rows = await query(db_url, f"SELECT open, low, vwap, volume, quote_volume FROM {view}")
        assert [tuple(row) for row in rows] == [
            (
                Decimal("9999999999.9999999999"),
                Decimal("0.0000000001"),
                Decimal("0.0000000003"),
                Decimal("24691357802469134.0246913578"),
                Decimal("24691357802469134.0246913578"),
            )
        ], view
