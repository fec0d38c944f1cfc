"""What is stored, and whether anything is wrong with it: from counters and catalogs, never from the rows."""

from kraken_db.status.checking import DEFAULT_MAX_LAG, problems
from kraken_db.status.model import DataStatus, Month, MonthState, StoreStatus
from kraken_db.status.reading import read_status

__all__ = [
    "DEFAULT_MAX_LAG",
    "DataStatus",
    "Month",
    "MonthState",
    "StoreStatus",
    "problems",
    "read_status",
]
