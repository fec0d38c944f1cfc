"""Which tables the running transaction itself has made: what makes a chunk's time known as dropped.

On plain PostgreSQL, for it takes two sessions; chunks are children of their table as these are.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.timescale_chunks import chunk_ids, own
from tests.support.archives import query
from tests.support.stores import opened_database


async def make(connection: AsyncConnection, name: str) -> None:
    await connection.execute(text(f"CREATE TABLE {name} () INHERITS (candles)"))


async def test_only_what_this_transaction_has_made(plain_url: str) -> None:
    await query(plain_url, "CREATE TABLE of_old () INHERITS (candles)")
    async with opened_database(plain_url, pool_max_size=0) as database:
        async with database.begin() as connection:
            before = await chunk_ids(connection, "candles")
            assert len(before) == 1
            # As with chunks, who makes one keeps all others from it until the transaction ends.
            await query(plain_url, "CREATE TABLE of_another () INHERITS (candles)")
            await make(connection, "ours")
            async with connection.begin_nested():
                await make(connection, "ours_of_a_savepoint")
            async with connection.begin_nested() as savepoint:
                await make(connection, "undone")
                await savepoint.rollback()
            after = await chunk_ids(connection, "candles")
            assert len(after) == 4
            assert sorted(name for _, name in await own(connection, after - before)) == [
                "ours",
                "ours_of_a_savepoint",
            ]
        async with database.begin() as connection:
            assert await own(connection, after - before) == []
