"""Recorder: the live trades of some pairs, into a store, without a hole."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from kraken_db.data_types import DataType
from kraken_db.database_writer.writer import DatabaseWriter
from kraken_db.db.locks import JobLock
from kraken_db.errors import ConfigurationError, DatabaseUnavailableError, KrakenDBError, UnknownPairError
from kraken_db.heartbeat import Heartbeat, Word
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_messages import (
    Connected,
    Disconnected,
    Event,
    LiveTrade,
    Refused,
    StatusChanged,
    Trades,
)
from kraken_db.pairs import DEFAULT_SYMBOLS, parse_symbol
from kraken_db.recorder.candle_closer import CandleCloser
from kraken_db.recorder.rejoin import AT_ONCE, CatchUp, Rejoin
from kraken_db.recorder.symbol_feed import State, SymbolFeed
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retry import DOWNLOAD
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, utc_now


@dataclass(frozen=True, slots=True)
class PairStatus:
    """One pair. Counts are since the recording began; see ``SymbolFeed`` for what they count."""

    symbol: str
    state: State
    last_id: int | None
    last_time: datetime | None
    received: int
    repeated: int
    repaired: int
    caught_up: int
    holes: int
    waiting: int
    error: str | None

    @classmethod
    def of(cls, symbol_feed: SymbolFeed) -> Self:
        return cls(
            symbol=symbol_feed.symbol,
            state=symbol_feed.state,
            last_id=symbol_feed.last_id,
            last_time=symbol_feed.last_time,
            received=symbol_feed.received,
            repeated=symbol_feed.repeated,
            repaired=symbol_feed.repaired,
            caught_up=symbol_feed.caught_up,
            holes=symbol_feed.holes,
            waiting=symbol_feed.waiting,
            error=None if symbol_feed.error is None else str(symbol_feed.error),
        )


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """A recording at one moment. ``time`` is Kraken's, UTC."""

    time: datetime
    is_connected: bool
    system: str | None
    """What Kraken says of itself: ``'online'``, ``'maintenance'``, ..."""
    pairs: tuple[PairStatus, ...]
    trades_per_second: float
    """Over the last seconds."""
    lag: float | None
    """Seconds from a trade to its arrival here, the longest of the last seconds; None without a trade."""
    connections: int
    reconnects: int
    minutes: int
    """Times that candles were written."""
    buffer: int
    """Trades in memory: on their way to the database, and behind holes."""
    journal: int
    """Records on disk that the database has not taken yet."""

    @property
    def received(self) -> int:
        return sum(pair.received for pair in self.pairs)

    @property
    def repaired(self) -> int:
        return sum(pair.repaired for pair in self.pairs)


@dataclass(slots=True)
class Meter:
    """Trades of the last ``window`` seconds, and how late they were."""

    window: float = 10.0
    _seen: deque[tuple[float, int, float]] = field(default_factory=deque)

    def add(self, now: float, trades: int, lag: float) -> None:
        self._seen.append((now, trades, lag))
        self._forget(now)

    def rate(self, now: float) -> float:
        self._forget(now)
        return sum(trades for _, trades, _ in self._seen) / self.window

    def lag(self, now: float) -> float | None:
        self._forget(now)
        return max((lag for _, _, lag in self._seen), default=None)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] < now - self.window:
            self._seen.popleft()


GRACE = 2.0
"""Seconds after the end of a minute in which its last trades may still come."""
FLUSH_INTERVAL = 1.0
"""Seconds that a trade waits for others before they are written together."""

LAST_WORDS = 4.0
"""Seconds that the end of a recording waits for the database; what it does not take stays in the journal."""

_JOB = "recording"
_LOCK_CHECK = 10.0
_log = logging.getLogger(__name__)


class Recorder(StoreService):
    """Records every trade of ``symbols`` and builds their 1m candles, until ``request_stop``.

    It closes what is missing since the last stored trade through REST, then goes on with the live feed; each
    jump in the trade ids is filled through REST before anything behind it is stored. It may be killed at any
    moment and started again. One recording of a pair at a time; downloads of the same pair may run beside it.

    ``rate_limit_delay``, ``max_retries``: as in ``KrakenTradesBackfill``. ``grace``: seconds after which a
    minute is closed. ``flush_interval``: seconds that a trade waits in memory at most. ``journal_dir``: where
    trades are kept while the database is away. ``client`` and ``feed`` that are passed in are closed too.
    """

    def __init__(
        self,
        db_url: str,
        symbols: Sequence[str] | None = None,
        *,
        rate_limit_delay: float = 1.1,
        max_retries: int = 3,
        grace: float = GRACE,
        flush_interval: float = FLUSH_INTERVAL,
        journal_dir: Path | str | None = None,
        client: KrakenRestClient | None = None,
        feed: KrakenWebSocketClient | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(db_url, pool_min_size=2, pool_max_size=2 * AT_ONCE, clock=clock)
        names = DEFAULT_SYMBOLS if symbols is None else symbols
        self._symbol_feeds = {symbol: SymbolFeed(symbol) for symbol in map(parse_symbol, names)}
        if not self._symbol_feeds:
            raise ConfigurationError("there is no pair to record", hint="name at least one symbol")
        self._client = client or KrakenRestClient(rate_limit_delay=rate_limit_delay, max_retries=max_retries)
        self._feed = feed or KrakenWebSocketClient(now=clock)
        self._exchange = Exchange(self._client, DOWNLOAD, clock)
        self._writer = DatabaseWriter(
            db_url,
            trade_buffer_size=1000,
            trade_flush_interval=flush_interval,
            pool_max_size=4,
            journal_dir=journal_dir,
            stop_timeout=LAST_WORDS,
            clock=clock,
        )
        self._closer = CandleCloser(self._symbol_feeds, self._writer, timedelta(seconds=grace))
        self._meter = Meter()
        self._ended: dict[str, datetime] = {}
        """The pairs that were delisted, and when they ended."""
        self._connections = 0
        self._is_connected = False
        self._system: str | None = None
        self._stop = asyncio.Event()

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        await self._client.close()
        await super().close()

    def request_stop(self) -> None:
        """Let ``run`` unsubscribe, write what it has, and return."""
        self._stop.set()

    def status(self) -> RecorderStatus:
        """How it stands now."""
        now = asyncio.get_running_loop().time()
        stats = self._writer.get_stats()
        waiting = sum(symbol_feed.waiting for symbol_feed in self._symbol_feeds.values())
        return RecorderStatus(
            time=self._now(),
            is_connected=self._is_connected,
            system=self._system,
            pairs=tuple(PairStatus.of(symbol_feed) for symbol_feed in self._symbol_feeds.values()),
            trades_per_second=self._meter.rate(now),
            lag=self._meter.lag(now),
            connections=self._connections,
            reconnects=max(0, self._connections - 1),
            minutes=self._closer.minutes,
            buffer=stats["trade_buffer_size"] + waiting,
            journal=stats.get("journal_records", 0),
        )

    async def run(self) -> RecorderStatus:
        """Record until ``request_stop``; returns how it stands in the end.

        Raises JobRunningError where another process records one of the pairs, and the error of a pair where
        none is left that can be recorded. What was received is stored either way.
        """
        store = self._connected()
        symbols = list(self._symbol_feeds)
        heartbeat = Heartbeat(store, "recording", symbols, self._word)
        async with JobLock(store.database, _JOB, *symbols) as lock, heartbeat:
            await self._find_ended(store)
            await self._writer.start()
            catch_up = CatchUp(store, self._client, self._exchange, self._writer)
            rejoin = Rejoin(catch_up, self._closer, self._write, self._refuse)
            try:
                await self._record(rejoin, lock)
            finally:
                self._is_connected = False
                await rejoin.end()
                with suppress(KrakenDBError, TimeoutError):  # the next run does it
                    async with asyncio.timeout(LAST_WORDS):
                        await self._closer.close_due(store, self._now())
                await self._writer.stop()
                with suppress(KrakenDBError):  # the next run does it
                    await store.refresh_pending()
        self._raise_if_nothing_is_left()
        return self.status()

    async def _record(self, rejoin: Rejoin, lock: JobLock) -> None:
        """Until the feed ends, or something does that must not."""
        self._feed.subscribe_trades(*self._symbol_feeds)
        for symbol_feed in self._symbol_feeds.values():
            rejoin.begin(symbol_feed)
        candles = self._closer.run(rejoin.catch_up.store, self._now, lambda: self._is_connected)
        tasks = [asyncio.create_task(work) for work in (self._read_feed(rejoin), candles, _keep(lock))]
        stopping = asyncio.create_task(self._stop_the_feed())
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)

    async def _stop_the_feed(self) -> None:
        await self._stop.wait()
        await self._feed.stop()

    async def _read_feed(self, rejoin: Rejoin) -> None:
        async with aclosing(self._feed.events()) as events:
            async for event in events:
                rejoin.raise_bug()
                self._on_event(event, rejoin)

    def _on_event(self, event: Event, rejoin: Rejoin) -> None:
        match event:
            case Trades():
                self._on_trades(event, rejoin)
            case Connected():
                self._connections += 1
                self._is_connected = True
            case Disconnected(reason, pause):
                self._is_connected = False
                when = f"in {pause:.0f} s" if pause else "at once"
                _log.warning("no live feed: %s; connecting again %s", reason, when)
            case StatusChanged(system):
                if system != "online":
                    _log.warning("Kraken says that it is in the state %r", system)
                self._system = system
            case Refused(topic, error, None) if topic is not None:
                self._refuse(self._symbol_feeds[topic.symbol], error)
            case Refused(_, error, _):
                _log.warning("%s", error)

    def _on_trades(self, event: Trades, rejoin: Rejoin) -> None:
        symbol_feed = self._symbol_feeds.get(event.symbol)
        if symbol_feed is None or symbol_feed.state == "refused" or not event.trades:
            return
        if not event.is_snapshot:
            late = max(0.0, (self._now() - event.trades[0].timestamp).total_seconds())
            self._meter.add(asyncio.get_running_loop().time(), len(event.trades), late)
        self._write(symbol_feed, symbol_feed.take(event.trades, is_snapshot=event.is_snapshot))
        if symbol_feed.has_hole:
            symbol_feed.holes += 1
            rejoin.begin(symbol_feed)

    def _write(self, symbol_feed: SymbolFeed, trades: Sequence[LiveTrade]) -> None:
        if trades:
            self._closer.heard(symbol_feed, trades[0].timestamp)
        for trade in trades:
            self._writer.put_trade(trade.to_record(symbol_feed.symbol))

    async def _find_ended(self, store: Store) -> None:
        async with store.database.read() as connection:
            found = await SyncStatusRepository(connection).of_each(DataType.TRADES, self._symbol_feeds)
        self._ended = {symbol: row.ended_at for symbol, row in found.items() if row.ended_at is not None}

    def _refuse(self, symbol_feed: SymbolFeed, error: KrakenDBError) -> None:
        ended_at = self._ended.get(symbol_feed.symbol)
        if ended_at is not None and isinstance(error, UnknownPairError):
            known = f"its trades up to {ended_at:%Y-%m-%d %H:%M} UTC are known, and there are no others"
            error = UnknownPairError(f"{symbol_feed.symbol} is delisted: {known}")
        _log.error("%s is not recorded: %s", symbol_feed.symbol, error)
        symbol_feed.state, symbol_feed.error = "refused", error
        if all(one.state == "refused" for one in self._symbol_feeds.values()):
            self._stop.set()

    def _raise_if_nothing_is_left(self) -> None:
        errors = [
            symbol_feed.error for symbol_feed in self._symbol_feeds.values() if symbol_feed.error is not None
        ]
        if len(errors) == len(self._symbol_feeds):
            raise errors[0]

    def _word(self) -> Word:
        """For the heartbeat."""
        status = self.status()
        behind = [pair.symbol for pair in status.pairs if pair.state != "live" or not status.is_connected]
        live = len(status.pairs) - len(behind)
        errors = [f"{pair.symbol}: {pair.error}" for pair in status.pairs if pair.error]
        return Word(f"{live:,} of {len(status.pairs):,} pairs live", behind, errors[-1] if errors else None)

    def _now(self) -> datetime:
        """Kraken's time, as its answers on the feed have shown it; never before a trade that has come."""
        now = self._clock() + (self._feed.clock_offset or timedelta())
        stamps = [
            symbol_feed.last_time
            for symbol_feed in self._symbol_feeds.values()
            if symbol_feed.last_time is not None
        ]
        return max([now, *stamps])


async def _keep(lock: JobLock) -> None:
    """Have the lock again after the database was away. Raises JobRunningError if somebody has taken it."""
    while True:
        await asyncio.sleep(_LOCK_CHECK)
        with suppress(DatabaseUnavailableError):
            await lock.hold()
