"""An export into an object store: each file whole by one request, and all of a run known at once.

A file keeps its name from version to version, so that a pattern of names never finds rows twice. Before one
is written over, its version is copied aside: readers of the state before find it there.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.manifest import (
    OTHER_FOLDER,
    Entry,
    Format,
    What,
    are_alike,
    footer_entry,
    foreign,
    other_kind,
)
from kraken_db.exporting.places import Place, PlaceFailedError, is_url, locked, writing
from kraken_db.exporting.states import (
    KEPT,
    MANIFEST,
    REPLACED,
    Lease,
    Named,
    State,
    leased,
    read_state,
    replaced_path,
)
from kraken_db.exporting.stores import Bucket, Held, ObjectChangedError
from kraken_db.times import utc_now

_IN_MEMORY = 64 * 2**20


@contextmanager
def open_lake(out: str, style: Format, what: What) -> Iterator[Place]:
    """The place, locked against other exports. Raises ConfigurationError: see ``open_place``."""
    if style not in ("parquet", "delta"):
        raise ConfigurationError(
            f"{style} files go into a folder only",
            hint="export into a folder, and copy it; or take --format parquet",
        )
    if style == "delta":
        from kraken_db.exporting.delta import DeltaLake

        kind: type[Lake] = DeltaLake
    else:
        kind = Lake
    if is_url(out):
        bucket = Bucket(out)
        with leased(bucket) as lease:
            yield kind(bucket, what, lease)
        return
    with writing(out):
        Path(out).mkdir(parents=True, exist_ok=True)
    with locked(Path(out)):
        yield kind(Bucket(out), what, None)


class Lake:
    style: Format = "parquet"

    def __init__(self, bucket: Bucket, what: What, lease: Lease | None) -> None:
        self.name = bucket.url
        self._bucket = bucket
        self._lease = lease
        self._state = read_state(bucket) or State(what)
        self._listed: dict[str, dict[str, Held]] = {}
        self._noted: dict[str, Named] = {}
        self._settled: dict[str, Named] = {}
        self._check_kind(what)

    def where(self, path: str) -> str:
        return self._bucket.where(path)

    def entry(self, path: str) -> Entry | None:
        """Of a file that a killed run has left, the file itself says it."""
        held = self._held(path)
        if held is None:
            return None
        named = self._state.files.get(path)
        if named is not None and named.tag == held.tag:
            return named.entry
        return self._own_entry(path)

    def _own_entry(self, name: str) -> Entry | None:
        """What an object says of itself, of which nobody has noted anything."""
        found = self._bucket.get(name)
        return None if found is None else footer_entry(io.BytesIO(found[0]), self._bucket.where(name))

    def size(self, path: str) -> int:
        held = self._held(path)
        assert held is not None
        return held.size

    @contextmanager
    def new(self, path: str) -> Iterator[IO[bytes]]:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            yield file

    @contextmanager
    def old(self, path: str) -> Iterator[Path]:
        found = self._bucket.get(path)
        if found is None:
            raise PlaceFailedError(f"{self.where(path)} is gone", hint="run it again")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "old"
            copy.write_bytes(found[0])
            yield copy

    def put(self, path: str, file: IO[bytes], entry: Entry) -> None:
        held, named = self._held(path), self._state.files.get(path)
        if held is not None and named is not None and named.tag == held.tag:
            self._bucket.copy(path, replaced_path(path, held.tag))
        made = self._write(path, content_of(file), held)
        self._of_series(path)[path] = made
        self._noted[path] = Named(made.tag, made.size, entry)

    def keep(self, path: str, entry: Entry) -> None:
        held = self._held(path)
        assert held is not None
        self._noted[path] = Named(held.tag, held.size, entry)

    def settle(self) -> None:
        self._settled |= self._noted
        self._noted = {}

    def drop(self) -> None:
        self._noted = {}

    def commit(self) -> None:
        if all(self._state.files.get(path) == named for path, named in self._settled.items()):
            return
        if self._lease is not None and self._lease.is_lost:
            raise self._lost()
        outlived = self._note_replaced()
        self._state.files |= self._settled
        self._state.held = self._write(MANIFEST, self._state.to_json(), self._state.held)
        self._bucket.remove(outlived)

    def _note_replaced(self) -> list[str]:
        """Note since when each version that was written over is kept; returns those of which it is enough."""
        now, known = utc_now(), self._state.replaced
        kept = {path: known.get(path, now) for path in self._bucket.below(REPLACED)}
        self._state.replaced = {path: since for path, since in kept.items() if now - since < KEPT}
        return [path for path in kept if path not in self._state.replaced]

    def _write(self, path: str, content: bytes, over: Held | None) -> Held:
        try:
            return self._bucket.put(path, content, over)
        except ObjectChangedError:
            raise self._lost() from None

    def _lost(self) -> PlaceFailedError:
        return PlaceFailedError(
            f"another export has written into {self.name} meanwhile", hint="run it again when it has ended"
        )

    def _held(self, path: str) -> Held | None:
        beside = self._of_series(path)
        folder, _, name = path.rpartition("/")
        for other in beside:
            if other.rpartition("/")[0] == folder and not are_alike(other.rpartition("/")[2], name):
                raise foreign(self.where(other))
        return beside.get(path)

    def _of_series(self, path: str) -> dict[str, Held]:
        """What lies in the folders of a series, asked for once."""
        prefix = path.partition("/year=")[0]
        if prefix not in self._listed:
            self._listed = {prefix: self._bucket.below(prefix)}
        return self._listed[prefix]

    def _check_kind(self, what: What) -> None:
        """Raises ConfigurationError where there is another kind of export."""
        folders = self._bucket.folders()
        if ("_delta_log" in folders) != (self.style == "delta") and (
            self._state.held is not None or "_delta_log" in folders
        ):
            raise ConfigurationError(f"{self.name} holds an export in another format", hint=OTHER_FOLDER)
        symbols = (name for name in folders if name.startswith("symbol="))
        if (symbol := next(symbols, None)) is None:
            return
        below = [name.rpartition("/")[2] for name in self._bucket.folders(symbol)]
        if any(name.startswith("year=" if what == "candles" else "interval=") for name in below):
            raise other_kind(self.name, what)


def content_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
