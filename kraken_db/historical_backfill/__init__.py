"""Every trade of a pair since its first one, from Kraken's REST."""

from kraken_db.historical_backfill.backfill import KrakenTradesBackfill
from kraken_db.historical_backfill.download import BackfillReport
from kraken_db.id_runs import IdHole

__all__ = ["BackfillReport", "IdHole", "KrakenTradesBackfill"]
