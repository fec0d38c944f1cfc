"""History as data frames, by one synchronous call: for notebooks, scripts and backtests.

The store is opened by the first call, on a thread of its own, and stays open for the next ones until Python
ends. That works inside of a running event loop and from many threads at once.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from datetime import time as clock_time
from functools import wraps
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, get_args
from urllib.parse import quote
from zoneinfo import ZoneInfo

from kraken_db.background import BackgroundLoop
from kraken_db.cache import Cache, cache_folder
from kraken_db.errors import ConfigurationError, DatabaseUnavailableError, KrakenDBError, PairError
from kraken_db.frames import (
    CANDLE_COLUMNS,
    INDEX,
    SYMBOL,
    TRADE_COLUMNS,
    FrameBackend,
    FrameColumn,
    Numbers,
    join_symbols,
    rename_columns,
    to_zone,
)
from kraken_db.historical_provider import Fill, HistoricalDataProvider, check_count, to_range
from kraken_db.intervals import IntervalLike, as_interval, parse_zone
from kraken_db.nothing_found import EmptyRangeError, nearest, no_candles, no_trades
from kraken_db.pairs import known_spelling, parse_symbol
from kraken_db.patterns import is_pattern, matching, parse_pair
from kraken_db.settings import EMBEDDED_URL, Settings
from kraken_db.times import Moment, utc_now

Columns: TypeAlias = Literal["lower", "title"] | Sequence[str]
_T = TypeVar("_T")
_P = ParamSpec("_P")
_Read: TypeAlias = Callable[[HistoricalDataProvider, str], Awaitable[Any]]
_Explain: TypeAlias = Callable[[HistoricalDataProvider, str], Awaitable[KrakenDBError]]
_TITLES = {"trade_count": "TradeCount", "vwap": "VWAP", "id": "ID", "order_type": "OrderType"}


def _briefly(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have our errors show the caller's line and what is to be done, and nothing of the way in between."""

    @wraps(function)
    def called(*args: _P.args, **options: _P.kwargs) -> _T:
        try:
            return function(*args, **options)
        except KrakenDBError as error:
            raise error.with_traceback(None) from None

    return called


@_briefly
def load(
    symbol: str | Iterable[str],
    interval: IntervalLike = "1h",
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    last: int | None = None,
    engine: FrameBackend = "pandas",
    columns: Columns = "lower",
    numbers: Numbers = "float",
    fill: Fill | None = None,
    closed: bool = False,
    tz: str | tzinfo | None = None,
    anchor: str | date | None = None,
    session: str | clock_time | timedelta | None = None,
    db_url: str | None = None,
    cache: Cache = False,
) -> Any:
    """Candles as a data frame: ``kraken_db.load("BTC/USD", "1h", start="2023-01-01")``.

    Args:
        symbol: A pair in any spelling, a pattern (``"*/USD"``, of what is stored), or a list. A list or
            a pattern gives all pairs in one frame, one below the other: in pandas with the index (``symbol``,
            ``timestamp``), elsewhere with a first column ``symbol``. A single pair has neither.
        interval: ``"1m"``, ``"2h"``, ``"1d"``, ``"1M"`` (a month), ..., minutes or a timedelta.
        start: The first candle opens here or later: text (``"2023-01-31"``, ``"3 years ago"``), a date
            (midnight) or an aware datetime. What names no zone is of ``tz``. None: from the first one on.
        end: All candles open before. None: up to the newest one.
        last: Only the newest so many; not together with ``start``.
        engine: ``"pandas"`` (the index ``timestamp`` is a DatetimeIndex), ``"polars"`` or ``"arrow"``.
        columns: ``"lower"``: open, high, low, close, volume, trade_count, vwap. ``"title"``: Open, High, ...,
            as backtesting.py and mplfinance want them. Or a list of names of either kind.
        numbers: ``"float"``, or ``"decimal"``, which is exact; see the page "In a notebook" for what pandas
            cannot do with decimals.
        fill: ``"previous"`` gives intervals without a trade as flat candles, where it is known that nothing
            is missing. By default they have no row.
        closed: Leave out the candle that still runs.
        tz: Days, weeks and months are those of this zone, ``"Europe/Berlin"``, and so are ``start`` and
            ``end``; times are shown in it. UTC by default.
        anchor: A day on which a candle opens, ``"2023-01-02"``: see ``kraken_db.intervals.as_interval``.
        session: When a day begins, ``"17:00"``; the same.
        db_url: Another database than that of ``DATABASE_URL``, or the embedded one. ``load`` never creates a
            database.
        cache: True for candles that are read again and again: they are kept in files, and read from there for
            as long as the database says that nothing has changed. Or the directory for them.

    Returns:
        A frame in order of time. If nothing is stored in the range it is empty, and a UserWarning says what
        is stored.

    Raises:
        PairError: What is no pair, or was never stored; it names the nearest.
        ConfigurationError: Another argument that cannot work, or a missing package (extra ``frames``).
        KrakenDBError: The database failed.
    """
    options = _Options(engine, numbers, columns, tz, last, CANDLE_COLUMNS)
    options.check()
    length = as_interval(interval, tz=tz, anchor=anchor, session=session)
    begin, stop = _checked_range(start, end, last, tz)
    if closed:
        stop = min(stop, length.opened_at(utc_now()))

    async def read(provider: HistoricalDataProvider, name: str) -> Any:
        kind: dict[str, Any] = {"backend": engine, "numbers": numbers, "fill": fill}
        if last is not None:
            return await provider.get_latest_candles_frame(name, length, last, before=stop, **kind)
        return await provider.get_candles_frame(name, length, begin, stop, **kind)

    async def explain(provider: HistoricalDataProvider, name: str) -> KrakenDBError:
        return await no_candles(provider, name, length)

    return _load(symbol, options, read, explain, db_url, cache)


@_briefly
def load_trades(
    symbol: str | Iterable[str],
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    last: int | None = None,
    engine: FrameBackend = "pandas",
    columns: Columns = "lower",
    numbers: Numbers = "float",
    tz: str | tzinfo | None = None,
    db_url: str | None = None,
) -> Any:
    """Trades as a data frame, in order of time and id: id, price, volume, side, order_type, misc.

    ``side`` is the taker's; ids are Kraken's, negative where they are not known. All arguments, errors and
    warnings are those of ``load``. A pair can have 100 million trades: name a range, or ``last``.
    """
    options = _Options(engine, numbers, columns, tz, last, TRADE_COLUMNS)
    begin, stop = _checked_range(start, end, last, tz)

    async def read(provider: HistoricalDataProvider, name: str) -> Any:
        kind: dict[str, Any] = {"backend": engine, "numbers": numbers}
        if last is not None:
            return await provider.get_latest_trades_frame(name, last, before=stop, **kind)
        return await provider.get_trades_frame(name, begin, stop, **kind)

    return _load(symbol, options, read, no_trades, db_url)


@_briefly
def symbols(pattern: str | None = None, *, db_url: str | None = None) -> list[str]:
    """The pairs of which something is stored, in alphabetical order: all, or those of a pattern.

    Raises PairError for what can be no pattern of pairs.
    """

    async def read(provider: HistoricalDataProvider) -> list[str]:
        stored = await provider.get_symbols()
        return stored if pattern is None else matching(parse_pair(pattern), stored)

    return _call(read, db_url)


def close() -> None:
    """Close the connections that the calls have kept open. The next call opens new ones."""
    global _readers
    with _guard:
        readers, _readers = _readers, None
    if readers is not None:
        atexit.unregister(readers.close)
        readers.close()


# --- arguments ---


@dataclass(frozen=True, slots=True)
class _Options:
    """What the frame is to look like. Wrong ones are refused before anything is read."""

    engine: FrameBackend
    numbers: Numbers
    columns: Columns
    tz: str | tzinfo | None
    last: int | None
    known: Sequence[FrameColumn]

    def names(self) -> dict[str, str]:
        """The columns of the frame, the time first, by their names in the store."""
        all_names = {column.name: column.name for column in self.known}
        titles = {name: _TITLES.get(name, name.title()) for name in all_names}
        if self.columns in ("lower", "title"):
            return titles if self.columns == "title" else all_names
        if isinstance(self.columns, str) or not isinstance(self.columns, Iterable):
            raise ConfigurationError(
                f"columns={self.columns!r} is not known", hint="known: 'lower', 'title', or a list of names"
            )
        ours = {**{title: name for name, title in titles.items()}, **all_names}
        chosen: dict[str, str] = {}
        for name in self.columns:
            if name not in ours:
                raise ConfigurationError(
                    f"there is no column {name!r}", hint=f"known: {', '.join((*all_names, *titles.values()))}"
                )
            if ours[name] in chosen:
                raise ConfigurationError(f"columns names {name!r} twice")
            chosen[ours[name]] = name
        return {INDEX: chosen.pop(INDEX, INDEX), **chosen}

    def check(self) -> None:
        self.names()
        if self.engine not in get_args(FrameBackend):
            raise ConfigurationError(
                f"engine={self.engine!r} is not known", hint="known: 'pandas', 'polars', 'arrow'"
            )
        if self.last is not None and not check_count(self.last, "last"):
            raise ConfigurationError("last is 0", hint="ask for one row at least, or leave it out")
        if self.tz is not None:
            _zone_name(self.tz)

    def finish(self, frames: dict[str, Any], *, is_one: bool) -> Any:
        names = self.names()
        if self.tz is not None:
            zone = _zone_name(self.tz)
            frames = {symbol: to_zone(frame, zone) for symbol, frame in frames.items()}
        if is_one:
            (frame,) = frames.values()
            return rename_columns(frame, names)
        return rename_columns(join_symbols(frames), {SYMBOL: _title_of(SYMBOL, names), **names})


def _title_of(name: str, others: dict[str, str]) -> str:
    return name.title() if others[INDEX] != INDEX else name


def _zone_name(tz: str | tzinfo) -> str:
    """As the packages of all three engines know it. Raises ConfigurationError."""
    zone = parse_zone(tz)
    if zone is not UTC and not isinstance(zone, ZoneInfo):
        raise ConfigurationError(f"tz={tz} has no name", hint="write it like 'Europe/Berlin' or 'UTC'")
    return str(zone) if isinstance(zone, ZoneInfo) else "UTC"


def _checked_range(
    start: Moment | None, end: Moment | None, last: int | None, tz: str | tzinfo | None
) -> tuple[datetime, datetime]:
    if start is not None and last is not None:
        raise ConfigurationError("start and last cannot be combined", hint="choose one of them")
    begin, stop = to_range(start, end, utc_now(), UTC if tz is None else parse_zone(tz))
    if start is not None and end is not None and begin >= stop:
        raise ConfigurationError(f"start ({begin.isoformat()}) is not before end ({stop.isoformat()})")
    return begin, stop


def _named(symbol: str | Iterable[str]) -> list[str]:
    is_one = isinstance(symbol, str | bytes) or not isinstance(symbol, Iterable)
    named: list[Any] = [symbol] if is_one else list(symbol)
    if not named:
        raise ConfigurationError("no pairs were named", hint="pass one, a list of them, or a pattern")
    for one in named:
        if not isinstance(one, str):
            raise ConfigurationError(f"{one!r} is not a pair", hint="write it as 'BTC/USD'")
    return named


# --- reading ---


def _load(
    symbol: str | Iterable[str],
    options: _Options,
    read: _Read,
    explain: _Explain,
    db_url: str | None,
    cache: Cache = False,
) -> Any:
    options.check()
    wanted = _named(symbol)
    is_one = isinstance(symbol, str) and not is_pattern(symbol)
    warned: list[str] = []

    async def work(provider: HistoricalDataProvider) -> dict[str, Any]:
        warned.clear()
        names = await _stored_names(provider, wanted)

        async def one(name: str) -> Any:
            frame = await read(provider, name)
            if not len(frame):
                error = await explain(provider, name)
                if not isinstance(error, EmptyRangeError):
                    raise error
                warned.append(str(error))
            return frame

        return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))

    frames = _call(work, db_url, cache)
    for text in sorted(warned):
        warnings.warn(text, stacklevel=4)
    return options.finish(frames, is_one=is_one)


async def _stored_names(provider: HistoricalDataProvider, wanted: Sequence[str]) -> list[str]:
    """In our spelling. What is stored is asked only where it decides: for patterns and small x."""
    if any(map(is_pattern, wanted)):
        return await provider.select_stored(wanted)
    try:
        names = list(dict.fromkeys(map(parse_symbol, wanted)))
    except PairError as error:
        near = nearest(" ".join(wanted).upper(), await provider.get_symbols())
        raise PairError(
            error.message, hint=f"did you mean {' or '.join(near)}?" if near else error.hint
        ) from None
    if not any(name.partition("/")[0].endswith("X") for name in names):
        return names
    stored = await provider.get_symbols()
    return [known_spelling(name, stored) for name in names]


class _Readers:
    """The providers that all calls share, one for each address and cache, and the loop they live on."""

    def __init__(self) -> None:
        self._loop = BackgroundLoop()
        self._opening = asyncio.Lock()
        self._open: dict[tuple[str, Path | None], HistoricalDataProvider] = {}

    def run(
        self, url: str, cache: Path | None, work: Callable[[HistoricalDataProvider], Awaitable[_T]]
    ) -> _T:
        return self._loop.run(self._work(url, cache, work))

    async def _work(
        self, url: str, cache: Path | None, work: Callable[[HistoricalDataProvider], Awaitable[_T]]
    ) -> _T:
        provider = await self._provider(url, cache)
        try:
            return await work(provider)
        except DatabaseUnavailableError:
            # An embedded server may have been stopped meanwhile: it is ours to start.
            if not await provider.revive():
                raise
            return await work(provider)

    async def _provider(self, url: str, cache: Path | None) -> HistoricalDataProvider:
        async with self._opening:
            if (url, cache) not in self._open:
                provider = HistoricalDataProvider(url, pool_min_size=1, cache=cache or False)
                await provider.connect()
                self._open[url, cache] = provider
        return self._open[url, cache]

    async def _close_all(self) -> None:
        for provider in self._open.values():
            await provider.close()

    def close(self) -> None:
        self._loop.close(self._close_all())


_guard = threading.Lock()
_readers: _Readers | None = None
_of_parent: list[_Readers | None] = []


def _call(
    work: Callable[[HistoricalDataProvider], Awaitable[_T]], db_url: str | None, cache: Cache = False
) -> _T:
    global _readers
    url = _address(db_url)
    with _guard:
        if _readers is None:
            _readers = _Readers()
            atexit.register(_readers.close)
        readers = _readers
    return readers.run(url, cache_folder(cache), work)


def _address(db_url: str | None) -> str:
    """The database of this call: the environment may have changed since the last one."""
    settings = Settings.from_environment()
    url = db_url or settings.database_url
    if not isinstance(url, str):
        raise ConfigurationError(
            f"db_url={url!r} is not a text", hint="write it as postgresql://... or embedded:"
        )
    if url == EMBEDDED_URL and settings.data_dir is not None:
        return f"{EMBEDDED_URL}//{quote(str(Path.cwd() / settings.data_dir))}"
    return url


def _forget_after_fork() -> None:
    """A forked child has no such thread, and must not touch its parent's connections: not even close them."""
    global _guard, _readers
    if _readers is not None:
        atexit.unregister(_readers.close)
    _of_parent.append(_readers)
    _guard, _readers = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
