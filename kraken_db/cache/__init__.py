"""Copies of candles on this machine, for reads that come again: see ``candles.CandleCache``."""

from kraken_db.cache.candles import CandleCache
from kraken_db.cache.folder import BlockFolder, Cache, PairUsage, cache_folder

__all__ = ["BlockFolder", "Cache", "CandleCache", "PairUsage", "cache_folder"]
