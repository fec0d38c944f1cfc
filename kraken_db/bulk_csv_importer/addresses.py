"""Archives on a web server, by an address that somebody gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeGuard
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from kraken_db.archives.byte_source import ByteSource
from kraken_db.archives.catalog import (
    CONNECTIONS,
    Product,
    PublishedArchive,
    covered_by_name,
    find_archives,
    open_archive,
)
from kraken_db.archives.parts import check_sizes, split_name
from kraken_db.archives.sources import HttpSource, PartedSource
from kraken_db.archives.web import VARIABLE, look, shown
from kraken_db.errors import ImportFileError, WrongValueError
from kraken_db.kraken.transport import open_session
from kraken_db.times import Clock

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_MOST_PARTS = 200
_CHECK = "check the address"


class RemoteArchive(NamedTuple):
    """``covers``: what its name says that it has."""

    source: ByteSource
    covers: tuple[datetime | None, datetime | None]


def is_address(place: Path | str) -> TypeGuard[str]:
    """Whether it is an http(s) address and not a path."""
    return isinstance(place, str) and _ADDRESS.match(place) is not None


def of_whole(address: str) -> str:
    """The address of the archive that a part belongs to; of anything else the same."""
    try:
        part = split_name(_file_name(address))
        return _renamed(address, part[0]) if part else address
    except ValueError:  # it is none
        return address


async def archives_at(address: str, product: Product | None, clock: Clock) -> list[RemoteArchive]:
    """The zip at an address, by its own or by that of a part; else Kraken's archives below it.

    ``product``: which of them, where there are both. Raises ImportFileError, one line without credentials,
    where nothing is there, or a set of parts is not whole; ConfigurationError for an address that is none,
    or where ``product`` has to be said.
    """
    try:
        if not urlsplit(address).hostname:
            raise WrongValueError(f"{shown(address)} is no address of a server", hint=_CHECK)
    except ValueError as error:
        raise WrongValueError("an address is not one", hint=_CHECK) from error
    whole = of_whole(address)
    name = _file_name(whole)
    try:
        if name.lower().endswith(".zip"):
            return [RemoteArchive(await _open_zip(address, whole), covered_by_name(name))]
        if name.lower().endswith(".csv"):
            reason = "of a server only zips are read, whole or in parts"
            raise ImportFileError(shown(address), reason, hint="download the file, and name it")
        found = await find_archives(address, clock=clock, product=product)
    except ImportFileError as error:
        if error.hint is None or VARIABLE not in error.hint:
            raise
        raise ImportFileError(error.path, error.reason, hint=_CHECK) from error
    return [RemoteArchive(open_archive(one), one.covers) for one in _of_one_product(address, found)]


def _of_one_product(address: str, found: Sequence[PublishedArchive]) -> Sequence[PublishedArchive]:
    if len({archive.product for archive in found}) > 1:
        raise WrongValueError(
            f"{shown(address)} has trades and candles",
            hint="say which: --product trades, which bring their candles, or --product ohlcvt",
        )
    return found


async def _open_zip(address: str, whole: str) -> ByteSource:
    """A zip by its address, or its parts as one: where only these are there, or one of them was named."""
    wanted = split_name(_file_name(address))
    async with open_session() as session:
        found = await look(session, whole)
        if found.size is not None and wanted is None:
            return HttpSource(whole, found.size, connections=CONNECTIONS)
        parts: list[tuple[str, int]] = []
        reason = found.reason
        while len(parts) < _MOST_PARTS:
            part = _renamed(whole, f"{_file_name(whole)}.part{len(parts):02}")
            seen = await look(session, part)
            if seen.size is None:
                reason = seen.reason if wanted else reason
                break
            parts.append((part, seen.size))
    if not parts and wanted is None:
        raise ImportFileError(shown(whole), reason, hint=_CHECK)
    if wanted is not None and len(parts) <= wanted[1]:
        raise ImportFileError(shown(part), f"this part is missing: {reason}", hint=_CHECK)
    check_sizes([(shown(part), size) for part, size in parts])
    sources = [HttpSource(part, size, connections=CONNECTIONS) for part, size in parts]
    return (
        sources[0] if len(sources) == 1 else PartedSource(sources, f"{shown(whole)} ({len(sources)} parts)")
    )


def _file_name(address: str) -> str:
    return unquote(PurePosixPath(urlsplit(address).path).name)


def _renamed(address: str, name: str) -> str:
    """The address of another file beside it."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/" + quote(name)))
