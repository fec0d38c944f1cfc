"""The lane of Citus, by hand: a coordinator and its workers, at ``KRAKEN_DB_TEST_CITUS_URL``.

``docker`` in the place of an address starts those of ``docker-compose.citus.yml``. Each test has a database
of its own on every node. Without the variable the lane is not collected.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.support.lanes.base import Lane, Server, admin, database_of, run, with_database

_COMPOSE_FILE = Path(__file__).parents[3] / "docker-compose.citus.yml"
_PORT = 5434


class _Node(NamedTuple):
    number: int
    host: str
    port: int


def citus_url() -> str | None:
    """Where the lane's coordinator is, or ``docker``; None: the lane is not asked for."""
    return os.environ.get("KRAKEN_DB_TEST_CITUS_URL") or None


def start_citus() -> Server:
    named = citus_url()
    if named is None:
        raise RuntimeError("KRAKEN_DB_TEST_CITUS_URL is not set")
    if named != "docker":
        return Server(named.replace("postgresql+asyncpg://", "postgresql://"), stop=lambda: None)
    compose = ["docker", "compose", "-f", str(_COMPOSE_FILE), "-p", f"kraken-db-test-{os.getpid()}"]
    environment = {**os.environ, "DB_PASSWORD": "test", "CITUS_PORT": str(_PORT)}

    def call(*arguments: str) -> None:
        subprocess.run([*compose, *arguments], env=environment, check=True, capture_output=True)

    call("up", "-d", "--wait")
    return Server(f"postgresql://trading:test@127.0.0.1:{_PORT}/kraken_data", stop=lambda: call("down", "-v"))


class CitusLane(Lane):
    """As the other lanes, on several nodes at once: the databases of one name are one."""

    def _create(self, template: str | None = None) -> str:
        url = with_database(self.server.url, self._new_name())
        run(_create(self.server.url, url) if template is None else _copy(self.server.url, url, template))
        return url

    def _migrate(self) -> str:
        url = self._create()
        try:
            run(_migrate(url))
            run(_seal(self.server.url, database_of(url)))
        except BaseException:
            self._drop(url)
            raise
        return database_of(url)

    def _fill(self, fill: Callable[[str], Coroutine[Any, Any, object]]) -> str:
        name = super()._fill(fill)
        run(_seal(self.server.url, name))
        return name

    def _drop(self, url: str) -> None:
        run(_drop(self.server.url, database_of(url)))


async def _migrate(url: str) -> None:
    from kraken_db.backends.citus_schema import distribute
    from kraken_db.db.migrations import upgrade

    await upgrade(url)
    await distribute(url)


async def _create(server: str, url: str) -> None:
    """The database on every node, and the nodes made known to it."""
    name, (first, *workers) = database_of(url), await _nodes(server)

    async def create(node: _Node) -> None:
        await admin(_address(server, node), f'CREATE DATABASE "{name}"')
        await admin(with_database(_address(server, node), name), "CREATE EXTENSION IF NOT EXISTS citus")

    await asyncio.gather(*map(create, (first, *workers)))
    inside = await asyncpg.connect(url)
    try:
        await inside.execute("SELECT citus_set_coordinator_host($1, $2)", first.host, first.port)
        for node in workers:
            await inside.execute("SELECT citus_add_node($1, $2)", node.host, node.port)
    finally:
        await inside.close()


async def _seal(server: str, name: str) -> None:
    """Nobody connects to it any more, Citus itself included: so it can be a template on every node."""
    for node in await _nodes(server):
        address = _address(server, node)
        await admin(address, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin(
            address, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )


async def _copy(server: str, url: str, template: str) -> None:
    """What makes the databases of the template one store makes those of the copy one."""
    name = database_of(url)

    async def copy(node: _Node) -> None:
        await admin(_address(server, node), f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        # A copy has everything of its template but its settings.
        await admin(_address(server, node), f'ALTER DATABASE "{name}" SET jit TO off')

    await asyncio.gather(*map(copy, await _nodes(server)))


async def _drop(server: str, name: str) -> None:
    gone = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
    await asyncio.gather(*(admin(_address(server, node), gone) for node in await _nodes(server)))


async def _nodes(server: str) -> list[_Node]:
    """As they call each other; the coordinator is the first."""
    connection = await asyncpg.connect(server)
    try:
        rows = await connection.fetch(
            "SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid <> 0, nodename, nodeport"
        )
    finally:
        await connection.close()
    assert len(rows) > 2, f"{server} is no coordinator with two workers"
    return [_Node(at, *row) for at, row in enumerate(rows)]


def _address(server: str, node: _Node) -> str:
    """Where we reach it: containers have names of their own, and ports in a row."""
    parts = urlsplit(server)
    port = _PORT + node.number if citus_url() == "docker" else node.port
    host = parts.hostname if citus_url() == "docker" else node.host
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}:{port}"))
