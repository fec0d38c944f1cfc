"""DatabaseWriter, and what it is made of.

In the order of the data: ``records`` checks and copies what comes in, ``channel`` keeps it in memory and in
the ``journal`` and decides when it is stored, ``flushing`` is one transaction.
"""

from kraken_db.database_writer.writer import DatabaseWriter

__all__ = ["DatabaseWriter"]
