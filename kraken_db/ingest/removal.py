"""A symbol removed: no table has anything of it afterwards."""

from __future__ import annotations

from kraken_db.data_types import DataType
from kraken_db.ingest.write_unit import WriteTransaction, write_transaction
from kraken_db.repositories.removal import Removed, SymbolRows
from kraken_db.retry import CONFLICT
from kraken_db.store import Store


async def remove_symbol(store: Store, symbol: str) -> Removed:
    """Remove all rows of a symbol, in one transaction, and say how many went.

    Waits for writers of the symbol. What is deleted is no longer known: it is a gap, and not dropped.
    """

    async def attempt() -> Removed:
        async with write_transaction(store, [(symbol, data_type) for data_type in DataType]) as transaction:
            return await remove_rows(transaction, symbol)

    return await CONFLICT.run(attempt)


async def remove_rows(transaction: WriteTransaction, symbol: str) -> Removed:
    """The same within a transaction, which has the locks of all data types of the symbol."""
    async with transaction.backend.removing(transaction.connection, symbol):
        removed = await SymbolRows(transaction.connection, symbol).remove()
    await transaction.ledger.forget(symbol)
    return removed
