"""A journal of which anybody has made something: what is right of it is stored, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from kraken_db.database_writer.journal import frame
from kraken_db.errors import ConfigurationError
from kraken_db.ingest.live import QueuedTrade
from tests.support.archives import query
from tests.support.live_writing import BTC, ids, trade, write, writing

AHEAD = datetime.now(UTC) + timedelta(days=30)
FIELDS: dict[int, list[Any]] = {
    0: [None, 5, "", "BTC", "btc/usd", "XBT/USD", "BTC/USD/EUR", "A" * 30, "\x00/USD", ["BTC/USD"], "../x/y"],
    1: [None, 0, "x", "2024-01-01", datetime(2024, 1, 1), AHEAD, datetime(9998, 1, 1, tzinfo=UTC),  # noqa: DTZ001
        datetime(1, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00"],
    2: [None, "", "x", "NaN", "Infinity", "-1", "0", "1e99", "1e-99", "1e10", [], "9" * 5_000, True],
    3: [None, "", "x", "NaN", "-Infinity", "-1", "0", "1e99", "1e-99", "1e28", [], "9" * 5_000, False],
    4: [None, 0, "hold", "BUY", "b", "x" * 1_000, []],
    5: ["7", -1, 2**63, 2**62 + 1, -(2**63), 7.5, [], True],
    6: [5, "x y", "M", "market\x00", "x" * 100, [], "a,b"],
    7: [5, "x" * 51, "\x00", "a,b", '"', "\x1b[31m", [], "é"],
    8: [None, 0, "x", []],
}  # fmt: skip


def payload(number: int) -> bytes:
    one = trade(number)
    row = QueuedTrade(
        BTC, one.timestamp, Decimal(one.price), Decimal(one.volume), "buy", number, "limit", None, False
    )
    return msgspec.msgpack.encode(row)


def spoilt(number: int) -> Iterator[bytes]:
    """Records that have a right checksum, and one field that cannot be."""
    right = msgspec.msgpack.decode(payload(number))
    for place, values in FIELDS.items():
        for value in values:
            yield msgspec.msgpack.encode([*right[:place], value, *right[place + 1 :]])
    yield from (
        b"",
        b"\xc1",
        b"\x90",
        b"\x91" * 9_000,
        b"\x9f" + b"\x91" * 50_000,
        msgspec.msgpack.encode({}),
    )


def broken(good: bytes) -> Iterator[bytes]:
    """Segments of which something is missing, doubled, turned or foreign, seeded."""
    chance = random.Random(14)
    yield from (
        b"\x00" * 5_000,
        b"\xa7\x4b" * 3_000,
        b"\xff" * 70_000,
        b"PK\x03\x04" + good,
        good * 2,
        good[::-1],
    )
    for _ in range(40):
        at = chance.randrange(len(good))
        yield good[:at]
        yield good[at:]
        yield good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :]


def segment(folder: Path, stream: int, content: bytes, *, first: int = 1) -> Path:
    name = f"trades-{UUID(int=stream).hex}"
    (folder / f"{name}.lock").touch(mode=0o600)
    path = folder / f"{name}-{first:020}.journal"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


async def journal_folder(url: str, tmp_path: Path) -> Path:
    async with writing(url, tmp_path):
        pass
    (folder,) = [path for path in (tmp_path / "journal").iterdir() if path.is_dir()]
    return folder


async def test_every_segment_harms_only_itself(plain_url: str, tmp_path: Path) -> None:
    folder = await journal_folder(plain_url, tmp_path)
    good = b"".join(frame(at, payload(at)) for at in range(1, 21))
    tried = 0
    for tried, content in enumerate(spoilt(500), start=1):
        segment(folder, tried, frame(1, content)[:65_536])
    for content in broken(good):
        tried += 1
        segment(folder, tried, content)
    segment(folder, tried + 1, b"", first=1).unlink()
    (folder / f"trades-{UUID(int=tried + 1).hex}-{1:020}.journal").symlink_to("/etc/passwd")
    segment(folder, tried + 2, b"").unlink()
    (folder / f"trades-{UUID(int=tried + 2).hex}-{1:020}.journal").mkdir()
    for name in (
        "trades-x.lock",
        "trades-.lock",
        f"trades-{'f' * 32}.lock",
        "notes.txt",
        "candles-5.journal",
    ):
        (folder / name).write_text("mine")
    segment(folder, tried + 3, frame(2**64 - 1, payload(21)) + frame(0, payload(22)))
    assert tried > 200
    async with writing(plain_url, tmp_path) as writer:
        await writer.write_trade(trade(30))
        await writer.flush()
        stats = writer.get_stats()
    found = await ids(plain_url)
    assert set(range(1, 21)) | {30} <= set(found) <= set(range(1, 23)) | {30}
    assert len(found) == len(set(found))
    rows = await query(plain_url, "SELECT DISTINCT symbol FROM trades")
    assert rows == [(BTC,)]
    known = {number: trade(number).timestamp for number in found}
    stamps = await query(plain_url, "SELECT id, timestamp FROM trades")
    assert dict(stamps) == known
    assert stats["rejected_count"] >= 70
    newest = await query(plain_url, "SELECT max(newest_timestamp) FROM data_sync_status")
    assert newest == [(known[30],)]
    assert (folder / "notes.txt").read_text() == "mine"
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, [trade(31)])
    assert 31 in await ids(plain_url)


@pytest.mark.parametrize("year", [2001, 2099, 9998])
async def test_nothing_is_stored_up_to_a_time_that_cannot_be(
    plain_url: str, tmp_path: Path, year: int
) -> None:
    moment = datetime(year, 1, 1, tzinfo=UTC)
    async with writing(plain_url, tmp_path) as writer:
        with pytest.raises(ConfigurationError, match="nothing is stored up to"):
            await writer.update_sync_status(BTC, "trades", moment)
        await write(writer, [replace(trade(1), side="sell")])
    assert await query(
        plain_url, "SELECT newest_timestamp FROM data_sync_status WHERE data_type = 'trades'"
    ) == [(trade(1).timestamp,)]
