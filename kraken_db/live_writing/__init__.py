"""What ``DatabaseWriter`` is made of.

In the order of the data: ``records`` checks and copies what comes in, ``channel`` keeps it in ``buffers`` and
in the ``journal`` (of ``segments`` of ``frames`` in a ``folder``), ``runner`` decides when it is stored,
``flushing`` is one transaction, ``trade_storing`` and ``candle_storing`` are what it does, ``chains`` what
ids prove.
"""
