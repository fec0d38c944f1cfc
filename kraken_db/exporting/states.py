"""What an object store holds beside the files of an export: which versions belong together, and who writes.

All of it lies in one folder that readers of tables pass over, since its name begins with a dot:

- ``manifest.json``: the files of the last run that was ended, each with the ETag of its version. It is
  written last, and only over the one that was read: a run is known as a whole, or not at all.
- ``replaced/``: the versions that a later run has written over, for readers of the state before.
- ``lock.json``: who writes, renewed every few seconds.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_db.errors import ConfigurationError
from kraken_db.exporting.manifest import OTHER_FOLDER, Entry, What
from kraken_db.exporting.places import PlaceFailedError
from kraken_db.exporting.stores import Bucket, Held, ObjectChangedError
from kraken_db.ranges import TimeRange
from kraken_db.times import utc_now

HIDDEN = ".kraken-db-export"
MANIFEST, LOCK, REPLACED = (f"{HIDDEN}/{name}" for name in ("manifest.json", "lock.json", "replaced"))
LEASE = 15.0
"""Seconds after which a lock that nobody has renewed is that of a run that was killed."""
KEPT = timedelta(hours=1)
"""How long a version that was written over stays for those who read the state before."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Named:
    """A version of a file."""

    tag: str
    """Its ETag; of a Delta table, where each version has a name of its own, that name."""
    size: int
    entry: Entry

    @property
    def times(self) -> TimeRange:
        """All rows of it are in this range."""
        return self.entry.first, self.entry.read_until


@dataclass(slots=True)
class State:
    """What a run has made known."""

    what: What
    files: dict[str, Named] = field(default_factory=dict)
    replaced: dict[str, datetime] = field(default_factory=dict)
    """Since when a version is kept for readers of older states alone."""
    held: Held | None = None
    """The manifest itself; None where no run has ended yet."""

    def to_json(self) -> bytes:
        files = {path: [n.tag, n.size, n.entry.to_json()] for path, n in sorted(self.files.items())}
        replaced = {path: moment.isoformat() for path, moment in sorted(self.replaced.items())}
        document = {"version": _VERSION, "what": self.what, "files": files, "replaced": replaced}
        return json.dumps(document, indent=1).encode()


def read_state(bucket: Bucket) -> State | None:
    """The state that the last run has made known; None if no run has ended yet."""
    found = bucket.get(MANIFEST)
    if found is None:
        return None
    content, held = found
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            raise ValueError(f"version {document['version']}")
        if document["what"] not in ("candles", "trades"):
            raise ValueError(f"it is one of {document['what']}")
        files = {
            path: Named(str(tag), int(size), Entry.from_json(text))
            for path, (tag, size, text) in document["files"].items()
        }
        replaced = {path: datetime.fromisoformat(text) for path, text in document["replaced"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigurationError(
            f"{bucket.where(MANIFEST)} cannot be read: {error}",
            hint="remove it together with the exported files",
        ) from error
    return State(document["what"], files, replaced, held)


def replaced_path(path: str, tag: str) -> str:
    """Where a version of a file is kept once another one has taken its place."""
    return f"{REPLACED}/{hashlib.sha256(f'{path} {tag}'.encode()).hexdigest()[:40]}"


@contextmanager
def leased(bucket: Bucket) -> Iterator[Lease]:
    """Keep other exports out. Raises ConfigurationError if one is at work there."""
    lease = Lease(bucket)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


class Lease:
    """A lock that has to be renewed: nobody else can tell whether a run was killed.

    Clocks are not compared. Whoever finds a lock watches it: if it does not change for ``LEASE`` seconds it
    is free. A run that was only halted for so long finds its own writes refused, for they name the versions
    that it knows.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._name = uuid.uuid4().hex
        self._held: Held | None = None
        self._beats = 0
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, name="lease of an export", daemon=True)
        self.is_lost = False

    def take(self) -> None:
        found = self._bucket.get(LOCK)
        waited_until = time.monotonic() + LEASE
        while found is not None and json.loads(found[0]).get("writer") is not None:
            if time.monotonic() >= waited_until:
                break
            time.sleep(min(1.0, LEASE / 5))
            again = self._bucket.get(LOCK)
            if again is not None and again[1].tag != found[1].tag:
                raise self._busy()
            found = again
        try:
            self._held = self._put(found and found[1], self._name)
        except ObjectChangedError:
            raise self._busy() from None
        self._renewing.start()

    def release(self) -> None:
        self._over.set()
        self._renewing.join()
        if not self.is_lost:
            with suppress(PlaceFailedError, ObjectChangedError):
                self._put(self._held, None)

    def _renew(self) -> None:
        while not self._over.wait(LEASE / 3):
            try:
                self._held = self._put(self._held, self._name)
            except ObjectChangedError:
                self.is_lost = True
                return
            except PlaceFailedError:
                # The run itself meets the same, and says so.
                continue

    def _put(self, over: Held | None, writer: str | None) -> Held:
        self._beats += 1
        document = {"writer": writer, "beat": self._beats, "at": utc_now().isoformat()}
        return self._bucket.put(LOCK, json.dumps(document).encode(), over)

    def _busy(self) -> ConfigurationError:
        return ConfigurationError(
            f"another export writes into {self._bucket.url}", hint=f"wait for it, or {OTHER_FOLDER}"
        )
