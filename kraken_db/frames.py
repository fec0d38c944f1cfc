"""Data frames of polars, pyarrow and pandas, from the blocks of CSV that the database sends.

A block is parsed while the next one is on its way. The three packages are imported when they are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from kraken_db.errors import ConfigurationError
from kraken_db.extras import require
from kraken_db.types import Candle

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Kind: TypeAlias = Literal["time", "price", "amount", "count", "text"]
"""What a column holds.

``time``: microseconds since 1970, which become a UTC timestamp. ``price``: 20 digits, ten of them decimals.
``amount``: volumes: 38 digits, ten of them decimals. ``count``: 64 bits. ``text``: never missing.
"""

PRECISION = {"price": 20, "amount": 38}
SCALE = 10


@dataclass(frozen=True, slots=True)
class FrameColumn:
    name: str
    kind: Kind


_SHAPE = tuple(FrameColumn(name, "price") for name in ("open", "high", "low", "close"))
CANDLE_COLUMNS = (
    FrameColumn("timestamp", "time"),
    *_SHAPE,
    FrameColumn("volume", "amount"),
    FrameColumn("trade_count", "count"),
    FrameColumn("vwap", "price"),
)
CANDLE_FILE_COLUMNS = (*CANDLE_COLUMNS, FrameColumn("quote_volume", "amount"))
TRADE_COLUMNS = (
    FrameColumn("timestamp", "time"),
    FrameColumn("id", "count"),
    FrameColumn("price", "price"),
    FrameColumn("volume", "amount"),
    FrameColumn("side", "text"),
    FrameColumn("order_type", "text"),
    FrameColumn("misc", "text"),
)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


async def read_frame(blocks: AsyncGenerator[bytes], builder: FrameBuilder) -> Any:
    """The frame of all blocks."""
    async with aclosing(blocks):
        async for block in blocks:
            await asyncio.to_thread(builder.add, block)
    return await asyncio.to_thread(builder.finish)


async def candle_blocks(candles: Iterable[Candle]) -> AsyncGenerator[bytes]:
    """Candles as the database would send them for a frame."""
    lines = [
        f"{(c.timestamp - _EPOCH) // _MICROSECOND},{c.open:f},{c.high:f},{c.low:f},{c.close:f},{c.volume:f},"
        f"{c.trade_count},{'' if c.vwap is None else format(c.vwap, 'f')}\n"
        for c in candles
    ]
    if lines:
        yield "".join(lines).encode()


FrameBackend: TypeAlias = Literal["polars", "pandas", "arrow"]
Numbers: TypeAlias = Literal["decimal", "float"]
INDEX = "timestamp"
SYMBOL = "symbol"

_PACKAGES: dict[str, tuple[str, ...]] = {
    "polars": ("polars",),
    "arrow": ("pyarrow",),
    "pandas": ("pandas", "pyarrow"),
}


class FrameBuilder(Protocol):
    """Takes blocks of whole rows, in order, and makes one frame of them. May be used in a thread."""

    def add(self, block: bytes) -> None: ...

    def finish(self) -> Any: ...


def frame_builder(backend: FrameBackend, numbers: Numbers, columns: Sequence[FrameColumn]) -> FrameBuilder:
    """The builder of a kind of frame.

    Raises ConfigurationError for an unknown kind, and where its package is missing.
    """
    if backend not in _PACKAGES:
        raise ConfigurationError(
            f"backend={backend!r} is not known", hint=f"known: {', '.join(map(repr, _PACKAGES))}"
        )
    if numbers not in ("decimal", "float"):
        raise ConfigurationError(f"numbers={numbers!r} is not known", hint="known: 'decimal', 'float'")
    for package in _PACKAGES[backend]:
        require(package, f"frames of {backend}")
    if backend == "polars":
        return PolarsBuilder(columns, numbers)
    return ArrowBuilder(columns, numbers) if backend == "arrow" else PandasBuilder(columns, numbers)


# Methods that the frames of all three kinds have go by their names; the others are told apart by the package.


def newest_rows(frame: Any, count: int) -> Any:
    """The last ``count`` rows."""
    first = max(len(frame) - count, 0)
    return frame.iloc[first:] if _kind(frame) == "pandas" else frame.slice(first)


def rename_columns(frame: Any, names: Mapping[str, str]) -> Any:
    """The columns of ``names`` alone, in that order and under the new names, behind the time."""
    match _kind(frame):
        case "pandas":
            levels = list(frame.index.names)
            kept = [name for name in names if name not in levels]
            found = frame if kept == list(frame.columns) else frame[kept]
            found.columns = [names[name] for name in kept]
            found.index.names = [names[level] for level in levels]
            return found
        case "polars":
            return frame.select(list(names)).rename(dict(names))
        case _:
            return frame.select(list(names)).rename_columns(list(names.values()))


def to_zone(frame: Any, zone: str) -> Any:
    """The same moments as times of a zone."""
    match _kind(frame):
        case "pandas":
            return frame.set_axis(frame.index.tz_convert(zone), axis=0)
        case "polars":
            import polars as pl

            return frame.with_columns(pl.col(INDEX).dt.convert_time_zone(zone))
        case _:
            import pyarrow as pa

            place = frame.schema.get_field_index(INDEX)
            return frame.set_column(place, INDEX, frame[INDEX].cast(pa.timestamp("us", tz=zone)))


def join_symbols(frames: Mapping[str, Any]) -> Any:
    """One frame of the frames of several symbols, one after the other.

    In pandas the symbol is the outer level of the index, elsewhere the first column.
    """
    parts = list(frames.values())
    match _kind(parts[0]):
        case "pandas":
            import pandas as pd

            return pd.concat(parts, keys=list(frames), names=[SYMBOL, INDEX])
        case "polars":
            import polars as pl

            labelled = [
                frame.select(pl.lit(symbol).alias(SYMBOL), pl.all()) for symbol, frame in frames.items()
            ]
            return pl.concat(labelled, rechunk=False)
        case _:
            import pyarrow as pa

            return pa.concat_tables(
                frame.add_column(0, SYMBOL, pa.repeat(pa.scalar(symbol), len(frame)))
                for symbol, frame in frames.items()
            )


def _kind(frame: Any) -> str:
    return type(frame).__module__.partition(".")[0]


class PolarsBuilder:
    def __init__(self, columns: Sequence[FrameColumn], numbers: Numbers) -> None:
        import polars as pl

        self._schema = {column.name: _polars_type(column, numbers) for column in columns}
        self._frames: list[polars.DataFrame] = []
        # An empty text comes back as missing; the database sends none that is.
        self._finished = [
            pl.col(column.name).cast(pl.Datetime("us", "UTC"))
            if column.kind == "time"
            else pl.col(column.name).fill_null("")
            for column in columns
            if column.kind in ("time", "text")
        ]

    def add(self, block: bytes) -> None:
        import polars as pl

        rows = pl.read_csv(block, has_header=False, schema=self._schema)
        self._frames.append(rows.with_columns(self._finished))

    def finish(self) -> polars.DataFrame:
        import polars as pl

        if not self._frames:
            return pl.DataFrame(schema=self._schema).with_columns(self._finished)
        return pl.concat(self._frames, rechunk=False)


def _polars_type(column: FrameColumn, numbers: Numbers) -> Any:
    import polars as pl

    match column.kind:
        case "time" | "count":
            return pl.Int64
        case "text":
            return pl.String
    return pl.Float64 if numbers == "float" else pl.Decimal(PRECISION[column.kind], SCALE)


class ArrowBuilder:
    def __init__(self, columns: Sequence[FrameColumn], numbers: Numbers) -> None:
        import pyarrow as pa
        from pyarrow import csv

        self.schema = arrow_schema(columns, numbers)
        # As they come: time is a number there.
        sent = {f.name: pa.int64() if pa.types.is_timestamp(f.type) else f.type for f in self.schema}
        self._read = csv.ReadOptions(column_names=self.schema.names)
        self._parse = csv.ParseOptions(newlines_in_values=any(c.kind == "text" for c in columns))
        self._convert = csv.ConvertOptions(column_types=sent, strings_can_be_null=False)
        self._tables: list[pyarrow.Table] = []

    def table(self, block: bytes) -> pyarrow.Table:
        """The rows of one block."""
        import pyarrow as pa
        from pyarrow import csv

        rows = csv.read_csv(
            pa.BufferReader(block),
            read_options=self._read,
            parse_options=self._parse,
            convert_options=self._convert,
        )
        return rows.cast(self.schema)

    def add(self, block: bytes) -> None:
        self._tables.append(self.table(block))

    def finish(self) -> pyarrow.Table:
        import pyarrow as pa

        return pa.concat_tables(self._tables) if self._tables else self.schema.empty_table()


def arrow_schema(columns: Sequence[FrameColumn], numbers: Numbers) -> pyarrow.Schema:
    """The types of the columns in Arrow, and so in Parquet."""
    import pyarrow as pa

    def kind(column: FrameColumn) -> pyarrow.DataType:
        match column.kind:
            case "time":
                return pa.timestamp("us", tz="UTC")
            case "count":
                return pa.int64()
            case "text":
                return pa.string()
        return pa.float64() if numbers == "float" else pa.decimal128(PRECISION[column.kind], SCALE)

    return pa.schema([pa.field(column.name, kind(column)) for column in columns])


class PandasBuilder(ArrowBuilder):
    """Exact numbers are Arrow's decimals inside of pandas: single values are Decimals."""

    def finish(self) -> pandas.DataFrame:
        return _to_pandas(super().finish())


def _to_pandas(table: pyarrow.Table) -> pandas.DataFrame:
    import pandas as pd
    import pyarrow as pa

    def kept_exact(kind: pyarrow.DataType) -> Any:
        return pd.ArrowDtype(kind) if pa.types.is_decimal(kind) else None

    return table.to_pandas(types_mapper=kept_exact).set_index(INDEX)


# What a double holds as a whole number.
_EXACT = 2**53


def frame_of_table(table: pyarrow.Table, backend: FrameBackend, numbers: Numbers) -> Any:
    """A table of exact numbers as ``frame_builder`` makes it of the same rows."""
    if numbers == "float":
        table = _with_floats(table)
    if backend == "arrow":
        return table
    if backend == "pandas":
        return _to_pandas(table)
    import polars as pl

    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _with_floats(table: pyarrow.Table) -> pyarrow.Table:
    """Each decimal as the nearest double."""
    import pyarrow as pa

    columns = [
        pa.chunked_array([_floats(chunk) for chunk in column.chunks], pa.float64())
        if pa.types.is_decimal(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


def _floats(decimals: pyarrow.Array) -> pyarrow.Array:
    import numpy as np
    import pyarrow as pa

    words = np.frombuffer(decimals.buffers()[1], np.int64).reshape(-1, 2)
    low, high = words[decimals.offset : decimals.offset + len(decimals)].T
    # A division rounds once, to the nearest, if both numbers are exact.
    floats = low / 10.0**SCALE
    missing = decimals.is_null().to_numpy(zero_copy_only=False) if decimals.null_count else None
    if high.any() or (low.view(np.uint64) > _EXACT).any():
        wide = (high != low >> 63) | (np.abs(low) > _EXACT)
        for row in np.flatnonzero(wide if missing is None else wide & ~missing):
            floats[row] = float(decimals[int(row)].as_py())
    return pa.array(floats, mask=missing)
