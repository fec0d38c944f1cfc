"""``kraken-db db grant-read`` by a role that owns the store and may make no roles."""

from __future__ import annotations

import asyncio

from tests.support.archives import query
from tests.support.shell import run
from tests.support.stores import with_user


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
