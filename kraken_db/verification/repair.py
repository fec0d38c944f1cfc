"""What is wrong is put right: from Kraken's record, from the trades, from the minutes, in that order.

Nothing is deleted before its replacement is at hand; where Kraken serves nothing, everything stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from kraken_db.data_types import DataType
from kraken_db.ingest.candles import (
    delete_minutes,
    overwrite_from_ohlc,
    overwrite_from_trades,
    rebuild_minutes,
)
from kraken_db.ingest.missing import build_ranges
from kraken_db.ingest.write_unit import Ingest, WriteTransaction, correct_counters, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval, interval_length
from kraken_db.kraken.exchange import Exchange
from kraken_db.progress import Progress
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union, whole_candles
from kraken_db.times import FIRST_MOMENT
from kraken_db.tolerances import CLOCK_SKEW
from kraken_db.verification.candles import AGGREGATES, IMPOSSIBLE, OUTGROWN
from kraken_db.verification.certificate import Certificate, Finding, minute, plural
from kraken_db.verification.counters import COUNT, EDGE
from kraken_db.verification.official import OFFICIAL, OHLC
from kraken_db.verification.replacing import MinuteReplacement
from kraken_db.verification.scope import EVER, Scope, find_scope

_MINUTE = interval_length(BASE_INTERVAL)
_NEAR = timedelta(minutes=5)
"""Affected minutes that are so near to each other are asked for together."""


class Repair:
    """One round for one symbol, over what a certificate has found. Without an ``exchange`` no trade changes.

    Each stretch of minutes is a transaction of its own: it may be killed and repeated.
    """

    def __init__(
        self,
        ingest: Ingest,
        found: Certificate,
        exchange: Exchange | None,
        progress: Progress,
        now: datetime,
    ) -> None:
        self._ingest = ingest
        self._now = now
        self._store = ingest.store
        self._found = found
        self._symbol = found.symbol
        self._exchange = exchange
        self._progress = progress
        self._done: list[str] = []

    async def run(self) -> list[str]:
        """What was done, in words. Raises an ExchangeError or ConflictingTradesError; what was done stays."""
        async with self._store.database.read() as connection:
            scope = await find_scope(self._store, connection, self._symbol, EVER, self._now)
        await self._delete_what_is_no_minute()
        if self._exchange is not None:
            await self._replace(scope, self._exchange)
            await self._take_ohlc(scope, self._exchange)
        else:
            await self._rebuild(scope)
        await self._rebuild_outgrown()
        await self._build_unbuilt(scope)
        await self._mark_stale()
        await self._store.refresh_pending()
        if not self._done:
            await self._correct_counters()
        return self._done

    async def _replace(self, scope: Scope, exchange: Exchange) -> None:
        """Kraken's record of every minute in which something is wrong with trades, or may be."""
        findings = self._of(DataType.TRADES, "candles", OFFICIAL, OHLC)
        wanted = [item for finding in findings if finding.kind != COUNT for item in finding.where]
        known = union(scope.trades.complete, scope.trades.gaps)
        allowed = difference(whole_candles(known, BASE_INTERVAL), scope.trades.dropped)
        minutes = intersection(whole_candles(wanted, BASE_INTERVAL), allowed)
        if not minutes:
            return
        replacement = MinuteReplacement(self._ingest, scope, exchange)
        task = self._progress.task(f"{self._symbol} repair", len(minutes))
        try:
            await replacement.require_same_market()
            for group in _near(minutes):
                await replacement.run(group)
                task.advance(len(group))
        finally:
            task.done()
            self._done += replacement.summary()

    async def _take_ohlc(self, scope: Scope, exchange: Exchange) -> None:
        """Kraken's own candles of minutes whose trades are not stored, as far as they reach back."""
        unknown = difference([EVER], whole_candles(scope.trades.complete, BASE_INTERVAL))
        impossible = self._impossible_minutes()
        wanted = union((item for finding in self._of(OHLC) for item in finding.where), impossible)
        minutes = intersection(wanted, unknown)
        if not minutes:
            return
        page = await exchange.ohlc(self._symbol)
        rows = [row for row in page.committed if any(a <= row.timestamp < b for a, b in minutes)]
        served = whole_candles(((row.timestamp, row.timestamp + TICK) for row in rows), BASE_INTERVAL)
        if rows:
            take = partial(
                overwrite_from_ohlc,
                symbol=self._symbol,
                candles=[row.to_record(self._symbol, BASE_INTERVAL) for row in rows if row.trade_count],
                minutes=served,
            )
            await self._ingest.write([(self._symbol, DataType.CANDLES_1M)], rows[0].timestamp, take)
            self._done.append(f"{plural(len(rows), 'candle')} taken from Kraken's candles")
        self._tell_left(difference(intersection(impossible, unknown), served))

    def _tell_left(self, minutes: Sequence[TimeRange]) -> None:
        left = sum((end - start) // _MINUTE for start, end in minutes)
        if left:
            which = "stays as it is" if left == 1 else "stay as they are"
            self._done.append(
                f"{plural(left, 'candle')} {which}, Kraken's candles do not reach back so far: download the"
                f" trades from {minute(minutes[0][0])} on, and repair again"
            )

    async def _rebuild(self, scope: Scope) -> None:
        """Without Kraken: the candles that know of fewer trades than are stored without a hole.

        Where both know of as many, or the candle of more, nothing here can say which of the two is right.
        """
        holes = [_span(finding) for finding in self._of(DataType.TRADES) if finding.kind == "missing ids"]
        short = [
            (finding.start, finding.end)
            for finding in self._of("candles")
            if finding.kind in ("candle missing", "candle differs")
            and (finding.details["stored_trades"] or 0) < (finding.details["expected_trades"] or 0)
        ]
        known = difference(scope.comparable, whole_candles(holes, BASE_INTERVAL))
        for start, end in intersection(union(short, self._impossible_minutes()), known):
            build = partial(
                overwrite_from_trades, symbol=self._symbol, minutes=[(start, end)], source="rest_trades"
            )
            keys = keys_with_trades(self._symbol)
            written = await self._ingest.write(keys, start, build)
            self._done.append(f"{plural(written, 'candle')} built from the stored trades")

    async def _delete_what_is_no_minute(self) -> None:
        """What opens between two minutes, or before Kraken did, is no candle. Nor is what opens after now,
        if it is Kraken who says when that is."""
        strange = [finding for finding in self._of("candles") if finding.kind == "candle without trades"]
        opens = [finding.start for finding in (*strange, *self._impossible()) if not self._is_minute(finding)]
        if opens:
            delete = partial(delete_minutes, symbol=self._symbol, opens=opens)
            deleted = await self._ingest.write([(self._symbol, DataType.CANDLES_1M)], min(opens), delete)
            self._done.append(f"{plural(deleted, 'candle')} deleted of what is no minute")

    async def _rebuild_outgrown(self) -> None:
        """Candles that were made of fewer trades than are stored."""
        opens = [finding.start for finding in self._of("candles") if finding.kind == OUTGROWN]
        if not opens:
            return
        rebuild = partial(rebuild_minutes, symbol=self._symbol, opens=opens, source="live")
        await self._ingest.write(keys_with_trades(self._symbol), min(opens), rebuild)
        self._done.append(f"{plural(len(opens), 'candle')} built from the stored trades")

    async def _build_unbuilt(self, scope: Scope) -> None:
        """Gaps in the minutes whose trades are there."""
        for start, end in intersection(scope.minutes.gaps, scope.comparable):
            built = await build_ranges(self._ingest, self._symbol, [(start, end)])
            new = sum(written.new for written in built)
            self._done.append(f"{plural(new, 'candle')} built from the stored trades")

    async def _mark_stale(self) -> None:
        candles = [(finding.start, finding.end) for finding in self._of(AGGREGATES)]
        if not candles:
            return

        async def mark(transaction: WriteTransaction) -> None:
            await transaction.backend.mark_stale(transaction.connection, self._symbol, candles)

        await self._ingest.write([(self._symbol, DataType.CANDLES_1M)], candles[0][0], mark)
        self._done.append(f"{plural(len(candles), 'candle')} of higher intervals refreshed")

    async def _correct_counters(self) -> None:
        """Only where the rows themselves were right: what was counted wrong is counted anew."""
        for data_type, part in ((DataType.TRADES, DataType.TRADES), (DataType.CANDLES_1M, "candles")):
            wrong = [finding for finding in self._of(part) if finding.kind in (COUNT, EDGE)]
            if not wrong:
                continue
            counted, stored = wrong[0].details["counted"], wrong[0].details["stored"]
            edges = any(finding.kind == EDGE for finding in wrong)
            if await correct_counters(
                self._store, self._symbol, data_type, counted=counted, stored=stored, edges=edges
            ):
                self._done.append(f"the counters of {data_type} corrected to {stored:,}")

    def _is_minute(self, finding: Finding) -> bool:
        latest = self._now + CLOCK_SKEW if self._exchange is not None else EVER[1]
        opens = finding.start
        return opens == floor_to_interval(opens, BASE_INTERVAL) and FIRST_MOMENT <= opens <= latest

    def _impossible_minutes(self) -> list[TimeRange]:
        found = [_span(finding) for finding in self._impossible() if self._is_minute(finding)]
        return whole_candles(found, BASE_INTERVAL)

    def _impossible(self) -> list[Finding]:
        return [finding for finding in self._of("candles") if finding.kind == IMPOSSIBLE]

    def _of(self, *names: str) -> list[Finding]:
        return [finding for part in self._found.parts if part.name in names for finding in part.findings]


def _span(finding: Finding) -> TimeRange:
    return finding.start, finding.end


def _near(minutes: Sequence[TimeRange]) -> list[list[TimeRange]]:
    """Minutes that are asked for together."""
    groups: list[list[TimeRange]] = []
    for item in minutes:
        if groups and item[0] - groups[-1][-1][1] <= _NEAR:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups
