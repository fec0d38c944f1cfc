"""PostgreSQL's own programs (psql, pg_dump, pg_restore): where they are, and how they are told an address.

The embedded server's wheel brings them in its version; others may be installed beside it. A password goes to
them through the environment, which only this user can read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from kraken_db.db.embedded.cluster import program_folders
from kraken_db.db.sessions import OLDEST_SERVER
from kraken_db.errors import ProgramError

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
# Where Debian, Red Hat and Homebrew put the programs of several versions.
_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
# What libpq knows in an address (its documentation, "Parameter Key Words"), as far as ours may have it.
_OF_LIBPQ = {
    "dbname",
    "gssencmode",
    "host",
    "krbsrvname",
    "options",
    "passfile",
    "port",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
}
_KNOWN = _OF_LIBPQ | {"password", "sslpassword"}


@dataclass(frozen=True, slots=True)
class Program:
    """A program of PostgreSQL, and its major version."""

    path: Path
    major: int

    def beside(self, name: str) -> Program:
        """Another program of the same installation. Raises ProgramError where it is missing."""
        path = self.path.with_name(name)
        if not path.exists():
            raise ProgramError(
                f"{name} is missing beside {self.path}", hint=_INSTALL.format(major=self.major)
            )
        return Program(path, self.major)


_OLDEST = OLDEST_SERVER[0]
_INSTALL = (
    "install PostgreSQL's client programs, version {major} or newer (Debian: postgresql-client-{major}), or:"
    " pip install 'kraken-historical-data[embedded]'"
)


def find(name: str, *, at_least: int) -> Program:
    """The program whose version is the next from ``at_least`` on. Raises ProgramError where there is none.

    The nearest, because a newer pg_dump writes what an older server does not take back.
    """
    found = {program.major: program for program in _installed(name) if program.major >= at_least}
    if not found:
        raise ProgramError(
            f"{name} of PostgreSQL {at_least} or newer is not installed", hint=_INSTALL.format(major=at_least)
        )
    return found[min(found)]


def newest(name: str) -> Program:
    """The newest of them: it reads what all others write. Raises ProgramError where there is none."""
    found = max(_installed(name), key=lambda program: program.major, default=None)
    if found is None:
        raise ProgramError(f"{name} is not installed", hint=_INSTALL.format(major=_OLDEST))
    return found


def _installed(name: str) -> Iterator[Program]:
    on_path = shutil.which(name)
    places = [Path(on_path)] if on_path else []
    for pattern in _PLACES:
        places += [folder / name for folder in Path("/").glob(pattern.lstrip("/"))]
    places += [folder / name for folder in program_folders()]
    for path in places:
        major = _major(path)
        if major is not None:
            yield Program(path, major)


def _major(path: Path) -> int | None:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout)
    return int(found[1]) if found and done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Address:
    """A database as these programs are told it: an address without secrets, and variables that have them."""

    url: str
    variables: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, dsn: str) -> Address:
        """``dsn``: that of a checked ``DatabaseURL``."""
        parts = urlsplit(dsn)
        credentials, at, host = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        options = parse_qsl(parts.query, keep_blank_values=True)
        password = dict(options).get("password", unquote(password))
        # libpq refuses in an address what our driver sends as a setting of the session.
        settings = [f"-c {name}={_escaped(value)}" for name, value in options if name not in _KNOWN]
        kept = urlencode([pair for pair in options if pair[0] in _OF_LIBPQ], quote_via=quote)
        variables = {"PGPASSWORD": password, "PGOPTIONS": " ".join(settings)}
        url = urlunsplit(("postgresql", f"{user}{at}{host}", parts.path, kept, ""))
        return cls(url, {name: value for name, value in variables.items() if value})

    def environment(self) -> dict[str, str]:
        """For such a program: this process' own, for our driver reads PGPASSFILE and its like, too."""
        return {**os.environ, **self.variables}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
