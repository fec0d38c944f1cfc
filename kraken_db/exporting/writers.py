"""Files of each format, written block by block: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from kraken_db.exporting.layout import Format, Series
from kraken_db.exporting.manifest import FOOTER_KEY
from kraken_db.frames.builders import ArrowBuilder, arrow_schema, require
from kraken_db.frames.columns import CANDLE_FILE_COLUMNS, TRADE_COLUMNS, FrameColumn

if TYPE_CHECKING:
    import pyarrow

# Of Kraken's quarterly archives: one name less than their rows have fields.
TRADES_HEADER = b"price,volume,time,buy/sell,market/limit,miscellaneous\n"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FileWriter(Protocol):
    """Writes one file. All methods block, and may be called in a thread."""

    rows: int

    def keep(self, old: Path, before: datetime) -> None:
        """Begin with the rows of an older version of the file from before a moment."""
        ...

    def add(self, block: bytes) -> datetime:
        """Append a block that the database sent; returns the time of its last row."""
        ...

    def close(self, entry: str) -> None:
        """``entry``: what the file is to say of itself, where its format has a place for it."""
        ...


def file_writer(path: Path, style: Format, series: Series) -> FileWriter:
    if style == "csv":
        return CSVWriter(path, series)
    return (ParquetWriter if style == "parquet" else FeatherWriter)(path, series)


def check_packages(style: Format) -> None:
    """Raises ConfigurationError where a package is missing."""
    if style != "csv":
        require("pyarrow", f"{style} files")


def database_layout(style: Format, series: Series) -> Literal["kraken", "file", "frame"]:
    """How the database is to send the rows."""
    if style == "csv":
        return "kraken"
    return "frame" if series.interval is None else "file"


class CSVWriter:
    """Kraken's own layouts, byte for byte."""

    def __init__(self, path: Path, series: Series) -> None:
        self.rows = 0
        self._column = 2 if series.interval is None else 0
        self._header = TRADES_HEADER if series.interval is None else b""
        self._file: IO[bytes] = path.open("wb")
        self._file.write(self._header)

    def keep(self, old: Path, before: datetime) -> None:
        with old.open("rb") as lines:
            lines.seek(len(self._header))
            for line in lines:
                if self._moment(line) >= before:
                    return
                self._file.write(line)
                self.rows += 1

    def add(self, block: bytes) -> datetime:
        self._file.write(block)
        self.rows += block.count(b"\n")
        return self._moment(_last_line(block))

    def close(self, entry: str) -> None:
        self._file.close()

    def _moment(self, line: bytes) -> datetime:
        whole, _, fraction = line.split(b",")[self._column].partition(b".")
        return _EPOCH + timedelta(seconds=int(whole), microseconds=int(fraction.ljust(6, b"0") or 0))


class _ArrowWriter:
    """What Parquet and feather files share: the first column is the time."""

    ticks_per_second: int

    def __init__(self, path: Path, series: Series) -> None:
        self.rows = 0
        self._series = series
        columns = TRADE_COLUMNS if series.interval is None else CANDLE_FILE_COLUMNS
        self._builder = ArrowBuilder(columns, "decimal")
        self._schema, self._out = self._open(path, columns)

    def _open(self, path: Path, columns: Sequence[FrameColumn]) -> tuple[pyarrow.Schema, Any]:
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

    def close(self, entry: str) -> None:
        self._out.close()


class ParquetWriter(_ArrowWriter):
    """Exact numbers, UTC timestamps, and the symbol as it is: the folder's name has no slash."""

    ticks_per_second = 10**6

    def _open(self, path: Path, columns: Sequence[FrameColumn]) -> tuple[pyarrow.Schema, Any]:
        import pyarrow as pa
        from pyarrow import parquet

        schema = arrow_schema(columns, "decimal").append(pa.field("pair", pa.string()))
        return schema, parquet.ParquetWriter(path, schema, compression="zstd")

    def _shape(self, table: pyarrow.Table) -> list[Any]:
        import pyarrow as pa

        return [*table.columns, pa.repeat(pa.scalar(self._series.symbol), table.num_rows)]

    def close(self, entry: str) -> None:
        self._out.add_key_value_metadata({FOOTER_KEY: entry.encode()})
        super().close(entry)

    def _batches(self, old: Path) -> Iterator[pyarrow.RecordBatch]:
        from pyarrow import parquet

        with parquet.ParquetFile(old) as file:
            yield from file.iter_batches()


class FeatherWriter(_ArrowWriter):
    """As freqtrade keeps them: milliseconds and floats."""

    ticks_per_second = 10**3

    def _open(self, path: Path, columns: Sequence[FrameColumn]) -> tuple[pyarrow.Schema, Any]:
        import pyarrow as pa

        number, word = pa.float64(), pa.string()
        if self._series.interval is None:
            names = {"timestamp": pa.int64(), "id": word, "type": word, "side": word}
            names |= dict.fromkeys(("price", "amount", "cost"), number)
        else:
            names = {"date": pa.timestamp("ms", tz="UTC")}
            names |= dict.fromkeys(("open", "high", "low", "close", "volume"), number)
        schema = pa.schema(names)
        return schema, pa.ipc.new_file(path, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))

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
