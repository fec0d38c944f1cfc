"""Which processes work on the store, and when each of them gave its last word. All times are the server's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.last_words import LastWord, left
from kraken_db.models import RUNNING_JOBS

JobKind: TypeAlias = Literal[
    "recording", "backfill", "partial backfill", "gap filling", "import", "maintenance", "copy"
]

DEAD_AFTER = timedelta(seconds=45)
"""A job that has said nothing for so long was killed, or has lost the database."""
_FORGOTTEN_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class RunningJob:
    """One process and what it does. ``behind``: its symbols that are not up to date; ``silence``: since its
    last word."""

    id: UUID
    kind: str
    symbols: Sequence[str]
    behind: Sequence[str]
    host: str
    pid: int
    started_at: datetime
    heard_at: datetime
    ended_at: datetime | None
    state: str
    last_error: str | None
    silence: timedelta

    def __str__(self) -> str:
        """``recording of BTC/USD on host (process 123)``; of several pairs their number."""
        pairs = f" of {self.symbols[0]}" if len(self.symbols) == 1 else ""
        pairs = f" of {len(self.symbols):,} pairs" if len(self.symbols) > 1 else pairs
        return f"{self.kind}{pairs} on {self.host} (process {self.pid})"

    def watches(self, symbol: str) -> bool:
        """Whether it is, or was, a recording that had the symbol live at its last word."""
        return self.kind == "recording" and symbol in self.symbols and symbol not in self.behind

    @property
    def is_alive(self) -> bool:
        return self.ended_at is None and self.silence < DEAD_AFTER

    @property
    def is_dead(self) -> bool:
        """Whether it has ended without a word."""
        return self.ended_at is None and self.silence >= DEAD_AFTER


class RunningJobRepository:
    """Keeps ``running_jobs`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def begin(
        self,
        job: UUID,
        kind: JobKind,
        symbols: Sequence[str],
        behind: Sequence[str],
        host: str,
        pid: int,
    ) -> None:
        """Note a job; old ones are forgotten."""
        forgotten = func.clock_timestamp() - _FORGOTTEN_AFTER
        await self._connection.execute(delete(RUNNING_JOBS).where(RUNNING_JOBS.c.heard_at < forgotten))
        pairs = {"symbols": list(symbols), "behind": list(behind)}
        row = {"id": job, "kind": kind, "host": host, "pid": pid, "state": "begins", **pairs}
        await self._connection.execute(insert(RUNNING_JOBS).values(row))

    async def beat(
        self,
        job: UUID,
        state: str,
        behind: Sequence[str],
        error: str | None,
        symbols: Sequence[str] | None = None,
        *,
        is_over: bool = False,
    ) -> bool:
        """The job's word; ``symbols`` where they are others than before. False where its row is gone."""
        c = RUNNING_JOBS.c
        values = {"heard_at": func.clock_timestamp(), "state": state, "behind": list(behind)}
        if error is not None:
            values["last_error"] = error
        if symbols is not None:
            values["symbols"] = list(symbols)
        if is_over:
            values["ended_at"] = func.clock_timestamp()
        done = await self._connection.execute(
            update(RUNNING_JOBS).where(c.id == job).values(values).returning(c.id)
        )
        return done.first() is not None

    async def end(self, word: LastWord) -> bool:
        """Note how a job has ended while the database was away. False where it knows no such job."""
        c = RUNNING_JOBS.c
        ended_at = func.greatest(c.heard_at, func.least(word.at, func.clock_timestamp()))
        values = {"ended_at": ended_at, "state": word.state}
        if word.error is not None:
            values["last_error"] = word.error
        done = await self._connection.execute(
            update(RUNNING_JOBS).where(c.id == word.job).values(values).returning(c.id)
        )
        return done.first() is not None

    async def all(self) -> list[RunningJob]:
        """By their beginning. One that was killed has ended where another has taken its work up since.

        Jobs of this machine that ended while the database was away have ended.
        """
        c, later = RUNNING_JOBS.c, RUNNING_JOBS.alias("later")
        silence = func.greatest(func.clock_timestamp() - c.heard_at, timedelta(0)).label("silence")
        is_replaced = (
            select(1)
            .where(later.c.id != c.id, later.c.kind == c.kind, later.c.started_at >= c.heard_at)
            .where(c.symbols.contained_by(later.c.symbols))
            .exists()
        )
        statement = select(*c, silence, is_replaced.label("is_replaced")).order_by(c.started_at, c.id)
        rows, words = await self._connection.execute(statement), left()
        return [_job(dict(row), words.get(row["id"])) for row in rows.mappings()]


def _job(row: dict[str, Any], word: LastWord | None) -> RunningJob:
    is_replaced = row.pop("is_replaced")
    job = RunningJob(**row)
    if word is not None and job.ended_at is None:
        at = max(word.at, job.heard_at)
        return replace(job, ended_at=at, state=word.state, last_error=word.error or job.last_error)
    return replace(job, ended_at=job.heard_at, state="killed") if job.is_dead and is_replaced else job
