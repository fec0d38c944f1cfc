"""What is stored beside ``data_sync_status``, which counts what was ever stored and knows its edges."""

from __future__ import annotations

from datetime import timedelta

from kraken_db.data_types import DataType
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.store import Store
from kraken_db.verification.certificate import Finding, Part, moment, plural

COUNT, EDGE = "count differs", "edge differs"
_MAY_DIFFER = {"trade": timedelta(milliseconds=1), "candle": timedelta(minutes=1)}
"""More than by what two sources of one trade differ in its time; the official stamp may lie in the minute
before or behind that of a live one."""


async def compare_with_counters(
    store: Store,
    part: Part,
    data_type: DataType,
    before: SyncStatus | None,
    stored: int,
    extent: TimeRange | None,
    *,
    is_dropped: bool,
) -> None:
    """Add to ``part`` where the counters of one data type say something else than its rows.

    ``before``: the counters as they were when the rows were looked at. ``extent``: the times of the oldest
    and of the newest row, both inclusive. ``is_dropped``: some rows were dropped, by retention or by hand, so
    there may be fewer than were counted.
    """
    if before is None:
        return
    async with store.database.read() as connection:
        now = await SyncStatusRepository(connection).get(before.symbol, data_type)
    noun = "trade" if data_type == DataType.TRADES else "candle"
    if now is None or now.total_records != before.total_records:
        part.notes.append(f"{noun}s were written meanwhile: their counter was not compared")
        return
    total = before.total_records
    if is_dropped and stored <= total:
        return
    details = {"counted": total, "stored": stored}
    if total != stored:
        text = f"{plural(total, noun)} were counted when they were stored, {stored:,} are there"
        start = before.oldest or before.last_sync
        part.add(Finding(COUNT, text, start, (before.newest or start) + TICK, details))
    if is_dropped:
        return
    oldest, newest = extent or (None, None)
    edges = (("oldest", before.oldest, oldest, -1), ("newest", before.newest, newest, 1))
    for which, should, found, outwards in edges:
        # What is stored outside of them was not counted: that is for the count to say.
        if should is not None and (found is None or (should - found) * outwards > _MAY_DIFFER[noun]):
            there = "none is stored" if found is None else f"the stored one is of {moment(found)}"
            text = f"the {which} {noun} should be of {moment(should)}; {there}"
            first, last = min(should, found or should), max(should, found or should)
            part.add(Finding(EDGE, text, first, last + TICK, details, (first, last)))
