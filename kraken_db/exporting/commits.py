"""When a run of a Parquet export becomes known in a folder, and how its readers see one state of it.

New versions wait beside their places, under names that no pattern of Parquet files matches. At its end the
run writes their list: from then on they count. Then it moves them to their places, and takes the list away.
What a killed run has left of that, the next one does.
"""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.manifest import OTHER_FOLDER, foreign
from kraken_db.new_files import replacing

COMMIT = ".kraken-db-export.commit"
_FILES = "symbol=*/**/year=*/*.parquet"
_PAUSE = 0.005


def waiting(place: Path) -> Path:
    """Where the next version of a file is until its run is made known."""
    return place.with_name(f".{place.name}.new")


@dataclass(frozen=True, slots=True)
class Commit:
    """A run that was made known, whose files are on the way to their places."""

    name: str
    """No two have the same."""
    files: tuple[str, ...]


def write_commit(folder: Path, files: set[str]) -> Commit:
    """Make the waiting versions of these paths known. Raises OSError."""
    commit = Commit(uuid.uuid4().hex, tuple(sorted(files)))
    with replacing(folder / COMMIT, folder / f"{COMMIT}.part") as file:
        file.write(json.dumps({"id": commit.name, "files": commit.files}).encode())
        file.flush()
        os.fsync(file.fileno())
    return commit


def read_commit(folder: Path) -> Commit | None:
    """None if all files are in their places. Raises ConfigurationError where it is none of ours."""
    path = folder / COMMIT
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise foreign(path)
        document = json.loads(path.read_bytes())
        files = tuple(map(str, document["files"]))
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
            raise ValueError("a path in it leads out of the folder")
        return Commit(str(document["id"]), files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", hint=OTHER_FOLDER) from error


# --- readers ---


def table_files(folder: Path) -> list[str]:
    """The paths of the files below the folder, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(_FILES))


def open_files(
    folder: Path, wanted: Callable[[list[str]], list[str]], stack: ExitStack
) -> dict[str, IO[bytes]]:
    """The wanted files of one state, all open: whatever takes their places now, their readers keep them.

    Raises ConfigurationError where this process may not open so many.
    """
    while True:
        commit = read_commit(folder)
        paths = _listed(folder, commit)
        names = wanted(paths)
        _allow(len(names))
        with ExitStack() as opening, suppress(FileNotFoundError):
            found = {name: opening.enter_context(_open(folder, name, commit)) for name in names}
            # If a run is on the way, its list says what is new. If none was when all were open, and all are
            # still in their places, then they were there together.
            if read_commit(folder) == commit and (commit is not None or _are_there(folder, paths, found)):
                stack.push(opening.pop_all())
                return found
        time.sleep(_PAUSE)


def _listed(folder: Path, commit: Commit | None) -> list[str]:
    on_the_way = [] if commit is None else [name for name in commit.files if waiting(folder / name).exists()]
    return sorted({*on_the_way, *table_files(folder)})


def _open(folder: Path, name: str, commit: Commit | None) -> IO[bytes]:
    if commit is not None and name in commit.files:
        with suppress(FileNotFoundError):
            return waiting(folder / name).open("rb")
    return (folder / name).open("rb")


def _are_there(folder: Path, paths: list[str], found: dict[str, IO[bytes]]) -> bool:
    return all(
        os.path.samestat(os.fstat(file.fileno()), (folder / name).stat()) for name, file in found.items()
    ) and paths == table_files(folder)


_SPARE = 256


def _allow(count: int) -> None:
    """Let this process have so many files open: the usual limit of 1,024 is a soft one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ConfigurationError(
            f"{count} files are to be read at once, and this process may open {hard}",
            hint="ulimit -n, or filter pair, interval or year; files() gives their names",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
