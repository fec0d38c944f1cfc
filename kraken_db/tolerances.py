"""How much two reports of one thing may differ and still be the same: every tolerance, with its reason."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

STAMP_JITTER = timedelta(microseconds=5)
"""Stamps of one trade that are so near belong together: REST runs about 1 us above WebSocket (measured),
and both are cut to microseconds. Within it, the order of the times need not be that of the ids."""

STAMPS_APART = timedelta(milliseconds=1)
"""More than two sources of one trade ever differ by; what is further apart are two moments."""

SAME_TRADE = timedelta(seconds=1)
"""How far a stored trade is looked for around a new one with the same id: archives may have whole seconds."""

SETTLED = timedelta(seconds=5)
"""How old a moment must be before an answer without trades after it proves that there are none."""

CLOCK_SKEW = timedelta(seconds=5)
"""How far ahead of our clock a stamp of Kraken's may be: clocks differ, and a trade is stamped before it is
sent."""

CLOCK_IS_WRONG = timedelta(minutes=1)
"""From here on a warning says that this machine's clock is not Kraken's."""

VOLUME_NOISE = Decimal("1e-8")
"""Kraken's volumes have eight decimals: two that differ by less are the same (float noise of archives)."""

LAST_DIGIT = Decimal("1e-10")
"""The last digit of the store: a vwap that was rounded up to it is cut like the exact one."""
