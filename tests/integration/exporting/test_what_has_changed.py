"""An export asks the database for the months alone that have changed, whoever changed them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kraken_db.exporting import Exporter, ExportReport
from kraken_db.repositories.candles import CandleRepository
from tests.support.archives import NEW_YEAR, at, import_file, minutes, query, write

_MONTH = 31 * 86400


@pytest.fixture
async def stored(db_url: str, tmp_path: Path) -> str:
    text = "".join(minutes(5, start=NEW_YEAR + number * _MONTH) for number in range(6))
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", text))
    return db_url


async def test_one_day_of_six_months(stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[datetime] = []
    real = CandleRepository.checksum

    async def noted(
        self: CandleRepository, symbol: str, interval: Any, start: datetime, end: datetime
    ) -> Any:
        asked.append(start)
        return await real(self, symbol, interval, start, end)

    monkeypatch.setattr(CandleRepository, "checksum", noted)

    async def export() -> ExportReport:
        asked.clear()
        async with Exporter(stored) as exporter:
            return await exporter.export(["BTC/USD"], tmp_path / "out")

    assert [file.outcome for file in (await export()).files] == ["written"] * 6
    await export()
    assert asked == []
    changed = "UPDATE candles SET volume = 7 WHERE timestamp = :at"
    await query(stored, changed, at=at(NEW_YEAR + 2 * _MONTH))
    outcomes = [file.outcome for file in (await export()).files]
    assert outcomes == ["unchanged", "unchanged", "written", "unchanged", "unchanged", "unchanged"]
    assert asked == [datetime(2024, 3, 1, tzinfo=asked[0].tzinfo)]
    # A new minute in the last month: an import of a file that has all the others, too.
    await import_file(stored, write(tmp_path, "XBTUSD_1.csv", minutes(6, start=NEW_YEAR + 5 * _MONTH)))
    assert [file.outcome for file in (await export()).files] == ["unchanged"] * 5 + ["written"]
    # The refresh of the change before touched its own months once more.
    assert asked[-1] == datetime(2024, 6, 1, tzinfo=asked[0].tzinfo)
    assert not {1, 4, 5} & {moment.month for moment in asked}
