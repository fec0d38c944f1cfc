"""What both lanes have in common: databases made, migrated and dropped by SQL."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

T = TypeVar("T")

_ADMIN_TIMEOUT = 60


@dataclass(frozen=True)
class Server:
    """A running server. ``url`` leads to a database from which others can be made."""

    url: str
    stop: Callable[[], None]
    prepare: Callable[[asyncpg.Connection], Awaitable[None]] | None = None
    """What every new empty database needs, and what it must be checked for."""
    copied_by: str = ""
    """How ``CREATE DATABASE`` is to copy a template, where there is a choice."""


@dataclass
class Lane:
    """One kind of database, with its server started on first use."""

    name: str
    start: Callable[[], Server]
    _server: Server | None = None
    _failure: Exception | None = None
    _template: str | None = None
    _filled: dict[object, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def server(self) -> Server:
        if self._failure:  # a server that did not start once is not tried again for every test
            raise self._failure
        if self._server is None:
            try:
                self._server = self.start()
            except Exception as error:
                self._failure = error
                raise
        return self._server

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The URL of a new database with nothing in it; it is dropped at the end."""
        url = self._create()
        try:
            yield url
        finally:
            self._drop(url)

    @contextmanager
    def migrated_database(self) -> Iterator[str]:
        """The URL of a new database with our schema, copied from one that is migrated once."""
        with self._copy_of(self._migrated()) as url:
            yield url

    @contextmanager
    def filled_database(self, fill: Callable[[str], Coroutine[Any, Any, object]]) -> Iterator[str]:
        """The same with rows in it: copied from a database that ``fill`` has filled, once in this process.

        ``fill`` is a function of a module: it is what the filled database is known by.
        """
        if fill not in self._filled:
            self._filled[fill] = self._fill(fill)
        with self._copy_of(self._filled[fill]) as url:
            yield url

    @contextmanager
    def _copy_of(self, template: str) -> Iterator[str]:
        url = self._create(template=template)
        try:
            yield url
        finally:
            self._drop(url)

    def _migrated(self) -> str:
        if self._template is None:
            self._template = self._migrate()
        return self._template

    def stop(self) -> None:
        if self._server is None:
            return
        try:
            templates = [*self._filled.values(), *([self._template] if self._template else [])]
            for template in templates:  # it matters on a server that is not ours
                self._drop(with_database(self._server.url, template))
        finally:
            self._filled.clear()
            self._server.stop()
            self._server = None

    def _new_name(self) -> str:
        return f"test_{os.getpid()}_{next(self._numbers)}"

    def _create(self, template: str | None = None) -> str:
        name = self._new_name()
        source = f' TEMPLATE "{template}" {self.server.copied_by}' if template else ""
        run(admin(self.server.url, f'CREATE DATABASE "{name}"{source}'))
        url = with_database(self.server.url, name)
        if template is None and self.server.prepare:
            run(_prepare(url, self.server.prepare))
        return url

    def _migrate(self) -> str:
        from kraken_db.db.migrations import upgrade

        url = self._create()
        try:
            run(upgrade(url))
        except BaseException:
            self._drop(url)  # every database of the WASM server takes 250 MB
            raise
        return database_of(url)

    def _fill(self, fill: Callable[[str], Coroutine[Any, Any, object]]) -> str:
        url = self._create(template=self._migrated())
        try:
            run(fill(url))
        except BaseException:
            self._drop(url)
            raise
        return database_of(url)

    def _drop(self, url: str) -> None:
        run(admin(self.server.url, f'DROP DATABASE IF EXISTS "{database_of(url)}" WITH (FORCE)'))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to completion in a thread and a loop of its own, whatever loop the test may have."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


async def admin(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url, timeout=_ADMIN_TIMEOUT)
    try:
        for attempt in range(250):
            try:
                await connection.execute(sql, timeout=_ADMIN_TIMEOUT)
                return
            except asyncpg.ObjectInUseError:  # a session of the template is still ending
                if attempt == 249:
                    raise
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def _prepare(url: str, prepare: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    connection = await asyncpg.connect(url, timeout=_ADMIN_TIMEOUT)
    try:
        await prepare(connection)
    finally:
        await connection.close()


def database_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
