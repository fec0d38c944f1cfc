"""Trades of many symbols in one transaction: all are stored, by few statements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, event

from kraken_db.repositories.staged_trades import StagedTrades
from kraken_db.repositories.trade_merge import Window
from kraken_db.types import TradeRecord
from tests.support.archives import query
from tests.support.stores import opened_database

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def trades_of(symbol: str, first_id: int) -> list[TradeRecord]:
    return [
        TradeRecord(symbol, AT + n * SECOND, Decimal(1), Decimal(2), "buy", first_id + n) for n in range(2)
    ]


async def test_each_number_of_symbols_is_no_statement_of_its_own(plain_url: str) -> None:
    """A recording of all pairs writes those that have traded, another number every second. A text for each
    of these took 200 MB of statements within some minutes."""
    texts: set[str] = set()

    def listen(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO trades " in statement:
            texts.add(statement)

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        stored = 0
        async with opened_database(plain_url) as database:
            for number in (1, 2, 3, 5, 7, 9, 20, 33, 63, 64, 65, 100, 129, 200):
                async with database.begin() as connection:
                    staged = StagedTrades(connection)
                    batch = {f"C{n}/USD": trades_of(f"C{n}/USD", 1 + 10 * number) for n in range(number)}
                    await staged.copy_records(batch)
                    windows = [
                        Window(symbol, AT - SECOND, AT + 9 * SECOND, own[0].trade_id or 0)
                        for symbol, own in batch.items()
                    ]
                    written = await staged.insert_each(windows)
                assert written == dict.fromkeys(batch, 2)
                stored += 2 * number
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert await query(plain_url, "SELECT count(*) FROM trades") == [(stored,)]
    assert len(texts) <= 7, "1, 2, 4, .., 64 symbols"
