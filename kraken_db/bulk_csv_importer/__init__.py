"""Kraken's CSV archives into the store."""

from kraken_db.bulk_csv_importer.importer import BulkCSVImporter
from kraken_db.bulk_csv_importer.report import (
    ArchiveFile,
    FileReport,
    ImportFailedError,
    ImportPlan,
    ImportReport,
    RefusedFile,
    SkippedFile,
)

__all__ = [
    "ArchiveFile",
    "BulkCSVImporter",
    "FileReport",
    "ImportFailedError",
    "ImportPlan",
    "ImportReport",
    "RefusedFile",
    "SkippedFile",
]
