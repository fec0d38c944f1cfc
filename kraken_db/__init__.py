"""The whole history of Kraken's markets in your own PostgreSQL: the public API."""

TYPE_CHECKING = False  # typing's own, without loading it
if TYPE_CHECKING:
    from kraken_db.analysis import load, load_trades, symbols
    from kraken_db.bulk_csv_importer import BulkCSVImporter
    from kraken_db.database_writer.writer import DatabaseWriter
    from kraken_db.gap_filler import GapFiller, run_gap_filler
    from kraken_db.historical_backfill import KrakenTradesBackfill
    from kraken_db.historical_provider import HistoricalDataProvider
    from kraken_db.pairs import CSV_SYMBOL_MAP, DEFAULT_SYMBOLS, PAIR_MAP, REVERSE_PAIR_MAP
    from kraken_db.types import Candle, CandleRecord, DataGap, HistoricalCandle, HistoricalTrade, TradeRecord
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
    "load",
    "load_trades",
    "run_gap_filler",
    "symbols",
]

# Loaded when they are first asked for: the services bring the database drivers, and a command must be able to
# end at once while anything is loaded.
_MODULES = {
    "kraken_db.analysis": ("load", "load_trades", "symbols"),
    "kraken_db.bulk_csv_importer": ("BulkCSVImporter",),
    "kraken_db.database_writer.writer": ("DatabaseWriter",),
    "kraken_db.gap_filler": ("GapFiller", "run_gap_filler"),
    "kraken_db.historical_backfill": ("KrakenTradesBackfill",),
    "kraken_db.historical_provider": ("HistoricalDataProvider",),
    "kraken_db.pairs": ("CSV_SYMBOL_MAP", "DEFAULT_SYMBOLS", "PAIR_MAP", "REVERSE_PAIR_MAP"),
    "kraken_db.types": (
        "Candle",
        "CandleRecord",
        "DataGap",
        "HistoricalCandle",
        "HistoricalTrade",
        "TradeRecord",
    ),
    "kraken_db.websocket_integration": ("WebSocketDBIntegration", "integrate_db_writer"),
}
__version__: str
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("kraken-historical-data")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
