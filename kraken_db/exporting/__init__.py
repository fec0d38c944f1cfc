"""Stored history as files: Parquet data sets, Kraken's own CSV, feather files for freqtrade."""

from kraken_db.exporting.exporter import Exporter
from kraken_db.exporting.layout import Format, What
from kraken_db.exporting.report import ExportReport, FileReport

__all__ = ["ExportReport", "Exporter", "FileReport", "Format", "What"]
