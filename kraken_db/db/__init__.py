"""Adapters of the database: addresses, pools, COPY, revisions, the embedded server."""
