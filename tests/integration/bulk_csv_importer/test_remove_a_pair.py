"""The SQL of docs/importing.md that removes a pair: nothing of it is left, and nothing else has changed."""

from __future__ import annotations

import re
from pathlib import Path

from kraken_db import HistoricalDataProvider
from kraken_db.data_types import DataType
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.models import Base
from tests.support.archives import checksums, import_file, minutes, query, write

PAGE = Path(__file__).parents[3] / "docs" / "importing.md"


def statements(pair: str) -> list[str]:
    _, _, rest = PAGE.read_text().partition("## Remove a pair")
    found = re.findall(r"^DELETE FROM .*;$", rest.partition("\n## ")[0], re.MULTILINE)
    return [line.replace(":'pair'", f"'{pair}'") for line in found]


async def test_nothing_of_the_pair_is_left(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(3000)))
    before = await checksums(plain_url)
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(3000)))
    for statement in statements("ETH/USD"):
        await query(plain_url, statement)
    with_symbols = [table.name for table in Base.metadata.sorted_tables if "symbol" in table.columns]
    with_symbols.remove("candle_versions")  # by these a cache learns that the candles are gone
    for relation in {*with_symbols, *INTERVAL_VIEWS.values()}:
        assert await query(plain_url, f"SELECT 1 FROM {relation} WHERE symbol = 'ETH/USD'") == [], relation
    assert await checksums(plain_url) == before
    # It can be stored again, as if it had never been there.
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(10)))
    async with HistoricalDataProvider(plain_url) as provider:
        assert await provider.get_symbols() == ["BTC/USD", "ETH/USD"]
        assert len(await provider.get_candles("ETH/USD", "1m")) == 10
    counted = "SELECT total_records FROM data_sync_status WHERE symbol = 'ETH/USD' AND data_type = :kind"
    assert [row[0] for row in await query(plain_url, counted, kind=DataType.CANDLES_1M.value)] == [10]
