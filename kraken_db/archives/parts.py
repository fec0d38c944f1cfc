"""The parts of a large file, as Kraken publishes them: which there are, and whether they are what they were.

Parts are plain byte ranges, ``X.zip.part00``, ``X.zip.part01``, ..: all of one size but for the last, which
may be smaller. The number counts, not the order of the names as text: ``part9`` comes before ``part10``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from kraken_db.errors import ImportFileError

SUMS_SUFFIX = "_SHA256SUMS.txt"
"""What the name of a file with the sums of parts ends with."""
MAX_SUMS = 65536
"""Bytes of such a file; Kraken's have about 1,500."""

_PART = re.compile(r"(?P<base>.+)\.part(?P<number>\d{1,4})", re.IGNORECASE | re.ASCII | re.DOTALL)
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<name>[^/\\]+)", re.IGNORECASE)
_END_OF_ZIP = b"PK\x05\x06"
_LONGEST_END = 22 + 65535
_BLOCK = 4 << 20
_AGAIN = "download it again"


def check_file(path: Path) -> os.stat_result:
    """What the system knows of a file. Raises ImportFileError where there is none to be read.

    Devices and pipes are none: opening one may wait for ever.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise ImportFileError(path, "there is no such file") from error
    except (OSError, ValueError) as error:
        raise ImportFileError(path, system_reason(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise ImportFileError(path, "this is not a file")
    return found


def system_reason(error: OSError | ValueError) -> str:
    """Why the system does not let us read, in words."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def split_name(name: str) -> tuple[str, int] | None:
    """``("X.zip", 7)`` of ``X.zip.part07``; None where the name is not that of a part."""
    match = _PART.fullmatch(name)
    return (match["base"], int(match["number"])) if match else None


def find_parts(path: Path | str) -> list[Path]:
    """All parts of a file, in their order; empty where there are none.

    ``path``: the file that they make up (``X.zip``), or any of them.

    Raises ImportFileError for a set that is not whole: a part missing, also the last one, or of a wrong size.
    """
    path = Path(path)
    base = (split_name(path.name) or (path.name, 0))[0]
    try:
        names = [child.name for child in path.parent.iterdir()]
    except OSError as error:
        raise ImportFileError(path.parent, system_reason(error)) from error
    numbered = sorted((part[1], name) for name in names if (part := split_name(name)) and part[0] == base)
    if not numbered:
        return []
    found = [path.parent / name for _, name in numbered]
    check_numbers(path.parent / base, numbered)
    check_sizes([(str(part), check_file(part).st_size) for part in found])
    _check_end(found)
    return found


def check_numbers(base: Path | str, numbered: Sequence[tuple[int, str]]) -> None:
    """Whether the numbers of parts, in order, run from 0 on. Raises ImportFileError."""
    for expected, (number, name) in enumerate(numbered):
        if number < expected:
            reason = f"part {number:02} is there twice: {numbered[expected - 1][1]} and {name}"
            raise ImportFileError(base, reason, hint="take one of them away")
        if number > expected:
            raise ImportFileError(f"{base}.part{expected:02}", "this part is missing", hint="download it too")


def check_sizes(parts: Sequence[tuple[str, int]]) -> None:
    """Whether all parts (name, bytes) have one size, the last at most that. Raises ImportFileError."""
    sizes = [size for _, size in parts]
    whole = max(sizes[:-1], key=sizes[:-1].count) if len(sizes) > 2 else max(sizes)
    for (name, size), is_last in zip(parts, [False] * (len(parts) - 1) + [True], strict=True):
        if size != whole and not (is_last and 0 < size < whole):
            raise ImportFileError(
                name, f"this part has {size:,} bytes, the others {whole:,}: it is not whole", hint=_AGAIN
            )
        if not size:
            raise ImportFileError(name, "this part is empty", hint=_AGAIN)


def _check_end(parts: Sequence[Path]) -> None:
    """A zip ends with a mark of its own: where it is not there, the last parts are missing."""
    tail = b""
    for part in reversed(parts):
        try:
            with part.open("rb") as stream:
                stream.seek(max(0, part.stat().st_size - _LONGEST_END))
                tail = stream.read(_LONGEST_END) + tail
        except OSError as error:
            raise ImportFileError(part, system_reason(error)) from error
        if len(tail) >= _LONGEST_END:
            break
    if _END_OF_ZIP not in tail:
        base, number = split_name(parts[-1].name) or (parts[-1].name, 0)
        reason = f"the zip does not end in {parts[-1].name}: this part is missing, or that one is not whole"
        missing = parts[-1].with_name(f"{base}.part{number + 1:02}")
        raise ImportFileError(missing, reason, hint="download it too")


def parse_sums(text: str) -> dict[str, str]:
    """The sum of each file that a list names (``<sha256>  <file>`` a line); other lines are left out."""
    lines = (_SUM.fullmatch(line.strip()) for line in text.splitlines())
    return {line["name"]: line["sum"].lower() for line in lines if line}


def find_sums(parts: Sequence[Path]) -> str | None:
    """The text of the ``*_SHA256SUMS.txt`` beside the parts that names them; None where there is none."""
    folder = parts[0].parent
    try:
        for path in sorted(folder.iterdir()):
            if path.name.endswith(SUMS_SUFFIX) and check_file(path).st_size <= MAX_SUMS:
                text = path.read_text(encoding="utf-8", errors="replace")
                if not parse_sums(text).keys().isdisjoint(part.name for part in parts):
                    return text
    except OSError as error:
        raise ImportFileError(error.filename or folder, system_reason(error)) from error
    return None


async def check_sums(
    parts: Sequence[Path], sums_text: str, *, advance: Callable[[int], object] = lambda _size: None
) -> None:
    """Whether the parts are what the list of sums says. All of them are read; ``advance`` is told the bytes.

    Raises ImportFileError, which names the part: for a wrong sum, for a part that the list does not have, and
    for one that it has and that is not there.
    """
    sums = parse_sums(sums_text)
    names = {part.name for part in parts}
    bases = {base for name in names if (base := (split_name(name) or ("",))[0])}
    for part in parts:
        if part.name not in sums:
            raise ImportFileError(part, "the list of sums does not have this part", hint=_AGAIN)
    for name in sorted(sums.keys() - names):
        if (split_name(name) or ("",))[0] in bases:
            raise ImportFileError(parts[0].with_name(name), "this part is missing", hint="download it too")
    for part in parts:
        if await _sum_of(part, advance) != sums[part.name]:
            raise ImportFileError(part, "its content is not what its SHA-256 sum says", hint=_AGAIN)


async def _sum_of(part: Path, advance: Callable[[int], object]) -> str:
    found = hashlib.sha256()
    try:
        with await asyncio.to_thread(part.open, "rb", 0) as stream:
            while block := await asyncio.to_thread(stream.read, _BLOCK):
                await asyncio.to_thread(found.update, block)
                advance(len(block))
    except OSError as error:
        raise ImportFileError(part, system_reason(error)) from error
    return found.hexdigest()
