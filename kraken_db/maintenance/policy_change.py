"""Changing the policies: all of a change or none of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypedDict

from kraken_db.policies import TableName, TablePolicy, check_policy
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store


class Periods(TypedDict, total=False):
    """What to change of a table's policies; what is not named stays. None means never."""

    retention: timedelta | None
    compression: timedelta | None


@dataclass(frozen=True, slots=True)
class PolicyChange:
    old: TablePolicy
    new: TablePolicy
    drops_before: datetime | None = None
    """Where rows are kept shorter than until now: from before this moment (UTC) they are dropped soon."""
    oldest: datetime | None = None
    """The oldest row that was ever stored."""


async def change_policies(store: Store, changes: Mapping[TableName, Periods]) -> list[PolicyChange]:
    """Change what is named, in one transaction. Raises ConfigurationError, and then nothing has changed."""
    done: list[PolicyChange] = []
    async with store.database.begin() as connection:
        records = await SyncStatusRepository(connection).all()
        for old in await store.timeseries.policies(connection):
            if not changes.get(old.table):
                continue
            new = replace(old, **changes[old.table])
            check_policy(new)
            await store.timeseries.set_policy(connection, new)
            stored = [item.oldest for item in records if item.data_type.startswith(old.table) and item.oldest]
            done.append(
                PolicyChange(old, new, _drops_before(old, new, store.clock()), min(stored, default=None))
            )
    return done


def _drops_before(old: TablePolicy, new: TablePolicy, now: datetime) -> datetime | None:
    if new.retention is None or (old.retention is not None and old.retention <= new.retention):
        return None
    return now - new.retention
