"""Where the journals of a database are, and who owns one of them.

::

    <journal_dir>/<fingerprint of the address>/          0700
        trades-<stream>.lock                             held by the process that writes the stream
        trades-<stream>-<first number>.journal           0600, a segment; more of them while it grows
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import platformdirs

from kraken_db.db.embedded.keeper import try_lock
from kraken_db.db.embedded.layout import Layout, resolve_embedded
from kraken_db.db.embedded.locks import open_private
from kraken_db.db.engine import is_embedded
from kraken_db.db.urls import parse_url
from kraken_db.errors import ConfigurationError
from kraken_db.settings import Settings

_HINT = "choose another directory with journal_dir"


def default_directory() -> Path:
    """The user's, for what must outlive a process: ``~/.local/state/kraken-db/journal`` on Linux."""
    return Path(platformdirs.user_state_dir("kraken-db", False), "journal")


def fingerprint(url: str) -> str:
    """Which database an address means, as the name of a folder: the password plays no part in it."""
    if is_embedded(url):
        directory = resolve_embedded(url) or Settings.from_environment().data_dir
        meant = f"embedded {Layout.at(directory).root}"
    else:
        parts = urlsplit(parse_url(url).dsn)
        options = dict(parse_qsl(parts.query))
        user, host = parts.username or options.get("user"), parts.hostname or options.get("host")
        port = parts.port or options.get("port") or 5432
        database = parts.path.strip("/") or options.get("dbname")
        meant = f"{user}@{host}:{port}/{database}"
    return hashlib.sha256(meant.encode()).hexdigest()[:16]


def make_private(folder: Path) -> Path:
    """Make a directory that nobody else may look into. Raises ConfigurationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the journal directory {folder} belongs to another user (id {found.st_uid})", hint=_HINT
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "nobody may write into it")
    except OSError as error:
        raise ConfigurationError(
            f"the journal directory {folder} cannot be used: {error.strerror or error}", hint=_HINT
        ) from error
    return folder


@dataclass(frozen=True, slots=True)
class Ownership:
    """One stream of one kind (``trades``, ``candles``), which this process alone reads and writes."""

    folder: Path
    kind: str
    stream: UUID
    _lock: int

    @classmethod
    def of_new(cls, folder: Path, kind: str) -> Ownership:
        while True:
            owned = cls._take(folder, kind, uuid4())
            if owned is not None:
                return owned

    @classmethod
    def of_abandoned(cls, folder: Path, kind: str) -> list[Ownership]:
        """The streams whose process has ended without storing all of them, or without tidying up."""
        found: list[Ownership] = []
        for path in sorted(folder.glob(f"{kind}-*.lock")):
            with contextlib.suppress(ValueError):
                owned = cls._take(folder, kind, UUID(path.stem.removeprefix(f"{kind}-")))
                if owned is not None:
                    found.append(owned)
        return found

    @classmethod
    def _take(cls, folder: Path, kind: str, stream: UUID) -> Ownership | None:
        path = _lock_path(folder, kind, stream)
        fd = open_private(path)
        with contextlib.suppress(FileNotFoundError):
            # Who had it before may have taken it away in the meantime.
            if try_lock(fd, exclusive=True) and path.stat().st_ino == os.fstat(fd).st_ino:
                return cls(folder, kind, stream, fd)
        os.close(fd)
        return None

    def segments(self) -> list[Path]:
        """In the order of their first numbers."""
        return sorted(self.folder.glob(f"{self.kind}-{self.stream.hex}-*.journal"))

    def segment(self, first: int) -> Path:
        return self.folder / f"{self.kind}-{self.stream.hex}-{first:020}.journal"

    def release(self, *, leave_sign: bool = False) -> None:
        """Leave it to whoever comes next; without any segment, nothing is left at all, or a sign of it."""
        if not leave_sign and not self.segments():
            _lock_path(self.folder, self.kind, self.stream).unlink(missing_ok=True)
        os.close(self._lock)


def _lock_path(folder: Path, kind: str, stream: UUID) -> Path:
    return folder / f"{kind}-{stream.hex}.lock"
