"""How often Kraken was asked, what came of it, and how long it took: since a client was made."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kraken_db.durations import Durations
from kraken_db.errors import ExchangeLockoutError, ExchangeRequestError, ExchangeThrottledError

RequestOutcome: TypeAlias = Literal["answered", "throttled", "refused", "failed"]
"""``throttled``: Kraken wants fewer requests; ``refused``: it does not take this one; ``failed``: there was
no answer, or none that could be read. Each attempt counts."""


@dataclass(slots=True)
class RequestCounts:
    """``by_method``: of each method of REST (``Trades``, ``OHLC``, ...) and outcome; ``durations``: from the
    question to the answer, whatever that was, by method."""

    by_method: Counter[tuple[str, RequestOutcome]] = field(default_factory=Counter)
    durations: defaultdict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))

    @contextmanager
    def asking(self, method: str) -> Iterator[None]:
        """Around one attempt; what it raises goes on."""
        began = time.monotonic()
        outcome: RequestOutcome = "failed"
        try:
            yield
            outcome = "answered"
        except (ExchangeThrottledError, ExchangeLockoutError):
            outcome = "throttled"
            raise
        except ExchangeRequestError:
            outcome = "refused"
            raise
        finally:
            self.by_method[method, outcome] += 1
            self.durations[method].add(time.monotonic() - began)
