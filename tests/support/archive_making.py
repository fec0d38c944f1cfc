"""A small set of simulated markets and their archives, for tests that read archives.

    made = archived_markets()
    written = made.write(tmp_path)
    async with made.exchange(tmp_path).serve() as base_url:
        ...  # KRAKEN_BASE_URL=base_url, KRAKEN_ARCHIVE_URL=archive_url(base_url)

The full archives reach to the end of ``FULL``, the next quarter has archives of its own, and what happens
between then and ``NOW`` REST alone has.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kraken_db.simulator import (
    Archive,
    ManualClock,
    Market,
    Packing,
    Product,
    Quarter,
    Scenario,
    SimulatedExchange,
    TrueTrade,
    Written,
    write_archive,
)
from kraken_db.simulator.faults import Faults

FULL, LATER = Quarter(2024, 1), Quarter(2024, 2)
NOW = datetime(2024, 7, 10, tzinfo=UTC)
_BEGIN = datetime(2024, 2, 1, 9, 30, tzinfo=UTC)

FULL_TRADES = Archive(product=Product.TRADES, quarter=FULL, is_full=True)
LATER_TRADES = Archive(product=Product.TRADES, quarter=LATER)
FULL_CANDLES = Archive(product=Product.CANDLES, quarter=FULL, is_full=True)
LATER_CANDLES = Archive(product=Product.CANDLES, quarter=LATER)
ARCHIVES = (FULL_TRADES, LATER_TRADES, FULL_CANDLES, LATER_CANDLES)


@dataclass(frozen=True)
class ArchivedMarkets:
    """``listed`` are in REST and in the archives, ``delisted`` in the archives alone."""

    listed: tuple[Market, ...]
    delisted: tuple[Market, ...]

    archived_until: datetime = LATER.end

    @property
    def all(self) -> tuple[Market, ...]:
        return self.listed + self.delisted

    def market(self, symbol: str) -> Market:
        return next(market for market in self.all if market.symbol == symbol)

    def write(
        self,
        folder: Path,
        archives: Iterable[Archive] = ARCHIVES,
        *,
        part_size: int = 40_000,
        **packing: Any,
    ) -> list[Written]:
        """Write these archives into the folder, which is made; the full ones in several parts."""
        folder.mkdir(parents=True, exist_ok=True)
        how = replace(Packing(part_size=part_size, level=1), **packing)
        return [write_archive(folder, archive, self.all, how) for archive in archives]

    def exchange(self, folder: Path | None = None, **options: Any) -> SimulatedExchange:
        """The exchange at ``NOW``; with a folder it serves the archives in it."""
        faults = replace(options.pop("faults", Faults()), unknown=[market.symbol for market in self.delisted])
        return SimulatedExchange(self.listed, faults, ManualClock(NOW), archives=folder, **options)

    def truth(self, symbol: str) -> list[TrueTrade]:
        """All trades until ``NOW``, with the ids that the archives give to those before ``LATER`` ends."""
        market = self.market(symbol)
        return list(market.truth_trades(NOW, archived_until=self.archived_until))


def archived_markets() -> ArchivedMarkets:
    """Some thousand trades each, the first one with id 1.

    BTC/USD has runs of equal stamps, ETH/USD trades whose id is 0 in REST alone, MATIC/USD is delisted and
    ends in May.
    """

    def market(symbol: str, until: datetime, scenario: Scenario) -> Market:
        pace = 0.02  # trades a minute
        return Market(
            symbol, seed="archives", start=_BEGIN, until=until, scenario=scenario, trades_per_minute=pace
        )

    later = datetime(2024, 8, 1, tzinfo=UTC)
    return ArchivedMarkets(
        (
            market("BTC/USD", later, Scenario.SAME_STAMPS),
            market("ETH/USD", later, Scenario.ZERO_IDS_COUNTED),
        ),
        (market("MATIC/USD", datetime(2024, 5, 10, tzinfo=UTC), Scenario.CALM),),
    )


@contextmanager
def opened(written: Written, joined: Path) -> Iterator[zipfile.ZipFile]:
    """The archive as Python's own reader has it, its parts joined in this file."""
    with joined.open("wb") as whole:
        for file in written.files:
            whole.write(file.path.read_bytes())
    with zipfile.ZipFile(joined) as archive:
        yield archive


def lines_of(archive: zipfile.ZipFile, name: str) -> list[str]:
    return archive.read(name).decode("ascii").splitlines()


def changed(path: Path, change: Callable[[bytearray], None]) -> None:
    """Let the function change the bytes of a file."""
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
