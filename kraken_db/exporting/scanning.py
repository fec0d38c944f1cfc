"""An export as its readers have it: a lazy frame of polars, or the names of its files for other engines."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.commits import open_files, read_commit, table_files
from kraken_db.exporting.manifest import What, times_of
from kraken_db.exporting.places import PlaceFailedError, is_url
from kraken_db.exporting.writers import table_schema
from kraken_db.extras import require
from kraken_db.ranges import TimeRange

if TYPE_CHECKING:
    import polars as pl

    from kraken_db.exporting.states import State
    from kraken_db.exporting.stores import Bucket

_READ_AHEAD = 8
"""Files of an object store that are fetched while one is read."""
_TOGETHER = 16
"""Files of a folder that polars reads side by side."""
_File: TypeAlias = tuple[str, IO[bytes]]


def scan(path: Path | str) -> pl.LazyFrame:
    """A lazy frame of an exported table: a folder, ``s3://``, ``gs://``, ``az://``, or a Delta table.

    Columns are those of the files, and ``symbol``, ``interval`` (of candles) and ``year`` of their folders.
    Prices are ``Decimal(20, 10)``, volumes ``Decimal(38, 10)``, times UTC in microseconds, years 64-bit
    integers. Files that a filter of these columns, of ``pair`` or ``timestamp`` rules out are not fetched.

    Each ``collect()`` sees the state that one export has made known, old or new, and never a mix, while an
    export runs and after one that was killed. A Delta table is the one of the call of ``scan``.

    Raises ConfigurationError where there is no export, and where a package is missing (extras ``frames``,
    ``lake``, ``delta``); PlaceFailedError, which is one, where an object store refuses. Reading a folder
    opens all its files that a filter leaves; ``collect`` raises ConfigurationError where they are more than
    the process may open (``ulimit -Hn``).
    """
    require("polars", "frames of polars")
    import polars as pl

    bucket = _bucket(path)
    if _is_delta(path, bucket):
        require("deltalake", "Delta tables", extra="delta")
        from kraken_db.exporting.delta import storage_options

        found: pl.LazyFrame = pl.scan_delta(str(path), storage_options=storage_options())
        return found
    from polars.io.plugins import register_io_source

    reading: _Reading
    if bucket is not None:
        reading = _BucketReading(bucket, _known(bucket).what)
    else:
        reading = _FolderReading(Path(path), _what(Path(path)))
    read: pl.LazyFrame = register_io_source(
        reading, schema=_schema(reading.what), explain_name=f"export {path}"
    )
    return read


def files(path: Path | str) -> list[str]:
    """The files of an exported table, in order of their names, for engines that take a list of them.

    Each is whole. While an export runs, and after one that was killed, some are old and some are new. Not so
    of a Delta table, whose files never change: these are of one state, until they are vacuumed away.
    Raises ConfigurationError as ``scan`` does.
    """
    bucket = _bucket(path)
    if _is_delta(path, bucket):
        require("deltalake", "Delta tables", extra="delta")
        from kraken_db.exporting.delta import open_table

        table = open_table(str(path))
        assert table is not None
        return sorted(table.file_uris())
    if bucket is not None:
        return [bucket.where(name) for name in sorted(_known(bucket).files)]
    return list(map(str, _local_files(Path(path))))


def _bucket(path: Path | str) -> Bucket | None:
    if not is_url(path):
        return None
    from kraken_db.exporting.stores import Bucket

    return Bucket(str(path))


def _is_delta(path: Path | str, bucket: Bucket | None) -> bool:
    return (Path(path) / "_delta_log").is_dir() if bucket is None else "_delta_log" in bucket.folders()


def _local_files(folder: Path) -> list[Path]:
    found = [folder / name for name in table_files(folder)]
    if not found and read_commit(folder) is None:
        raise _nothing(str(folder))
    return found


def _what(folder: Path) -> What:
    _local_files(folder)
    return "candles" if any(folder.glob("symbol=*/interval=*")) else "trades"


def _nothing(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} holds no Parquet export that was ended", hint=f"kraken-db export ... --out {name}"
    )


def _known(bucket: Bucket) -> State:
    from kraken_db.exporting.states import read_state

    state = read_state(bucket)
    if state is None:
        raise _nothing(bucket.url)
    return state


def _schema(what: What) -> dict[str, Any]:
    import polars as pl

    frame = pl.from_arrow(table_schema(what).empty_table())
    assert isinstance(frame, pl.DataFrame)
    return dict(frame.schema)


class _Reading(ABC):
    """Reads the state that is known when polars begins."""

    def __init__(self, what: What) -> None:
        self.what = what
        self._schema = _schema(what)

    @abstractmethod
    def _groups(self, predicate: pl.Expr | None) -> AbstractContextManager[Iterator[list[_File]]]:
        """The files that may have rows of a filter, some at a time."""

    def __call__(
        self, columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, _batch: int | None
    ) -> Iterator[pl.DataFrame]:
        import polars as pl

        left = rows
        with self._groups(predicate) as groups:
            for group in groups:
                lazy = pl.concat([self._lazy(*file, columns, predicate) for file in group])
                frame = (lazy if left is None else lazy.head(left)).collect()
                yield frame
                if left is not None and (left := left - frame.height) == 0:
                    return

    def _lazy(
        self, path: str, content: IO[bytes], columns: list[str] | None, predicate: pl.Expr | None
    ) -> pl.LazyFrame:
        import polars as pl

        folders = [
            pl.lit(text).cast(self._schema[name]).alias(name) for name, text in partition(path).items()
        ]
        lazy = pl.scan_parquet(content, hive_partitioning=False).with_columns(folders)
        if predicate is not None:
            lazy = lazy.filter(predicate)
        return lazy if columns is None else lazy.select(columns)


class _FolderReading(_Reading):
    """All files are opened before the first one is read."""

    def __init__(self, folder: Path, what: What) -> None:
        super().__init__(what)
        self._folder = folder

    @contextmanager
    def _groups(self, predicate: pl.Expr | None) -> Iterator[Iterator[list[_File]]]:
        with ExitStack() as opened:
            found = [*open_files(self._folder, lambda paths: wanted(paths, predicate), opened).items()]
            yield (found[at : at + _TOGETHER] for at in range(0, len(found), _TOGETHER))


class _BucketReading(_Reading):
    """Each file is fetched by one request that names its version."""

    def __init__(self, bucket: Bucket, what: What) -> None:
        super().__init__(what)
        self._bucket = bucket

    @contextmanager
    def _groups(self, predicate: pl.Expr | None) -> Iterator[Iterator[list[_File]]]:
        state = _known(self._bucket)
        paths = wanted(sorted(state.files), predicate, lambda path: state.files[path].times)
        with ThreadPoolExecutor(_READ_AHEAD, thread_name_prefix="scan") as pool:
            fetched = _ahead(pool, paths, lambda path: self._fetch(state, path))
            with closing(fetched):
                yield ([(path, io.BytesIO(content))] for path, content in fetched)

    def _fetch(self, state: State, path: str) -> bytes:
        from kraken_db.exporting.states import replaced_path
        from kraken_db.exporting.stores import ObjectChangedError

        tag = state.files[path].tag
        try:
            found = self._bucket.get(path, tag)
        except ObjectChangedError:
            found = self._bucket.get(replaced_path(path, tag))
        if found is None:
            raise PlaceFailedError(
                f"{self._bucket.where(path)} is no longer as it was when the reading began",
                hint="read again; versions that were replaced are kept for an hour",
            )
        return found[0]


def _ahead(
    pool: ThreadPoolExecutor, paths: list[str], fetch: Callable[[str], bytes]
) -> Generator[tuple[str, bytes]]:
    """Each file in its turn, while the next ones are on their way."""
    coming = iter(paths)
    waiting: list[tuple[str, Future[bytes]]] = [
        (path, pool.submit(fetch, path)) for path in islice(coming, _READ_AHEAD)
    ]
    try:
        while waiting:
            path, fetched = waiting.pop(0)
            content = fetched.result()
            waiting += [(path, pool.submit(fetch, path)) for path in islice(coming, 1)]
            yield path, content
    finally:
        for _, fetched in waiting:
            fetched.cancel()


# --- which files ---


def partition(path: str) -> dict[str, str]:
    """The columns that the folders of a file's path are, and their values."""
    pairs = [folder.partition("=") for folder in path.split("/")[:-1]]
    return {name: value for name, _, value in pairs}


def wanted(
    paths: list[str], predicate: pl.Expr | None, times: Callable[[str], TimeRange] = times_of
) -> list[str]:
    """The files that may have rows of a filter: those that no condition of it rules out by name or time."""
    if predicate is None or not paths:
        return paths
    import polars as pl

    time = pl.Datetime("us", "UTC")
    named = pl.DataFrame([{**partition(path), "pair": _pair(path)} for path in paths]).with_columns(
        pl.col("year").cast(pl.Int64),
        pl.Series("file", paths),
        pl.Series("first", [times(path)[0] for path in paths], dtype=time),
        pl.Series("until", [times(path)[1] for path in paths], dtype=time),
    )
    for condition in _conditions(predicate):
        names = set(condition.meta.root_names())
        if names and names <= set(named.columns) - {"file", "first", "until"}:
            named = named.filter(condition)
        elif names == {"timestamp"}:
            named = named.filter(_may_hold(condition))
    return named["file"].to_list()


def _pair(path: str) -> str:
    base, _, quote = partition(path)["symbol"].rpartition("-")
    return f"{base}/{quote}"


def _conditions(predicate: pl.Expr) -> list[pl.Expr]:
    """The parts of a filter that all have to be true."""
    inputs = predicate.meta.pop()
    if len(inputs) == 2:
        # Polars joins them by an operator of its own, which no expression of Python equals, but for its text.
        for one, other in (inputs, inputs[::-1]):
            if str(predicate) == f"[({one}) & ({other})]":
                return [*_conditions(one), *_conditions(other)]
    return [predicate]


def _may_hold(condition: pl.Expr) -> pl.Expr:
    """Whether a file of ``[first, until)`` may have a time of a condition that compares one."""
    import polars as pl

    inputs = condition.meta.pop()
    moment, first, until = pl.col("timestamp"), pl.col("first"), pl.col("until")
    if len(inputs) == 3:
        high, low, _ = inputs
        closed: list[Literal["both", "left", "right", "none"]] = ["both", "left", "right", "none"]
        if any(condition.meta.eq(moment.is_between(low, high, closed=ends)) for ends in closed):
            return (first <= high) & (until > low)
    if len(inputs) != 2:
        return pl.lit(True)
    for side, bound in (inputs, inputs[::-1]):
        if not side.meta.eq(moment) or bound.meta.root_names():
            continue
        rules = (
            ((moment >= bound, moment > bound, bound <= moment, bound < moment), until > bound),
            ((moment <= bound, bound >= moment), first <= bound),
            ((moment < bound, bound > moment), first < bound),
            ((moment == bound, bound == moment), (first <= bound) & (until > bound)),
        )
        for comparisons, rule in rules:
            if any(map(condition.meta.eq, comparisons)):
                return rule
    return pl.lit(True)
