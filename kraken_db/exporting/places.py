"""Where an export goes: a folder, an object store, a Delta table. The exporter knows only ``Place``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.manifest import Entry, Format, What


class PlaceFailedError(ConfigurationError):
    """An object store refuses, or does not answer: no other file will fare better."""


class Place(Protocol):
    """Files of one export, by their paths below it. All methods block, and may be called in a thread.

    A file is written beside its place and then put there, whole. Of a table, readers see what the last
    ``commit`` has made known; files of other formats are known each when it is put.
    """

    style: Format
    name: str
    """For messages."""

    def where(self, path: str) -> Path | str:
        """The file as a user names it."""
        ...

    def entry(self, path: str) -> Entry | None:
        """What is known of a file that is still there as it was written; None if it is not.

        Raises ConfigurationError for a file of somebody else.
        """
        ...

    def size(self, path: str) -> int:
        """Bytes of a file that has an entry."""
        ...

    def new(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write the next version into; it goes away unless it is ``put``."""
        ...

    def old(self, path: str) -> AbstractContextManager[Path]:
        """The version that is there, to be read."""
        ...

    def put(self, path: str, file: IO[bytes], entry: Entry) -> None:
        """Put the file of ``new`` into its place."""
        ...

    def keep(self, path: str, entry: Entry) -> None:
        """Note a file that stays, with what is known of it now."""
        ...

    def settle(self) -> None:
        """A series is done: what was put and kept since the last call belongs to the next commit."""
        ...

    def drop(self) -> None:
        """A series has failed: what was put since ``settle`` does not belong to the next commit."""
        ...

    def commit(self) -> None:
        """Make known what was settled, all of it at once."""
        ...


@contextmanager
def open_place(out: Path | str, style: Format, what: What) -> Iterator[Place]:
    """The place, locked against other exports.

    Raises ConfigurationError if it cannot be written, is in use, or holds something else, and where a package
    is missing.
    """
    if is_url(out) or style == "delta":
        from kraken_db.exporting.lake import open_lake

        with open_lake(str(out), style, what) as lake:
            yield lake
        return
    from kraken_db.exporting.folders import open_folder

    folder = Path(out)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        yield open_folder(folder, style, what)


def is_url(out: Path | str) -> bool:
    """Whether it names an object store and not a folder."""
    return isinstance(out, str) and "://" in out


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What the system says against a file, as an error of this package."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or error}", hint="choose the folder with --out"
        ) from error


@contextmanager
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
