"""``kraken-db db grant-read``: who may read by it, and what one may do who owns the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from click.testing import Result

from tests.support.archives import import_file, minutes, query, read_candles, write
from tests.support.shell import run
from tests.support.stores import connected, with_user

READER = "Gra fana"  # a name that has to be quoted wherever it is written
ON_ONE_SERVER = pytest.mark.one_server("a role that reads logs in on each node of Citus")


async def grant_read(url: str, *arguments: str) -> Result:
    return await asyncio.to_thread(run, url, "db", "grant-read", *arguments)


async def first_prices(url: str) -> list[str]:
    return [str(candle.open) for candle in await read_candles(url, "ETH/USD", 60)]


@pytest.fixture
async def readable(plain_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """A store with two hours of candles; the role is gone at the end."""
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(120)))
    yield plain_url
    if await query(plain_url, "SELECT 1 FROM pg_roles WHERE rolname = :role", role=READER):
        await query(plain_url, f'DROP OWNED BY "{READER}"')
        await query(plain_url, f'DROP ROLE "{READER}"')


@ON_ONE_SERVER
async def test_a_role_that_is_made_reads_and_cannot_write(readable: str) -> None:
    done = await grant_read(readable, READER, "--create")
    assert (done.exit_code, done.stderr) == (0, "")
    said, password = done.stdout.splitlines()
    assert said == "Gra fana may read what is stored"
    assert password.startswith("its password: ")
    reader = with_user(readable, READER, password.removeprefix("its password: "))

    assert await first_prices(reader) == ["100.5000000000", "100.5000000000"]
    status = await asyncio.to_thread(run, reader, "status")
    assert (status.exit_code, "ETH/USD" in status.stdout) == (0, True), status.stderr
    async with connected(reader) as connection:
        for change in (
            "DELETE FROM candles",
            "UPDATE candles SET volume = 0",
            "INSERT INTO trades (symbol, timestamp, price, volume) VALUES ('ETH/USD', now(), 1, 1)",
            "TRUNCATE data_sync_status",
            "DROP TABLE trades",
            "CREATE TABLE mine ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(with_user(readable, READER, "another"))


@ON_ONE_SERVER
async def test_tables_of_later_versions_are_read_too(readable: str) -> None:
    done = await grant_read(readable, READER, "--create")
    reader = with_user(readable, READER, done.stdout.rpartition(": ")[2].strip())
    await query(readable, "CREATE TABLE of_later AS SELECT 7 AS number")
    assert await query(reader, "SELECT number FROM of_later") == [(7,)]


@ON_ONE_SERVER
async def test_what_was_given_is_taken_away_and_given_again(readable: str) -> None:
    done = await grant_read(readable, READER, "--create")
    reader = with_user(readable, READER, done.stdout.rpartition(": ")[2].strip())
    revoked = await grant_read(readable, READER, "--revoke")
    assert (revoked.exit_code, revoked.stdout) == (0, "Gra fana may no longer read what is stored\n")
    await query(readable, "CREATE TABLE of_later AS SELECT 7 AS number")
    async with connected(reader) as connection:  # the role and its password stay
        for table in ("candles", "candles_1h", "trades", "of_later"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT 1 FROM {table}")
    given = await grant_read(readable, READER)
    assert (given.exit_code, given.stdout) == (0, "Gra fana may read what is stored\n"), "no new password"
    assert await first_prices(reader) == ["100.5000000000", "100.5000000000"]


@pytest.mark.parametrize("option", [(), ("--revoke",)])
async def test_a_role_that_is_not_there_is_not_made_by_itself(
    plain_url: str, option: tuple[str, ...]
) -> None:
    done = await grant_read(plain_url, "nobody_yet", *option)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: there is no role nobody_yet. --create makes it, with a password\n"
    assert await query(plain_url, "SELECT 1 FROM pg_roles WHERE rolname = 'nobody_yet'") == []


@ON_ONE_SERVER
async def test_a_role_that_is_there_keeps_its_password(readable: str) -> None:
    await query(readable, f"CREATE ROLE \"{READER}\" LOGIN PASSWORD 'of its own'")
    done = await grant_read(readable, READER, "--create")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: the role Gra fana is there already. Leave out --create\n"
    reader = with_user(readable, READER, "of its own")
    async with connected(reader) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT 1 FROM candles")
        assert (await grant_read(readable, READER)).exit_code == 0
        assert await connection.fetchval("SELECT count(*) FROM candles") == 120


async def test_who_may_make_no_role_hears_who_does_it(plain_url: str) -> None:
    await query(plain_url, "CREATE ROLE owner_of_it LOGIN PASSWORD 'secret'")
    try:
        await query(plain_url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO owner_of_it")
        url = with_user(plain_url, "owner_of_it")
        done = await asyncio.to_thread(run, url, "db", "grant-read", "Gra fana", "--create")
    finally:
        await query(plain_url, "DROP OWNED BY owner_of_it")
        await query(plain_url, "DROP ROLE owner_of_it")
    assert done.exit_code == 1
    assert done.stderr == (
        'Error: owner_of_it may not make roles. An administrator runs CREATE ROLE "Gra fana" LOGIN PASSWORD'
        " '...' in psql; then run kraken-db db grant-read Gra fana, without --create\n"
    )
