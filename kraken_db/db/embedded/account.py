"""The system user that the server runs as.

PostgreSQL refuses to run as root, so root starts it as an unprivileged user that exists already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict

from kraken_db.errors import EmbeddedServerError

if sys.platform != "win32":
    import pwd

_CANDIDATES = ("postgres", "nobody")
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class ProcessOptions(TypedDict, total=False):
    """Arguments of ``subprocess`` that change the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """``switch``: it is not the user of this process, which is root then."""

    uid: int
    gid: int
    name: str
    switch: bool

    def options(self) -> ProcessOptions:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}

    def own(self, path: Path) -> None:
        """Hand a new file or directory over to the server's user."""
        if self.switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def allowed_names(self) -> list[str]:
        """The system users that may connect."""
        return sorted({self.name, _name_of(os.geteuid())})


def server_account(data: Path) -> Account:
    """Who runs the server: this user; for root the owner of the data, else ``postgres`` or ``nobody``."""
    uid = os.geteuid()
    if uid != 0:
        return Account(uid, os.getegid(), _name_of(uid), switch=False)
    if (data / "PG_VERSION").exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise EmbeddedServerError(
                f"{data} belongs to root, and PostgreSQL refuses to run as root",
                hint=f"hand it to an ordinary user, for example: chown -R nobody {data}",
            )
        return Account(owner.st_uid, owner.st_gid, _name_of(owner.st_uid), switch=True)
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name, switch=True)
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root, and this system has neither a user postgres nor nobody",
        hint="run the command as an ordinary user, or use --db-url / DATABASE_URL",
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise EmbeddedServerError(
            f"the user id {uid} has no name on this system, and PostgreSQL needs one",
            hint="add the user to /etc/passwd, run as a user that is there, or use --db-url / DATABASE_URL",
        ) from None


def _environment() -> dict[str, str]:
    """A small, fixed environment: PGPORT, PGOPTIONS, LANG and their like must not reach the server."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"} | passed_on


def run_as(
    account: Account, command: Sequence[str | Path], *, stdin: str = "", pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's user and wait; output and errors come back together as text."""
    return subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
        umask=0o077,
        env=_environment(),
        pass_fds=pass_fds,
        **account.options(),
    )


def spawn(
    command: Sequence[str | Path],
    *,
    account: Account | None,
    output: IO[bytes] | int,
    pass_fd: int,
    environment: dict[str, str] | None = None,
) -> None:
    """Start a program that outlives us: a session of its own, no terminal, no child of this process.

    The shell puts it into the background and ends, so that nobody here has to wait for it. The open
    file ``pass_fd`` is handed on, and with it the lock on it.
    """
    subprocess.run(
        ["/bin/sh", "-c", '"$0" "$@" &', *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        check=True,
        cwd="/",
        umask=0o077,
        env=_environment() | (environment or {}),
        pass_fds=(pass_fd,),
        start_new_session=True,
        **(account.options() if account else {}),
    )
