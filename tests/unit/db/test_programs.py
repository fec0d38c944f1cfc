"""PostgreSQL's programs: the version that fits, and no secret where others could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kraken_db.db import programs
from kraken_db.db.programs import Address, Program, find, newest
from kraken_db.db.urls import parse_url
from kraken_db.errors import ProgramError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Program(Path(f"/{major}/pg_dump"), major) for major in (15, 18, 16)]
    monkeypatch.setattr(programs, "_installed", lambda _: iter(found))


@pytest.mark.usefixtures("installed")
def test_the_next_version_is_taken() -> None:
    """pg_dump refuses a newer server; what a newer one writes, an older server does not take."""
    assert [find("pg_dump", at_least=server).major for server in (14, 15, 16, 17, 18)] == [15, 15, 16, 18, 18]
    assert newest("pg_dump").major == 18
    with pytest.raises(ProgramError, match="pg_dump of PostgreSQL 19 or newer is not installed"):
        find("pg_dump", at_least=19)


@pytest.mark.parametrize(
    ("url", "shown", "variables"),
    [
        (
            "postgres://u:p%40w@h:5/d?sslmode=require",
            "postgresql://u@h:5/d?sslmode=require",
            {"PGPASSWORD": "p@w"},
        ),
        ("postgresql://u@h/d?password=x", "postgresql://u@h/d", {"PGPASSWORD": "x"}),
        (
            "postgresql://u@h/d?search_path=a%20b&pgbouncer=false",
            "postgresql://u@h/d",
            {"PGOPTIONS": "-c search_path=a\\ b"},
        ),
        ("postgresql://u@/d?host=/run/x&port=5", "postgresql://u@/d?host=%2Frun%2Fx&port=5", {}),
    ],
)
def test_an_address_for_them(url: str, shown: str, variables: dict[str, str]) -> None:
    address = Address.of(parse_url(url).dsn)
    assert (address.url, dict(address.variables)) == (shown, variables)
    assert all(secret not in repr(address) for secret in ("p@w", "password"))
