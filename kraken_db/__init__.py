"""The history of Kraken in your own PostgreSQL (under construction)."""
