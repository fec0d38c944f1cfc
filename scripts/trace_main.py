"""How long the road of a row is: files and functions that one batch passes, and the statements sent for it.

Four batches go through the running code into a new database: a page of trades of a backfill, a file of
candles and one of trades of an import, and a live trade. Each goes in twice. The first time holds what is
done once for a connection, a symbol or a run; the second time is the road of every other batch.

What is counted, from the moment the batch is handed over to the COMMIT that stores it:

files, functions
    of kraken_db that run meanwhile, in all threads, each once. Those count too that were called before and
    are gone on with: they lead to the batch. Comprehensions and lambdas belong to the function around them,
    and modules that are being imported do not count. Nor does the simulated exchange.
statements
    that reach the driver, SQLAlchemy's and our own, repeated ones as often as they are sent; SAVEPOINT too.
    COPY is counted apart, and so are BEGIN, COMMIT and ROLLBACK.

A page is handed over when Kraken's client returns it; the next one is asked for only after it is stored, so
that nothing of another page is counted. A live trade is handed over with the call of write_trade, and
flushed; of several the shortest road is shown, because timers of the writer may go off meanwhile. A file of
an import follows on the one before it: its batch begins with the COMMIT of that one. The batch ends with
the COMMIT of the last transaction that wrote to trades or candles for it: what follows (the refresh of the
higher intervals) is not part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any, Literal, TypeAlias
from unittest.mock import patch
from urllib.parse import urlsplit, urlunsplit

import _bench as bench
import asyncpg
from sqlalchemy import Engine, event

import kraken_db
from kraken_db import BulkCSVImporter, DatabaseWriter, KrakenTradesBackfill, TradeRecord
from kraken_db.db.migrations import upgrade
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.messages import TradesPage
from kraken_db.kraken.rest import MAX_COUNT, KrakenRestClient
from kraken_db.simulator import Market, SimulatedExchange

PACKAGE = Path(kraken_db.__file__).parent
NOT_THE_STORE = f"{PACKAGE / 'simulator'}/"
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 1_000

_SENT_BY = ("fetch", "fetchrow", "fetchval", "execute")
_COPIED_BY = ("copy_to_table", "copy_records_to_table", "copy_from_table", "copy_from_query")
_TRANSACTION = re.compile(r"\s*(BEGIN|START TRANSACTION|COMMIT|ROLLBACK)\b(?!\s+TO\b)", re.IGNORECASE)
_STORES = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|COPY)\s+\"?(trades|candles)\b", re.IGNORECASE
)

Kind: TypeAlias = Literal["call", "statement", "copy", "transaction", "batch"]


@dataclass(frozen=True, slots=True)
class Event:
    """``place``: the file of a call, below the package, or the connection of what was sent."""

    kind: Kind
    place: str | int
    what: str


class Trace:
    """Everything that happens, in its order, while ``running``."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._known: dict[CodeType, Event | None] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in _SENT_BY:
                stack.enter_context(patch.object(asyncpg.Connection, name, self._noted(name, "statement")))
            for name in _COPIED_BY:
                stack.enter_context(patch.object(asyncpg.Connection, name, self._noted(name, "copy")))
            event.listen(Engine, "before_cursor_execute", self._executed)
            stack.callback(event.remove, Engine, "before_cursor_execute", self._executed)
            threading.setprofile(self._profile)
            sys.setprofile(self._profile)
            stack.callback(threading.setprofile, None)
            stack.callback(sys.setprofile, None)
            yield

    def begin_batch(self) -> None:
        """A batch is handed over here, by whoever is on the stack."""
        self.events.append(Event("batch", "", ""))
        stack = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            stack.append(frame)
            frame = frame.f_back
        for caller in reversed(stack):
            self._profile(caller, "call", None)

    async def settled(self, quiet: float = 0.3) -> None:
        """Wait until nothing has happened for so many seconds."""

        async def wait() -> None:
            count = -1
            while count != len(self.events):
                count = len(self.events)
                await asyncio.sleep(quiet)

        # In a task of its own: each time that it wakes up here, all who wait for us would be called.
        await asyncio.create_task(wait())

    def _profile(self, frame: FrameType, what: str, _argument: object) -> None:
        if what != "call":
            return
        code = frame.f_code
        if code not in self._known:
            self._known[code] = _call(code)
        if (call := self._known[code]) is not None:
            self.events.append(call)

    def _executed(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        driver = connection.connection.driver_connection
        self.events.append(Event("statement", id(driver), statement))

    def _noted(self, name: str, kind: Kind) -> Callable[..., Awaitable[Any]]:
        """The driver's method, noted before it is done."""
        method: Callable[..., Awaitable[Any]] = getattr(asyncpg.Connection, name)

        async def noted(driver: Any, what: str, *arguments: Any, **options: Any) -> Any:
            sent = "transaction" if kind == "statement" and _TRANSACTION.match(what) else kind
            text = f"COPY {what}" if kind == "copy" else what
            self.events.append(Event(sent, id(driver), text))
            return await method(driver, what, *arguments, **options)

        return noted


def _call(code: CodeType) -> Event | None:
    """What a call of this code is; None where it does not count."""
    path = code.co_filename
    # Bodies of modules and classes are not optimized: they run when something is imported.
    is_function = code.co_flags & inspect.CO_OPTIMIZED
    if not is_function or not path.startswith(f"{PACKAGE}/") or path.startswith(NOT_THE_STORE):
        return None
    name = re.sub(r"(\.<locals>)?\.<(lambda|genexpr|listcomp|setcomp|dictcomp)>", "", code.co_qualname)
    return Event("call", str(Path(path).relative_to(PACKAGE)), name)


@dataclass(frozen=True)
class Road:
    """What one batch passed."""

    functions: dict[str, list[str]]
    """By file; both in the order of their first calls."""
    statements: list[str]
    copies: list[str]
    transactions: list[str]

    @classmethod
    def of(cls, events: Sequence[Event]) -> Road:
        functions: dict[str, dict[str, None]] = {}
        for one in events:
            if one.kind == "call":
                functions.setdefault(str(one.place), {})[one.what] = None

        def sent(kind: Kind) -> list[str]:
            return [one.what for one in events if one.kind == kind]

        found = {file: list(names) for file, names in functions.items()}
        return cls(found, sent("statement"), sent("copy"), sent("transaction"))

    @property
    def figures(self) -> dict[str, int]:
        return {
            "files": len(self.functions),
            "functions": sum(map(len, self.functions.values())),
            "statements": len(self.statements),
            "copies": len(self.copies),
            "transactions": sum(_is(name, "BEGIN", "START") for name in self.transactions),
        }


def roads(events: Sequence[Event]) -> list[Road]:
    """One for each batch that was handed over; without such marks, one for each COMMIT that stored rows."""
    ends = _commits(events)
    begins = [number for number, one in enumerate(events) if one.kind == "batch"]
    if not begins:
        begins = [0, *(end + 1 for end in ends[:-1])]
    found = []
    for begin, following in zip(begins, [*begins[1:], len(events)], strict=True):
        own = [end for end in ends if begin <= end < following]
        if own:  # a page that brings nothing new is not stored
            found.append(Road.of(events[begin : own[-1] + 1]))
    return found


def _commits(events: Sequence[Event]) -> list[int]:
    """Where transactions are committed that wrote to trades or candles."""
    found: list[int] = []
    has_stored: dict[str | int, bool] = {}
    for number, one in enumerate(events):
        if one.kind == "transaction":
            if _is(one.what, "COMMIT") and has_stored.get(one.place):
                found.append(number)
            has_stored[one.place] = False
        elif one.kind in ("statement", "copy"):
            has_stored[one.place] = has_stored.get(one.place, False) or bool(_STORES.search(one.what))
    return found


def _is(statement: str, *words: str) -> bool:
    return statement.lstrip().upper().startswith(words)


# --- the batches ---


class OnePageAtATime(KrakenRestClient):
    """Asks for a page when the one before it is stored and nothing happens any more."""

    def __init__(self, base_url: str, trace: Trace) -> None:
        super().__init__(base_url, rate_limit_delay=0, limiter=RateLimiter())
        self._trace = trace

    async def trades_page(self, pair: str, since: int | None = None, *, count: int = MAX_COUNT) -> TradesPage:
        if since is None:  # the question for the newest trade, which is asked beside the others
            return await super().trades_page(pair, since, count=count)
        await self._trace.settled()
        page = await super().trades_page(pair, since, count=count)
        self._trace.begin_batch()
        return page


async def trace_pages(url: str, _folder: Path) -> list[Road]:
    market = Market("BTC/USD", seed=1, trades=3 * ROWS)
    trace = Trace()
    async with SimulatedExchange([market]).serve() as address:
        with trace.running():
            client = OnePageAtATime(address, trace)
            async with KrakenTradesBackfill(url, client=client) as service:
                (report,) = await service.backfill([market.symbol])
    if report.error is not None:
        raise report.error
    return roads(trace.events)


async def trace_candle_files(url: str, folder: Path) -> list[Road]:
    for name in ("SOLUSD_1.csv", "XRPUSD_1.csv"):
        bench.write_archive(folder / name, ROWS)
    return await _trace_import(url, folder)


async def trace_trade_files(url: str, folder: Path) -> list[Road]:
    began = int(MONDAY.timestamp())
    rows = "".join(f"{100 + n % 7}.0,0.5,{began + 7 * n}.25,b,m,,{n + 1}\n" for n in range(ROWS))
    for name in ("ADAUSD.csv", "DOTUSD.csv"):
        (folder / name).write_text(rows)
    return await _trace_import(url, folder)


async def _trace_import(url: str, folder: Path) -> list[Road]:
    trace = Trace()
    async with BulkCSVImporter(url, workers=1) as importer:
        plan = importer.plan([folder])
        with trace.running():
            report = await importer.run(plan)
    for error in report.errors:
        raise error
    return roads(trace.events)


async def trace_live_trades(url: str, folder: Path) -> list[Road]:
    trace = Trace()
    with trace.running():
        async with DatabaseWriter(url, trade_flush_interval=600.0, journal_dir=folder / "journal") as writer:
            for number in range(1, 6):
                await trace.settled()
                moment = MONDAY + timedelta(seconds=number)
                trade = TradeRecord("ETH/USD", moment, Decimal(100), Decimal(1), "buy", number, "limit")
                trace.begin_batch()
                await writer.write_trade(trade)
                await writer.flush()
    first, *others = roads(trace.events)
    return [first, min(others, key=lambda road: road.figures["functions"])]


@dataclass(frozen=True)
class Way:
    """One way into the store. ``most``: what the second batch may pass at the most."""

    name: str
    run: Callable[[str, Path], Awaitable[list[Road]]]
    most: dict[str, int]


WAYS = {
    "page": Way(f"a page of {ROWS:,} trades", trace_pages, {"files": 25, "statements": 10}),
    "candle_file": Way(f"a file of {ROWS:,} candles", trace_candle_files, {"files": 18}),
    "trade_file": Way(f"a file of {ROWS:,} trades", trace_trade_files, {"files": 18}),
    "live_trade": Way("a live trade", trace_live_trades, {"files": 22}),
}


async def trace_all(url: str, names: Sequence[str]) -> dict[str, tuple[Road, Road]]:
    """The roads of the first and of the second batch. Each way has symbols of its own."""
    await upgrade(url)
    found = {}
    for name in names:
        bench.say(f"tracing {WAYS[name].name} ...")
        with TemporaryDirectory() as folder:
            first, second, *_ = await WAYS[name].run(url, Path(folder))
        found[name] = (first, second)
    return found


async def trace_beside(url: str, names: Sequence[str]) -> dict[str, tuple[Road, Road]]:
    """The same in a database of its own beside the one of the URL; it is dropped at the end."""
    own = f"kraken_db_trace_{time.time_ns()}"
    await _run(url, f'CREATE DATABASE "{own}"')
    try:
        return await trace_all(urlunsplit(urlsplit(url)._replace(path=f"/{own}")), names)
    finally:
        await _run(url, f'DROP DATABASE "{own}" WITH (FORCE)')


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# --- showing ---


def show(found: dict[str, tuple[Road, Road]]) -> None:
    columns = ["files", "functions", "statements", "copies", "transactions"]

    def line(title: str, order: str, cells: Mapping[str, int | str]) -> None:
        print(f"{title:<24}{order:<8}" + "".join(f"{cells.get(name, ''):>14}" for name in columns).rstrip())

    line("", "", {name: name for name in columns})
    for name, (first, second) in found.items():
        line(WAYS[name].name, "first", first.figures)
        line("", "second", second.figures)
        line("", "at most", WAYS[name].most)


def show_road(title: str, road: Road) -> None:
    print(f"\n== {title}, the second one\n")
    for file, functions in road.functions.items():
        print(file)
        for name in functions:
            print(f"    {name}")
    for kind, sent in (("statements", road.statements), ("COPY", road.copies)):
        print(f"\n{kind}:")
        for statement, times in Counter(map(shortened, sent)).items():
            print(f"    {statement}{f'   ({times} times)' if times > 1 else ''}")


def shortened(statement: str) -> str:
    words = " ".join(statement.split())
    return words if len(words) <= 100 else f"{words[:97]}..."


def to_json(pair: tuple[Road, Road], most: dict[str, int]) -> dict[str, object]:
    first, second = pair
    sent = {"statements": second.statements, "copies": second.copies}
    return {
        "first": first.figures,
        "second": second.figures,
        "at_most": most,
        "road": {"functions": second.functions, **sent},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [way ...] [options]",
    )
    parser.add_argument("ways", nargs="*", metavar="way", help=f"one of: {', '.join(WAYS)}")
    parser.add_argument("--list", action="store_true", help="files, functions and statements by name")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument(
        "--db-url", help="a server whose user may create databases; an embedded one unless said otherwise"
    )
    options = parser.parse_args()
    if unknown := set(options.ways) - set(WAYS):
        parser.error(f"there is no way {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    names = [name for name in WAYS if not options.ways or name in options.ways]
    if options.db_url:
        found = asyncio.run(trace_beside(options.db_url, names))
    else:
        with bench.server() as (server, _):
            found = asyncio.run(trace_all(server.url(), names))
    if options.json:
        print(json.dumps({name: to_json(pair, WAYS[name].most) for name, pair in found.items()}, indent=2))
        return
    show(found)
    if options.list:
        for name, (_, second) in found.items():
            show_road(WAYS[name].name, second)


if __name__ == "__main__":
    main()
