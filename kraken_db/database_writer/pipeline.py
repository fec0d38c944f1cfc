"""Everything that runs behind an open ``DatabaseWriter``: two channels, their journals, and the upkeep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec

from kraken_db.database_writer.channel import CandleBuffer, Channel, ChannelRunner, TradeBuffer
from kraken_db.database_writer.flushing import Flusher, OnHole
from kraken_db.database_writer.journal import Journal, Ownership, Space
from kraken_db.db.state_folder import fingerprint, make_private, state_folder
from kraken_db.errors import first_line
from kraken_db.ingest.live import QueuedTrade
from kraken_db.ingest.rules import check_candle, check_trade
from kraken_db.store import Store
from kraken_db.times import Clock, utc_now
from kraken_db.types import CandleRecord, TradeRecord

REFRESH_INTERVAL = 60.0
"""Seconds between two refreshes of the higher intervals."""
DEFAULT_JOURNAL_BYTES = 1 << 30
_OTHER_FOLDER = "name another folder: --journal-dir on the command line, journal_dir in Python"
R = TypeVar("R")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """What a ``DatabaseWriter`` was made with; sizes are numbers of records, intervals seconds."""

    db_url: str
    pool_min_size: int
    pool_max_size: int
    trade_limit: int
    candle_limit: int
    trade_flush_size: int
    candle_flush_size: int
    trade_flush_interval: float
    candle_flush_interval: float
    is_write_ahead: bool = False
    journal_dir: Path | None = None
    journal_max_bytes: int = DEFAULT_JOURNAL_BYTES
    journal_sync: float | None = 1.0
    on_hole: OnHole | None = None
    stop_timeout: float = 10.0
    successor: str = "the next writer"
    clock: Clock = utc_now

    def journal_folder(self) -> Path:
        """The folder of this database's journals; made if it is not there. Raises ConfigurationError."""
        folder = self.journal_dir or state_folder("journal")
        for path in (folder, folder / fingerprint(self.db_url)):
            make_private(path, "journal directory", hint=_OTHER_FOLDER)
        return path


class Pipeline:
    """Open as long as it exists; ``close`` ends it."""

    def __init__(
        self,
        options: WriterOptions,
        store: Store,
        flusher: Flusher,
        trades: ChannelRunner[QueuedTrade],
        candles: ChannelRunner[CandleRecord],
    ) -> None:
        self.store = store
        self.flusher = flusher
        self.trades = trades
        self.candles = candles
        self.loop = asyncio.get_running_loop()
        self._options = options
        self._upkeep: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, options: WriterOptions) -> Pipeline:
        """Connect, and take over what ended processes have left. Raises errors of ``kraken_db.errors``."""
        folder = options.journal_folder()
        store = await Store.open(
            options.db_url,
            pool_min_size=options.pool_min_size,
            pool_max_size=options.pool_max_size,
            clock=options.clock,
        )
        flusher = Flusher(store, options.on_hole)
        journals = _Journals(options, folder)
        try:
            trades = ChannelRunner(_trade_channel(options, store, flusher), *journals.of("trades"))
            candles = ChannelRunner(_candle_channel(options, store, flusher), *journals.of("candles"))
            for runner in (trades, candles):
                await flusher.begin(runner.journal, journals.ended)
        except BaseException:
            journals.close()
            await store.close()
            raise
        pipeline = cls(options, store, flusher, trades, candles)
        pipeline._begin()
        return pipeline

    def _begin(self) -> None:
        self.trades.start()
        self.candles.start()
        self._upkeep.append(asyncio.create_task(self._refresh_now_and_then()))
        if self._options.journal_sync:
            self._upkeep.append(asyncio.create_task(self._sync_now_and_then(self._options.journal_sync)))

    async def flush(self) -> None:
        await asyncio.gather(self.trades.flush(), self.candles.flush())

    async def close(self) -> None:
        """Store what waits, or leave it to the journals; close all connections."""
        seconds = self._options.stop_timeout
        left = dict(
            zip(
                ("trades", "candles"),
                await asyncio.gather(self.trades.stop(seconds), self.candles.stop(seconds)),
                strict=True,
            )
        )
        for task in self._upkeep:
            task.cancel()
        await asyncio.gather(*self._upkeep, return_exceptions=True)
        if any(left.values()):
            _log.warning(
                "not everything could be stored: %d trades and %d candles are left in the journal in %s; %s"
                " writes them",
                left["trades"],
                left["candles"],
                self.trades.journal.folder,
                self._options.successor,
            )
        else:
            await self._refresh(seconds)
        await self.store.close()

    async def _refresh(self, seconds: float | None = None) -> None:
        """What is stored is stored: a refresh that fails is logged, and done by the next one."""
        try:
            async with asyncio.timeout(seconds):
                await self.store.refresh_pending()
        except Exception as error:
            why = (
                f"that takes longer than {seconds:.0f} s"
                if isinstance(error, TimeoutError)
                else first_line(error)
            )
            _log.warning("the higher intervals are not up to date: %s; the next refresh does it", why)

    async def _refresh_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_INTERVAL)
            await self._refresh()

    async def _sync_now_and_then(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            for runner in (self.trades, self.candles):
                with suppress(OSError):
                    await runner.journal.sync()


class _Journals:
    """Makes the journals of a writer, and closes them if it does not come to be."""

    def __init__(self, options: WriterOptions, folder: Path) -> None:
        self._folder = folder
        self._space = Space(options.journal_max_bytes)
        self._sync = options.journal_sync
        self._all: list[Journal] = []
        self.ended: list[UUID] = []
        """Streams whose process ended and left no records."""

    def of(self, kind: str) -> tuple[Journal, list[Journal]]:
        """A new one, and those that others have left."""
        abandoned = Ownership.of_abandoned(self._folder, kind)
        left: list[Journal] = []
        for owned in abandoned:
            journal = Journal.left_behind(owned)
            if journal is None:
                self.ended.append(owned.stream)
            else:
                left.append(journal)
        own = Journal(Ownership.of_new(self._folder, kind), self._space, self._sync)
        self._all += [own, *left]
        return own, left

    def close(self) -> None:
        for journal in self._all:
            journal.close()


def _trade_channel(options: WriterOptions, store: Store, flusher: Flusher) -> Channel[QueuedTrade]:
    return Channel(
        "trades",
        options.trade_limit,
        options.trade_flush_size,
        options.trade_flush_interval,
        TradeBuffer[QueuedTrade](),
        msgspec.msgpack.Encoder().encode,
        trade_decoder(options.clock),
        flusher.trades,
        store.database.revive,
        flusher.end,
        options.is_write_ahead,
    )


def _candle_channel(options: WriterOptions, store: Store, flusher: Flusher) -> Channel[CandleRecord]:
    return Channel(
        "candles",
        options.candle_limit,
        options.candle_flush_size,
        options.candle_flush_interval,
        CandleBuffer(),
        msgspec.msgpack.Encoder().encode,
        candle_decoder(options.clock),
        flusher.candles,
        store.database.revive,
        flusher.end,
        options.is_write_ahead,
    )


_CLOCK_MAY_BE_BEHIND = timedelta(days=1)
"""By how much a record of a journal may be ahead: one that was right is not lost by a clock that was set."""


def trade_decoder(clock: Clock) -> Callable[[bytes], QueuedTrade]:
    """What reads a trade of a journal, which anybody may have written: as a new one it is checked.

    Raises nothing but ValueError.
    """
    decode = decode_record(QueuedTrade)

    def decoded(payload: bytes) -> QueuedTrade:
        trade = decode(payload)
        fields = (trade.price, trade.volume, trade.side, trade.trade_id, trade.order_type, trade.misc)
        record = TradeRecord(trade.symbol, trade.timestamp, *fields)
        if check_trade(record, clock() + _CLOCK_MAY_BE_BEHIND).symbol != trade.symbol:
            raise ValueError("its symbol is not written as ours are")
        return trade

    return decoded


def candle_decoder(clock: Clock) -> Callable[[bytes], CandleRecord]:
    """The same of candles."""
    decode = decode_record(CandleRecord)
    return lambda payload: check_candle(decode(payload), clock() + _CLOCK_MAY_BE_BEHIND)


def decode_record(kind: type[R]) -> Callable[[bytes], R]:
    """What reads a record of a journal, whatever is there: raises nothing but ValueError."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def decoded(payload: bytes) -> R:
        try:
            return decode(payload)
        # Only since 0.21 msgspec's own error is a ValueError.
        except (msgspec.DecodeError, RecursionError, ArithmeticError) as error:
            raise ValueError(str(error)) from None

    return decoded
