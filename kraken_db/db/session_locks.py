"""The advisory locks that a store holds for as long as its runs take, all in one session."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from kraken_db.db.blockers import holders
from kraken_db.db.sessions import Sessions
from kraken_db.errors import DatabaseError, DatabaseUnavailableError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 5.0
_SECONDS_OF_TRUST = 5.0
_TAKE = """
    SELECT key, CASE WHEN is_shared THEN pg_try_advisory_lock_shared(hashtextextended(key, 0))
                ELSE pg_try_advisory_lock(hashtextextended(key, 0)) END
    FROM unnest($1::text[], $2::boolean[]) AS locks(key, is_shared)
"""
_RELEASE = """
    SELECT key, CASE WHEN is_shared THEN pg_advisory_unlock_shared(hashtextextended(key, 0))
                ELSE pg_advisory_unlock(hashtextextended(key, 0)) END
    FROM unnest($1::text[], $2::boolean[]) AS locks(key, is_shared)
"""


@dataclass(frozen=True, slots=True)
class _Held:
    is_shared: bool
    owners: list[object]


class SessionLocks:
    """Any number of locks on one connection, which takes no place in the pool.

    It is opened for the first lock and closed after the last one. They end with it, so with the process.
    Behind a pooler its session is ours for as long as a transaction is open: one is, while a lock is held.

    An owner is any object: what it has, nobody else gets, in this process or in another one.
    """

    def __init__(
        self, sessions: Sessions, open_session: Callable[[], Awaitable[asyncpg.Connection[Any]]]
    ) -> None:
        self._sessions = sessions
        self._open = open_session
        self._session: asyncpg.Connection[Any] | None = None
        self._held: dict[str, _Held] = {}
        self._turn = asyncio.Lock()
        self._last_used = 0.0

    async def take(self, owner: object, *keys: str, shared: bool = False) -> str | None:
        """Have these locks, those that the owner has already too: returns the first that another one has.

        Nobody is waited for. Where the connection was lost, all locks of all owners are taken anew first.
        ``shared``: together with others who share it. Where this raises, or returns a key, ``release`` what
        was taken until then.
        """
        async with self._turn:
            with self._sessions.errors():
                await self._be_there(is_asked=all(key in self._held for key in keys))
                for key in keys:
                    held = self._held.get(key)
                    if held and owner not in held.owners and not (shared and held.is_shared):
                        return key
                new: dict[str, _Held] = {}
                for key in keys:
                    if key not in self._held:
                        new[key] = self._held[key] = _Held(shared, [])
                    if owner not in self._held[key].owners:
                        self._held[key].owners.append(owner)
                try:
                    return next(iter(await self._lock(new)), None)
                except Exception:
                    await self._end()  # what it holds is not known; the next one takes all anew
                    raise

    async def release(self, owner: object) -> None:
        """Let everything go that the owner has."""
        async with self._turn:
            mine = {key: held for key, held in self._held.items() if owner in held.owners}
            for held in mine.values():
                held.owners.remove(owner)
            free = {key: held for key, held in mine.items() if not held.owners}
            for key in free:
                del self._held[key]
            # Where the connection is gone, they are free already.
            with suppress(DatabaseUnavailableError), self._sessions.errors():
                await self._ask(_RELEASE, free)
            if not self._held:
                await self._end()

    async def holders(self, key: str) -> list[str]:
        """Who has a lock that ``take`` did not get, in other processes; nobody where that cannot be asked."""
        async with self._turn:
            with suppress(Exception):
                if self._session is not None:
                    return await holders(self._session, key)
        return []

    async def close(self) -> None:
        """Let everything go, whoever has it."""
        async with self._turn:
            self._held.clear()
            await self._end()

    async def _be_there(self, *, is_asked: bool) -> None:
        """Have a session that answers, and in it what is held."""
        if self._session is not None and not self._session.is_closed():
            try:
                if is_asked or time.monotonic() - self._last_used > _SECONDS_OF_TRUST:
                    with self._sessions.errors():
                        await _whole(self._session.execute("SELECT 1"))
            except DatabaseError:
                pass
            else:
                return
        await self._end()
        self._session = await self._open()
        try:
            if self._sessions.are_pooled:
                await self._session.execute(f"BEGIN; {self._sessions.setting_in_transaction()}")
            lost = await self._lock(self._held)
            if lost:
                _log.warning("another process has taken %s meanwhile", ", ".join(lost))
        except BaseException:
            await self._end()
            raise

    async def _lock(self, wanted: Mapping[str, _Held]) -> list[str]:
        """Returns those that another session has, and forgets them."""
        refused = [key for key, is_taken in await self._ask(_TAKE, wanted) if not is_taken]
        for key in refused:
            del self._held[key]
        return refused

    async def _ask(self, statement: str, locks: Mapping[str, _Held]) -> Sequence[Sequence[Any]]:
        if self._session is None or not locks:
            return []
        self._last_used = time.monotonic()
        kinds = [held.is_shared for held in locks.values()]
        rows: Sequence[Sequence[Any]] = await _whole(self._session.fetch(statement, list(locks), kinds))
        return rows

    async def _end(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        with suppress(Exception):  # the locks end with the connection, however that ends
            if self._sessions.are_pooled and not self._held:
                await session.execute("ROLLBACK", timeout=_ANSWER_SECONDS)
            await session.close(timeout=_ANSWER_SECONDS)
        session.terminate()


async def _whole(asking: Coroutine[Any, Any, _T]) -> _T:
    """The answer. Who is cancelled while it comes waits for it: what is held must be known."""
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=_ANSWER_SECONDS)
        task.cancel()
        raise
