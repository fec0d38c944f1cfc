"""Which tables are new, and which of them the running transaction has made: their time is known as dropped.

On plain PostgreSQL, for it takes two sessions; chunks are children of their table as these are.
"""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.timescale_chunks import new_chunks
from kraken_db.db.locks import lock_for_writing
from tests.support.archives import query
from tests.support.stores import opened_database


async def make(connection: AsyncConnection, name: str) -> None:
    await connection.execute(text(f"CREATE TABLE {name} () INHERITS (candles)"))


async def found(connection: AsyncConnection, since: str) -> dict[str, bool]:
    return {row.relname: row.is_ours for row in await new_chunks(connection, ["candles", "trades"], since)}


@pytest.mark.one_server("Citus lets no table inherit")
async def test_only_what_this_transaction_has_made(plain_url: str) -> None:
    await query(plain_url, "CREATE TABLE of_old () INHERITS (candles)")
    async with opened_database(plain_url, pool_max_size=0) as database:
        async with database.begin() as connection:
            since = await lock_for_writing(connection, ["candles_1m:BTC/USD"], {})
            assert await found(connection, since) == {}
            # As with chunks, who makes one keeps all others from it until the transaction ends.
            await query(plain_url, "CREATE TABLE of_another () INHERITS (candles)")
            await make(connection, "ours")
            async with connection.begin_nested():
                await make(connection, "ours_of_a_savepoint")
            async with connection.begin_nested() as savepoint:
                await make(connection, "undone")
                await savepoint.rollback()
            expected = {"of_another": False, "ours": True, "ours_of_a_savepoint": True}
            assert await found(connection, since) == expected
        async with database.begin() as connection:
            assert await found(connection, since) == dict.fromkeys(expected, False)
            assert await found(connection, await lock_for_writing(connection, ["trades:BTC/USD"], {})) == {}
