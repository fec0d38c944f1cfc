"""Where the embedded server keeps its files.

::

    <data_dir>/data/          PostgreSQL's data directory, 0700, of the server's user
               run/           the socket, 0700, of the server's user
               server.log     what the server says; server.log.1 is the end of what was there before
               server.conf    written anew at every start; your own settings go into local.conf
               keep           present after ``start``: the server stays until ``stop``
               *.lock         see the package's docstring
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import platformdirs

from kraken_db.db.embedded.account import Account, run_as
from kraken_db.db.embedded.locks import make_directory
from kraken_db.errors import EmbeddedServerError, WrongValueError

SYSTEM_DIRECTORY = Path("/var/lib/kraken-db")
"""Where root's data lives, and PostgreSQL's programs if its user cannot reach the installed ones."""

PORT = 5432  # part of the socket's name; no TCP port is opened
OTHER_DIRECTORY = "choose another with --data-dir or KRAKEN_DB_DATA_DIR, or use --db-url / DATABASE_URL"
_SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # bytes, sockaddr_un.sun_path
_SHORT_DIRECTORIES = Path("/tmp")  # noqa: S108  (TMPDIR may differ between two users of one server)
# In URLs and in PostgreSQL's settings, commas and colons separate hosts and quotes need quoting.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+=-]+")


def resolve_embedded(url: str) -> Path | None:
    """The directory an ``embedded:`` URL names; None stands for the default one."""
    if url == "embedded:":
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    path = unquote(parts.path)
    plain = not (parts.netloc or parts.query or parts.fragment or "\0" in path)
    if not url.startswith("embedded:///") or not plain or path.strip("/") == "":
        raise WrongValueError(
            f"{url!r} is not an address of an embedded database",
            hint="write embedded: for the default directory, or embedded:///absolute/path",
        )
    return Path("/" + path.lstrip("/"))


def default_directory() -> Path:
    """The user's data directory; for root one that the server's user can reach.

    Root's home is closed to others, and a choice by the modes of today could find another (empty)
    database tomorrow, so root's directory is always the same.
    """
    return SYSTEM_DIRECTORY if os.geteuid() == 0 else Path(platformdirs.user_data_dir("kraken-db", False))


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under one data directory."""

    root: Path

    @classmethod
    def at(cls, data_dir: Path | None) -> Layout:
        return cls(Path(os.path.realpath(data_dir or default_directory())))

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def keep(self) -> Path:
        return self.root / "keep"

    def lock(self, name: str) -> Path:
        return self.root / f"{name}.lock"

    def socket_dir(self, uid: int) -> Path:
        """``run``, or a short name under /tmp where that path is too long (or too odd) for a socket."""
        usual = self.root / "run"
        longest = os.fsencode(usual / socket_name())
        if len(longest) <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(usual)):
            return usual
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return _SHORT_DIRECTORIES / f"kraken-db-{uid}-{digest}"

    def url(self, uid: int) -> str:
        # The port is named because clients would otherwise take it from PGPORT.
        return f"postgresql://kraken@/kraken?host={quote(str(self.socket_dir(uid)))}&port={PORT}"


def socket_name() -> str:
    return f".s.PGSQL.{PORT}"


_SIGNS = ("start.lock", "server.conf")
# What may be there before the first start: settings of the user, programs of ours, a new file system's own.
_BEFORE_US = re.compile(r"local\.conf|postgresql-[0-9a-f]{16}|lost\+found")


def refuse_foreign(root: Path, owner: int) -> None:
    """Refuse a directory that holds something else, or, as root, an empty one of another user.

    Raises EmbeddedServerError. ``owner``: the user id that the directory belongs to.
    """
    if root == Path(root.anchor):
        raise EmbeddedServerError("the data directory cannot be /", hint=OTHER_DIRECTORY)
    if (root / "PG_VERSION").exists():
        raise EmbeddedServerError(
            f"{root} is the data directory of another PostgreSQL: nothing was changed",
            hint=f"{OTHER_DIRECTORY}; to use that server, start it and name it with --db-url",
        )
    # Listed first: another process may put the signs there meanwhile, before anything else.
    found = sorted(path.name for path in root.iterdir() if not _BEFORE_US.fullmatch(path.name))
    if any(stat.S_ISREG(_mode(root / name)) for name in _SIGNS):
        return
    if found:
        raise EmbeddedServerError(
            f"{root} is neither empty nor a data directory of kraken-db (it holds {', '.join(found[:3])}"
            f"{', ...' if len(found) > 3 else ''}): nothing was changed",
            hint=OTHER_DIRECTORY,
        )
    if owner != os.geteuid():
        raise EmbeddedServerError(
            f"the directory {root} belongs to another user (id {owner})",
            hint=f"run the command as that user, or {OTHER_DIRECTORY}",
        )


def _mode(path: Path) -> int:
    """0 where there is nothing. Of a link its own."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def make_root(root: Path) -> None:
    """Make the data directory if it is not there; refuse a foreign one, and one others could tamper with."""
    # As root the server's user passes through, to directories of its own.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    with contextlib.suppress(FileExistsError):
        make_directory(root, mode)
    found = root.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedServerError(f"{root} is not a directory", hint=OTHER_DIRECTORY)
    if os.geteuid() not in (0, found.st_uid):
        raise EmbeddedServerError(
            f"the data directory {root} belongs to another user (id {found.st_uid})", hint=OTHER_DIRECTORY
        )
    if found.st_mode & stat.S_IWOTH:
        raise EmbeddedServerError(
            f"everybody may write into the data directory {root}",
            hint=f"chmod o-w {root}, or {OTHER_DIRECTORY}",
        )
    refuse_foreign(root, found.st_uid)


def check_reachable(root: Path, account: Account) -> None:
    """As root: the server's user must be able to pass through to its directory."""
    if account.switch and run_as(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(root)]).returncode:
        raise EmbeddedServerError(
            f"the user {account.name}, as whom root runs PostgreSQL, cannot reach the data directory {root}",
            hint=f"give every directory above it the right to pass (chmod o+x), or {OTHER_DIRECTORY}",
        )


def make_socket_dir(path: Path, account: Account) -> None:
    """Make the socket's directory 0700; accept an existing one only if it is ours."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _foreign(path, account) from error
    try:
        owner = os.fstat(fd).st_uid
        if owner not in (account.uid, os.geteuid()):
            raise _foreign(path, account)
        if owner != account.uid:
            os.fchown(fd, account.uid, account.gid)
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def _foreign(path: Path, account: Account) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"{path} is not a directory of the user {account.name}, so no socket is put there",
        hint=f"find out who made it and remove it, or {OTHER_DIRECTORY}",
    )
