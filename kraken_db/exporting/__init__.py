"""Stored history as files: Parquet data sets, Kraken's own CSV, feather files for freqtrade."""

from kraken_db.exporting.exporter import Exporter, ExportReport, FileReport
from kraken_db.exporting.manifest import Format, What

__all__ = ["ExportReport", "Exporter", "FileReport", "Format", "What"]
