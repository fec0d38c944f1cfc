"""The lock of a recording is looked after: only another recording ends it."""

from __future__ import annotations

import pytest

from kraken_db.db.locks import JobLock
from kraken_db.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    JobRunningError,
    ServerMemoryError,
    StorageFullError,
)
from kraken_db.recorder import recorder


async def test_a_database_in_trouble_does_not_end_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[DatabaseError] = [
        DatabaseUnavailableError("nobody answers"),
        StorageFullError("the disk of the database is full"),
        ServerMemoryError("no room for locks"),
        JobRunningError("another recording of BTC/USD is running"),
    ]

    async def hold(_lock: JobLock) -> None:
        raise troubles.pop(0)

    monkeypatch.setattr(recorder, "_LOCK_CHECK", 0.0)
    monkeypatch.setattr(JobLock, "hold", hold)
    with pytest.raises(JobRunningError, match="another recording"):
        await recorder._keep(JobLock.__new__(JobLock))
    assert troubles == []
