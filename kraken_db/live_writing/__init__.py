"""What ``DatabaseWriter`` is made of.

In the order of the data: ``records`` checks and copies what comes in, ``buffers`` keep it in memory,
``channel`` decides when and in which order it is stored, ``journal`` (of ``segments`` of ``frames``) holds
what memory must not, ``trade_storing`` and ``candle_storing`` are what one transaction does, ``chains`` what
ids prove.
"""
