"""How much room is left where the embedded server keeps its files; of another server's nothing is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kraken_db.errors import StorageFullError

_MOST_RESERVED = 2**30
_SHARE_RESERVED = 10


def room_text(size: float) -> str:
    """``1.2 GiB``, ``35 MiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """Bytes of the file system that ``path`` is on; ``free``: for everybody, without root's own share."""

    path: Path
    free: int
    total: int

    @classmethod
    def at(cls, path: Path) -> DiskRoom | None:
        """None where the system does not say."""
        try:
            found = os.statvfs(path)
        except OSError:
            return None
        return cls(path, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    @property
    def reserve(self) -> int:
        """What stays free, so that the database can be read, refreshed and cleaned up: 1 GiB, of a small disk
        a tenth."""
        return min(_MOST_RESERVED, self.total // _SHARE_RESERVED)

    @property
    def usable(self) -> int:
        """What may still be filled."""
        return max(0, self.free - self.reserve)

    @property
    def shortage(self) -> str:
        """What is said where only the reserve is left."""
        return f"only {room_text(self.free)} are free in {self.path}: {room_text(self.reserve)} are kept free"

    def wal_size(self) -> int:
        """Bytes that the log of changes takes already; 0 where it cannot be seen."""
        try:
            with os.scandir(self.path / "pg_wal") as files:
                return sum(file.stat(follow_symlinks=False).st_size for file in files if file.is_file())
        except OSError:
            return 0

    def check(self) -> None:
        """Raises StorageFullError where only the reserve is left."""
        if not self.usable:
            raise StorageFullError(
                f"{self.shortage}, so that the database can still be used",
                hint="make room and run it again: it goes on where it ended",
            )
