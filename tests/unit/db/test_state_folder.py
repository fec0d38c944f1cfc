"""Folders for what outlives a process."""

from __future__ import annotations

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
