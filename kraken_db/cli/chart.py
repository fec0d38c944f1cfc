"""``kraken-db chart SYMBOL``: stored candles drawn in the terminal, as an HTML page or as a PNG."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kraken_db.cli.candles import (
    CandleQuery,
    candle_options,
    candle_query,
    note_file,
    nothing_there,
    select_candles,
    stored_spelling,
)
from kraken_db.cli.options import MultiValueCommand, db_url_option
from kraken_db.cli.output import count_text, note, print_styled, wants_colour
from kraken_db.errors import ConfigurationError, KrakenDBError, WrongValueError
from kraken_db.extras import require
from kraken_db.intervals import Interval
from kraken_db.new_files import replacing

if TYPE_CHECKING:
    from kraken_db.charts.series import Series
    from kraken_db.types import Candle

MOST_INTERVALS = 50_000
_DEFAULT_IN_FILE = 200
_COLUMNS_BESIDES = 20  # the axis, and the longest of prices
_LIBRARIES = {".html": "plotly", ".png": "matplotlib"}


@click.command(
    cls=MultiValueCommand,
    short_help="Draw stored candles, here or into a file.",
    epilog="Example: kraken-db chart BTC/USD -i 4h --last 180 --out btc.html",
)
@candle_options(f"as many as there is room for; in a file, {_DEFAULT_IN_FILE}")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page that can be zoomed (.html), or a picture (.png), instead of drawing in the terminal.",
)
@click.option("--force", is_flag=True, help="Write over FILE if it exists.")
@db_url_option
def chart(
    symbol: str,
    interval: Interval,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
    out: Path | None,
    force: bool,
    db_url: str,
) -> None:
    """Draw stored candles of SYMBOL, with their volume below.

    Times are UTC, or of the zone of --tz. An interval in which nothing was traded is a dot at the last price;
    one that no source has covered is marked as not known. In the terminal, more candles than columns are
    drawn several to a column.

    FILE needs pip install 'kraken-historical-data[charts]'. Both kinds need no network, neither to be
    written nor to be looked at.
    """
    if out is not None:
        _check_file(out, force)
    width, height = shutil.get_terminal_size()
    default = _DEFAULT_IN_FILE if out else max(width - _COLUMNS_BESIDES, 20)
    most = None if last is None else min(last, MOST_INTERVALS + 1)  # no more than it takes to say so
    query = candle_query(symbol, interval, since, until, most, default, "previous")
    series = asyncio.run(_read(query, db_url))
    if out is None:
        _draw(series, width, height - 1)  # the shell's next line
    else:
        _write(series, out)


def _check_file(path: Path, force: bool) -> None:
    """Before anything is read. Raises ConfigurationError."""
    library = _LIBRARIES.get(path.suffix.lower())
    if library is None:
        raise WrongValueError(f"{path} is neither a page nor a picture", hint="end its name in .html or .png")
    try:
        exists, has_folder = path.exists(), path.parent.is_dir()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    if exists and not force:
        raise ConfigurationError(f"{path} exists already", hint="--force writes over it")
    if not has_folder:
        raise ConfigurationError(f"there is no folder {path.parent}", hint="make it, or name another")
    require(library, f"{path.suffix} files", "charts")


async def _read(query: CandleQuery, db_url: str) -> Series:
    from kraken_db.charts.series import Series
    from kraken_db.historical_provider import HistoricalDataProvider

    candles: list[Candle] = []
    async with HistoricalDataProvider(db_url, pool_min_size=1, pool_max_size=2) as provider:
        query = await stored_spelling(provider, query)
        async with aclosing(await select_candles(provider, query)) as chunks:
            async for chunk in chunks:
                candles += chunk
                _check_length(candles, query.every)
        if not candles:
            raise await nothing_there(provider, query)
        await note_file(provider, query, candles[0])
    return Series.of(candles, query.every)


def _check_length(candles: Sequence[Candle], interval: Interval) -> None:
    """By their times: an interval of which nothing is known is drawn too."""
    if (candles[-1].timestamp - candles[0].timestamp) // interval.longest >= MOST_INTERVALS:
        raise ConfigurationError(
            f"these are more than {count_text(MOST_INTERVALS)} intervals, too many for a chart",
            hint="choose a longer --interval, or a shorter range",
        )


def _draw(series: Series, width: int, height: int) -> None:
    from kraken_db.charts.text import ASCII, BLOCKS, COLOURED, Colour, draw, plain

    def paint(text: str, colour: Colour) -> str:
        return click.style(text, fg=colour)

    colour = wants_colour()
    glyphs = COLOURED if colour else BLOCKS
    lines = draw(series, width, height, glyphs, paint if colour else plain)
    try:
        "\n".join(lines).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        lines = draw(series, width, height, ASCII, paint if colour else plain)
    print_styled("\n".join(lines))


def _write(series: Series, path: Path) -> None:
    """All of the file or nothing of it. Raises KrakenDBError."""
    if path.suffix.lower() == ".html":
        from kraken_db.charts.page import page

        content = page(series).encode()
    else:
        from kraken_db.charts.picture import picture

        content = picture(series)
    new = path.with_name(f".kraken-db-{os.getpid()}.new")  # whatever the length of its name
    try:
        with replacing(path, new) as file:
            file.write(content)
    except OSError as error:
        raise KrakenDBError(f"{path} cannot be written: {error.strerror}") from error
    note(f"{count_text(len(series.slots))} intervals drawn: {path}")
