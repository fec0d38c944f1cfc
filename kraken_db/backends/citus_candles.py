"""Higher intervals on a distributed store: as views for everybody, and as statements about one symbol.

Both say the same. The views join by symbol throughout, without a sub-query for each candle: so one of them is
read on all nodes at once, and where a symbol is asked for, on one. A statement has the symbol bound in every
table: then it is one task on one node, whatever else is in it, and it looks at no more than it needs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import TextClause, bindparam, select, text
from sqlalchemy.dialects.postgresql import VARCHAR

from kraken_db.backends.rollup import AnySelect
from kraken_db.intervals import BASE_INTERVAL, GRID_ORIGIN_EPOCH, INTERVAL_SOURCES, INTERVAL_VIEWS
from kraken_db.models import CANDLES, Timestamp

FINEST_STORED = 60
"""5m, 15m and 30m are computed from minutes when they are read."""
VIEWS = [view for minutes, view in INTERVAL_VIEWS.items() if minutes != BASE_INTERVAL]
"""From short to long: each is made of those before it."""
_COLUMNS = [
    "symbol",
    "timestamp",
    *(c.name for c in CANDLES.columns if c.name not in ("symbol", "timestamp")),
]
"""In the order that the views have on every backend."""
_ORIGIN = f"to_timestamp({GRID_ORIGIN_EPOCH})"
_PRICE, _AMOUNT = "numeric(20,10)", "numeric(38,10)"


# --- one symbol ---


def candles_of(symbol: str, interval: int, first: Any, last: Any) -> AnySelect:
    """Select the candles of 1h or more that open in ``[first, last)``, which lie on the grid."""
    values = (
        bindparam("symbol", symbol, VARCHAR, unique=True),
        bindparam("first", first, Timestamp, unique=True),
        bindparam("last", last, Timestamp, unique=True),
    )
    rows = _statement(interval).bindparams(*values).columns(*(CANDLES.c[name] for name in _COLUMNS))
    return select(rows.subquery())


@cache
def _statement(interval: int) -> TextClause:
    return text(_stored_or_computed(interval, ":first", ":last"))


def _stored_or_computed(minutes: int, first: str, last: str) -> str:
    """As the last refresh has stored them; what a change has touched since, as its parts have it now."""
    # All notes of a symbol as one value, which is looked up once. The spans are apart from each other.
    noted = "(SELECT range_agg(p.stale) FROM pending_refresh p WHERE p.symbol = :symbol)"
    stale = f"stale{minutes}"
    spans = f"range_agg({_whole('p.stale', minutes)}) * tstzmultirange(tstzrange({first}, {last}))"
    return (
        f"SELECT {_prefixed('r')} FROM rolled_candles r WHERE r.symbol = :symbol"
        f" AND r.interval_minutes = {minutes} AND r.timestamp >= {first} AND r.timestamp < {last}"
        f" AND ({noted} && {_lifetime('r.timestamp', minutes)}) IS NOT TRUE"
        f" UNION ALL SELECT {_prefixed('fresh')} FROM"
        f" (SELECT unnest({spans}) AS span FROM pending_refresh p WHERE p.symbol = :symbol) {stale},"
        f" LATERAL ({_computed(minutes, f'lower({stale}.span)', f'upper({stale}.span)')}) fresh"
    )


def _computed(minutes: int, first: str, last: str) -> str:
    source = INTERVAL_SOURCES[minutes]
    if source != BASE_INTERVAL:
        parts = _stored_or_computed(source, first, last)
        return f"{_aggregated('c', minutes)} FROM ({parts}) c GROUP BY c.symbol, {_bucket('c', minutes)}"
    dropped = (
        "(SELECT d.dropped FROM dropped_ranges d WHERE d.symbol = :symbol AND d.data_type = 'candles_1m')"
    )
    kept = (
        f"FROM rolled_candles k WHERE k.symbol = :symbol AND k.interval_minutes = {minutes}"
        f" AND k.kept AND {dropped} && {_lifetime('k.timestamp', minutes)}"
    )
    return (
        f"SELECT {_prefixed('k')} {kept} AND k.timestamp >= {first} AND k.timestamp < {last}"
        f" UNION ALL {_aggregated('m', minutes)} FROM candles m"
        f" WHERE m.symbol = :symbol AND m.interval_minutes = 1"
        f" AND m.timestamp >= {first} AND m.timestamp < {last}"
        f" AND NOT EXISTS (SELECT 1 {kept} AND k.timestamp = {_bucket('m', minutes)})"
        f" GROUP BY m.symbol, {_bucket('m', minutes)}"
    )


# --- views ---


def view_query(view: str) -> str:
    """What a view of a higher interval selects."""
    minutes = next(minutes for minutes, name in INTERVAL_VIEWS.items() if name == view)
    if minutes < FINEST_STORED:
        return _view_of_minutes(minutes)
    source = INTERVAL_SOURCES[minutes]
    fresh = _view_of_hours() if source == BASE_INTERVAL else _view_of_parts(INTERVAL_VIEWS[source], minutes)
    return f"{_view_of_stored(minutes)} UNION ALL {fresh}"


_DROPPED = "(SELECT d.symbol, d.dropped FROM dropped_ranges d WHERE d.data_type = 'candles_1m')"
_KEPT = (
    "LEFT JOIN (SELECT * FROM rolled_candles WHERE interval_minutes = {minutes} AND kept) k"
    " ON k.symbol = m.symbol AND k.timestamp = {opens_at}"
    f" LEFT JOIN {_DROPPED} gone ON gone.symbol = m.symbol"
)


def _view_of_stored(minutes: int) -> str:
    """What is stored of an interval: where nothing waits, and where it stands for minutes that are gone."""
    return (
        f"SELECT {_prefixed('r')} FROM rolled_candles r"
        " LEFT JOIN (SELECT p.symbol, range_agg(p.stale) AS stale FROM pending_refresh p GROUP BY p.symbol)"
        f" noted ON noted.symbol = r.symbol LEFT JOIN {_DROPPED} gone ON gone.symbol = r.symbol"
        f" WHERE r.interval_minutes = {minutes} AND (noted.stale IS NULL"
        f" OR NOT noted.stale && {_lifetime('r.timestamp', minutes)} OR {_stands('r', minutes)})"
    )


def _view_of_hours() -> str:
    """The hours that a change has touched, from their minutes."""
    return (
        f"{_aggregated('m', FINEST_STORED)} FROM ({_stale(FINEST_STORED)}) stale"
        " JOIN candles m ON m.symbol = stale.symbol"
        " AND m.timestamp >= lower(stale.span) AND m.timestamp < upper(stale.span)"
        f" {_KEPT.format(minutes=FINEST_STORED, opens_at=_bucket('m', FINEST_STORED))}"
        f" WHERE m.interval_minutes = 1 AND NOT {_stands('k', FINEST_STORED)}"
        f" GROUP BY m.symbol, {_bucket('m', FINEST_STORED)}"
    )


def _view_of_parts(parts: str, minutes: int) -> str:
    """The candles that a change has touched, from those of a shorter interval."""
    return (
        f"{_aggregated('c', minutes)} FROM ({_stale(minutes)}) stale"
        f" JOIN {parts} c ON c.symbol = stale.symbol"
        " AND c.timestamp >= lower(stale.span) AND c.timestamp < upper(stale.span)"
        f" GROUP BY c.symbol, {_bucket('c', minutes)}"
    )


def _view_of_minutes(minutes: int) -> str:
    """An interval that is not stored, but for what stands for minutes that are gone."""
    return (
        f"{_aggregated('m', minutes)} FROM candles m"
        f" {_KEPT.format(minutes=minutes, opens_at=_bucket('m', minutes))}"
        f" WHERE m.interval_minutes = 1 AND NOT {_stands('k', minutes)}"
        f" GROUP BY m.symbol, {_bucket('m', minutes)}"
        f" UNION ALL SELECT {_prefixed('k')} FROM rolled_candles k"
        f" JOIN {_DROPPED} gone ON gone.symbol = k.symbol"
        f" WHERE k.interval_minutes = {minutes} AND {_stands('k', minutes)}"
    )


def _stands(candle: str, minutes: int) -> str:
    """Whether a stored candle is to stay: it was kept, and some of its minutes are missing."""
    return f"(({candle}.kept AND gone.dropped && {_lifetime(f'{candle}.timestamp', minutes)}) IS TRUE)"


def _stale(minutes: int) -> str:
    """Of each symbol, the times of whole candles that a change has touched, apart from each other."""
    return (
        "SELECT touched.symbol, unnest(touched.spans) AS span FROM (SELECT p.symbol,"
        f" range_agg({_whole('p.stale', minutes)}) AS spans FROM pending_refresh p GROUP BY p.symbol) touched"
    )


# --- both ---


def _whole(stale: str, minutes: int) -> str:
    """From the beginning of the first candle that a range touches to the end of the last."""
    length = f"INTERVAL '{minutes} minutes'"
    last = f"date_bin({length}, upper({stale}) - INTERVAL '1 microsecond', {_ORIGIN})"
    return f"tstzrange(date_bin({length}, lower({stale}), {_ORIGIN}), {last} + {length})"


def _lifetime(opens_at: str, minutes: int) -> str:
    return f"tstzrange({opens_at}, {opens_at} + INTERVAL '{minutes} minutes')"


def _bucket(source: str, minutes: int) -> str:
    return f"date_bin(INTERVAL '{minutes} minutes', {source}.timestamp, {_ORIGIN})"


def _prefixed(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _COLUMNS)


def _aggregated(s: str, minutes: int) -> str:
    """The meaning of each column is that of ``rollup``; columns in their order."""
    values = {
        "symbol": f"{s}.symbol",
        "timestamp": _bucket(s, minutes),
        "interval_minutes": f"CAST({minutes} AS smallint)",
        "open": f"CAST((array_agg({s}.open ORDER BY {s}.timestamp))[1] AS {_PRICE})",
        "high": f"CAST(max({s}.high) AS {_PRICE})",
        "low": f"CAST(min({s}.low) AS {_PRICE})",
        "close": f"CAST((array_agg({s}.close ORDER BY {s}.timestamp))[count(*)] AS {_PRICE})",
        "volume": f"CAST(sum({s}.volume) AS {_AMOUNT})",
        "quote_volume": f"CAST(CASE WHEN count({s}.quote_volume) = count(*) THEN sum({s}.quote_volume) END"
        f" AS {_AMOUNT})",
        "trade_count": f"CAST(sum({s}.trade_count) AS integer)",
        "vwap": f"CAST(CASE WHEN count(*) FILTER (WHERE {s}.volume > 0 AND {s}.vwap IS NULL) = 0"
        f" THEN sum({s}.vwap * {s}.volume) / NULLIF(sum({s}.volume), 0) END AS {_PRICE})",
    }
    return "SELECT " + ", ".join(f"{values[name]} AS {name}" for name in _COLUMNS)
