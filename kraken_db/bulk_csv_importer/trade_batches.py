"""A trade file with ids, cut into batches of whole minutes: memory does not grow with the file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.ingest.file_batches import NOT_A_ROW, FileBatch, FileRow, row_of
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval
from kraken_db.times import FIRST_MOMENT

BATCH_SIZE = 6 * 2**20
"""Bytes of a batch: a hundred thousand rows, and with what is made of them some ten MiB."""
_LARGEST = 8 * BATCH_SIZE
"""Kraken has no minute as large as that: these are no trades."""
_NOWHERE = FileRow(None, FIRST_MOMENT)
"""The place of a row that cannot be read: the database says what is wrong with it."""


async def trade_batches(reader: ArchiveReader, columns: Sequence[str]) -> AsyncIterator[FileBatch]:
    """All rows of a file, in order. The last batch is the one with nothing ``behind``."""
    blocks: list[bytes] = []
    size, line = 0, 1
    before: FileRow | None = None
    async for block in reader.blocks():
        blocks.append(block)
        size += len(block)
        if size < BATCH_SIZE:
            continue
        rows = b"".join(blocks)
        cut = _end_of_minutes(rows, columns)
        if not cut:
            blocks = [rows]
            if size > _LARGEST:
                raise reader.error("more than a million rows of one minute: these are no trades", line)
            continue
        rest = rows[cut:]
        batch = _batch(rows[:cut], columns, line, before, rest)
        yield batch
        line, before = line + batch.size, batch.last
        blocks, size = [rest], len(rest)
    if size:
        yield _batch(b"".join(blocks), columns, line, before, b"")


def _batch(rows: bytes, columns: Sequence[str], line: int, before: FileRow | None, rest: bytes) -> FileBatch:
    first, last = _place(_first_line(rows), columns), _place(_last_line(rows), columns)
    behind = _place(_first_line(rest), columns) if rest else _NOWHERE
    return FileBatch(rows, columns, line, first, last, before, None if behind is _NOWHERE else behind)


def _end_of_minutes(rows: bytes, columns: Sequence[str]) -> int:
    """Where the last minute begins that rows are of; 0 if all are of one."""
    minute = floor_to_interval(_place(_last_line(rows), columns).timestamp, BASE_INTERVAL)
    cut = len(rows)
    while cut:
        start = rows.rfind(b"\n", 0, cut - 1) + 1
        if floor_to_interval(_place(rows[start : cut - 1], columns).timestamp, BASE_INTERVAL) != minute:
            return cut
        cut = start
    return 0


def _first_line(rows: bytes) -> bytes:
    return rows[: rows.index(b"\n")]


def _last_line(rows: bytes) -> bytes:
    return rows[rows.rfind(b"\n", 0, -1) + 1 : -1]


def _place(line: bytes, columns: Sequence[str]) -> FileRow:
    try:
        return row_of(line, columns)
    except NOT_A_ROW:
        return _NOWHERE
