"""Stored candles of every interval beside given OHLCVT files of Kraken's archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from sqlalchemy.exc import DBAPIError

from kraken_db.bulk_csv_importer.discovery import Discovery
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.db.copy import CopyRowError
from kraken_db.db.failures import driver_error, first_line
from kraken_db.errors import ConfigurationError, DatabaseError, KrakenDBError
from kraken_db.intervals import (
    BASE_INTERVAL,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
    interval_name,
)
from kraken_db.progress import Progress, Task
from kraken_db.ranges import TimeRange, intersection, union
from kraken_db.repositories.candle_audit import CandleAudit, Comparison
from kraken_db.repositories.candle_staging import CandleStaging
from kraken_db.repositories.staging import RowProblem
from kraken_db.store import Store
from kraken_db.verification.candles import tell_candles
from kraken_db.verification.certificate import MOST_FINDINGS, Finding, Part
from kraken_db.verification.scope import Scope
from kraken_db.verification.words import moment, plural

_BLOCK = 2**20  # bytes


def find_files(directory: Path, symbols: Sequence[str]) -> dict[str, list[ArchiveFile]]:
    """The OHLCVT files in a folder (or zip) that are of these symbols, by symbol.

    Raises ConfigurationError where there is none.
    """
    plan = Discovery(only_1m=False, symbols=None, skip_empty=True).plan([directory])
    found: dict[str, list[ArchiveFile]] = {}
    for file in plan.files:
        if file.interval is not None and file.symbol in symbols:
            found.setdefault(file.symbol, []).append(file)
    if not found:
        reason = (
            str(plan.refused[0].error) if plan.refused else "it has none of the symbols that are verified"
        )
        raise ConfigurationError(
            f"{directory}: there is no OHLCVT file to compare with: {reason}",
            hint="files are named like XBTUSD_1440.csv: Kraken's name of the pair, and minutes",
        )
    return found


class ArchiveCheck:
    """Stages a file in a temporary table and compares it there; nothing of it is stored."""

    def __init__(self, store: Store, scope: Scope, file: ArchiveFile, progress: Progress) -> None:
        assert file.interval is not None
        self._store = store
        self._scope = scope
        self._file = file
        self._interval = file.interval
        self._part = Part(f"archive {file.name}", "candles")
        self._task = progress.task(Path(file.name).name, file.size, unit="bytes")

    async def run(self) -> Part:
        """A file that cannot be read is told as a problem of the file, not as one of the store."""
        try:
            await self._compare()
        except (KrakenDBError, CopyRowError, DBAPIError, asyncpg.PostgresError) as error:
            if isinstance(error, DatabaseError):
                raise
            reason = str(error) if isinstance(error, KrakenDBError) else first_line(driver_error(error))
            self._part.not_checked = f"the file is not accepted: {reason}"
            start, end = self._scope.bounds
            self._part.add(Finding("file refused", f"{self._file.name}: {reason}", start, end))
        finally:
            self._task.done()
        return self._part

    async def _compare(self) -> None:
        async with (
            ArchiveReader(self._file, _BLOCK, _Reading(self._task)) as reader,
            self._store.database.read() as connection,
        ):
            staging = CandleStaging(connection, self._scope.symbol, self._interval)
            await staging.copy(reader.blocks())
            staged = await staging.inspect(self._store.clock())
            if isinstance(staged, RowProblem):
                raise reader.error(staged.reason, staged.line)
            length = interval_length(self._interval)
            inside = self._known((staged.first, staged.last + length))
            if not inside:
                self._part.not_checked = (
                    f"nothing that is stored is complete between {moment(staged.first)} and"
                    f" {moment(staged.last + length)}"
                )
                return
            audit = CandleAudit(connection, self._store.timeseries, self._scope.symbol)
            found = await audit.with_archive(
                self._interval, staging.table, inside, MOST_FINDINGS, may_lack=self._interval != BASE_INTERVAL
            )
        self._part.compared = found.compared
        self._part.see(inside[0][0], inside[-1][1] - length)
        self._tell(found)

    def _known(self, shown: TimeRange) -> list[TimeRange]:
        """The whole candles of the file's time of which all minutes are known.

        Higher candles outlive their minutes; minutes that were dropped are not compared.
        """
        minutes = self._scope.minutes
        known: Sequence[TimeRange] = minutes.complete
        if self._interval != BASE_INTERVAL:
            known = union(known, minutes.dropped)
        inside = intersection(known, [shown])
        return union(
            (ceil_to_interval(start, self._interval), floor_to_interval(end, self._interval))
            for start, end in inside
        )

    def _tell(self, found: Comparison) -> None:
        """A coarse file of Kraken's can lack rows although there were trades: the file's fault, not ours."""
        if found.unexpected and self._interval != BASE_INTERVAL:
            lacking = plural(found.unexpected, f"{interval_name(self._interval)} candle")
            self._part.notes.append(
                f"the file lacks {lacking} in which there were trades: a known fault of Kraken's coarse files"
            )
        tell_candles(self._part, self._interval, found, "the file")


@dataclass(frozen=True, slots=True)
class _Reading:
    """A progress that is one of reading alone."""

    task: Task

    def advance(self, size: int) -> None:
        self.task.advance(size)

    def all_read(self) -> None:
        pass
