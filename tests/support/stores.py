"""Stores and databases that are open for as long as a block of a test runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg

from kraken_db.db.engine import Database
from kraken_db.store import Store


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Store]:
    """``options``: those of ``Store.open``."""
    store = await Store.open(url, **options)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_database(url: str, **options: Any) -> AsyncIterator[Database]:
    """The same without a look at its tables; ``options``: those of ``Database.open``."""
    database = await Database.open(url, **options)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the driver, with nothing of ours."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def with_user(url: str, user: str, password: str = "secret") -> str:
    """The same address for another role."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(user)}:{quote(password)}@{place}").geturl()
