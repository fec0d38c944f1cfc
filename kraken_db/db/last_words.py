"""The last words of jobs whose database was away when they ended: on this machine, until it takes them.

Without them a job that was stopped together with its database would look like one that was killed::

    ended/<id of the job>.json
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from kraken_db.db.embedded.locks import open_private
from kraken_db.db.state_folder import make_private, state_folder
from kraken_db.errors import KrakenDBError
from kraken_db.times import utc_now

_FOLDER = "ended"
_FORGOTTEN_AFTER = timedelta(days=7)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LastWord:
    """How a job has ended, and when, UTC."""

    job: UUID
    at: datetime
    state: str
    error: str | None = None


def leave(word: LastWord) -> None:
    """Keep it for the database. Where it cannot be kept, the job looks like one that was killed."""
    try:
        folder = make_private(state_folder(_FOLDER), "folder of ended jobs", hint="set XDG_STATE_HOME")
        draft = folder / f"{word.job}.part"
        os.close(open_private(draft))
        draft.write_text(json.dumps({"at": word.at.isoformat(), "state": word.state, "error": word.error}))
        draft.replace(_path(word.job))
    except (OSError, KrakenDBError) as error:
        _log.info("how this job has ended is not noted: %s", error)


def left() -> Mapping[UUID, LastWord]:
    """All that are kept; those of a week ago are forgotten."""
    found: dict[UUID, LastWord] = {}
    with suppress(OSError):
        for path in state_folder(_FOLDER).glob("*.json"):
            word = _read(path)
            if word is not None and word.at >= utc_now() - _FORGOTTEN_AFTER:
                found[word.job] = word
            elif word is not None:
                forget(word.job)
    return found


def forget(job: UUID) -> None:
    """The database has it."""
    with suppress(OSError):
        _path(job).unlink(missing_ok=True)


def _path(job: UUID) -> Path:
    return state_folder(_FOLDER) / f"{job}.json"


def _read(path: Path) -> LastWord | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        said = json.loads(path.read_bytes())
        error = None if said["error"] is None else str(said["error"])
        at = datetime.fromisoformat(said["at"])
        if at.tzinfo is not None:
            return LastWord(UUID(path.stem), at, str(said["state"]), error)
    return None
