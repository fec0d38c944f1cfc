"""Data directories that the server's user can reach, and users of the server as processes."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from kraken_db.db.embedded import EmbeddedServer, server
from kraken_db.db.embedded.keeper import is_free
from kraken_db.db.embedded.locks import open_private
from tests.support.scratch import in_memory

LINGER = 0.1
_USER = """
import os, sys
from pathlib import Path
from kraken_db.db.embedded import EmbeddedServer, server
server.LINGER_SECONDS = float(sys.argv[2])
url = EmbeddedServer(Path(sys.argv[1])).attach()
print(url, flush=True)
sys.stdin.read()
"""


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def _lock_is_free(path: Path) -> bool:
    if not path.exists():
        return True
    fd = open_private(path)
    try:
        return is_free(fd)
    finally:
        os.close(fd)


class User:
    """A process that is attached to a server until its standard input ends."""

    def __init__(self, python: Path, data_dir: Path, uid: int | None = None) -> None:
        account = pwd.getpwuid(uid) if uid is not None else None
        self.process = subprocess.Popen(
            [python, "-c", _USER, str(data_dir), str(LINGER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            user=account and account.pw_uid,
            group=account and account.pw_gid,
            extra_groups=[] if account else None,
        )

    def attached(self) -> str:
        assert self.process.stdout
        url = self.process.stdout.readline().strip()
        if not url:
            assert self.process.stderr
            raise AssertionError(self.process.stderr.read())
        return url

    def end(self) -> None:
        """Orderly, or not at all when it has been killed already."""
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def open_python(open_checkout: None) -> Iterator[Path]:
    """A Python that every user may run: this one, or a copy of it where it lies in a closed home."""
    directory = Path(tempfile.mkdtemp(prefix="kdb-python-", dir="/tmp"))
    directory.chmod(0o755)
    python = Path(sys.executable)
    if os.geteuid() == 0 and subprocess.run(["/usr/bin/test", "-x", python], user="nobody").returncode:
        python = directory / "bin" / Path(sys.executable).resolve().name
        python.parent.mkdir()
        shutil.copy2(Path(sys.executable).resolve(), python)
        library = Path(os.__file__).parent
        unneeded = shutil.ignore_patterns("test", "site-packages", "idlelib", "config-*", "*.pyc")
        shutil.copytree(library, directory / "lib" / library.name, ignore=unneeded)
        if subprocess.run([python, "-c", "import asyncio"], user="nobody", cwd="/").returncode:
            shutil.rmtree(directory)
            pytest.skip("no Python here that an ordinary user may run")
    yield python
    shutil.rmtree(directory)


@pytest.fixture
def users(request: pytest.FixtureRequest) -> Iterator[Callable[..., User]]:
    started: list[User] = []

    def start(data_dir: Path, uid: int | None = None) -> User:
        python = Path(sys.executable) if uid is None else request.getfixturevalue("open_python")
        started.append(User(python, data_dir, uid))
        return started[-1]

    yield start
    for user in started:
        assert user.process.stdout
        if not user.process.stdout.closed:
            user.kill()


@pytest.fixture
def eventually() -> Callable[..., None]:
    return wait_until


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_SECONDS", LINGER)


def _open_to_all(prefix: str) -> Path:
    """A directory that everybody may pass through (pytest's own are root's alone), with a short name."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=in_memory() or "/tmp"))
    directory.chmod(0o755)
    return directory


def _stop_all(directory: Path) -> None:
    for lock in directory.glob("**/start.lock"):
        EmbeddedServer(lock.parent).stop()
        wait_until(partial(_lock_is_free, lock.with_name("keeper.lock")))


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory; what runs below it is stopped at the end."""
    directory = _open_to_all("kdb-")
    yield directory
    _stop_all(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def _made_once() -> Iterator[Path]:
    directory = _open_to_all("kdb-shared-")
    embedded = EmbeddedServer(directory / "k")
    embedded.start()
    embedded.stop()
    yield directory / "k"
    shutil.rmtree(directory)


@pytest.fixture
def data_dir(_made_once: Path) -> Iterator[Path]:
    """A directory with data in it, shared by all tests one after the other; nothing runs in between."""
    (_made_once / "server.log").unlink(missing_ok=True)
    yield _made_once
    (_made_once / "local.conf").unlink(missing_ok=True)
    _stop_all(_made_once)


@pytest.fixture
def own_data_dir(data_dir: Path, place: Path) -> Path:
    """A copy, for tests that move it."""
    subprocess.run(["cp", "-a", data_dir, place / "k"], check=True)
    return place / "k"


@pytest.fixture
def embedded(data_dir: Path) -> Iterator[EmbeddedServer]:
    made = EmbeddedServer(data_dir)
    yield made
    made.detach()
