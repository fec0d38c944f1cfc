"""Stores with much in them, made by SQL alone: what pages are tried with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kraken_db.backends import StaleRange
from tests.support.archives import query
from tests.support.stores import opened

SOURCE = "rest_trades"


async def fill_minutes(url: str, symbol: str, start: datetime, end: datetime) -> None:
    """A pair with a candle in every minute of a range, a trade in each of its last 300, and its coverage."""
    for statement in (
        f"""
        INSERT INTO candles SELECT '{symbol}', m, 1, p, p * 1.001, p * 0.999, p * (1 + 0.0004 * sin(n)),
            5 + 4 * sin(n / 97.0), NULL, 3, p
          FROM generate_series(timestamptz '{start}', timestamptz '{end}' - interval '1 min', '1 min') m,
          LATERAL (SELECT extract(epoch FROM m)::bigint / 60 AS n) numbered,
          LATERAL (SELECT 30000 * exp(sin(n / 400000.0) + 0.1 * sin(n / 9000.0)) AS raw) drawn,
          LATERAL (SELECT round(raw::numeric, 2) AS p) priced
        """,
        f"""
        INSERT INTO trades SELECT 901 - n, '{symbol}', timestamptz '{end}' - n * interval '20 s',
            30000 + n, 0.5, 'buy', 'limit', '' FROM generate_series(1, 900) n
        """,
        f"""
        INSERT INTO data_sync_status SELECT '{symbol}', kind, timestamptz '{start}',
            timestamptz '{end}' - CASE kind WHEN 'trades' THEN interval '20 s' ELSE interval '1 min' END,
            now(), NULL, 900
          FROM unnest('{{trades,candles_1m}}'::text[]) kind
        """,
        f"""
        INSERT INTO data_coverage SELECT '{symbol}', kind, '{SOURCE}',
            tstzmultirange(tstzrange('{start}', '{end}')) FROM unnest('{{trades,candles_1m}}'::text[]) kind
        """,
    ):
        await query(url, statement)
    async with opened(url) as store:
        await store.backend.refresh(store.database, end, [StaleRange(symbol, start, end)])
        await store.refresh_pending()


async def fill_pairs(url: str, count: int) -> None:
    """``P0001/USD`` and so on: two days of candles, one in an hour. Every hundredth has a gap."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    begin, lost = end - timedelta(days=2), end - timedelta(hours=5)
    named = (
        f"generate_series(1, {count}) n, LATERAL (SELECT 'P' || lpad(n::text, 4, '0') || '/USD' AS s) named"
    )
    for statement in (
        f"""
        INSERT INTO candles SELECT s, m, 1, p, p, p, p, 1, NULL, 1, p
          FROM {named}, generate_series(timestamptz '{begin}', timestamptz '{end}', '1 hour') m,
          LATERAL (SELECT n * (1 + 0.1 * sin(extract(epoch FROM m) / 9000 + n)) AS raw) drawn,
          LATERAL (SELECT round(raw::numeric, 4) AS p) priced
        """,
        f"""
        INSERT INTO trades SELECT 1, s, timestamptz '{end}' - interval '30 s', n, 1, 'buy', 'limit', ''
          FROM {named}
        """,
        f"""
        INSERT INTO data_sync_status SELECT s, kind, timestamptz '{begin}',
            timestamptz '{end}' - CASE kind WHEN 'trades' THEN interval '30 s' ELSE interval '0' END,
            now(), NULL, 1000 + n
          FROM {named}, unnest('{{trades,candles_1m}}'::text[]) kind
        """,
        f"""
        INSERT INTO data_coverage SELECT s, kind, '{SOURCE}', tstzmultirange(tstzrange('{begin}', '{end}'))
            - CASE WHEN n % 100 = 0 THEN tstzmultirange(tstzrange('{lost}', '{lost + timedelta(hours=1)}'))
                ELSE tstzmultirange() END
          FROM {named}, unnest('{{trades,candles_1m}}'::text[]) kind
        """,
    ):
        await query(url, statement)
