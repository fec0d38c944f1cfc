"""Jobs that are started from the page: the command line itself, as child processes, never more than a few.

The database and other secrets go by the environment, progress comes by a pipe, the result into a file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.progress import PROGRESS_VARIABLE
from kraken_db.times import Clock
from kraken_db.web.job_kinds import command_of

State: TypeAlias = Literal["running", "done", "failed", "stopped"]

MOST_KEPT = 50
"""Jobs that are over and still known."""
_LINES, _LONGEST_LINE = 200, 1_000
_BETWEEN_LINES = 0.5
_LARGEST_SHOWN = 256 * 1024
"""Bytes of a result that are shown with the job itself."""
_LONGEST_PROGRESS = 64 * 1024
_GRACE = 20.0
"""Seconds that jobs have to end by themselves when the server ends."""
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
_log = logging.getLogger(__name__)


class TooManyJobsError(KrakenDBError):
    """As many as are allowed at once are running."""


@dataclass(eq=False)
class Job:
    """One child process, and what it has said."""

    id: str
    kind: str
    arguments: Mapping[str, Any]
    started_at: datetime
    result_path: Path
    state: State = "running"
    ended_at: datetime | None = None
    share: float | None = None
    text: str = ""
    error: str | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    process: asyncio.subprocess.Process | None = None
    stops: int = 0
    told_at: float = float("-inf")
    """When somebody was last told of it, by the loop's clock."""

    def document(self, *, with_result: bool = False, lines: int = _LINES) -> dict[str, Any]:
        """``lines``: how many of its newest ones."""
        return {
            "id": self.id,
            "kind": self.kind,
            "origin": "page",
            "arguments": self.arguments,
            "symbols": self.arguments.get("symbols", []),
            "state": self.state,
            "started": self.started_at,
            "ended": self.ended_at,
            "progress": {"share": self.share, "text": self.text},
            "error": self.error,
            "log": list(self.lines)[-lines:],
            "has_result": self.has_result,
            "result": self.result() if with_result else None,
        }

    @property
    def has_result(self) -> bool:
        return self.state != "running" and self.result_path.exists() and self.result_path.stat().st_size > 0

    def result(self) -> Any:
        """What it printed; None where there is nothing, or too much to show."""
        if not self.has_result or self.result_path.stat().st_size > _LARGEST_SHOWN:
            return None
        with suppress(ValueError, OSError):
            return json.loads(self.result_path.read_bytes())
        return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """What it printed, piece by piece."""
        file = await asyncio.to_thread(self.result_path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, 65_536):
                yield piece
        finally:
            file.close()


class JobRunner:
    """``most``: jobs at once; 0: none can be started. ``tell`` is called with what has changed."""

    def __init__(
        self,
        db_url: str,
        most: int,
        *,
        folder: Path | None,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "kraken_db"),
    ) -> None:
        self._environment = {**os.environ, **(environment or {}), "DATABASE_URL": db_url}
        self._environment |= {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        self._environment.pop("KRAKEN_DB_TOKEN", None)
        self._most = most
        self._folder = folder
        self._clock = clock
        self._program = program
        self._jobs: dict[str, Job] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self._results = tempfile.TemporaryDirectory(prefix="kraken-db-serve-")
        self._is_closing = False
        self.tell: Callable[[Job], None] = lambda job: None

    @property
    def all(self) -> list[Job]:
        """Those that were started here, the newest first."""
        return list(self._jobs.values())[::-1]

    def get(self, number: str) -> Job | None:
        return self._jobs.get(number)

    async def start(self, content: Any) -> Job:
        """Start what a request asks for.

        Raises WrongValueError and PairError for what it cannot ask for, ConfigurationError for what is
        switched off here, and TooManyJobsError.
        """
        if not self._most:
            raise ConfigurationError(
                "jobs are switched off here", hint="start kraken-db serve with --jobs 1 or more"
            )
        kind, arguments, words = command_of(content, self._clock(), self._folder)
        running = [job for job in self._jobs.values() if job.state == "running"]
        if len(running) >= self._most or self._is_closing:
            raise TooManyJobsError(
                f"{len(running)} jobs are running, and no more are allowed at once",
                hint="wait for one, or stop one",
            )
        number = secrets.token_hex(8)
        job = Job(number, kind, arguments, self._clock(), Path(self._results.name, f"{number}.json"))
        self._jobs[number] = job
        try:
            await self._spawn(job, words)
        except OSError as error:
            del self._jobs[number]
            raise ConfigurationError(f"the job cannot be started: {error.strerror}") from None
        self._forget_old()
        return job

    def stop(self, job: Job) -> None:
        """Have it store what it has and end; the second time end it at once."""
        if job.process is None or job.state != "running":
            return
        job.stops += 1
        with suppress(ProcessLookupError):
            job.process.send_signal(signal.SIGINT if job.stops < 3 else signal.SIGKILL)

    async def close(self) -> None:
        """Stop all jobs, and wait for them a while."""
        self._is_closing = True
        for job in self._jobs.values():
            self.stop(job)
        if self._watching:
            await asyncio.wait(self._watching, timeout=_GRACE)
        for job in self._jobs.values():
            job.stops = 3
            self.stop(job)
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._results.cleanup()

    async def _spawn(self, job: Job, words: Sequence[str]) -> None:
        told, tells = os.pipe()
        try:
            with job.result_path.open("wb") as result:
                job.process = await asyncio.create_subprocess_exec(
                    *self._program,
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=result,
                    stderr=asyncio.subprocess.PIPE,
                    env={**self._environment, PROGRESS_VARIABLE: str(tells)},
                    pass_fds=(tells,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tells)
        task = asyncio.create_task(self._watch(job, told))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def _watch(self, job: Job, told: int) -> None:
        assert job.process is not None and job.process.stderr is not None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_LONGEST_PROGRESS)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(told, "rb")
        )
        try:
            await asyncio.gather(
                _each_line(reader, lambda line: self._progress(job, line)),
                _each_line(job.process.stderr, lambda line: self._line(job, line)),
            )
            self._end(job, await job.process.wait())
        finally:
            transport.close()

    def _progress(self, job: Job, line: str) -> None:
        with suppress(ValueError):
            said = json.loads(line)
            job.share, job.text = said["share"], str(said["text"])[:_LONGEST_LINE]
            self.tell(job)

    def _line(self, job: Job, line: str) -> None:
        if self._folder is not None:
            line = line.replace(str(self._folder), "EXPORT-DIR")
        job.lines.append(line[:_LONGEST_LINE])
        if line.startswith("Error: "):
            job.error = line.removeprefix("Error: ")[:_LONGEST_LINE]
        now = asyncio.get_running_loop().time()
        if now - job.told_at >= _BETWEEN_LINES:  # one that writes thousands of them is no news each time
            job.told_at = now
            self.tell(job)

    def _end(self, job: Job, code: int) -> None:
        job.ended_at = self._clock()
        # What verify has found wrong is its result, and the code says so.
        is_done = code == 0 or (code == 1 and job.kind == "verify" and job.error is None)
        job.state = "done" if is_done else "stopped" if code in _STOPPED else "failed"
        if job.state == "failed" and job.error is None:
            failed = [line for line in job.lines if line.startswith("Failed: ")]
            job.error = failed[-1] if failed else f"it ended with code {code}"
        if job.state == "done":
            job.share = 1.0
        self.tell(job)
        _log.info("job %s (%s) is over: %s", job.id, job.kind, job.state)

    def _forget_old(self) -> None:
        over = [job for job in self._jobs.values() if job.state != "running"]
        for job in over[: max(0, len(over) - MOST_KEPT)]:
            del self._jobs[job.id]
            job.result_path.unlink(missing_ok=True)


async def _each_line(reader: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Every line until the end; of one that has no end, its beginning."""
    rest = b""
    while chunk := await reader.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:_LONGEST_PROGRESS]
        for line in lines:
            if text := line.decode(errors="replace").strip():
                take(text)
    if text := rest.decode(errors="replace").strip():
        take(text)
