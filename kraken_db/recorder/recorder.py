"""Recorder: the live trades of some pairs, into a store, without a hole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from kraken_db.data_types import DataType
from kraken_db.database_writer.writer import DatabaseWriter
from kraken_db.db.engine import PoolUse
from kraken_db.db.locks import JobLock
from kraken_db.durations import Durations
from kraken_db.errors import (
    ConfigurationError,
    DatabaseError,
    ExchangeThrottledError,
    InternalError,
    JobRunningError,
    KrakenDBError,
    UnknownPairError,
    unforeseen,
)
from kraken_db.heartbeat import Heartbeat, Word, at_work
from kraken_db.ingest.delisting import note_end
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.request_counts import RequestCounts
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_messages import (
    Alive,
    Connected,
    Disconnected,
    Event,
    LiveTrade,
    Refused,
    StatusChanged,
    Subscribed,
    Topic,
    Trades,
)
from kraken_db.log_throttle import LogThrottle
from kraken_db.pairs import DEFAULT_SYMBOLS, parse_symbol
from kraken_db.patterns import is_pattern
from kraken_db.problems import Problem
from kraken_db.recorder.beginning import Beginning, StoppedError
from kraken_db.recorder.candle_closer import CandleCloser
from kraken_db.recorder.feed_log import FeedLog
from kraken_db.recorder.listings import EVERY, ListingWatch, Selection
from kraken_db.recorder.problems import database_problem, problems_of, waiting_problem
from kraken_db.recorder.rejected import RejectedTrades
from kraken_db.recorder.rejoin import AT_ONCE, CatchUp, Rejoin
from kraken_db.recorder.status import Meter, PairStatus, RecorderStatus
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retry import DOWNLOAD, may_pass
from kraken_db.status import disk_problems, job_problems
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, steady_now

GRACE = 2.0
"""Seconds after the end of a minute in which its last trades may still come."""
FLUSH_INTERVAL = 1.0
"""Seconds that a trade waits for others before they are written together."""

LAST_WORDS = 4.0
"""Seconds that the end of a recording waits for the database; what it does not take stays in the journal."""

RECORDING_JOB = "recording"
_LOCK_CHECK = 10.0
_LONGEST_LOOK = 5.0
_RECENT, _LITTLE = timedelta(minutes=1), timedelta(seconds=10)
_SHOWN = 10  # pairs that are named in one line
_log = logging.getLogger(__name__)


class Recorder(StoreService):
    """Records every trade of ``symbols`` and builds their 1m candles, until ``request_stop``.

    ``symbols`` and ``exclude`` are pairs, and patterns such as ``'*/USD'``; ``stored`` adds all pairs that
    something is stored of. Kraken's list is asked again every ``listings_every`` seconds: new pairs that fit
    are recorded too, and those that have left it end.

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
        exclude: Sequence[str] = (),
        stored: bool = False,
        listings_every: float = EVERY,
        rate_limit_delay: float = 1.1,
        max_retries: int = 3,
        grace: float = GRACE,
        flush_interval: float = FLUSH_INTERVAL,
        journal_dir: Path | str | None = None,
        client: KrakenRestClient | None = None,
        feed: KrakenWebSocketClient | None = None,
        clock: Clock = steady_now,
    ) -> None:
        super().__init__(db_url, pool_min_size=2, pool_max_size=2 * AT_ONCE, clock=clock)
        names = DEFAULT_SYMBOLS if symbols is None and not stored else symbols or ()
        self._selection = Selection(tuple(names), tuple(exclude), stored)
        self._symbol_feeds = {
            symbol: SymbolFeed(symbol)
            for symbol in map(parse_symbol, (name for name in names if not is_pattern(name)))
        }
        if not (self._symbol_feeds or self._selection.needs_listing):
            raise ConfigurationError("there is no pair to record", hint="name at least one symbol")
        self._client = client or KrakenRestClient(rate_limit_delay=rate_limit_delay, max_retries=max_retries)
        self._feed = feed or KrakenWebSocketClient(now=clock)
        self._exchange = Exchange(self._client, DOWNLOAD, clock)
        self._clock = self._exchange.clock
        self._writer = DatabaseWriter(
            db_url,
            trade_buffer_size=1000,
            trade_flush_interval=flush_interval,
            pool_max_size=4,
            journal_dir=journal_dir,
            stop_timeout=LAST_WORDS,
            successor="the next kraken-db record, or Recorder, for this database",
            clock=self._clock,
        )
        self._rejected = RejectedTrades(self._client, self._exchange, self._put_official)
        self._closer = CandleCloser(self._symbol_feeds, self._writer, timedelta(seconds=grace))
        self._listings_every = listings_every
        self._meter = Meter()
        self._ended: dict[str, datetime] = {}
        """The pairs that were delisted, and when they ended."""
        self._feed_log = FeedLog()
        self._throttle = LogThrottle(_log)
        self._job_problems: list[Problem] = []
        self._connections = 0
        self._is_connected = False
        self._system: str | None = None
        self._stop = asyncio.Event()
        self._beginning = Beginning(self._stop, clock)
        self._leaving: set[asyncio.Task[None]] = set()

    async def connect_patiently(self) -> bool:
        """``connect`` as soon as the database is there, however long it is away; False where ``request_stop``
        came first.

        Raises what waiting does not mend: user or password that are not accepted, missing tables.
        """
        with suppress(StoppedError):
            await self._beginning.once_possible(self.connect)
        return self._store is not None

    @property
    def has_begun(self) -> bool:
        """Whether it is connected, or waits for what is away: there is something to report."""
        return self._store is not None or self._beginning.wait is not None

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
            outage=self._feed_log.outage,
            database_outage=self._database_outage(),
            malformed=self._feed.malformed + sum(one.strays for one in self._symbol_feeds.values()),
        )

    @property
    def requests(self) -> RequestCounts:
        """What was asked of Kraken's REST."""
        return self._client.requests

    @property
    def writer_statistics(self) -> dict[str, Any]:
        """What the writer has stored, and what waits: see ``DatabaseWriter.get_stats``."""
        return self._writer.get_stats()

    @property
    def flush_durations(self) -> dict[str, Durations]:
        """How long the transactions took that have stored trades and candles."""
        return self._writer.flush_durations

    @property
    def pools(self) -> dict[str, PoolUse | None]:
        """The connections of the writer, and of everything else."""
        return {"writer": self._writer.pool, "recorder": self._store.database.pool if self._store else None}

    def _database_outage(self) -> tuple[datetime, str] | None:
        wait = self._beginning.wait
        if wait is not None and wait.is_for_database:
            return wait.since, wait.reason
        return self._writer.outage

    @property
    def is_flawed(self) -> bool:
        """Whether a person has to look at something: a pair that Kraken refuses, or a mistake of ours."""
        errors = [one.error for one in self._symbol_feeds.values() if one.error is not None]
        return any(not may_pass(error) and not isinstance(error, DatabaseError) for error in errors)

    async def problems(self) -> list[Problem]:
        """What somebody has to look after now, for ``Alarms``: of the feed, of pairs, of the database.

        A database that does not answer is one of them; of its jobs the last that was known counts then.
        While the recording waits to begin, that is all there is.
        """
        if self._beginning.wait is not None:
            return [waiting_problem(self._beginning.wait)]
        if self._store is None:
            return []
        store = self._store
        found = problems_of(self.status())
        try:
            async with asyncio.timeout(_LONGEST_LOOK), store.database.read() as connection:
                jobs = await store.backend.jobs.all(connection) if store.backend.jobs is not None else ()
            self._job_problems = list(job_problems(jobs, self._clock()))
        except (DatabaseError, TimeoutError) as error:
            why = error.message if isinstance(error, DatabaseError) else "no answer in time"
            found.append(database_problem(why))
        return [*found, *disk_problems(store.database.disk), *self._job_problems]

    async def run(self) -> RecorderStatus:
        """Record until ``request_stop``; returns how it stands in the end.

        It begins as soon as it can: a database, or a list of Kraken's, that is away is waited for. Raises
        JobRunningError where another process records one of the pairs, and the error of a pair where none is
        left that can be recorded. What was received is stored either way.
        """
        store = self._connected()
        with suppress(StoppedError):
            await self._run(store)
        return self.status()

    async def _run(self, store: Store) -> None:
        """Raises StoppedError where it was told to stop before it began."""
        await self._begin_step(store, lambda: self._select(store))
        symbols = list(self._symbol_feeds)
        heartbeat = Heartbeat(store, "recording", symbols.copy(), self._word)
        async with AsyncExitStack() as held:
            lock = JobLock(store.database, RECORDING_JOB, *symbols)
            try:
                await self._begin_step(store, lambda: held.enter_async_context(lock))
            except JobRunningError as error:
                raise await _naming_the_other(store, symbols, error) from None
            await held.enter_async_context(heartbeat)
            await self._begin_step(store, lambda: self._find_ended(store))
            await self._begin_step(store, self._writer.start)
            catch_up = CatchUp(store, self._client, self._exchange, self._writer)
            listings = ListingWatch(
                self._selection,
                self._client,
                self._exchange,
                store,
                self._symbol_feeds,
                begin=lambda symbols: self._begin_more(symbols, lock, rejoin, heartbeat),
                end=self._end,
                ask_again=self._ask_again,
                every=self._listings_every,
            )
            if self._selection.needs_listing:
                listings.note_listed(symbols)
            rejoin = Rejoin(catch_up, self._closer, self._write, listings.doubt, self._end)
            try:
                await self._record(rejoin, listings, lock)
            finally:
                self._is_connected = False
                await rejoin.end()
                await self._rejected.end()
                await _or_next_time(self._closer.close_due(store, self._now()))
                await self._writer.stop()
                await _or_next_time(store.refresh_pending())
        self._raise_if_nothing_is_left()

    async def _begin_step(self, store: Store, step: Callable[[], Awaitable[Any]]) -> None:
        await self._beginning.once_possible(step, between=partial(_revive, store))

    async def _select(self, store: Store) -> None:
        """Have a feed of each pair that is to be recorded now."""
        pairs = await self._selection.pairs(self._exchange, store)
        if not pairs:
            raise await self._nothing_to_record()
        for symbol in [symbol for symbol in self._symbol_feeds if symbol not in pairs]:
            del self._symbol_feeds[symbol]
        for symbol in pairs:
            self._symbol_feeds.setdefault(symbol, SymbolFeed(symbol))

    async def _nothing_to_record(self) -> ConfigurationError:
        if self._selection.names:
            return ConfigurationError("there is no pair to record", hint="what was named is excluded, too")
        is_stored = bool(await self.stored_symbols())
        why = "none of the stored pairs is left, as Kraken lists them" if is_stored else "nothing is stored"
        return ConfigurationError(
            f"there is no pair to record: {why}", hint="name pairs, e.g. kraken-db record BTC/USD"
        )

    async def _record(self, rejoin: Rejoin, listings: ListingWatch, lock: JobLock) -> None:
        """Until the feed ends, or something does that must not."""
        self._feed.subscribe_trades(*self._symbol_feeds)
        for symbol_feed in self._symbol_feeds.values():
            rejoin.begin(symbol_feed)
        candles = self._closer.run(rejoin.catch_up.store, self._now, lambda: self._is_connected)
        reading = self._read_feed(rejoin, listings)
        tasks = [asyncio.create_task(work) for work in (reading, candles, listings.run(), _keep(lock))]
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

    async def _read_feed(self, rejoin: Rejoin, listings: ListingWatch) -> None:
        async with aclosing(self._feed.events()) as events:
            async for event in events:
                if self._feed.clock_offset is not None:
                    self._exchange.clock.offset = self._feed.clock_offset
                try:
                    if isinstance(event, Trades):
                        self._on_trades(event, rejoin)
                    else:
                        self._on_event(event, listings)
                except Exception as error:
                    self._on_bug(event, error, rejoin)

    def _on_bug(self, event: Event, error: Exception, rejoin: Rejoin) -> None:
        """One event harms its pair at most: REST brings what was in it."""
        _log.debug("%r", event, exc_info=error)
        symbol_feed = self._symbol_feeds.get(event.symbol) if isinstance(event, Trades) else None
        unit = type(event).__name__ if symbol_feed is None else symbol_feed.symbol
        self._throttle.say(logging.ERROR, "what came is left out", f"{unit}: {unforeseen(error)}")
        if symbol_feed is not None and not symbol_feed.has_ended:
            symbol_feed.error = InternalError(unforeseen(error))
            rejoin.begin(symbol_feed)

    def _on_event(self, event: Event, listings: ListingWatch) -> None:
        match event:
            case Connected():
                self._connections += 1
                self._is_connected = True
            case Alive():
                self._feed_log.alive(self._now())
            case Disconnected(reason, pause):
                self._is_connected = False
                for symbol_feed in self._symbol_feeds.values():
                    symbol_feed.is_subscribed = False
                self._feed_log.lost(self._now(), reason, pause)
            case StatusChanged(system):
                if system != "online" and system != self._system:
                    _log.warning("Kraken says that it is in the state %r", system)
                self._system = system
            case Subscribed(Topic("trade", symbol)) if symbol in self._symbol_feeds:
                self._symbol_feeds[symbol].is_subscribed = True
            case Refused(topic, error, retry_in):
                self._on_refusal(topic, error, listings, is_final=retry_in is None)

    def _on_refusal(
        self, topic: Topic | None, error: KrakenDBError, listings: ListingWatch, *, is_final: bool
    ) -> None:
        if isinstance(error, ExchangeThrottledError):
            _log.info("%s; asking more slowly", error)  # how fast we may ask only Kraken knows
            return
        if topic is not None and topic.symbol in self._symbol_feeds:
            symbol_feed = self._symbol_feeds[topic.symbol]
            symbol_feed.is_subscribed = False
            if is_final:
                listings.doubt(symbol_feed, error)
                return
        self._throttle.say(logging.WARNING, "a subscription is refused", str(error))

    def _on_trades(self, event: Trades, rejoin: Rejoin) -> None:
        symbol_feed = self._symbol_feeds.get(event.symbol)
        if symbol_feed is None or symbol_feed.has_ended or not event.trades:
            return
        if not event.is_snapshot:
            self._measure([trade for trade in event.trades if symbol_feed.is_news(trade)])
        before, backward = symbol_feed.strays, symbol_feed.backward
        is_kept = self._write(symbol_feed, symbol_feed.take(event.trades, is_snapshot=event.is_snapshot))
        if symbol_feed.strays > before:
            detail = (
                f"{symbol_feed.symbol}: no id of it is as large as {max(t.trade_id for t in event.trades)}"
            )
            self._throttle.say(logging.ERROR, "a trade is left out", detail)
        if symbol_feed.backward > backward:
            detail = (
                f"{symbol_feed.symbol}: the feed is at id {event.trades[-1].trade_id}, and ids up to"
                f" {symbol_feed.last_id} are stored. Is this the database of another exchange?"
            )
            self._throttle.say(logging.ERROR, "later trades have smaller ids, and are left out", detail)
        rejoin.heard(symbol_feed)
        if symbol_feed.has_hole or not is_kept:
            symbol_feed.holes += 1
            rejoin.begin(symbol_feed)

    def _measure(self, news: Sequence[LiveTrade]) -> None:
        """How many trades have come, and how late; those that come again are not late."""
        if news:
            late = max(0.0, (self._clock() - news[0].timestamp).total_seconds())
            self._meter.add(asyncio.get_running_loop().time(), len(news), late)

    def _write(self, symbol_feed: SymbolFeed, trades: Sequence[LiveTrade]) -> bool:
        """False where a trade is lost, for the journal is full: REST has to bring it, and all behind it."""
        if trades:
            self._closer.heard(symbol_feed, trades[0].timestamp)
        for at, trade in enumerate(trades):
            match self._writer.take_trade(trade.to_record(symbol_feed.symbol)):
                case "dropped":
                    return False
                case "rejected":
                    now = self._now()
                    near = min(max(trade.timestamp, now - _RECENT), now)
                    after = trades[at - 1].timestamp if at else near - _LITTLE
                    self._rejected.ask_for(symbol_feed.symbol, trade.trade_id, after)
        return True

    def _put_official(self, symbol: str, trade: KrakenTrade) -> bool:
        """A trade of REST for one that was rejected."""
        if self._writer.take_trade(trade.to_record(symbol), is_official=True) != "taken":
            return False
        self._symbol_feeds[symbol].repaired += 1
        return True

    async def _find_ended(self, store: Store) -> None:
        async with store.database.read() as connection:
            found = await SyncStatusRepository(connection).of_each(DataType.TRADES, self._symbol_feeds)
        self._ended = {symbol: row.ended_at for symbol, row in found.items() if row.ended_at is not None}

    def _told(self, symbol_feed: SymbolFeed, error: KrakenDBError) -> KrakenDBError:
        """Why a pair is refused, and that it is known to have ended if it is."""
        ended_at = self._ended.get(symbol_feed.symbol)
        if ended_at is None or not isinstance(error, UnknownPairError):
            return error
        known = f"its trades up to {ended_at:%Y-%m-%d %H:%M} UTC are known, and there are no others"
        return UnknownPairError(f"{symbol_feed.symbol} is delisted: {known}")

    async def _begin_more(
        self, symbols: Sequence[str], lock: JobLock, rejoin: Rejoin, heartbeat: Heartbeat
    ) -> None:
        """Record these pairs too."""
        begun: list[str] = []
        for symbol in symbols:
            try:
                await lock.extend(symbol)
            except JobRunningError as error:
                _log.warning("%s is new, and not recorded here: %s", symbol, error)
                continue
            symbol_feed = self._symbol_feeds[symbol] = SymbolFeed(symbol)
            self._feed.subscribe_trades(symbol)
            rejoin.begin(symbol_feed)
            begun.append(symbol)
        if begun:
            heartbeat.symbols += begun
            shown = ", ".join(begun[:_SHOWN]) + (f" and {len(begun) - _SHOWN} more" * (len(begun) > _SHOWN))
            _log.warning("recorded from now on, too: %s", shown)

    def _ask_again(self, symbol: str) -> None:
        if not self._symbol_feeds[symbol].is_subscribed and not self._stop.is_set():
            self._feed.subscribe_trades(symbol)

    def _end(self, symbol_feed: SymbolFeed, error: KrakenDBError | None) -> None:
        """A pair is not recorded any more. Without an error Kraken has just taken it off its list."""
        if error is None:
            _log.warning("%s: Kraken does not list it any more, its recording has ended", symbol_feed.symbol)
        else:
            error = self._told(symbol_feed, error)
            _log.error("%s is not recorded: %s", symbol_feed.symbol, error)
        was_live = symbol_feed.state == "live"
        symbol_feed.stage = "delisted" if error is None else "refused"
        symbol_feed.error, symbol_feed.is_subscribed = error, False
        leaves = self._leave(symbol_feed, is_complete=was_live and error is None)
        self._leaving.add(leaving := asyncio.create_task(leaves))
        leaving.add_done_callback(self._leaving.discard)
        if all(one.has_ended for one in self._symbol_feeds.values()):
            self._stop.set()

    async def _leave(self, symbol_feed: SymbolFeed, *, is_complete: bool) -> None:
        """``is_complete``: every trade of it has come, and there will be no others."""
        await self._feed.unsubscribe(Topic("trade", symbol_feed.symbol))
        if is_complete and symbol_feed.last_time is not None:
            with suppress(KrakenDBError):  # then a backfill or gap filler notes it
                await self._writer.flush()
                await note_end(
                    self._connected(),
                    symbol_feed.symbol,
                    symbol_feed.last_time,
                    self._now(),
                    "live",
                    has_moment=True,
                )

    def _raise_if_nothing_is_left(self) -> None:
        errors = [one.error for one in self._symbol_feeds.values() if one.stage == "refused"]
        if errors and len(errors) == len(self._symbol_feeds) and errors[0] is not None:
            raise errors[0]

    def _word(self) -> Word:
        """For the heartbeat."""
        status = self.status()
        pairs = [pair for pair in status.pairs if pair.state != "delisted"]
        behind = [pair.symbol for pair in pairs if pair.state != "live"]
        live = len(pairs) - len(behind)
        errors = [f"{pair.symbol}: {pair.error}" for pair in pairs if pair.error]
        return Word(f"{live:,} of {len(pairs):,} pairs live", behind, errors[-1] if errors else None)

    def _now(self) -> datetime:
        """Kraken's time, as its answers on the feed have shown it; never before a trade that has come."""
        now = self._clock()
        stamps = [
            symbol_feed.last_time
            for symbol_feed in self._symbol_feeds.values()
            if symbol_feed.last_time is not None
        ]
        return max([now, *stamps])


async def _naming_the_other(store: Store, symbols: Sequence[str], error: JobRunningError) -> JobRunningError:
    """The error with the process and the machine of the other recording, where that has said them."""
    with suppress(KrakenDBError):
        other = await at_work(store, "recording", symbols)
        if other is not None:
            both = [symbol for symbol in symbols if symbol in other.symbols]
            more = f" and {len(both) - 1:,} of its other pairs" if len(both) > 1 else ""
            since = f"{other.started_at:%Y-%m-%d %H:%M:%S} UTC"
            return JobRunningError(
                f"another recording of {both[0]}{more} is running on this database: {other}, since {since},"
                f" {other.state}",
                hint="leave it running, or stop it; kraken-db jobs shows all",
            )
    return error


async def _revive(store: Store) -> None:
    with suppress(KrakenDBError):  # the next attempt reports it
        await store.database.revive()


async def _or_next_time(work: Coroutine[Any, Any, None]) -> None:
    """What the next run does if this one cannot any more."""
    try:
        async with asyncio.timeout(LAST_WORDS):
            await work
    except Exception as error:
        _log.debug("left to the next run", exc_info=error)


async def _keep(lock: JobLock) -> None:
    """Have the lock again after the database was away. Raises JobRunningError if somebody has taken it."""
    while True:
        await asyncio.sleep(_LOCK_CHECK)
        try:
            await lock.hold()
        except JobRunningError:
            raise
        except DatabaseError as error:  # it is away, its disk is full, it has no room for locks
            _log.debug("the lock is looked at later: %s", error)
