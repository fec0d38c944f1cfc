"""Candles computed from exported tables, equal to the store's in every digit: in polars and in DuckDB.

Decimals of these engines are not enough: a product of two of them has twenty decimals, of which polars keeps
ten; a quotient is a float in DuckDB. Their integers have 128 bits. A price times 10**10 is one, and so is a
volume: products, sums and, rounded half up as PostgreSQL does, quotients of them are exact.

128 bits hold a turnover below 8 * 10**17 in the quote currency, with twenty decimals. Kraken's largest days
have less than a millionth of that. Of a candle with more, vwap and quote_volume are missing; DuckDB raises an
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_ONE = 10**10
_MOST = 8e17
_KEYS = ("pair", "timestamp")
COLUMNS = (
    "pair",
    "timestamp",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trade_count",
    "vwap",
    "quote_volume",
)


def candles_of_trades(trades: pl.LazyFrame, every: str = "1m") -> pl.LazyFrame:
    """The candles of exported trades: ``scan`` of a folder of them, or a part of it.

    ``every``: ``1m``, ``1h``, ``1d``, ``1w`` and so on, in UTC; weeks begin on Monday. Returns the columns
    ``COLUMNS`` in order of pair and time. The vwap is that of all trades. The store's own hours and days are
    computed from minutes instead: see ``longer_candles``.
    """
    import polars as pl

    return (
        trades.sort("pair", "timestamp", "id")
        .with_columns(pl.col("timestamp").dt.truncate(every), value=whole("price") * whole("volume"))
        .group_by(_KEYS, maintain_order=True)
        .agg(
            open=pl.col("price").first(),
            high=pl.col("price").max(),
            low=pl.col("price").min(),
            close=pl.col("price").last(),
            volume=whole("volume").sum(),
            trade_count=pl.len().cast(pl.Int64),
            value=_exact_or_none(pl.col("value").sum(), "price"),
        )
        .with_columns(
            volume=_decimal(pl.col("volume")),
            vwap=_mean(pl.col("value"), pl.col("volume")),
            quote_volume=_decimal((pl.col("value") + _ONE // 2) // _ONE),
        )
        .select(COLUMNS)
    )


def longer_candles(candles: pl.LazyFrame, every: str) -> pl.LazyFrame:
    """Candles from shorter ones of one interval, as the store computes them.

    Its minutes give ``5m`` to ``1h``; hours give ``4h``, ``12h`` and ``1d``; days give ``1w``. An average of
    averages that were rounded differs in the last digit, so a day from minutes is not the store's day.
    Returns the columns ``COLUMNS`` in order of pair and time. vwap and quote_volume are null where a part
    that has volume lacks its own.
    """
    import polars as pl

    volume, vwap, quote = whole("volume"), whole("vwap"), whole("quote_volume")
    return (
        candles.sort(_KEYS)
        .with_columns(pl.col("timestamp").dt.truncate(every))
        .group_by(_KEYS, maintain_order=True)
        .agg(
            open=pl.col("open").first(),
            high=pl.col("high").max(),
            low=pl.col("low").min(),
            close=pl.col("close").last(),
            volume=volume.sum(),
            trade_count=pl.col("trade_count").sum(),
            value=_exact_or_none((vwap * volume).sum(), "vwap"),
            has_means=((volume == 0) | vwap.is_not_null()).all(),
            quote_volume=pl.when(quote.is_not_null().all()).then(quote.sum()),
        )
        .with_columns(
            volume=_decimal(pl.col("volume")),
            vwap=pl.when("has_means").then(_mean(pl.col("value"), pl.col("volume"))),
            quote_volume=_decimal(pl.col("quote_volume")),
        )
        .select(COLUMNS)
    )


def with_last_candle(
    events: pl.LazyFrame, candles: pl.LazyFrame, length: timedelta, columns: Sequence[str] = ("close",)
) -> pl.LazyFrame:
    """Each event with the last candle of its pair that had closed by then, its columns named ``candle_...``.

    Events have the columns ``pair`` and ``timestamp``. A candle is stamped with its beginning: a join on that
    would look into the future, so the join is on its end, ``length`` later.
    """
    import polars as pl

    known = candles.select(
        "pair",
        (pl.col("timestamp") + length).alias("known_at"),
        *(pl.col(name).alias(f"candle_{name}") for name in columns),
    ).sort("known_at")
    return events.sort("timestamp").join_asof(
        known,
        left_on="timestamp",
        right_on="known_at",
        by="pair",
        strategy="backward",
        check_sortedness=False,
    )


def whole(name: str) -> pl.Expr:
    """A column of ten decimals as the whole number of 10**-10 that it is."""
    import polars as pl

    return pl.col(name).to_physical().cast(pl.Int128)


def _exact_or_none(value: pl.Expr, price: str) -> pl.Expr:
    """Integers that do not fit go round without a word: what may have done so is none."""
    import polars as pl

    rough = (pl.col(price).cast(pl.Float64) * pl.col("volume").cast(pl.Float64)).sum()
    return pl.when(rough < _MOST).then(value)


def _mean(value: pl.Expr, volume: pl.Expr) -> pl.Expr:
    import polars as pl

    mean = pl.when(volume > 0).then((2 * value + volume) // (2 * volume))
    return _decimal(mean).cast(pl.Decimal(20, 10))


def _decimal(number: pl.Expr) -> pl.Expr:
    from decimal import Decimal

    import polars as pl

    return (number.cast(pl.Decimal(38, 0)) * pl.lit(Decimal("1E-10"))).cast(pl.Decimal(38, 10))


DUCKDB = """
CREATE OR REPLACE MACRO whole(x) AS CAST(x * 10000000000 AS HUGEINT);
CREATE OR REPLACE MACRO ten_decimals(i) AS
    CAST(CAST(i AS DECIMAL(38, 0)) * 0.0000000001 AS DECIMAL(38, 10));
CREATE OR REPLACE MACRO turnover(price, volume) AS whole(price) * whole(volume);
CREATE OR REPLACE MACRO quote_of(value) AS ten_decimals((value + 5000000000) // 10000000000);
CREATE OR REPLACE MACRO mean_of(value, volume) AS
    CAST(ten_decimals((2 * value + whole(volume)) // nullif(2 * whole(volume), 0)) AS DECIMAL(20, 10));
CREATE OR REPLACE MACRO opens_at(width, moment) AS
    time_bucket(width, moment AT TIME ZONE 'UTC', TIMESTAMP '2000-01-03') AT TIME ZONE 'UTC';
"""
"""Macros of DuckDB that do the same: ``duckdb.execute(DUCKDB)``.

``sum(turnover(price, volume))`` is the value of some trades; ``mean_of(value, sum(volume))`` their vwap;
``quote_of(value)`` their quote_volume. ``opens_at(INTERVAL 1 DAY, timestamp)`` is when the candle opens, in
UTC whatever the session's time zone is. A number that does not fit is an error.
"""
