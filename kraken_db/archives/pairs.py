"""Which pairs Kraken's archives have trades of: only the directories of the archives travel."""

from __future__ import annotations

from pathlib import PurePosixPath

from kraken_db.archives.catalog import PublishedArchive, find_archives, open_archive
from kraken_db.archives.names import archive_symbols
from kraken_db.archives.zip_reading import read_directory
from kraken_db.times import Clock, utc_now


async def archived_pairs(place: str, clock: Clock = utc_now) -> frozenset[str]:
    """The symbols of the trade files at a place: an http(s) address, or a folder.

    Raises ImportFileError where no archive is there, or one cannot be read; ConfigurationError for an address
    that is none.
    """
    archives = await find_archives(place, clock=clock, product="trades")
    return frozenset().union(*[await _symbols(archive) for archive in archives])


async def _symbols(archive: PublishedArchive) -> frozenset[str]:
    source = open_archive(archive)
    try:
        members = await read_directory(source)
    finally:
        await source.close()
    names = [PurePosixPath(member.name) for member in members]
    found = archive_symbols(name.stem for name in names if name.suffix.lower() == ".csv")
    return frozenset(symbol for symbol in found.values() if isinstance(symbol, str))
