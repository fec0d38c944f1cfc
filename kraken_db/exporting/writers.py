"""Files of each format, written block by block: memory does not grow with them.

What is written is read inside of one snapshot.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from kraken_db.exporting.manifest import FOOTER_KEY, Format, Series, What
from kraken_db.extras import require
from kraken_db.frames import (
    CANDLE_FILE_COLUMNS,
    TRADE_COLUMNS,
    ArrowBuilder,
    FrameColumn,
    arrow_schema,
)

if TYPE_CHECKING:
    import pyarrow


# Of Kraken's quarterly archives: one name less than their rows have fields.
TRADES_HEADER = b"price,volume,time,buy/sell,market/limit,miscellaneous\n"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BACK = timedelta(seconds=2)
"""Trades whose ids and times have another order lie less apart: times of a file may go back by a second."""


class FileWriter(Protocol):
    """Writes one file. All methods block, and may be called in a thread."""

    rows: int

    def keep(self, old: Path, before: datetime) -> None:
        """Begin with the rows of an older version of the file from before a moment."""
        ...

    def add(self, block: bytes) -> datetime:
        """Append a block that the database sent; returns the time of its last row."""
        ...

    def finish(self, entry: str) -> None:
        """``entry``: what the file is to say of itself, where its format has a place for it."""
        ...


def file_writer(file: IO[bytes], style: Format, series: Series) -> FileWriter:
    """Writes into a file that the caller closes."""
    if style == "csv":
        return CandleCSVWriter(file) if series.interval is not None else TradeCSVWriter(file)
    return (FeatherWriter if style == "feather" else ParquetWriter)(file, series)


def check_packages(style: Format) -> None:
    """Raises ConfigurationError where a package is missing."""
    if style != "csv":
        require("pyarrow", f"{style} files")


def database_layout(style: Format, series: Series) -> Literal["kraken", "file", "frame"]:
    """How the database is to send the rows."""
    if style == "csv":
        return "kraken"
    return "frame" if series.interval is None else "file"


class CandleCSVWriter:
    """Kraken's own layout, byte for byte: rows in order of time."""

    time_at = 0
    header = b""

    def __init__(self, file: IO[bytes]) -> None:
        self.rows = 0
        self._file = file
        self._file.write(self.header)

    def keep(self, old: Path, before: datetime) -> None:
        with old.open("rb") as lines:
            lines.seek(len(self.header))
            for line in lines:
                moment = self._moment(line)
                if moment < before:
                    self._put(line)
                    self.rows += 1
                elif moment >= before + _BACK:
                    return

    def add(self, block: bytes) -> datetime:
        self._put(block)
        self.rows += block.count(b"\n")
        return self._moment(_last_line(block))

    def finish(self, entry: str) -> None:
        """Rows say everything."""

    def _put(self, rows: bytes) -> None:
        self._file.write(rows)

    def _moment(self, line: bytes) -> datetime:
        whole, _, fraction = line.split(b",")[self.time_at].partition(b".")
        return _EPOCH + timedelta(seconds=int(whole), microseconds=int(fraction.ljust(6, b"0") or 0))


class TradeCSVWriter(CandleCSVWriter):
    """The same for trades: in order of their ids, as Kraken's archives are.

    The store gives them in order of time, and where a feed's stamps meet those of REST an id may come some
    microseconds too early. Trades without an id stay where their time is.
    """

    time_at = 2
    header = TRADES_HEADER

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self._held = b""

    def _put(self, rows: bytes) -> None:
        lines = (self._held + rows).splitlines(keepends=True)
        border = self._moment(lines[-1]) - _BACK
        cut = len(lines)
        while cut and self._moment(lines[cut - 1]) > border:
            cut -= 1
        # What is held back may have to come behind what the next rows bring.
        ordered = self._in_order(lines)
        if ordered is not lines:
            late = set(lines[cut:])
            cut = next(at for at, line in enumerate(ordered) if line in late)
        self._held = b"".join(ordered[cut:])
        self._file.write(b"".join(ordered[:cut]))

    def finish(self, entry: str) -> None:
        self._file.write(self._held)
        self._held = b""

    def _in_order(self, lines: list[bytes]) -> list[bytes]:
        ids = [int(line[line.rfind(b",") + 1 :]) for line in lines]
        if all(map(operator.le, ids, ids[1:])):
            return lines
        highest = accumulate(ids, max)
        places = [number or before for number, before in zip(ids, highest, strict=True)]
        return [line for _, line in sorted(zip(places, lines, strict=True), key=operator.itemgetter(0))]


class _ArrowWriter:
    """What Parquet and feather files share: the first column is the time."""

    ticks_per_second: int

    def __init__(self, file: IO[bytes], series: Series) -> None:
        self.rows = 0
        self._series = series
        columns = TRADE_COLUMNS if series.interval is None else CANDLE_FILE_COLUMNS
        self._builder = ArrowBuilder(columns, "decimal")
        self._schema, self._out = self._open(file, columns)

    def _open(self, file: IO[bytes], columns: Sequence[FrameColumn]) -> tuple[pyarrow.Schema, Any]:
        raise NotImplementedError

    def _shape(self, table: pyarrow.Table) -> list[Any]:
        """The columns of the file, of rows as the database sent them."""
        raise NotImplementedError

    def _batches(self, old: Path) -> Iterator[pyarrow.RecordBatch]:
        raise NotImplementedError

    def keep(self, old: Path, before: datetime) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        border = (before - _EPOCH) // timedelta(microseconds=10**6 // self.ticks_per_second)
        for batch in self._batches(old):
            kept = batch.filter(pc.less(batch.column(0).cast(pa.int64()), border))
            self._write(pa.Table.from_batches([kept]).cast(self._schema))
            if kept.num_rows < batch.num_rows:
                return

    def add(self, block: bytes) -> datetime:
        import pyarrow as pa

        rows = self._builder.table(block)
        self._write(pa.Table.from_arrays(self._shape(rows), schema=self._schema))
        last: datetime = rows.column("timestamp")[-1].as_py()
        return last

    def _write(self, table: pyarrow.Table) -> None:
        self._out.write_table(table)
        self.rows += table.num_rows

    def finish(self, entry: str) -> None:
        self._out.close()


PARTITIONS = {"symbol": "text", "interval": "text", "year": "count"}
"""Columns of a table that are in the names of its folders; trades have no interval."""


def table_schema(what: What) -> pyarrow.Schema:
    """All columns of a table, in Arrow's types: those of its files, and those of its folders."""
    import pyarrow as pa

    schema = _file_schema(TRADE_COLUMNS if what == "trades" else CANDLE_FILE_COLUMNS)
    for name, kind in PARTITIONS.items():
        if what == "candles" or name != "interval":
            schema = schema.append(pa.field(name, pa.string() if kind == "text" else pa.int64()))
    return schema


def _file_schema(columns: Sequence[FrameColumn]) -> pyarrow.Schema:
    import pyarrow as pa

    return arrow_schema(columns, "decimal").append(pa.field("pair", pa.string()))


class ParquetWriter(_ArrowWriter):
    """Exact numbers, UTC timestamps, and the symbol as it is: the folder's name has no slash."""

    ticks_per_second = 10**6

    def _open(self, file: IO[bytes], columns: Sequence[FrameColumn]) -> tuple[pyarrow.Schema, Any]:
        from pyarrow import parquet

        schema = _file_schema(columns)
        return schema, parquet.ParquetWriter(file, schema, compression="zstd")

    def _shape(self, table: pyarrow.Table) -> list[Any]:
        import pyarrow as pa

        return [*table.columns, pa.repeat(pa.scalar(self._series.symbol), table.num_rows)]

    def finish(self, entry: str) -> None:
        self._out.add_key_value_metadata({FOOTER_KEY: entry.encode()})
        super().finish(entry)

    def _batches(self, old: Path) -> Iterator[pyarrow.RecordBatch]:
        from pyarrow import parquet

        with parquet.ParquetFile(old) as file:
            yield from file.iter_batches()


class FeatherWriter(_ArrowWriter):
    """As freqtrade keeps them: milliseconds and floats."""

    ticks_per_second = 10**3

    def _open(self, file: IO[bytes], columns: Sequence[FrameColumn]) -> tuple[pyarrow.Schema, Any]:
        import pyarrow as pa

        number, word = pa.float64(), pa.string()
        if self._series.interval is None:
            names = {"timestamp": pa.int64(), "id": word, "type": word, "side": word}
            names |= dict.fromkeys(("price", "amount", "cost"), number)
        else:
            names = {"date": pa.timestamp("ms", tz="UTC")}
            names |= dict.fromkeys(("open", "high", "low", "close", "volume"), number)
        schema = pa.schema(names)
        return schema, pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))

    def _shape(self, table: pyarrow.Table) -> list[Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        number, milliseconds = pa.float64(), pa.timestamp("ms", tz="UTC")
        # Kraken's microseconds are cut off here too.
        moment = table.column("timestamp").cast(milliseconds, safe=False)
        if self._series.interval is not None:
            return [moment, *(table.column(name).cast(number) for name in self._schema.names[1:])]
        price, amount = (table.column(name).cast(number) for name in ("price", "volume"))
        cost = pc.multiply(price, amount)
        words = (table.column("id").cast(pa.string()), table.column("order_type"), table.column("side"))
        return [moment.cast(pa.int64()), *words, price, amount, cost]

    def _batches(self, old: Path) -> Iterator[pyarrow.RecordBatch]:
        import pyarrow as pa

        with pa.memory_map(str(old)) as source, pa.ipc.open_file(source) as file:
            for number in range(file.num_record_batches):
                yield file.get_batch(number)


def _last_line(block: bytes) -> bytes:
    return block[block.rfind(b"\n", 0, -1) + 1 :]
