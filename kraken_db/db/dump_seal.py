"""A checksum behind the bytes of a dump: PostgreSQL has none over its table of contents and block headers.

PostgreSQL's programs find everything from the front, and never look behind the last block. The line is there
several times, so that a damaged one is not taken for none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from kraken_db.errors import ProgramError

_MARK = b"\nkraken-db sha256 "
_COPIES = 3
_SIZE = _COPIES * (len(_MARK) + 2 * hashlib.sha256().digest_size)
_BLOCK = 4 * 1024 * 1024


def seal(path: Path, advance: Callable[[int], None] = lambda _: None) -> None:
    """Add the checksum of a file to its end. ``advance`` is told how many bytes were read. Raises OSError."""
    line = _line(path, path.stat().st_size, advance)
    with path.open("ab") as file:
        file.write(line * _COPIES)


def check_seal(path: Path, advance: Callable[[int], None] = lambda _: None) -> None:
    """Raises ProgramError where the bytes are not those that were sealed, and OSError.

    A file without a checksum is one of pg_dump's own: nothing is known of it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _SIZE))
        end = file.read()
    if _MARK not in end:
        return
    if end != _line(path, size - _SIZE, advance) * _COPIES:
        raise ProgramError(
            f"{path} is damaged: its checksum is another one than when it was dumped",
            hint="nothing was restored; take another copy of it, or make a new dump",
        )


def _line(path: Path, size: int, advance: Callable[[int], None]) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(_BLOCK, size))):
            digest.update(block)
            advance(len(block))
            size -= len(block)
    return _MARK + digest.hexdigest().encode()
