"""Records on disk: each with its number and a checksum, which tells a whole one from a torn one."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

_MAGIC = b"\xa7\x4b"
_HEAD = struct.Struct("<2sII")  # magic, length of what follows, its checksum
_NUMBER = struct.Struct("<Q")
LONGEST = 65_536
"""Bytes of the longest frame: nothing that is written comes near it."""


def frame(number: int, payload: bytes) -> bytes:
    """One record. ``number`` counts up along the stream."""
    body = _NUMBER.pack(number) + payload
    return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body


@dataclass(slots=True)
class Scan:
    """What a piece of a file held."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    used: int = 0
    """How many bytes have been looked at; what follows may be the beginning of a record."""
    damaged: int = 0
    """How many of these belong to no whole record."""
    whole: int = 0
    """Where the last whole record ends."""


def scan(data: bytes, *, is_end: bool, most: int) -> Scan:
    """Read up to ``most`` records. ``is_end``: nothing will follow upon ``data``."""
    found = Scan()
    while len(found.records) < most and found.used < len(data):
        end = _end_of_frame(data, found.used)
        if end is None:
            if not is_end and len(data) - found.used < LONGEST:
                break
            # Whatever it is: the next whole record is behind the next mark, if there is one.
            following = data.find(_MAGIC, found.used + 1)
            skipped_to = len(data) if following < 0 else following
            found.damaged += skipped_to - found.used
            found.used = skipped_to
            continue
        start = found.used + _HEAD.size
        (number,) = _NUMBER.unpack_from(data, start)
        found.records.append((number, data[start + _NUMBER.size : end]))
        found.used = found.whole = end
    return found


def _end_of_frame(data: bytes, at: int) -> int | None:
    """Where the frame that begins here ends; None if no whole one does."""
    if at + _HEAD.size > len(data):
        return None
    magic, length, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    if magic != _MAGIC or not _NUMBER.size <= length <= LONGEST - _HEAD.size or start + length > len(data):
        return None
    return start + length if zlib.crc32(data[start : start + length]) == checksum else None
