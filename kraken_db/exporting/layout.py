"""Which files an export consists of, and what of the history goes into each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from kraken_db.intervals import interval_name
from kraken_db.pairs import to_archive_name
from kraken_db.ranges import TimeRange

What: TypeAlias = Literal["candles", "trades"]
Format: TypeAlias = Literal["parquet", "csv", "feather"]


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol's candles of one interval, or its trades (``interval`` is None)."""

    symbol: str
    interval: int | None

    @property
    def label(self) -> str:
        return f"{self.symbol} {'trades' if self.interval is None else interval_name(self.interval)}"

    @property
    def data_type(self) -> str:
        """Whose counters change with every write that changes this series."""
        return "trades" if self.interval is None else "candles_1m"


@dataclass(frozen=True, slots=True)
class Part:
    """A file, its path below the folder of the export, and the range that belongs into it.

    ``start`` is inclusive, ``end`` exclusive; None where it is open.
    """

    path: str
    start: datetime | None
    end: datetime | None

    def clip(self, stored: TimeRange) -> TimeRange:
        start, end = stored
        return max(start, self.start or start), min(end, self.end or end)


def parts(
    series: Series, style: Format, since: datetime | None, until: datetime | None, stored: TimeRange
) -> list[Part]:
    """The files of a series, oldest first. Parquet has one a year, of the years of which rows are stored."""
    if style != "parquet":
        return [Part(_single_file(series, style), since, until)]
    first = max(stored[0], since or stored[0])
    last = min(stored[1], until or stored[1])
    found = []
    for year in range(first.year, last.year + 1):
        begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        part = Part(_year_file(series, year), max(begin, since or begin), min(end, until or end))
        start, stop = part.clip(stored)
        if start < stop:
            found.append(part)
    return found


def _year_file(series: Series, year: int) -> str:
    # The words before the = are what DuckDB, polars, Spark and Dask make columns of. A slash ends a folder.
    folders = [f"symbol={series.symbol.replace('/', '-')}"]
    if series.interval is not None:
        folders.append(f"interval={interval_name(series.interval)}")
    name = "trades" if series.interval is None else "candles"
    return "/".join([*folders, f"year={year}", f"{name}.parquet"])


def _single_file(series: Series, style: Format) -> str:
    if style == "csv":
        name = to_archive_name(series.symbol)
        return f"{name}.csv" if series.interval is None else f"{name}_{series.interval}.csv"
    # As freqtrade names them.
    name = series.symbol.replace("/", "_")
    kind = "trades" if series.interval is None else interval_name(series.interval)
    return f"{name}-{kind}.feather"
