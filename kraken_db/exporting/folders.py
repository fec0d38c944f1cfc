"""Folders: CSV and feather files, each known when it is written, and tables of Parquet, known run by run."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.commits import COMMIT, Commit, read_commit, waiting, write_commit
from kraken_db.exporting.manifest import (
    OTHER_FOLDER,
    Entry,
    FileManifest,
    Format,
    What,
    are_alike,
    check_kind,
    footer_entry,
    foreign,
)
from kraken_db.exporting.places import Place, writing
from kraken_db.new_files import create, is_plain_file


def open_folder(folder: Path, style: Format, what: What) -> Place:
    """Raises ConfigurationError where the folder holds another kind of export."""
    check_kind(folder, style, what)
    return TableFolder(folder, style) if style == "parquet" else FileFolder(folder, style)


class _Folder(ABC):
    def __init__(self, folder: Path, style: Format) -> None:
        self.style = style
        self.name = str(folder)
        self._folder = folder

    @abstractmethod
    def _newest(self, path: str) -> Path:
        """The version of a file that an export goes by."""

    def where(self, path: str) -> Path:
        return self._folder / path

    def size(self, path: str) -> int:
        return self._newest(path).stat().st_size

    @contextmanager
    def new(self, path: str) -> Iterator[IO[bytes]]:
        place = self.where(path)
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        self._check_folders(path)
        temporary = _beside(place)
        with writing(temporary):
            file = create(temporary)
        try:
            yield file
        finally:
            # What is left by a run that was killed is written over by the next one.
            with suppress(OSError):
                file.close()
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextmanager
    def old(self, path: str) -> Iterator[Path]:
        yield self._newest(path)

    def _put(self, path: str, file: IO[bytes], to: Path) -> None:
        with writing(self.where(path)):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            _beside(self.where(path)).replace(to)

    def _check_folders(self, path: str) -> None:
        """Below the folder that was asked for, no link leads to another. Raises ConfigurationError."""
        for parent in list(PurePath(path).parents)[:-1]:
            if (link := self._folder / parent).is_symlink():
                raise ConfigurationError(f"{link} is a link to another folder", hint=OTHER_FOLDER)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.part")


class FileFolder(_Folder):
    """Each file takes the place of its older version when it is done, and is known from then on."""

    def __init__(self, folder: Path, style: Format) -> None:
        super().__init__(folder, style)
        self._manifest = FileManifest(folder)

    def _newest(self, path: str) -> Path:
        return self.where(path)

    def entry(self, path: str) -> Entry | None:
        return self._manifest.get(path)

    def put(self, path: str, file: IO[bytes], entry: Entry) -> None:
        self._put(path, file, self.where(path))
        self.keep(path, entry)

    def keep(self, path: str, entry: Entry) -> None:
        with writing(self._folder):
            self._manifest.put(path, entry)

    def settle(self) -> None:
        """Nothing waits."""

    def drop(self) -> None:
        """What is whole may stay."""

    def commit(self) -> None:
        """Each file was made known when it was put."""


class TableFolder(_Folder):
    """New versions wait beside their places until the run is made known as a whole: see ``commits``."""

    def __init__(self, folder: Path, style: Format) -> None:
        super().__init__(folder, style)
        self._noted: set[str] = set()
        self._settled: set[str] = set()
        commit = read_commit(folder)
        if commit is not None:
            self._move(commit)

    def _newest(self, path: str) -> Path:
        """It may be one that a killed run has left, and that was never made known."""
        new = waiting(self.where(path))
        return new if is_plain_file(new) else self.where(path)

    def entry(self, path: str) -> Entry | None:
        """Each file carries its own. Any other file in the folder, readers stumble on."""
        place, file = self.where(path), self._newest(path)
        for other in place.parent.glob("*.parquet"):
            if not are_alike(other.name, place.name):
                raise foreign(other)
        if os.path.lexists(place) and not is_plain_file(place):
            raise foreign(place)
        return footer_entry(file, file) if os.path.lexists(file) else None

    def put(self, path: str, file: IO[bytes], entry: Entry) -> None:
        self._put(path, file, waiting(self.where(path)))
        self._noted.add(path)

    def keep(self, path: str, entry: Entry) -> None:
        """The file says it itself. What was only compared is compared again the next time."""
        if self._newest(path) != self.where(path):
            self._noted.add(path)

    def settle(self) -> None:
        self._settled |= self._noted
        self._noted = set()

    def drop(self) -> None:
        self._noted = set()

    def commit(self) -> None:
        if self._settled:
            with writing(self._folder):
                commit = write_commit(self._folder, self._settled)
            self._move(commit)

    def _move(self, commit: Commit) -> None:
        for path in commit.files:
            self._check_folders(path)
            with writing(self.where(path)), suppress(FileNotFoundError):
                waiting(self.where(path)).replace(self.where(path))
        with writing(self._folder):
            (self._folder / COMMIT).unlink()
