"""Archives in Kraken's shapes, read from a folder and from the simulator's server."""

from __future__ import annotations

import asyncio
import io
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kraken_db.archives.catalog import PublishedArchive, find_archives, open_archive
from kraken_db.archives.sources import check_sums, find_sums
from kraken_db.retry import REQUEST
from kraken_db.simulator.archive_faults import PASSING_ARCHIVE_FAULTS, ArchiveFault, ArchiveFaults
from kraken_db.simulator.archive_server import ARCHIVE_PATH
from tests.support.archive_making import NOW, archived_markets
from tests.support.zips import contents

MADE = archived_markets()
QUICK = replace(REQUEST, attempts=10, sleep=lambda _seconds: asyncio.sleep(0))


def by_zipfile(folder: Path, archive: PublishedArchive) -> dict[str, bytes]:
    """What Python's reader finds in the joined parts."""
    names = sorted(path for path in folder.iterdir() if path.name.startswith(archive.name))
    with zipfile.ZipFile(io.BytesIO(b"".join(path.read_bytes() for path in names))) as joined:
        return {name: joined.read(name) for name in joined.namelist()}


async def test_a_folder(tmp_path: Path) -> None:
    MADE.write(tmp_path, part_size=10_000)
    archives = await find_archives(str(tmp_path), clock=lambda: NOW)
    assert [(a.product, a.quarter, a.is_full, a.covers[1]) for a in archives] == [
        ("trades", (2024, 1), True, datetime(2024, 4, 1, tzinfo=UTC)),
        ("trades", (2024, 2), False, datetime(2024, 7, 1, tzinfo=UTC)),
        ("ohlcvt", (2024, 1), True, datetime(2024, 4, 1, tzinfo=UTC)),
        ("ohlcvt", (2024, 2), False, datetime(2024, 7, 1, tzinfo=UTC)),
    ]
    for archive in archives:
        assert await contents(open_archive(archive)) == by_zipfile(tmp_path, archive)
    parts = [Path(part.place) for part in archives[0].parts]
    sums = find_sums(parts)
    assert sums is not None
    assert len(parts) > 10
    await check_sums(parts, sums)


@pytest.mark.parametrize("fault", [None, ArchiveFault.ENDLESS, *sorted(PASSING_ARCHIVE_FAULTS)])
async def test_a_server(fault: ArchiveFault | None, tmp_path: Path) -> None:
    MADE.write(tmp_path, part_size=10_000)
    faults = ArchiveFaults(
        rates={fault: 0.3} if fault else {}, files="*.part*", stall_seconds=0.2, wait_seconds=0
    )
    async with MADE.exchange(tmp_path, archive_faults=faults).serve() as url:
        archives = await find_archives(url + ARCHIVE_PATH, clock=lambda: NOW, product="trades", retry=QUICK)
        assert [archive.quarter for archive in archives] == [(2024, 1), (2024, 2)]
        for archive in archives:
            source = open_archive(archive, connections=2, retry=QUICK)
            assert await contents(source) == by_zipfile(tmp_path, archive)
            await source.close()
