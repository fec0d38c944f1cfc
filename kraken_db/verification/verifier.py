"""StoreVerifier: is what is stored complete, and is it what the exchange has?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.errors import (
    ConfigurationError,
    DatabaseError,
    ExchangeError,
    ExchangeUnavailableError,
    KrakenDBError,
)
from kraken_db.ingest.write_unit import Ingest
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.nothing_found import stored_instead
from kraken_db.pairs import parse_symbol
from kraken_db.progress import NullProgress, PairsProgress, Progress
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retry import DOWNLOAD, unless_set
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, Sleep, require_aware, steady_now
from kraken_db.verification.candles import AggregatesCheck, ArchiveCheck, CandlesCheck, find_files
from kraken_db.verification.certificate import Certificate, Finding, Part
from kraken_db.verification.official import OHLC, OfficialCheck, check_ohlc
from kraken_db.verification.repair import Repair
from kraken_db.verification.scope import EVER, Scope, find_scope
from kraken_db.verification.trades import TradesCheck

ROUNDS = 5
"""How often a symbol is repaired and verified again, as long as that changes something."""
_OFFLINE = "Kraken was not asked"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to verify of each symbol."""

    bounds: tuple[datetime, datetime]
    since: datetime | None
    until: datetime | None
    ask_exchange: bool
    all_trades: bool
    files: dict[str, list[ArchiveFile]] = field(default_factory=dict)


class StoreVerifier(StoreService):
    """Proves what is stored, or says what is wrong with it; repairs it when asked to.

    ``rate_limit_delay``, ``client``, ``sleep``: as for ``KrakenTradesBackfill``. Nothing is written but by
    ``repair``. All statements are bounded in rows, whatever is stored. An embedded database is never made
    here.
    """

    def __init__(
        self,
        db_url: str,
        rate_limit_delay: float = 1.1,
        max_retries: int = 3,
        *,
        progress: Progress | None = None,
        clock: Clock = steady_now,
        client: KrakenRestClient | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        super().__init__(db_url, pool_min_size=1, pool_max_size=3, clock=clock, creates=False)
        self._client = client or KrakenRestClient(rate_limit_delay=rate_limit_delay, max_retries=max_retries)
        self._exchange = Exchange(self._client, replace(DOWNLOAD, sleep=sleep), clock)
        self._clock = self._exchange.clock
        self._progress = progress or NullProgress()
        self._away: ExchangeError | None = None
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """End with what has been verified; what a repair has not committed is undone."""
        self._stop.set()

    async def close(self) -> None:
        """Close all connections, to the database and to Kraken; may be called twice."""
        await self._client.close()
        await super().close()

    async def verify(
        self,
        symbols: Sequence[str] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        ask_exchange: bool = True,
        all_trades: bool = False,
        against: Path | None = None,
        repair: bool = False,
    ) -> list[Certificate]:
        """A certificate for each symbol, in their order; None: for all that are stored. After
        ``request_stop`` those that are done.

        ``since`` is inclusive, ``until`` exclusive: minutes and higher candles count that lie within as a
        whole. ``ask_exchange``: compare the newest minutes with Kraken's; where Kraken is not reached, that
        part says so. ``all_trades``: ask Kraken for every trade again. ``against``: a folder or zip of
        OHLCVT files. ``repair``: put right what is wrong, and verify again.

        Raises ConfigurationError for arguments that cannot work, and for symbols that are not stored.
        """
        store = self._connected()
        bounds = _bounds(since, until)
        if all_trades and not ask_exchange:
            raise ConfigurationError("without the exchange its trades cannot be compared")
        self._away = None
        names = await self._stored_symbols(store, symbols)
        files = await find_files(against, names) if against is not None else {}
        wanted = _Wanted(bounds, since, until, ask_exchange, all_trades, files)
        progress = PairsProgress(self._progress, "verify", names, verb="wrong")
        certificates: list[Certificate] = []
        for name in names:
            found = await unless_set(self._stop, self._certify(store, name, wanted, repair=repair))
            if found is None:
                break
            certificates.append(found)
            progress.is_over(name, None, found.reason, failed=not found.is_clean)
        progress.done("stopped" if self._stop.is_set() else "")
        self._stop.clear()
        return certificates

    async def _stored_symbols(self, store: Store, symbols: Sequence[str] | None) -> list[str]:
        async with store.database.read() as connection:
            stored = {record.symbol for record in await SyncStatusRepository(connection).all()}
        wanted = sorted(stored) if symbols is None else list(dict.fromkeys(map(parse_symbol, symbols)))
        unknown = [name for name in wanted if name not in stored]
        if unknown:
            raise ConfigurationError(
                f"nothing is stored of {', '.join(unknown)}", hint=stored_instead(unknown, sorted(stored))
            )
        if not wanted:
            raise ConfigurationError("nothing is stored yet", hint="kraken-db status shows what is stored")
        return wanted

    async def _certify(self, store: Store, symbol: str, wanted: _Wanted, *, repair: bool) -> Certificate:
        found = await self._look(store, symbol, wanted)
        done: list[str] = []
        for _ in range(ROUNDS if repair else 0):
            if not found.problems():
                break
            try:
                done += await self._repair(store, found, wanted)
            except DatabaseError:
                raise
            except KrakenDBError as error:
                found.error = error
                break
            before = found.problems_by_kind()
            found = await self._look(store, symbol, wanted)
            if found.problems_by_kind() == before:
                break
        found.repaired = done
        return found

    async def _look(self, store: Store, symbol: str, wanted: _Wanted) -> Certificate:
        now = await self._now(store, wanted)
        async with store.database.read() as connection:
            scope = await find_scope(store, connection, symbol, wanted.bounds, now)
        found = Certificate(symbol, wanted.since, wanted.until)
        found.dropped = {
            data.data_type: data.dropped for data in (scope.trades, scope.minutes) if data.dropped
        }
        found.parts.append(await TradesCheck(store, scope, self._progress).run())
        found.parts.append(await CandlesCheck(store, scope, self._progress).run())
        found.parts.append(await AggregatesCheck(store, scope, self._progress).run())
        found.parts.append(await self._ohlc(store, scope, wanted))
        if wanted.all_trades:
            found.parts.append(await self._official(store, scope))
        for file in wanted.files.get(symbol, ()):
            found.parts.append(await ArchiveCheck(store, scope, file, self._progress).run())
        return found

    async def _now(self, store: Store, wanted: _Wanted) -> datetime:
        """By Kraken's clock, if it is asked and answers."""
        if wanted.ask_exchange and self._away is None:
            try:
                return await self._exchange.now()
            except ExchangeError as error:
                self._excuse(error)
        return store.clock()

    async def _ohlc(self, store: Store, scope: Scope, wanted: _Wanted) -> Part:
        part = Part(OHLC, "minutes")
        if not wanted.ask_exchange:
            part.not_checked = _OFFLINE
        elif not scope.minutes.complete:
            part.not_checked = "no minutes are known to be complete"
        elif self._away is not None:
            part.not_checked = f"Kraken was not reached: {self._away.message}"
        else:
            try:
                return await check_ohlc(store, scope, await self._exchange.ohlc(scope.symbol))
            except ExchangeError as error:
                part.not_checked = self._excuse(error)
        return part

    async def _official(self, store: Store, scope: Scope) -> Part:
        """Asked for in so many words: that it could not be done, or not to its end, is a problem."""
        check = OfficialCheck(store, scope, self._exchange, self._progress)
        try:
            if self._away is not None:
                raise self._away
            await check.run()
        except ExchangeError as error:
            reason = check.part.not_checked = self._excuse(error)
            start = check.part.newest or scope.bounds[0]
            check.part.add(Finding("not compared", reason, start, scope.bounds[1]))
        return check.part

    def _excuse(self, error: ExchangeError) -> str:
        """Why a part is not claimed; the others need not wait for an exchange that is away."""
        if isinstance(error, ExchangeUnavailableError):
            self._away = error
            return f"Kraken was not reached: {error.message}"
        return f"Kraken does not serve it: {error.message}"

    async def _repair(self, store: Store, found: Certificate, wanted: _Wanted) -> list[str]:
        asked = wanted.ask_exchange and self._away is None
        exchange = self._exchange if asked else None
        async with Ingest(store) as ingest:
            return await Repair(ingest, found, exchange, self._progress, await self._now(store, wanted)).run()


def _bounds(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    if since is not None:
        require_aware(since, "since")
    if until is not None:
        require_aware(until, "until")
    start, end = max(since or EVER[0], EVER[0]), min(until or EVER[1], EVER[1])
    if start >= end:
        raise ConfigurationError("since is not before until")
    return start, end
