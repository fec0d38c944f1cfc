"""The whole history of Kraken's markets in your own PostgreSQL: the public API."""

from typing import TYPE_CHECKING, Any

from kraken_db.pairs import CSV_SYMBOL_MAP, DEFAULT_SYMBOLS, PAIR_MAP, REVERSE_PAIR_MAP
from kraken_db.types import Candle, CandleRecord, DataGap, HistoricalCandle, HistoricalTrade, TradeRecord

if TYPE_CHECKING:
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.database_writer.writer import DatabaseWriter
    from kraken_db.gap_filler import GapFiller, run_gap_filler
    from kraken_db.historical_backfill import KrakenTradesBackfill
    from kraken_db.historical_provider import HistoricalDataProvider
    from kraken_db.websocket_integration import WebSocketDBIntegration, integrate_db_writer

__all__ = [
    "CSV_SYMBOL_MAP",
    "DEFAULT_SYMBOLS",
    "PAIR_MAP",
    "REVERSE_PAIR_MAP",
    "BulkCSVImporter",
    "Candle",
    "CandleRecord",
    "DataGap",
    "DatabaseWriter",
    "GapFiller",
    "HistoricalCandle",
    "HistoricalDataProvider",
    "HistoricalTrade",
    "KrakenTradesBackfill",
    "TradeRecord",
    "WebSocketDBIntegration",
    "integrate_db_writer",
    "run_gap_filler",
]

# Loaded when they are first asked for: they bring the database drivers, ten times what all the rest takes.
_SERVICES = {
    "BulkCSVImporter": "kraken_db.bulk_csv_importer",
    "DatabaseWriter": "kraken_db.database_writer.writer",
    "GapFiller": "kraken_db.gap_filler",
    "HistoricalDataProvider": "kraken_db.historical_provider",
    "KrakenTradesBackfill": "kraken_db.historical_backfill",
    "WebSocketDBIntegration": "kraken_db.websocket_integration",
    "integrate_db_writer": "kraken_db.websocket_integration",
    "run_gap_filler": "kraken_db.gap_filler",
}


def __getattr__(name: str) -> Any:
    if name not in _SERVICES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(_SERVICES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
