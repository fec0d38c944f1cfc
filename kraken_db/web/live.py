"""What is new in the store, sent to everybody who listens (server-sent events).

Two looks a second serve all listeners: which pairs have something newer by their counters, then their newest
rows, in one statement each. Without listeners nobody looks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from kraken_db.data_types import DataType
from kraken_db.errors import KrakenDBError
from kraken_db.repositories.newest_rows import NewestRows
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.web.answers import refusal, send, text_of
from kraken_db.web.site import Site

EVERY = 0.5
"""Seconds between two looks. A recording stores a trade within a second; on the page it is within two."""
_SILENCE = 15.0
"""Seconds after which a line says that the connection lives."""
_KEPT = 5_000
"""Events that a listener who comes back can be given."""
_WAITING = 2_000
"""Events that wait for a slow listener; with more of them it is cut off, and comes back."""
MOST_LISTENERS = 64
_REACH = timedelta(minutes=5)
"""How old a candle may be to be news."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    number: int
    name: str
    text: str
    symbol: str | None = None
    """The pair that it is about; None: it is for everybody."""


@dataclass(eq=False)
class _Listener:
    symbol: str | None
    queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(_WAITING))

    def give(self, event: Event) -> bool:
        """False where it has more to read than it may."""
        if self.symbol is not None and event.symbol not in (None, self.symbol):
            return True
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            return False
        return True


class Live:
    """Looks for news as long as anybody listens. ``run`` is its task."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._name = secrets.token_hex(4)
        """Numbers of events are those of this run of the server."""
        self._listeners: set[_Listener] = set()
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._number = 0
        self._is_wanted = asyncio.Event()
        self._looking = asyncio.Lock()
        self._known: dict[tuple[str, str], SyncStatus] | None = None
        """The counters at the last look; None: nobody has looked yet."""
        self._rows: dict[tuple[str, datetime], Sequence[Any]] = {}
        """The minutes that everybody knows."""
        self._is_closed = False

    def __len__(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def say(self, name: str, content: Any, symbol: str | None = None) -> None:
        """Send an event to everybody who wants to know of the pair."""
        self._number += 1
        event = Event(self._number, name, text_of(content), symbol)
        self._kept.append(event)
        for listener in list(self._listeners):
            if not listener.give(event):
                self._leave(listener)

    async def run(self) -> None:
        while True:
            await self._is_wanted.wait()
            try:
                async with self._looking:
                    await self._look()
            except KrakenDBError as error:
                _log.info("cannot look for news: %s", error.message)
            except Exception:
                _log.exception("cannot look for news")
            await asyncio.sleep(EVERY)

    def close(self) -> None:
        """Let every listener end."""
        self._is_closed = True
        for listener in list(self._listeners):
            self._leave(listener)

    async def answer(self, request: web.Request, symbol: str | None = None) -> web.StreamResponse:
        """Events until the listener goes; ``symbol``: of that pair, and those that are of none."""
        if len(self._listeners) >= MOST_LISTENERS or self._is_closed:
            return refusal(503, "too many are listening", "try again later", wait=10)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        # What is stored from now on is news. Who sees the head of the answer reads everything else.
        async with self._looking:
            if self._known is None:
                await self._look()
            listener = _Listener(symbol)
            self._listeners.add(listener)
        for event in self._missed(request.headers.get("Last-Event-ID", "")):
            listener.give(event)
        self._is_wanted.set()
        try:
            await response.prepare(request)
            begun = "" if listener.queue.qsize() else f"id: {self._name}-{self._number}\n"
            await send(request, response, f"retry: 2000\n{begun}\n".encode())
            while (piece := await self._next(listener)) is not None:
                await send(request, response, piece)
        finally:
            self._leave(listener)
        return response

    async def _next(self, listener: _Listener) -> bytes | None:
        try:
            async with asyncio.timeout(_SILENCE):
                event = await listener.queue.get()
        except TimeoutError:
            return b": still here\n\n"
        if event is None:
            return None
        return f"id: {self._name}-{event.number}\nevent: {event.name}\ndata: {event.text}\n\n".encode()

    def _missed(self, last_id: str) -> list[Event]:
        """What came since; one that says so, where that is not known any more."""
        name, _, number = last_id.partition("-")
        if not last_id:
            return []
        oldest = self._kept[0].number if self._kept else self._number + 1
        is_known = name == self._name and number.isascii() and number.isdigit() and len(number) < 16
        if (
            not is_known
            or not oldest - 1 <= int(number) <= self._number
            or self._number - int(number) >= _WAITING
        ):
            return [Event(self._number, "reset", "{}")]
        return [event for event in self._kept if event.number > int(number)]

    def _leave(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        if listener.queue.full():
            listener.queue.get_nowait()
        listener.queue.put_nowait(None)
        if not self._listeners:
            self._is_wanted.clear()
            self._known, self._rows = None, {}

    async def _look(self) -> None:
        rows = await self._site.read(lambda connection: SyncStatusRepository(connection).all())
        now = {(row.symbol, row.data_type): row for row in rows}
        before, self._known = self._known, now
        if before is None:  # the first look: all that is there is known
            self._rows = dict(await self._minutes(sorted({row.symbol for row in rows})))
            return
        changed = {key for key, row in now.items() if row != before.get(key)}
        traded = sorted(symbol for symbol, kind in changed if kind == DataType.TRADES)
        built = sorted(symbol for symbol, kind in changed if kind == DataType.CANDLES_1M)
        for symbol, moment, price in await self._prices(traded):
            self.say("trade-price", {"symbol": symbol, "price": price, "time": moment}, symbol)
        for key, row in await self._minutes(built):
            if self._rows.get(key) != row:
                self._rows[key] = row
                self.say("candle", {"symbol": key[0], "interval": "1m", "row": row}, key[0])
        since = self._site.clock() - _REACH
        self._rows = {key: row for key, row in self._rows.items() if key[1] >= since}

    async def _prices(self, symbols: Sequence[str]) -> list[tuple[str, datetime, Decimal]]:
        if not symbols:
            return []
        since = self._site.clock() - _REACH
        return await self._site.read(lambda connection: NewestRows(connection).prices(symbols, since))

    async def _minutes(self, symbols: Sequence[str]) -> list[tuple[tuple[str, datetime], Sequence[Any]]]:
        """By symbol and time; a row has the columns of candles."""
        if not symbols:
            return []
        since = self._site.clock() - _REACH
        rows = await self._site.read(lambda connection: NewestRows(connection).minutes(symbols, since))
        return [((symbol, row[0]), row) for symbol, *row in rows]
