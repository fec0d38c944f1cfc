"""Upkeep of a store when somebody asks for it: candles from trades, refresh, retention, compression."""

from kraken_db.maintenance.report import MaintenanceReport, TableReport
from kraken_db.maintenance.service import Maintenance

__all__ = ["Maintenance", "MaintenanceReport", "TableReport"]
