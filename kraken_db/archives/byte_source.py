"""What all sources of bytes have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from kraken_db.errors import ImportFileError

BLOCK = 1 << 20
"""Bytes: the most that ``stream`` hands out at once."""


class ByteSource(Protocol):
    """Bytes that can be read at any place. Several readers may read side by side.

    ``name`` is for people, without credentials. Whatever keeps the bytes from coming is an ImportFileError.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    async def read(self, start: int, length: int) -> bytes:
        """Exactly these bytes, all in memory."""

    def stream(self, start: int, length: int) -> AsyncGenerator[bytes]:
        """Exactly ``length`` bytes, in blocks of at most 1 MiB."""

    async def close(self) -> None: ...


def check_range(source: ByteSource, start: int, length: int) -> None:
    """Raises ImportFileError for bytes that the source does not have."""
    if start < 0 or length < 0 or start + length > source.size:
        raise ImportFileError(
            source.name,
            f"bytes {start:,} to {start + length:,} are not in it: it has {source.size:,}",
            hint="download it again",
        )


async def whole(stream: AsyncGenerator[bytes]) -> bytes:
    """All blocks as one."""
    async with aclosing(stream) as blocks:
        return b"".join([block async for block in blocks])
