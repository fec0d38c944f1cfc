"""A proxy for TCP that can stop to forward what runs through it: a line whose packets are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class DroppingProxy:
    """``connections`` counts those so far. Nobody is told when packets are dropped."""

    target: tuple[str, int]
    connections: int = 0
    _dropped: set[int] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def drop(self) -> None:
        """From now on nothing comes through the connections that there are; new ones work."""
        self._dropped |= set(range(1, self.connections + 1))

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[int]:
        """Gives the port to connect to."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

        self._server = await asyncio.start_server(accept, "127.0.0.1", port)
        try:
            yield self._server.sockets[0].getsockname()[1]
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Nobody is there any more, and the connections that there are end."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        there, back = await asyncio.open_connection(*self.target)
        try:
            await asyncio.gather(self._pass(number, reader, back), self._pass(number, there, writer))
        finally:
            back.close()
            writer.close()

    async def _pass(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                if number not in self._dropped:
                    writer.write(data)
                    await writer.drain()
        if number in self._dropped:
            await asyncio.Event().wait()  # the end is not passed on either
        writer.close()
