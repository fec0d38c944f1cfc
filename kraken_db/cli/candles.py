"""``kraken-db candles SYMBOL``: stored candles as table, CSV or JSON."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from typing import Literal

import click

from kraken_db.cli.candle_query import (
    CandleQuery,
    candle_options,
    candle_query,
    nothing_there,
    select_candles,
)
from kraken_db.cli.options import db_url_option
from kraken_db.cli.output import note

DEFAULT_COUNT = 50


@click.command(
    short_help="Print stored candles as table, CSV or JSON.",
    epilog="Example: kraken-db candles BTC/USD -i 1h --start 2023-01-01 --end 2023-02-01 --format csv",
)
@candle_options(str(DEFAULT_COUNT))
@click.option(
    "--fill",
    type=click.Choice(["previous"]),
    help="Flat candles without volume where nothing was traded and the store is known to be complete.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="Numbers in CSV and JSON are exact.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@db_url_option
def candles(
    symbol: str,
    interval: int,
    start: datetime | None,
    end: datetime | None,
    last: int | None,
    fill: Literal["previous"] | None,
    style: Literal["table", "csv", "json"],
    as_json: bool,
    db_url: str,
) -> None:
    """Print stored candles of SYMBOL, oldest first.

    Times are UTC: 2023-01-31, 2023-01-31T15:30, '7 days ago', now; with a zone (2023-01-31T15:30+01:00)
    they are converted. --start is included, --end is not. An interval in which nothing was traded has no
    candle, unless --fill asks for one.
    """
    query = candle_query(symbol, interval, start, end, last, DEFAULT_COUNT, fill)
    found = asyncio.run(_print(query, "json" if as_json else style, db_url))
    if found == DEFAULT_COUNT and last is None and not query.is_range:
        note(f"These are the newest {DEFAULT_COUNT} candles; --last, --start and --end give others.")


async def _print(query: CandleQuery, style: Literal["table", "csv", "json"], db_url: str) -> int:
    """Returns the number of candles."""
    from kraken_db.cli.candle_formats import candle_writer
    from kraken_db.historical_provider import HistoricalDataProvider

    async with HistoricalDataProvider(db_url, pool_min_size=1, pool_max_size=2) as provider:
        chunks = await select_candles(provider, query)
        writer = candle_writer(style, query.symbol, query.interval)
        found = 0
        async with aclosing(chunks):
            async for chunk in chunks:
                if not found:
                    writer.begin(chunk)
                found += len(chunk)
                writer.write(chunk)
        if not found:
            raise await nothing_there(provider, query)
        writer.end()
    return found
