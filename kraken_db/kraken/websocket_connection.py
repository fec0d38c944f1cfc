"""One WebSocket, within limits of time and size, with all failures of the network as ExchangeErrors."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kraken_db.errors import ConfigurationError, ExchangeRequestError, ExchangeUnavailableError
from kraken_db.kraken.failures import status_error
from kraken_db.kraken.transport import network_failure

MAX_FRAME = 2_000_000
"""Bytes. A snapshot of 50 trades has about 8,000."""
CONNECT_WITHIN = 20.0
CLOSE_WITHIN = 1.0
"""Seconds."""

_WHAT = "Kraken's WebSocket"
_VARIABLE = "KRAKEN_WS_URL"


class WebSocketConnection:
    """Made by ``open``. One task receives; any may send or close."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._socket = socket

    @classmethod
    async def open(
        cls, session: aiohttp.ClientSession, url: str, *, max_frame: int = MAX_FRAME
    ) -> WebSocketConnection:
        """Raises ExchangeUnavailableError and ExchangeThrottledError where trying again may help, else an
        ExchangeRequestError or a ConfigurationError.
        """
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                socket = await session.ws_connect(
                    _as_http(url),
                    max_msg_size=max_frame,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN),
                    decode_text=False,
                )
        except aiohttp.WSServerHandshakeError as error:
            retry_after = error.headers.get("Retry-After") if error.headers else None
            told = status_error(error.status, retry_after, _WHAT, time.time(), _VARIABLE)
            raise told or ExchangeRequestError(
                f"{_WHAT}: there is none at the address", hint=f"check {_VARIABLE}"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # time-outs too
            raise network_failure(error, _WHAT, _VARIABLE) from error
        return cls(socket)

    async def send(self, frame: str) -> None:
        """Raises ExchangeUnavailableError when the connection has ended."""
        try:
            await self._socket.send_str(frame)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise ExchangeUnavailableError("the connection has ended") from error

    async def receive(self, within: float) -> bytes | None:
        """The next frame; None if there was none within so many seconds.

        Raises ExchangeUnavailableError when the connection has ended, or brings what is no text.
        """
        try:
            message = await self._socket.receive(timeout=max(within, 0.001))
        except TimeoutError:
            return None
        if message.type is aiohttp.WSMsgType.TEXT:
            frame: bytes = message.data
            return frame
        raise ExchangeUnavailableError(_ending(message, self._socket))

    async def close(self) -> None:
        """With a word of farewell, which is not waited for long."""
        await self._socket.close()


def _ending(message: Any, socket: aiohttp.ClientWebSocketResponse[bool]) -> str:
    match message.type:
        case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING:
            return f"closed by the other side (code {socket.close_code or message.data})"
        case aiohttp.WSMsgType.ERROR if socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            return "a frame was larger than is allowed"
        case aiohttp.WSMsgType.ERROR | aiohttp.WSMsgType.CLOSED:
            return "the connection broke"
    return "what came is no text"


def _as_http(url: str) -> str:
    """Under this name aiohttp looks for the proxies that the environment names for HTTP."""
    return url.replace("ws", "http", 1)


def checked_ws_url(url: str) -> str:
    """Raises ConfigurationError for an address that cannot work."""
    hint = "e.g. wss://ws.kraken.com/v2, in KRAKEN_WS_URL"
    try:
        parts = urlsplit(url.strip())
        port_is_right = parts.port != 0
    except ValueError:
        raise ConfigurationError("the address of Kraken's WebSocket is not one", hint=hint) from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not port_is_right:
        raise ConfigurationError(
            "the address of Kraken's WebSocket does not begin with wss://HOST", hint=hint
        )
    if parts.fragment or parts.username is not None:
        raise ConfigurationError(
            "the address of Kraken's WebSocket has more than a host and a path", hint=hint
        )
    return url.strip()
