"""``db upgrade`` where it cannot work: one line with place, cause and what to do next, and exit code 1."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from asyncpg.types import ServerVersion

from tests.support.shell import run
from tests.support.stores import with_user


def statements(url: str, *wanted: str) -> None:
    async def send() -> None:
        connection = await asyncpg.connect(url)
        try:
            for one in wanted:
                await connection.execute(one)
        finally:
            await connection.close()

    asyncio.run(send())


@pytest.fixture
def role(plain_empty_url: str) -> Iterator[str]:
    name = f"unfit_{uuid4().hex[:8]}"
    statements(plain_empty_url, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    statements(plain_empty_url, f"DROP OWNED BY {name}; DROP ROLE {name}")


def line(url: str, *command: str) -> str:
    done = run(url, *(command or ("db", "upgrade")))
    assert done.exit_code == 1, done.output
    (said,) = done.stderr.splitlines()
    assert said.startswith("Error: ")
    assert "secret" not in said
    assert "SQLSTATE" not in said
    return said


@pytest.mark.parametrize(
    ("setting", "cause", "hint"),
    [
        ("default_transaction_read_only = on", "takes no writes", "Connect to the primary server"),
        ("search_path = nowhere", "search_path names no schema", "ALTER ROLE ... SET search_path = public"),
    ],
)
def test_a_role_with_settings(plain_empty_url: str, role: str, setting: str, cause: str, hint: str) -> None:
    statements(plain_empty_url, f"ALTER ROLE {role} SET {setting}")
    said = line(with_user(plain_empty_url, role))
    assert cause in said
    assert hint in said
    assert urlsplit(plain_empty_url).path in said


def test_a_role_without_rights(plain_empty_url: str, role: str) -> None:
    statements(plain_empty_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as from PostgreSQL 15 on
    said = line(with_user(plain_empty_url, role))
    assert "permission denied for schema public. Grant the right" in said


def test_a_server_that_is_too_old(plain_empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = ServerVersion(13, 14, 0, "final", 0)
    monkeypatch.setattr(asyncpg.Connection, "get_server_version", lambda _: old)
    for command in (["db", "upgrade"], ["db", "current"], ["status"], ["candles", "BTC/USD"]):
        said = line(plain_empty_url, *command)
        assert "PostgreSQL 13.14 is too old. kraken-db needs PostgreSQL 14 or newer" in said


@pytest.mark.parametrize(
    ("option", "cause"),
    [("nonsense=1", "unrecognized configuration parameter"), ("target_session_attrs=standby", "no server")],
)
def test_parameters_of_the_address(plain_empty_url: str, option: str, cause: str) -> None:
    said = line(f"{plain_empty_url}{'&' if '?' in plain_empty_url else '?'}{option}")
    assert cause in said
    assert "URL" in said


@pytest.mark.parametrize("revision", ["", " ", "9999", "nonsense", "../1002", "\x1b[31m", "x" * 5000, "+99"])
def test_a_revision_that_is_none(plain_empty_url: str, revision: str) -> None:
    assert len(line(plain_empty_url, "db", "upgrade", "--revision", revision)) < 4_200
