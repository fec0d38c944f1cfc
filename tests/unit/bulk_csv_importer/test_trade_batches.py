"""A trade file with ids is cut where a minute ends, however many rows a minute has."""

from __future__ import annotations

from pathlib import Path

import pytest

from kraken_db.bulk_csv_importer import trade_batches
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.errors import ImportFileError
from kraken_db.ingest.file_batches import FileBatch, FileRow
from kraken_db.times import FIRST_MOMENT
from tests.support.archives import START, at, write

_BLOCK = 4096
"""Bytes; a row has about forty."""


def row(trade_id: int, seconds: int | str) -> str:
    return f"100.5,0.25,{seconds},b,l,,{trade_id}\n"


def minute(first_id: int, number: int, *, rows: int) -> str:
    """So many trades in one minute, with ids from ``first_id`` on."""
    return "".join(row(first_id + n, START + 60 * number) for n in range(rows))


async def batches(folder: Path, text: str) -> list[FileBatch]:
    path = write(folder, "XBTUSD.csv", text)
    file = ArchiveFile(path, None, len(text), "BTC/USD", None)
    async with ArchiveReader(file, _BLOCK) as reader:
        return [batch async for batch in trade_batches.trade_batches(reader, reader.columns)]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trade_batches, "BATCH_SIZE", 2 * _BLOCK)


async def test_a_minute_of_many_blocks_is_one_batch(tmp_path: Path) -> None:
    text = minute(1, 0, rows=1000) + minute(1001, 1, rows=300) + minute(1301, 2, rows=1)
    found = await batches(tmp_path, text)
    assert "".join(batch.rows.decode() for batch in found) == text
    first, *_, last = found
    assert (first.line, first.size, first.first, first.last) == (1, 1000, (1, at(START)), (1000, at(START)))
    assert (first.before, first.behind) == (None, (1001, at(START + 60)))
    assert found[1].line == 1001
    assert found[1].before == (1000, at(START))
    assert (last.last, last.behind) == ((1301, at(START + 120)), None)


async def test_a_minute_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the row that it begins with."""
    monkeypatch.setattr(trade_batches, "_LARGEST", 5 * _BLOCK)
    text = minute(1, 0, rows=600) + minute(601, 1, rows=2000)
    with pytest.raises(ImportFileError, match="rows of one minute: these are no trades") as refused:
        await batches(tmp_path, text)
    assert refused.value.line == 601


@pytest.mark.parametrize("time", ["1" * 30, ""])
async def test_a_time_that_is_none_is_handed_on(tmp_path: Path, time: str) -> None:
    """The database says what is wrong with it: the row keeps its line, and is of no minute of the others."""
    text = minute(1, 0, rows=600) + row(601, time) + minute(602, 1, rows=3)
    first, second = await batches(tmp_path, text)
    assert (first.rows + second.rows).decode() == text
    nowhere = FileRow(None, FIRST_MOMENT)
    assert (first.line, first.size, first.last, first.behind) == (1, 601, nowhere, (602, at(START + 60)))
    assert (second.line, second.size, second.before, second.behind) == (602, 3, nowhere, None)
