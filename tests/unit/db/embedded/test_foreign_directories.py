"""A data directory that is neither empty nor ours: nothing in it is changed, whoever asks for it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.embedded.layout import make_root, refuse_foreign
from kraken_db.errors import EmbeddedServerError


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [root, *root.rglob("*")]
    }


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("theirs\n")
    return root


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["run/lock/x", "etc/passwd", "usr/bin/sh"], r"neither empty .*\(it holds etc, run, usr\)"),
        (["letter.txt"], r"it holds letter\.txt"),
        ([".bashrc"], r"it holds \.bashrc"),
        (["a", "b", "c", "d"], r"it holds a, b, c, \.\.\.\)"),
        # Debian's data directory, and the directory above one.
        (["PG_VERSION", "pg_hba.conf", "base/1", "postmaster.pid"], "data directory of another PostgreSQL"),
        (["data/PG_VERSION", "data/base/1"], "it holds data"),
        (["run/"], "it holds run"),
        (["pg_hba.conf"], r"it holds pg_hba\.conf"),
        (["server.log", "users.lock"], r"it holds server\.log, users\.lock"),
        # Where a version before this one was let loose on a cluster.
        (["PG_VERSION", "start.lock", "server.conf", "pg_hba.conf"], "data directory of another PostgreSQL"),
    ],
)
@pytest.mark.parametrize("command", ["start", "attach"])
def test_it_is_refused_and_left_as_it_is(
    tmp_path: Path, names: list[str], message: str, command: str
) -> None:
    root = make(tmp_path / "theirs", *names)
    root.chmod(0o755)
    before = everything(root)
    with pytest.raises(EmbeddedServerError, match=rf"{message}.*--data-dir") as error:
        getattr(EmbeddedServer(root), command)()
    assert everything(root) == before
    assert len(str(error.value).splitlines()) == 1
    with suppress(EmbeddedServerError):
        assert EmbeddedServer(root).stop() is False
    assert everything(root) == before


def test_links_are_no_signs_of_ours(tmp_path: Path) -> None:
    (tmp_path / "start.lock").symlink_to("/dev/null")
    with pytest.raises(EmbeddedServerError, match="neither empty"):
        make_root(tmp_path)


def test_the_root_of_the_machine() -> None:
    with pytest.raises(EmbeddedServerError, match="cannot be /"):
        refuse_foreign(Path("/"), 0)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["local.conf"],
        ["lost+found/"],
        ["postgresql-0123456789abcdef/bin/postgres"],
        ["start.lock"],  # the first file that is made: a kill may come at once
        ["server.conf", "data/PG_VERSION", "my-backup.dump"],
    ],
)
def test_empty_and_ours_are_taken(tmp_path: Path, names: list[str]) -> None:
    make_root(make(tmp_path / "ours", *names)) if names else make_root(tmp_path / "ours")


def test_an_empty_one_of_another_user(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"belongs to another user \(id 12345\)"):
        refuse_foreign(tmp_path, 12345)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_what_is_made_on_the_way_is_as_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_root(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(before)
    # As root another user runs the server, and has to pass.
    wanted = 0o711 if os.geteuid() == 0 else 0o700
    made = [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {wanted}
