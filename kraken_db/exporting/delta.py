"""An export as a Delta table: files with names of their own, made known by one commit of its log.

The log is written by deltalake. The files are those of every Parquet export.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from kraken_db.exporting.lake import Lake, content_of
from kraken_db.exporting.manifest import Entry, Format, What
from kraken_db.exporting.places import PlaceFailedError
from kraken_db.exporting.states import MANIFEST, Lease, Named
from kraken_db.exporting.stores import Bucket, allows_http
from kraken_db.exporting.writers import table_schema
from kraken_db.extras import require

_TOKEN = re.compile(r"\.[0-9a-f]{12}(?=\.parquet$)")


class DeltaLake(Lake):
    style: Format = "delta"

    def __init__(self, bucket: Bucket, what: What, lease: Lease | None) -> None:
        require("deltalake", "Delta tables", extra="delta")
        super().__init__(bucket, what, lease)
        self._what = what
        self._table = open_table(bucket.url)
        known = [] if self._table is None else self._table.get_add_actions()["path"].to_pylist()
        self._known = {_TOKEN.sub("", name): name for name in known}

    def where(self, path: str) -> str:
        return self._bucket.where(self._newest(path) or path)

    def entry(self, path: str) -> Entry | None:
        name = self._newest(path)
        if name is None:
            return None
        named = self._state.files.get(path)
        if named is not None and named.tag == name:
            return named.entry
        return self._own_entry(name)

    def size(self, path: str) -> int:
        name = self._newest(path)
        assert name is not None
        return self._of_series(name)[name].size

    @contextmanager
    def old(self, path: str) -> Iterator[Path]:
        name = self._newest(path)
        assert name is not None
        with super().old(name) as copy:
            yield copy

    def put(self, path: str, file: IO[bytes], entry: Entry) -> None:
        name = f"{path.removesuffix('.parquet')}.{uuid.uuid4().hex[:12]}.parquet"
        made = self._write(name, content_of(file), None)
        # Newer than all others of the path, whatever the store's clock says.
        self._of_series(path)[name] = made
        self._noted[path] = Named(name, made.size, entry)

    def keep(self, path: str, entry: Entry) -> None:
        name = self._newest(path)
        assert name is not None
        self._noted[path] = Named(name, self.size(path), entry)

    def commit(self) -> None:
        new = {path: one for path, one in self._settled.items() if self._known.get(path) != one.tag}
        if self._lease is not None and self._lease.is_lost:
            raise self._lost()
        if new:
            self._log(new)
            self._known |= {path: one.tag for path, one in new.items()}
        if any(self._state.files.get(path) != named for path, named in self._settled.items()):
            self._state.files |= self._settled
            self._state.held = self._write(MANIFEST, self._state.to_json(), self._state.held)

    def _log(self, new: dict[str, Named]) -> None:
        """One commit: the new files instead of those of the same times."""
        from deltalake import CommitProperties, Schema
        from deltalake.exceptions import DeltaError
        from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

        now = int(time.time() * 1000)
        adds = [
            AddAction(one.tag, one.size, _partition(path), now, True, _statistics(one.entry))
            for path, one in new.items()
        ]
        old = [(path, self._known[path]) for path in new if path in self._known]
        removes = [RemoveAction(name, True, now, None, dict(_partition(path))) for path, name in old]
        columns = list(_partition(next(iter(new))))
        schema = Schema.from_arrow(table_schema(self._what))
        # Onto the version that was read, or not at all: by itself it would be tried again upon a later one.
        once = CommitProperties(max_commit_retries=0)
        try:
            if self._table is None:
                create_table_with_add_actions(
                    self._bucket.url, schema, adds, partition_by=columns, storage_options=storage_options()
                )
                self._table = open_table(self._bucket.url)
            else:
                self._table.create_write_transaction(
                    [*adds, *removes], "append", schema, columns, commit_properties=once
                )
        except (DeltaError, OSError) as error:
            if _version(open_table(self._bucket.url)) != _version(self._table):
                raise self._lost() from None
            raise PlaceFailedError(
                f"{self.name}: the log of the table was not written ({type(error).__name__})",
                hint="run it again",
            ) from None

    def _newest(self, path: str) -> str | None:
        """The name of the file of a path: the one of the table, or a newer one that a killed run has left."""
        beside = self._of_series(path)
        noted = self._noted.get(path)
        if noted is not None:
            return noted.tag
        known = self._known.get(path)
        since = beside[known].modified if known in beside else None
        names = [name for name in beside if _TOKEN.sub("", name) == path and _TOKEN.search(name)]
        newer = [name for name in names if since is None or (beside[name].modified or since) > since]
        return max(newer, key=lambda name: beside[name].modified or _LONG_AGO, default=known)


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def open_table(url: str) -> Any | None:
    """The Delta table at an address; None where there is none."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(url, storage_options=storage_options())
    except TableNotFoundError:
        return None


def _version(table: Any | None) -> int | None:
    return None if table is None else table.version()


def storage_options() -> dict[str, str]:
    """What deltalake and polars do not take from the environment by themselves."""
    return {"aws_allow_http": "true", "allow_http": "true"} if allows_http() else {}


def _partition(path: str) -> dict[str, str]:
    return dict(folder.split("=", 1) for folder in path.split("/")[:-1])


def _statistics(entry: Entry) -> str:
    """Bounds by which readers pass a file over: in milliseconds, so the upper one is a bit too high."""
    upper = entry.read_until + timedelta(milliseconds=1)
    return json.dumps(
        {
            "numRecords": entry.rows,
            "minValues": {"timestamp": _moment(entry.first)},
            "maxValues": {"timestamp": _moment(upper)},
            "nullCount": {"timestamp": 0},
            "tightBounds": False,
        }
    )


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
