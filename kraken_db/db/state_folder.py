"""Private folders for what outlives a process: ``~/.local/state/kraken-db`` on Linux."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import platformdirs

from kraken_db.db.embedded.layout import Layout, resolve_embedded
from kraken_db.db.embedded.locks import make_directory
from kraken_db.db.engine import is_embedded
from kraken_db.db.urls import parse_url
from kraken_db.errors import ConfigurationError
from kraken_db.settings import Settings


def state_folder(name: str) -> Path:
    """Where the user's things of this kind are; it need not exist yet."""
    return Path(platformdirs.user_state_dir("kraken-db", False), name)


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


# What is in our folders: one for each database (and webhook), and in these journals, and what was told.
_OURS = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{16})?(\.\w+)?|(trades|candles)-[0-9a-f]{32}\W.*", re.DOTALL)


def _refuse_used(folder: Path, what: str, hint: str) -> None:
    """Nobody else may look into ours: so a folder that others use, /tmp or /, cannot become one."""
    others = sorted(path.name for path in folder.iterdir() if not _OURS.fullmatch(path.name))
    if others:
        raise ConfigurationError(
            f"the {what} {folder} is open to others and holds something else ({others[0]})", hint=hint
        )


def make_private(folder: Path, what: str, *, hint: str) -> Path:
    """Make a directory that nobody else may look into; ``what`` names it. Raises ConfigurationError.

    A link of another user's is not followed, and a folder that holds something else is not closed to others.
    """
    try:
        with suppress(FileExistsError):
            make_directory(folder, 0o700)
        own, found = folder.lstat(), folder.stat()
        if stat.S_ISLNK(own.st_mode) and own.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the {what} {folder} is a link of another user's (id {own.st_uid})", hint=hint
            )
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(20, os.strerror(20))
        if found.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the {what} {folder} belongs to another user (id {found.st_uid})", hint=hint
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            _refuse_used(folder, what, hint)
            folder.chmod(0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "nobody may write into it")
    except OSError as error:
        raise ConfigurationError(
            f"the {what} {folder} cannot be used: {error.strerror or error}", hint=hint
        ) from error
    return folder
