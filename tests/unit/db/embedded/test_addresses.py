"""What an ``embedded:`` URL names, and where the socket goes."""

import os
from pathlib import Path

import pytest

from kraken_db.db.embedded import resolve_embedded
from kraken_db.db.embedded.layout import Layout, default_directory
from kraken_db.errors import ConfigurationError


def test_the_short_form_is_the_default_directory() -> None:
    assert resolve_embedded("embedded:") is None


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded:///srv/kraken", "/srv/kraken"),
        ("embedded:///srv/with%20space%3F", "/srv/with space?"),
        ("embedded:////srv/kraken/", "/srv/kraken"),
    ],
)
def test_the_long_form_names_an_absolute_directory(url: str, path: str) -> None:
    assert resolve_embedded(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "embedded:relative",
        "embedded:/srv/kraken",
        "embedded://srv/kraken",
        "embedded://",
        "embedded:///",
        "embedded:///srv?x=1",
        "embedded:///srv#x",
        "embedded:///srv%00x",
        "embedded://[/x",
        "postgresql:///kraken",
        "",
    ],
)
def test_everything_else_is_refused_with_both_forms_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="embedded:///absolute/path"):
        resolve_embedded(url)


def test_roots_directory_does_not_depend_on_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/someone/data")
    assert default_directory() == Path("/var/lib/kraken-db")


def test_a_users_directory_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/someone/data")
    assert default_directory() == Path("/home/someone/data/kraken-db")


def test_the_socket_lies_with_the_data_where_it_can() -> None:
    layout = Layout(Path("/srv/kraken"))
    assert layout.socket_dir(7) == Path("/srv/kraken/run")
    assert layout.url(7) == "postgresql://kraken@/kraken?host=/srv/kraken/run&port=5432"


@pytest.mark.parametrize(
    "root",
    [
        "/srv/" + "long/" * 20,
        "/srv/a,b",
        "/srv/a b",
        "/srv/a:b",
        "/srv/a'b",
        "/srv/é",
        '/srv/a"b',
        "/srv/a%b",
    ],
)
def test_a_path_that_a_socket_or_a_url_cannot_carry_gets_a_short_one(root: str) -> None:
    short = Layout(Path(root)).socket_dir(7)
    assert short.parent == Path("/tmp")
    assert short.name.startswith("kraken-db-7-")
    assert short == Layout(Path(root)).socket_dir(7)
    assert short != Layout(Path(root + "x")).socket_dir(7)


@pytest.mark.parametrize(("length", "usual"), [(107, True), (108, False)])
def test_the_limit_is_that_of_the_kernel(length: int, usual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kraken_db.db.embedded.layout._SOCKET_PATH_LIMIT", 107)
    root = Path("/" + "x" * (length - len("/" + "/run/.s.PGSQL.5432")))
    assert len(str(root / "run/.s.PGSQL.5432")) == length
    assert (Layout(root).socket_dir(7) == root / "run") is usual


def test_links_lead_to_one_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Layout.at(tmp_path / "link") == Layout.at(tmp_path / "real")
