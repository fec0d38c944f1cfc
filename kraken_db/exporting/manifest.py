"""Which files an export consists of, and what an earlier export has written.

A file is written again only where it has changed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal, TypeAlias

from kraken_db.archives.names import export_name
from kraken_db.data_types import DataType
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import Interval, IntervalLike, as_interval
from kraken_db.new_files import is_plain_file, replacing
from kraken_db.ranges import TimeRange

What: TypeAlias = Literal["candles", "trades"]
Format: TypeAlias = Literal["parquet", "delta", "csv", "feather"]
ARE_TABLES: tuple[Format, ...] = ("parquet", "delta")
"""Formats whose files are one table: of all pairs, by folders whose names are columns."""


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol's candles of one interval, or its trades (``interval`` is None)."""

    symbol: str
    interval: IntervalLike | None

    @property
    def every(self) -> Interval | None:
        return None if self.interval is None else as_interval(self.interval)

    @property
    def label(self) -> str:
        return f"{self.symbol} {'trades' if self.every is None else self.every}"

    @property
    def key(self) -> int | str | None:
        """What reports call the interval: minutes, where these say it all."""
        return None if self.every is None else self.every.key

    @property
    def is_dense(self) -> bool:
        """Whether a year of it is too much for one file."""
        return self.every is None or (self.every.unit == "minute" and self.every.count < 60)

    @property
    def data_types(self) -> list[DataType]:
        """Whose counters change with every write that changes this series: an imported file has its own."""
        if self.every is None:
            return [DataType.TRADES]
        levels = self.every.levels if self.every.stored is None else (self.every.stored,)
        return list({DataType.CANDLES_1M, *map(DataType.candles, levels)})


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
    """The files of a series, oldest first: of a table, those of the times of which rows are stored.

    Trades and candles below an hour have one a month: what changes a day is not to rewrite a year. The others
    are small, and have one a year.
    """
    if style not in ARE_TABLES:
        return [Part(_single_file(series, style), since, until)]
    first = max(stored[0], since or stored[0])
    last = min(stored[1], until or stored[1])
    step = 1 if series.is_dense else 12
    found = []
    for month in range(first.year * 12, last.year * 12 + 12, step):
        begin, end = _month(month), _month(month + step)
        part = Part(_table_file(series, begin), max(begin, since or begin), min(end, until or end))
        start, stop = part.clip(stored)
        if start < stop:
            found.append(part)
    return found


def _month(number: int) -> datetime:
    """Counted from the year 0 on."""
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


def series_folders(series: Series) -> list[str]:
    # The words before the = are what DuckDB, polars, Spark and Dask make columns of. A slash ends a folder.
    folders = [f"symbol={series.symbol.replace('/', '-')}"]
    if series.every is not None:
        folders.append(f"interval={file_name_of(series.every)}")
    return folders


def _table_file(series: Series, begin: datetime) -> str:
    # All files of a table have the same folders, or some readers refuse it: a month is in the file's name.
    name = "trades" if series.every is None else "candles"
    month = f"-{begin.month:02}" if series.is_dense else ""
    return "/".join([*series_folders(series), f"year={begin.year}", f"{name}{month}.parquet"])


_TABLE_FILE = re.compile(r"year=(\d{4})/(?:candles|trades)(?:-(\d\d))?\.parquet$")


def times_of(path: str) -> TimeRange:
    """The month or the year that the path of a table's file names; all of time for another path."""
    found = _TABLE_FILE.search(path)
    if found is None or int(found[1]) == 0 or not 1 <= int(found[2] or 1) <= 12:
        return _month(12), _month(9999 * 12)
    month = int(found[1]) * 12 + int(found[2] or 1) - 1
    return _month(month), _month(month + (1 if found[2] else 12))


def _single_file(series: Series, style: Format) -> str:
    if style == "csv":
        name = export_name(series.symbol)
        if series.every is None:
            return f"{name}.csv"
        key = series.key
        return f"{name}_{key if isinstance(key, int) else file_name_of(series.every)}.csv"
    # As freqtrade names them.
    name = series.symbol.replace("/", "_")
    kind = "trades" if series.every is None else file_name_of(series.every)
    return f"{name}-{kind}.feather"


def file_name_of(interval: Interval) -> str:
    """``2h``, ``1M``, ``1d@America-New_York@17-00``: its text with what any file system takes."""
    return str(interval).replace("/", "-").replace(":", "-").replace(" from ", "@").replace(" ", "@")


NAME = ".kraken-db-export.json"
OTHER_FOLDER = "take another folder for --out"
FOOTER_KEY = b"kraken_db_export"
_VERSION = 1
_TIMES = ("start", "end", "first", "read_until", "synced_at", "taken_until")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as it was written. Times are UTC."""

    start: datetime | None
    end: datetime | None
    """The range that was asked for: ``start`` inclusive, ``end`` exclusive, None where it is open."""
    read_until: datetime
    """Up to where there were rows, or closed candles, when it was last compared with the store."""
    synced_at: datetime | None
    """When the store last wrote the symbol, at that time; None: it was being written."""
    first: datetime
    """The oldest row of the file."""
    stored_rows: int
    digest: str
    """Of the rows that the store had: see ``repositories.text_layouts.Checksum``."""
    kept_rows: int
    """Rows of the file before these, which the store had dropped already."""
    taken_until: datetime | None = None
    """Candles that open before it are taken from an imported file; None: all are computed from minutes."""
    version: str | None = None
    """What the store said of the months of the file when it was last compared: see ``Source.version``."""

    @property
    def rows(self) -> int:
        return self.stored_rows + self.kept_rows

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str | bytes) -> Entry:
        """Raises ValueError or TypeError for anything else."""
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("it is no entry")
        times = {
            name: datetime.fromisoformat(fields[name]) for name in _TIMES if fields.get(name) is not None
        }
        entry = cls(**{**fields, **times})
        counts = (entry.stored_rows, entry.kept_rows)
        if any(moment.tzinfo is None for moment in times.values()) or not {"read_until", "first"} <= set(
            times
        ):
            raise ValueError("a time in it is none of ours")
        if not all(type(count) is int and count >= 0 for count in counts) or type(entry.digest) is not str:
            raise ValueError("a number in it is none of ours")
        return entry


def check_kind(folder: Path, style: Format, what: What) -> None:
    """Raises ConfigurationError where the folder holds another kind of export."""
    has_files, has_table = (folder / NAME).exists(), any(folder.glob("symbol=*"))
    if (has_files if style == "parquet" else has_table) or (folder / "_delta_log").exists():
        raise ConfigurationError(f"{folder} holds an export in another format", hint=OTHER_FOLDER)
    if style == "parquet" and any(
        folder.glob("symbol=*/year=*" if what == "candles" else "symbol=*/interval=*")
    ):
        raise other_kind(folder, what)


def other_kind(place: object, what: What) -> ConfigurationError:
    """A reader takes all files there for one table."""
    held = "trades" if what == "candles" else "candles"
    return ConfigurationError(f"{place} holds {held}", hint=f"take another folder for {what}")


def foreign(file: object) -> ConfigurationError:
    return ConfigurationError(f"{file} is not of an export", hint=OTHER_FOLDER)


def are_alike(name: str, of_ours: str) -> bool:
    """Whether both can be files of one series: readers take what lies beside ours for more of its rows."""
    return re.sub(r"-\d\d(?=\.)", "-", name) == re.sub(r"-\d\d(?=\.)", "-", of_ours)


def footer_entry(file: Path | IO[bytes], name: object) -> Entry:
    """What a Parquet file says of itself. Raises ConfigurationError for a file of somebody else."""
    from pyarrow import ArrowException, parquet

    try:
        return Entry.from_json(parquet.read_metadata(file).metadata[FOOTER_KEY])
    except (ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise foreign(name) from error


class FileManifest:
    """Entries of files that cannot carry one, by their path: in one file beside them, with their sizes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, tuple[int, Entry]] = {}
        path = folder / NAME
        try:
            if os.path.lexists(path) and not is_plain_file(path):
                raise ValueError("it is no plain file")
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']}")
            for name, (size, text) in document["files"].items():
                self._entries[name] = int(size), Entry.from_json(text)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error}", hint="remove it together with the exported files"
            ) from error

    def get(self, path: str) -> Entry | None:
        """None for a file that is not there, or not as it was written."""
        file = self._folder / path
        if os.path.lexists(file) and not (path in self._entries and is_plain_file(file)):
            raise foreign(file)
        if path not in self._entries:
            return None
        size, entry = self._entries[path]
        return entry if file.exists() and file.stat().st_size == size else None

    def put(self, path: str, entry: Entry) -> None:
        """Note a file that is in its place."""
        known = (self._folder / path).stat().st_size, entry
        if self._entries.get(path) == known:
            return
        self._entries[path] = known
        files = {name: [size, one.to_json()] for name, (size, one) in sorted(self._entries.items())}
        document = json.dumps({"version": _VERSION, "files": files}, indent=1) + "\n"
        with replacing(self._folder / NAME, self._folder / f"{NAME}.part") as written:
            written.write(document.encode())
