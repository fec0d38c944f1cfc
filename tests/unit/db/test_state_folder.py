"""Folders for what outlives a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kraken_db.db.state_folder import fingerprint, make_private
from kraken_db.errors import ConfigurationError


def test_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    for path in (open_to_all, tmp_path / "new" / "journal"):
        assert make_private(path, "journal directory", hint="").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"directory of x .*file/x cannot be used: .*another one"):
        make_private(tmp_path / "file" / "x", "directory of x", hint="name another one")


@pytest.mark.parametrize("name", ["letter.txt", ".X11-unix", "etc", "trades.csv", "0123456789abcde"])
def test_a_directory_that_others_use_is_not_closed_to_them(tmp_path: Path, name: str) -> None:
    used = tmp_path / "used"
    used.mkdir(mode=0o755)
    (used / name).touch()
    with pytest.raises(
        ConfigurationError, match=r"the journal directory .* holds something else .*another one"
    ):
        make_private(used, "journal directory", hint="take another one")
    assert used.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "name",
    [
        "0123456789abcdef",
        "0123456789abcdef-0123456789abcdef",
        "0123456789abcdef.json",
        f"trades-{'0a' * 16}.lock",
        f"trades-{'0a' * 16}-00000000000000000001.journal.unreadable",
    ],
)
def test_one_of_ours_that_was_opened_to_others_is_closed_again(tmp_path: Path, name: str) -> None:
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o755)
    (ours / name).touch()
    assert make_private(ours, "journal directory", hint="").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link of another user's")
def test_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir(mode=0o700)
    link = tmp_path / "journal"
    link.symlink_to("precious")
    assert make_private(link, "journal directory", hint="") == link  # our own may lead to another disk
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(ConfigurationError, match=r"is a link of another user's \(id 12345\)"):
        make_private(link, "journal directory", hint="")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_folders_above_it_are_as_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_private(tmp_path / "a" / "b", "journal directory", hint="")
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")} == {0o700}


def test_the_fingerprint_is_of_the_database_and_not_of_the_password(tmp_path: Path) -> None:
    one = fingerprint("postgresql://me:secret@db.example/kraken")
    assert one == fingerprint("postgres://me:other@DB.example:5432/kraken?sslmode=require")
    others = [
        "postgresql://me:secret@db.example/other",
        "postgresql://me:secret@db.example:5433/kraken",
        "postgresql://you:secret@db.example/kraken",
        "postgresql:///kraken?host=/run/db&user=me",
        f"embedded://{tmp_path}",
        "embedded:///elsewhere",
    ]
    assert len({one, *map(fingerprint, others)}) == len(others) + 1
    (tmp_path / "link").symlink_to(tmp_path)
    assert fingerprint(f"embedded://{tmp_path}") == fingerprint(f"embedded://{tmp_path}/link")
