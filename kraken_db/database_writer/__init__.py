"""DatabaseWriter, and what it is made of.

In the order of the data: ``messages`` reads what a client hands over, ``writer`` has it checked and copied
(``ingest.rules``), ``channel`` keeps it in memory and in the ``journal`` and decides when it is stored,
``flushing`` is one transaction; ``pipeline`` puts it together.
"""

from kraken_db.database_writer.writer import DatabaseWriter

__all__ = ["DatabaseWriter"]
