"""The way in: whatever brings rows hands batches to this package, and to nothing else.

    rules.py       what may be stored
    write_unit.py  one transaction, and everything that a write owes
    trades.py      one batch of trades, by the policy of its source
    candles.py     one batch of candles, from rows or from the stored trades
    pages.py       pages of REST, in their order: the resume point of a download
    live.py        what a feed brings, of many symbols at once, and what its ids prove
    official.py    minutes that become what Kraken's own record says
    missing.py     candles of trades that are stored already
    delisting.py   the end of a pair

Inside of ``Ingest.write`` (or ``Ingest.transaction``) a source stages its rows (``trades.stage_trades``,
``candles.stage_records``, or rows of files as they come), stores them, and says what it has shown to be
complete (``WriteUnit.mark_complete``). The locks, the wait of retention, the counters, the ranges and what is
stale are the transaction's: no source can forget them.
"""

from kraken_db.ingest.write_unit import Ingest, WriteTransaction, WriteUnit

__all__ = ["Ingest", "WriteTransaction", "WriteUnit"]
