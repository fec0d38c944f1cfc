"""All SQL of the application, on the caller's connection or session; nothing here ever commits.

Use them with a session of your own::

    async with AsyncSession(engine) as session, session.begin():
        trades = await TradeRepository(session).between("BTC/USD", start, end)
"""

from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.coverage import Coverage, CoverageRepository
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.repositories.trades import TradeRepository

__all__ = [
    "CandleRepository",
    "Coverage",
    "CoverageRepository",
    "SyncStatus",
    "SyncStatusRepository",
    "TradeRepository",
]
