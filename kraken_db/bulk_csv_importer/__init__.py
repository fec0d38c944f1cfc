"""BulkCSVImporter: Kraken's CSV archives into the store."""
