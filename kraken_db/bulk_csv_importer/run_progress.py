"""How far an import is: over its bytes, which the time depends on, its pairs and its rows."""

from __future__ import annotations

from collections import Counter

from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import ArchiveFile, FileReport, ImportPlan
from kraken_db.progress import Failures, Overview, Progress

ROW_SIZE = 64
"""Bytes of a row of Kraken's, more or less."""
# Measured: reading and staging take about a fifth of a file's time, checking and merging the rest.
_READING_SHARE = 5


class RunProgress:
    """The files of a plan together. Rows that no manifest has counted are estimated by the bytes of those
    that were read."""

    def __init__(self, progress: Progress, plan: ImportPlan) -> None:
        self._files_left = Counter(file.symbol for file in plan.files)
        told = {
            id(archive.source): archive.manifest.rows
            for archive in plan.whole_archives
            if archive.manifest.rows is not None
        }
        self._counted = set(told)
        self._told = sum(told.values())
        self._unread = sum(file.size for file in plan.files if not self.is_counted(file))
        """Bytes of which nobody knows how many rows they are."""
        self._rows = 0
        self._bytes = 0
        self.overview = Overview(
            of_pairs=len(self._files_left),
            of_rows=0,
            is_estimate=self._unread > 0,
            failed=len(plan.refused),
        )
        self._estimate()
        self.task = progress.task("import", plan.size, unit="bytes", overview=self.overview)
        self._failures = Failures(progress) if len(plan.files) + len(plan.refused) > 1 else None
        if self._failures is not None:
            for refused in plan.refused:
                self._failures.tell(refused.name, refused.error.message, kind="refused")

    def is_counted(self, file: ArchiveFile) -> bool:
        """Whether its archive says how many rows there are."""
        return id(file.source) in self._counted

    def file(self, file: ArchiveFile) -> FileProgress:
        return FileProgress(self, file)

    def read(self, file: ArchiveFile, rows: int, size: int) -> None:
        """So many more rows and bytes of a file were read; fewer, where it is read anew."""
        self.overview.rows += rows
        if not self.is_counted(file):
            self._rows += rows
            self._bytes += size
            self._estimate()

    def leave(self, file: ArchiveFile, size: int) -> None:
        """So many bytes of a file will not be read."""
        if not self.is_counted(file):
            self._unread -= size
            self._estimate()

    def is_over(self, done: FileReport) -> None:
        symbol = done.file.symbol
        self._files_left[symbol] -= 1
        self.overview.pairs += self._files_left[symbol] == 0
        self.overview.failed += done.error is not None
        if done.error is not None and self._failures is not None:
            self._failures.tell(done.file.name, done.error.message)

    def _estimate(self) -> None:
        rows_a_byte = self._rows / self._bytes if self._rows > 0 and self._bytes > 0 else 1 / ROW_SIZE
        rest = max(0, self._unread - self._bytes)
        self.overview.of_rows = self._told + self._rows + round(rest * rows_a_byte)


class FileProgress:
    """A file's part of it: reading is the lesser part of the work."""

    def __init__(self, run: RunProgress, file: ArchiveFile) -> None:
        self._run = run
        self._file = file
        self._advanced = 0
        self._rows = 0
        self._bytes = 0
        """Those that the rows were made of: what was read last is still on its way."""
        self._bytes_read = 0
        self.reading_share = _READING_SHARE
        self.reader: ArchiveReader | None = None
        """Who knows how many rows were read."""

    def restart(self) -> None:
        """The file is read from its beginning again."""
        self._run.task.advance(-self._advanced)
        self._run.read(self._file, -self._rows, -self._bytes)
        self._advanced = self._rows = self._bytes = self._bytes_read = 0
        self.reader = None

    def advance(self, size: int) -> None:
        part = size // self.reading_share
        self._advanced += part
        self._run.task.advance(part)
        if self.reader is not None:
            self._count(self.reader.rows, self._bytes_read)
        self._bytes_read += size

    def all_read(self) -> None:
        self._run.task.update(note=f"writing {self._file.symbol} {self._file.kind}")

    def finish(self, done: FileReport) -> None:
        """The file is over; the rest of one that failed is not read."""
        if done.error is None:
            self._count(done.read, self._file.size)
        self._run.leave(self._file, self._file.size - self._bytes)
        self._run.task.advance(self._file.size - self._advanced)

    def _count(self, rows: int, size: int) -> None:
        self._run.read(self._file, rows - self._rows, size - self._bytes)
        self._rows, self._bytes = rows, size
