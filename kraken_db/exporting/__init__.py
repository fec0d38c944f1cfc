"""Stored history as files: Parquet data sets, Delta tables, Kraken's own CSV, feather files for freqtrade."""

from kraken_db.exporting.exporter import Exporter, ExportReport, FileReport
from kraken_db.exporting.manifest import Format, What
from kraken_db.exporting.places import PlaceFailedError
from kraken_db.exporting.scanning import files, scan

__all__ = ["ExportReport", "Exporter", "FileReport", "Format", "PlaceFailedError", "What", "files", "scan"]
