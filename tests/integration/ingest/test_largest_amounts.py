"""The largest amounts that may be stored: no sum of them overflows, on any kind of database."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from kraken_db.historical_provider import HistoricalDataProvider
from tests.support.archives import START, at, import_file, minutes, write

LARGEST_MINUTE = "199999999999999999999999.9999999999"
DAY = 86_400


async def test_a_month_of_the_largest_minutes(db_url: str, tmp_path: Path) -> None:
    """January 2023; its first Monday is the 2nd."""
    lines = minutes(31 * 24 * 60, row=f"1,1,1,1,{LARGEST_MINUTE},200000")
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", lines))
    async with HistoricalDataProvider(db_url) as provider:
        weeks = await provider.get_candles("BTC/USD", "1w", at(START + DAY), at(START + DAY + 4 * 7 * DAY))
        months = await provider.get_candles("BTC/USD", "1M", at(START), at(START + 31 * DAY))
    # 10,080 and 44,640 times the minute, by hand: Python's product of Decimals has 28 digits only.
    assert [candle.volume for candle in weeks] == [Decimal("2015999999999999999999999999.9999989920")] * 4
    assert [candle.volume for candle in months] == [Decimal("8927999999999999999999999999.9999955360")]
    assert months[0].trade_count == 8_928_000_000
