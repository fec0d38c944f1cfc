"""A folder that holds the archives of a simulated exchange, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kraken_db.errors import ConfigurationError
from kraken_db.simulator.archives import Packing, Quarter, archives_until, write_archive
from kraken_db.simulator.market import Market

_MARK = ".kraken-db-simulate"
_COMPLETE = "complete"


def fill_archive_folder(
    folder: Path,
    markets: Sequence[Market],
    full: Quarter,
    last: Quarter,
    *,
    made_from: str,
    packing: Packing | None = None,
) -> list[str]:
    """Write the full archives of trades and candles until ``full``, and those of each quarter until ``last``.

    Makes the folder. Files that an earlier call left there are kept if they were ``made_from`` the same (one
    line of text), and replaced if not. Returns the names of the files, without those of an earlier call that
    are not needed. Raises ConfigurationError if anything else is in the folder.
    """
    mark = folder / _MARK
    if _has_all(folder, made_from):
        return _own_files(mark)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _own_files(mark):
            (folder / name).unlink(missing_ok=True)
        # A name is noted before its file is made: whatever stops this run, the next one knows what is ours.
        with mark.open("w", encoding="utf-8") as notes:
            notes.write(f"{made_from}\n")

            def announce(name: str) -> None:
                notes.write(f"{name}\n")
                notes.flush()

            packing = replace(packing or Packing(), announce=announce)
            for archive in archives_until(markets, full, last):
                write_archive(folder, archive, markets, packing)
            announce(_COMPLETE)
    except OSError as error:
        raise ConfigurationError(f"cannot write archives into {folder}: {error.strerror or error}") from error
    return _own_files(mark)


def _has_all(folder: Path, made_from: str) -> bool:
    """Whether nothing is to be done. Raises ConfigurationError for a folder with files of somebody else."""
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder", hint="name another one for the archives")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    mark = folder / _MARK
    own = set(_own_files(mark))
    if strangers := sorted(there - own - {_MARK}):
        raise ConfigurationError(
            f"{folder} holds {strangers[0]}, which no simulator has written there",
            hint="name a new or an empty folder for the archives",
        )
    if not mark.exists():
        return False
    lines = mark.read_text(encoding="utf-8").splitlines()
    return own <= there and lines[:1] == [made_from] and lines[-1] == _COMPLETE


def _own_files(mark: Path) -> list[str]:
    lines = mark.read_text(encoding="utf-8").splitlines() if mark.exists() else []
    return [line for line in lines[1:] if line != _COMPLETE and Path(line).name == line]
