"""DatabaseWriter: live trades and candles into the store, without ever making the caller wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias

from kraken_db.data_types import DataType
from kraken_db.database_writer.channel import Counts
from kraken_db.database_writer.flushing import OnHole
from kraken_db.database_writer.pipeline import DEFAULT_JOURNAL_BYTES, Pipeline, WriterOptions
from kraken_db.db.engine import PoolUse
from kraken_db.durations import Durations
from kraken_db.errors import ConfigurationError, NotConnectedError, first_line
from kraken_db.id_runs import IdHole
from kraken_db.ingest.live import QueuedTrade, StoredTrades
from kraken_db.ingest.rules import check_candle, check_trade, shown
from kraken_db.ingest.write_unit import note_synced
from kraken_db.pairs import parse_symbol
from kraken_db.settings import expanded
from kraken_db.times import FIRST_MOMENT, Clock, require_aware, utc_now
from kraken_db.tolerances import CLOCK_SKEW
from kraken_db.types import CandleRecord, TradeRecord


def statistics(pipeline: Pipeline) -> dict[str, Any]:
    """The keys of ``DatabaseWriter.get_stats``."""
    trades, candles = pipeline.trades, pipeline.candles
    return _statistics(trades.counts, candles.counts) | {
        "trade_buffer_size": trades.in_memory,
        "candle_buffer_size": candles.in_memory,
        "conflict_count": pipeline.flusher.conflicts,
        "journal_records": trades.in_journal + candles.in_journal,
        "journal_bytes": trades.journal_size + candles.journal_size,
        "last_error": trades.last_error or candles.last_error,
        "rejections": [*trades.rejections, *candles.rejections],
    }


def no_statistics() -> dict[str, Any]:
    """Those of a writer that was never started."""
    nothing = dict.fromkeys(
        ("trade_buffer_size", "candle_buffer_size", "conflict_count", "journal_records", "journal_bytes"), 0
    )
    return _statistics(Counts(), Counts()) | nothing | {"last_error": None, "rejections": []}


def _statistics(trades: Counts, candles: Counts) -> dict[str, Any]:
    both = {
        field.name: getattr(trades, field.name) + getattr(candles, field.name) for field in fields(Counts)
    }
    return {
        "trades_written": trades.written,
        "candles_written": candles.written,
        "flush_count": both["flushes"],
        "error_count": both["errors"],
        "overflow_count": both["overflowed"],
        "known_count": both["known"],
        "rejected_count": both["rejected"],
        "dropped_count": both["dropped"],
        "recovered_count": both["recovered"],
    }


JournalMode: TypeAlias = Literal["overflow", "always"]
"""``overflow``: the journal takes what memory must not; ``always``: every record, before memory has it."""

_CANDLE_FLUSH_SIZE = 100
# How many records a caller that never waits may hand over before the other tasks get a turn.
_A_TURN = 128


Taken: TypeAlias = Literal["taken", "rejected", "dropped"]
"""``rejected``: it cannot be stored. ``dropped``: there was no room for it."""


class DatabaseWriter:
    """Takes trades and candles at any rate, and writes them in groups; each is stored exactly once.

    ``write_trade`` and ``write_candle`` only put a record into memory. It is written when
    ``trade_buffer_size`` trades wait, after ``trade_flush_interval`` (``candle_flush_interval``) seconds, by
    ``flush`` and by ``stop``. While the database is slow or away, ``MAX_TRADE_BUFFER_SIZE`` trades and
    ``MAX_CANDLE_BUFFER_SIZE`` candles wait in memory. What comes beyond that goes to a journal on disk, and
    from there into the database, in order, if need be by another process.

    ``journal``: with ``"always"`` every record is in the journal before memory has it. ``journal_dir``: where
    the journals are, by default in the user's state directory; nobody else may read them.
    ``journal_max_bytes``: what they may take; beyond it records are dropped, which is counted and
    logged. ``journal_sync``: seconds until the journal has reached the disk; 0 waits for it at each record,
    None leaves it to the system. ``on_hole``: called with a symbol and the ids that are missing next to
    trades that have just been stored. ``stop_timeout``: the seconds that ``stop`` waits for the database.
    ``successor``: what writes the rest of the journal, as the warning of ``stop`` calls it.

    Use it as an asynchronous context manager, or call ``start()`` and ``stop()``; everything else raises
    NotConnectedError (a RuntimeError) before and after that. Call it from one event loop only.
    """

    MAX_TRADE_BUFFER_SIZE: ClassVar[int] = 10000
    MAX_CANDLE_BUFFER_SIZE: ClassVar[int] = 1000

    def __init__(
        self,
        db_url: str,
        trade_buffer_size: int = 100,
        trade_flush_interval: float = 5.0,
        candle_flush_interval: float = 1.0,
        pool_min_size: int = 2,
        pool_max_size: int = 10,
        *,
        journal: JournalMode = "overflow",
        journal_dir: Path | str | None = None,
        journal_max_bytes: int = DEFAULT_JOURNAL_BYTES,
        journal_sync: float | None = 1.0,
        on_hole: OnHole | None = None,
        stop_timeout: float = 10.0,
        successor: str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        _check("trade_buffer_size", trade_buffer_size, 1)
        _check("trade_flush_interval", trade_flush_interval, 0.001)
        _check("candle_flush_interval", candle_flush_interval, 0.001)
        _check("journal_max_bytes", journal_max_bytes, 0)
        _check("journal_sync", journal_sync or 0, 0)
        _check("stop_timeout", stop_timeout, 0)
        if journal not in ("overflow", "always"):
            raise ConfigurationError(f"journal={journal!r} is not known", hint="'overflow' or 'always'")
        self._options = WriterOptions(
            db_url=db_url,
            pool_min_size=pool_min_size,
            pool_max_size=pool_max_size,
            trade_limit=self.MAX_TRADE_BUFFER_SIZE,
            candle_limit=self.MAX_CANDLE_BUFFER_SIZE,
            trade_flush_size=min(trade_buffer_size, self.MAX_TRADE_BUFFER_SIZE),
            candle_flush_size=min(_CANDLE_FLUSH_SIZE, self.MAX_CANDLE_BUFFER_SIZE),
            trade_flush_interval=trade_flush_interval,
            candle_flush_interval=candle_flush_interval,
            is_write_ahead=journal == "always",
            journal_dir=None if journal_dir is None else expanded(journal_dir),
            journal_max_bytes=journal_max_bytes,
            journal_sync=journal_sync,
            on_hole=on_hole,
            stop_timeout=stop_timeout,
            successor=successor or "the next DatabaseWriter for this database",
            clock=clock,
        )
        self._pipeline: Pipeline | None = None
        self._last_statistics = no_statistics()
        self._turn = 0

    async def start(self) -> None:
        """Connect, and begin to write what an earlier process has left in the journal. May be called twice.

        Raises an error of ``kraken_db.errors`` if the database or the journal's directory cannot be used.
        """
        if self._pipeline is None:
            self._pipeline = await Pipeline.open(self._options)

    async def stop(self) -> None:
        """Write what waits, and close; what the database does not take stays in the journal, and it says so.

        May be called twice.
        """
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await pipeline.close()
            self._last_statistics = statistics(pipeline)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def write_trade(self, trade: TradeRecord, *, is_official: bool = False) -> None:
        """Take a trade; never waits for the database. What cannot be stored is counted and logged.

        ``is_official``: it comes from REST, whose time stamp replaces that of the live feed.
        """
        self.put_trade(trade, is_official=is_official)
        await self._give_others_a_turn()

    async def write_candle(self, candle: CandleRecord) -> None:
        """Take a candle, also one that still grows: of two versions the one with more trades is kept.

        Never waits for the database. One that cannot be stored is counted and logged; one without a
        trade is none, and left out.
        """
        self.put_candle(candle)
        await self._give_others_a_turn()

    def put_trade(self, trade: TradeRecord, *, is_official: bool = False) -> bool:
        """``write_trade`` for code that is not asynchronous; in the event loop's thread.

        Returns whether there was room for it: a trade that was dropped is missing between its neighbours.
        """
        return self.take_trade(trade, is_official=is_official) != "dropped"

    def take_trade(self, trade: TradeRecord, *, is_official: bool = False) -> Taken:
        """The same; returns what became of it."""
        runner = self._connected().trades
        try:
            checked = check_trade(trade, self._options.clock())
        except Exception as error:  # whatever it is, it harms only itself
            runner.reject(_rejection(trade, error))
            return "rejected"
        return "taken" if runner.put(_queued(checked, is_official)) else "dropped"

    def put_candle(self, candle: CandleRecord) -> None:
        """``write_candle`` for code that is not asynchronous; in the event loop's thread."""
        runner = self._connected().candles
        try:
            checked = check_candle(candle, self._options.clock())
        except Exception as error:  # whatever it is, it harms only itself
            runner.reject(_rejection(candle, error))
            return
        if checked.trade_count:
            runner.put(checked)

    async def flush(self) -> None:
        """Wait until everything that was taken so far is stored, also what was left by an earlier process.

        While the database is away that is until it is back: put it into ``asyncio.timeout``.
        """
        await self._connected().flush()

    async def update_sync_status(self, symbol: str, data_type: str, timestamp: datetime) -> None:
        """Say that ``'trades'`` or ``'candles_1m'`` of a symbol are stored up to ``timestamp``, as of now.

        Widens the range of ``data_sync_status`` and sets the time of the last sync; every flush does so by
        itself. Raises ConfigurationError for a naive time, one in the future or from before Kraken's history,
        and an unknown type; and a DatabaseError.
        """
        moment = require_aware(timestamp, "timestamp")
        if not FIRST_MOMENT <= moment <= self._options.clock() + CLOCK_SKEW:
            raise ConfigurationError(
                f"nothing is stored up to {moment.isoformat()}", hint="pass the time of a stored record"
            )
        await note_synced(self._connected().store, parse_symbol(symbol), DataType.parse(data_type), moment)

    def get_stats(self) -> dict[str, Any]:
        """What was done since ``start()``, and what waits; after ``stop()`` as it was then (docs/live.md)."""
        return statistics(self._pipeline) if self._pipeline else dict(self._last_statistics)

    @property
    def flush_durations(self) -> dict[str, Durations]:
        """How long the transactions took that have stored trades and candles; empty while it is stopped."""
        pipeline = self._pipeline
        if pipeline is None:
            return {}
        return {"trades": pipeline.trades.flush_durations, "candles": pipeline.candles.flush_durations}

    @property
    def pool(self) -> PoolUse | None:
        """Of its own connections; None while it is stopped."""
        return self._pipeline.store.database.pool if self._pipeline else None

    def stored_trades(self, symbol: str) -> StoredTrades | None:
        """Which ids of a symbol are committed, and which are missing; None before its first flush."""
        return self._connected().flusher.stored(parse_symbol(symbol))

    async def check_holes(self, symbol: str) -> Sequence[IdHole]:
        """Look whether missing trades have been stored by others meanwhile; returns the holes that are left.

        What has been filled counts as complete from then on. Raises a DatabaseError.
        """
        return await self._connected().flusher.check_holes(parse_symbol(symbol))

    async def build_candles(self, symbol: str, start: datetime, end: datetime) -> None:
        """Build the whole minutes of ``[start, end)`` that have ended from the stored trades.

        They count as complete where the trades do. A minute that our clock took for ended grows with its
        trades. The higher intervals follow within a minute. Raises ConfigurationError for naive times, and a
        DatabaseError.
        """
        require_aware(start, "start")
        require_aware(end, "end")
        await self._connected().flusher.build_candles(parse_symbol(symbol), start, end)

    @property
    def outage(self) -> tuple[datetime, str] | None:
        """Since when the database takes nothing, UTC, and why; None while it does."""
        runners = (self._pipeline.trades, self._pipeline.candles) if self._pipeline else ()
        failing = [
            (one.failing_since, one.last_error or "") for one in runners if one.failing_since is not None
        ]
        return min(failing, default=None)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it belongs to; None while it is not running."""
        return self._pipeline.loop if self._pipeline else None

    async def _give_others_a_turn(self) -> None:
        self._turn = (self._turn + 1) % _A_TURN
        if not self._turn:
            await asyncio.sleep(0)

    def _connected(self) -> Pipeline:
        if self._pipeline is None:
            raise NotConnectedError("the DatabaseWriter is not running", hint="call start() first")
        return self._pipeline


def _check(name: str, value: float, least: float) -> None:
    if not isinstance(value, int | float) or not value >= least:
        raise ConfigurationError(f"{name} is {value!r}: it is a number from {least} on")


def _rejection(record: object, error: Exception) -> str:
    """The record, field by field as far as each can be shown, and what is wrong with it."""
    names = [field.name for field in fields(record)] if is_dataclass(record) else []
    values = ", ".join(f"{name}={shown(getattr(record, name))}" for name in names)
    what = f"{type(record).__name__}({values})" if names else shown(record)
    return f"{what[:200]}: {first_line(error)[:200]}"


def _queued(trade: TradeRecord, is_official: bool) -> QueuedTrade:
    return QueuedTrade(
        trade.symbol,
        trade.timestamp,
        trade.price,
        trade.volume,
        trade.side,
        trade.trade_id,
        trade.order_type,
        trade.misc,
        is_official,
    )
