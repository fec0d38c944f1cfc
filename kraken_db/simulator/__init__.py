"""A Kraken of our own: a deterministic market, served in the shapes of Kraken's public interface.

exchange = SimulatedExchange([Market("BTC/USD", seed=1, trades=20_000)])
async with exchange.serve() as base_url:
    ...  # KRAKEN_BASE_URL=base_url, KRAKEN_WS_URL=feed_url(base_url)
"""

from kraken_db.simulator.archive_faults import PASSING_ARCHIVE_FAULTS, ArchiveFault, ArchiveFaults
from kraken_db.simulator.archive_rows import ARCHIVE_INTERVALS, TradeLayout
from kraken_db.simulator.archive_server import ArchiveRequest, ArchiveServer
from kraken_db.simulator.archives import Archive, Packing, Product, Quarter, Written, write_archive
from kraken_db.simulator.clock import Clock, FastClock, ManualClock
from kraken_db.simulator.exchange import Request, SimulatedExchange, archive_url, feed_url
from kraken_db.simulator.faults import ODD_PAGES, PERMANENT, TRANSIENT, Fault, Faults, FeedFaults, RateLimit
from kraken_db.simulator.listing import LISTED, ListedPair, asset_pairs
from kraken_db.simulator.market import DEFAULT_START, Market
from kraken_db.simulator.tape import Scenario, Surge
from kraken_db.simulator.truth import TradeText, TrueCandle, TrueTrade

__all__ = [
    "ARCHIVE_INTERVALS",
    "DEFAULT_START",
    "LISTED",
    "ODD_PAGES",
    "PASSING_ARCHIVE_FAULTS",
    "PERMANENT",
    "TRANSIENT",
    "Archive",
    "ArchiveFault",
    "ArchiveFaults",
    "ArchiveRequest",
    "ArchiveServer",
    "Clock",
    "FastClock",
    "Fault",
    "Faults",
    "FeedFaults",
    "ListedPair",
    "ManualClock",
    "Market",
    "Packing",
    "Product",
    "Quarter",
    "RateLimit",
    "Request",
    "Scenario",
    "SimulatedExchange",
    "Surge",
    "TradeLayout",
    "TradeText",
    "TrueCandle",
    "TrueTrade",
    "Written",
    "archive_url",
    "asset_pairs",
    "feed_url",
    "write_archive",
]
