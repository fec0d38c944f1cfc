"""What an earlier export into a folder has written: it is written again only where it has changed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kraken_db.errors import ConfigurationError

NAME = ".kraken-db-export.json"
_VERSION = 1
_TIMES = ("start", "end", "first", "read_until", "synced_at")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as it was written. Times are UTC."""

    start: datetime | None
    end: datetime | None
    """The range that was asked for: ``start`` inclusive, ``end`` exclusive, None where it is open."""
    read_until: datetime
    """Up to where there were rows, or closed candles, when it was last compared with the store."""
    synced_at: datetime | None
    """When the store last wrote the symbol, at that time; None: it was being written."""
    first: datetime
    """The oldest row of the file."""
    stored_rows: int
    digest: str
    """Of the rows that the store had: see ``repositories.text_layouts.Checksum``."""
    kept_rows: int
    """Rows of the file before these, which the store had dropped already."""
    size: int
    """Of the file, in bytes."""

    @property
    def rows(self) -> int:
        return self.stored_rows + self.kept_rows


class Manifest:
    """The entries of a folder by the path of their file."""

    def __init__(self, folder: Path, style: str, what: str) -> None:
        self._folder = folder
        self._header = {"version": _VERSION, "format": style, "what": what}
        self.entries: dict[str, Entry] = {}

    @classmethod
    def load(cls, folder: Path, style: str, what: str) -> Manifest:
        """Raises ConfigurationError where the folder holds an export that this one cannot be added to."""
        manifest = cls(folder, style, what)
        path = folder / NAME
        try:
            document = json.loads(path.read_text())
            header = {name: document[name] for name in manifest._header}
            entries = {name: _entry(fields) for name, fields in document["files"].items()}
        except FileNotFoundError:
            return manifest
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error}", hint="remove it together with the exported files"
            ) from error
        manifest._check(header)
        manifest.entries = entries
        return manifest

    def put(self, path: str, entry: Entry) -> None:
        """Add or replace an entry, and write all of them at once or not at all."""
        self.entries[path] = entry
        files = {name: asdict(one) for name, one in sorted(self.entries.items())}
        text = json.dumps({**self._header, "files": files}, indent=1, default=datetime.isoformat)
        temporary = self._folder / f"{NAME}.part"
        temporary.write_text(text + "\n")
        os.replace(temporary, self._folder / NAME)  # noqa: PTH105 (the same, and said in docs as that)

    def _check(self, found: dict[str, Any]) -> None:
        if found["version"] != _VERSION:
            raise ConfigurationError(
                f"{self._folder} was written by another version", hint="take a new folder"
            )
        # A Parquet folder is one table; files of the other formats stand alone.
        same = ["format", "what"] if self._header["format"] == "parquet" else ["format"]
        if any(found[name] != self._header[name] for name in same):
            raise ConfigurationError(
                f"{self._folder} holds {found['what']} as {found['format']}",
                hint="take another folder for these",
            )


def _entry(fields: dict[str, Any]) -> Entry:
    times = {name: fields[name] and datetime.fromisoformat(fields[name]) for name in _TIMES}
    return Entry(**{**fields, **times})


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other exports out of the folder. Raises ConfigurationError if one is at work there."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"another export writes into {folder}", hint="wait for it, or take another folder"
            ) from None
        yield
    finally:
        os.close(fd)
