"""``kraken-db record``: the live trades of some pairs, for as long as it runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from kraken_db.cli.alarms import alarm_source, test_alarm
from kraken_db.cli.base import Signals, sentence
from kraken_db.cli.metrics import Address, metrics_of, metrics_option
from kraken_db.cli.moments import SpanType
from kraken_db.cli.options import (
    MultiValueCommand,
    db_url_option,
    exclude_option,
    notify_options,
    pair_options,
    rate_limit_option,
    stored_option,
    tell_default,
)
from kraken_db.cli.output import (
    Column,
    can_repaint,
    console,
    count_text,
    fit,
    folded,
    plain_number,
    plural,
    print_folded,
    styled,
    to_json,
)
from kraken_db.errors import JobRunningError, KrakenDBError
from kraken_db.pairs import DEFAULT_SYMBOLS
from kraken_db.problems import Problem

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from rich.live import Live

    from kraken_db.alarms import Webhook
    from kraken_db.recorder import PairStatus, Recorder, RecorderStatus
    from kraken_db.recorder.symbol_feed import State


class View(Protocol):
    every: float
    """Seconds between two reports, unless others are asked for."""

    def show(self, status: RecorderStatus) -> None: ...

    def end(self, status: RecorderStatus) -> None:
        """The recording is over."""


@contextmanager
def show_view(*, as_json: bool) -> Iterator[View]:
    """What fits stdout."""
    if as_json:
        yield JsonView()
        return
    if not can_repaint():
        yield LineView()
        return
    from rich.text import Text

    from kraken_db.cli.live import open_live

    shown_on, view = console(), TableView()
    # The last line stays free for the cursor, and the last column as in every live screen.
    view.live = open_live(
        shown_on,
        lambda: Text.from_ansi("\n".join(view.lines(shown_on.width - 1, shown_on.height - 1)), no_wrap=True),
    )
    with view.live:
        yield view


class JsonView:
    every = 10.0

    def show(self, status: RecorderStatus) -> None:
        document = asdict(status) | {"received": status.received, "repaired": status.repaired}
        click.echo(to_json(document, indent=None))

    end = show


class LineView:
    every = 10.0

    def show(self, status: RecorderStatus) -> None:
        click.echo(f"{status.time:%Y-%m-%d %H:%M:%S} {line(status)}")

    def end(self, status: RecorderStatus) -> None:
        click.echo(f"{status.time:%Y-%m-%d %H:%M:%S} {line(status, is_over=True)}")


class TableView:
    every = 1.0

    def __init__(self) -> None:
        self.live: Live | None = None
        self._status: RecorderStatus | None = None

    def show(self, status: RecorderStatus) -> None:
        self._status = status
        if self.live is not None:
            self.live.refresh()

    def end(self, status: RecorderStatus) -> None:
        if self.live is not None:
            self.live.stop()
        print_folded(line(status, is_over=True))

    def lines(self, width: int, height: int) -> list[str]:
        """What is on the screen: no line is longer than it is wide."""
        return [] if self._status is None else screen_lines(self._status, width, height)


def line(status: RecorderStatus, *, is_over: bool = False) -> str:
    """``3 pairs, 12.4 trades/s, lag 0.1 s, 0 reconnects, 0 repaired, buffer 12``."""
    recorded = [pair for pair in status.pairs if pair.state != "delisted"]
    live = sum(pair.state == "live" for pair in recorded)
    pairs = plural(len(recorded), "pair")
    parts = [
        pairs if live == len(recorded) else f"{pairs} ({count_text(live)} live)",
        f"{status.trades_per_second:,.1f} trades/s",
        f"{plural(status.received, 'trade')} received",
        f"lag {_seconds(status.lag)}",
        plural(status.reconnects, "reconnect"),
        f"{count_text(status.repaired)} repaired",
        f"buffer {count_text(status.buffer)}",
    ]
    if status.journal:
        parts.append(f"journal {count_text(status.journal)}")
    if status.database_outage is not None:
        since, _ = status.database_outage
        parts.append(f"database away since {since:%H:%M:%S}, {plural(status.kept, 'record')} wait")
    if is_over:
        parts.append("stopped")
    elif not status.is_connected:
        parts.append("not connected")
    if status.system not in (None, "online"):
        parts.append(f"Kraken: {status.system}")
    return ", ".join(parts)


_STATES: Sequence[State] = ("refused", "not subscribed", "catching up", "live", "delisted")
"""The states in the order of what somebody has to know first."""
_COLOURS: Mapping[State, str] = {
    "refused": "red",
    "not subscribed": "red",
    "catching up": "yellow",
    "delisted": "bright_black",
}
_COLUMNS = [
    Column("symbol"),
    Column("state"),
    Column("last (UTC)", rank=1),
    Column("last price", right=True),
    Column("received", right=True, rank=2),
    Column("repaired", right=True, rank=5),
    Column("holes", right=True, rank=3),
    Column("waiting", right=True, rank=4),
]


def shown_first(pairs: Sequence[PairStatus], most: int) -> tuple[list[PairStatus], list[PairStatus]]:
    """Those that are shown where there is room for ``most``, and those that are hidden.

    Trouble comes first, then what trades most; where all have room, then the others in their order.
    """
    if len(pairs) <= most:
        return sorted(pairs, key=lambda pair: _STATES.index(pair.state)), []
    ordered = sorted(
        pairs, key=lambda pair: (_STATES.index(pair.state), pair.waiting == 0, -pair.holes, -pair.received)
    )
    return ordered[:most], ordered[most:]


def hidden_text(hidden: Sequence[PairStatus]) -> str:
    """``and 1,601 more: 1,590 live, 11 catching up``."""
    states = Counter(pair.state for pair in hidden)
    told = [f"{count_text(states[state])} {state}" for state in _STATES if states[state]]
    return f"and {count_text(len(hidden))} more: {', '.join(told)}"


def screen_lines(status: RecorderStatus, width: int, height: int) -> list[str]:
    """A line for all pairs, and of the table the rows that have room, with colours."""
    head = folded(f"{status.time:%H:%M:%S} {line(status)}", width, " " * 9)
    room = max(1, height - len(head) - 1)
    shown, hidden = shown_first(status.pairs, room)
    if hidden:
        below = folded(hidden_text(hidden), width)
        shown, hidden = shown_first(status.pairs, max(1, room - len(below)))
    table = fit(_COLUMNS, [_cells(pair, status.time) for pair in shown], width)
    titles = [column.title for column in table.columns]
    lines = [*head, styled(table.line(titles)[:width], bold=True)]
    for pair, cells in zip(shown, table.rows, strict=True):
        colour = "yellow" if pair.state == "live" and pair.waiting else _COLOURS.get(pair.state)
        lines.append(styled(table.line(cells)[:width], fg=colour))
    return [*lines, *(folded(hidden_text(hidden), width) if hidden else [])][:height]


def _cells(pair: PairStatus, now: datetime) -> tuple[str, ...]:
    moment = "-"
    if pair.last_time is not None:  # of another day the day says enough
        is_today = pair.last_time.date() == now.date()
        moment = f"{pair.last_time:%H:%M:%S}" if is_today else f"{pair.last_time:%Y-%m-%d}"
    price = "-" if pair.last_price is None else plain_number(pair.last_price)
    numbers = (pair.received, pair.repaired, pair.holes, pair.waiting)
    return pair.symbol, pair.state, moment, price, *map(count_text, numbers)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


@click.command(
    cls=MultiValueCommand,
    short_help="Record live trades, and build their candles.",
    epilog="Examples: kraken-db record --symbols BTC/USD ETH/USD; kraken-db record --symbols '*/USD'",
)
@pair_options(f"Default: {' '.join(DEFAULT_SYMBOLS)}.", stored_adds=True)
@stored_option
@exclude_option
@click.option(
    "--every",
    type=SpanType(timedelta(seconds=1), click.FloatRange(0.1)),
    metavar="SECONDS",
    help="Between two reports. Default: 10, on a terminal 1.",
)
@click.option(
    "--flush-interval",
    type=SpanType(timedelta(seconds=1), click.FloatRange(0, min_open=True)),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a trade waits for others at most before it is written.",
)
@click.option(
    "--journal-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where trades are kept while the database is away. Default: below the user's state directory.",
)
@rate_limit_option
@metrics_option
@notify_options
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON object a line.")
@db_url_option
@click.pass_context
def record(
    context: click.Context,
    symbols: tuple[str, ...] | None,
    stored: bool,
    exclude: tuple[str, ...],
    every: float | None,
    flush_interval: float,
    journal_dir: Path | None,
    rate_limit: float,
    metrics: Address | None,
    webhook: Webhook | None,
    notify_test: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Record every trade of some pairs as it happens, and build their 1m candles, until Ctrl-C or SIGTERM.

    First it downloads what has happened since the last stored trade; for a pair that was never stored it
    begins now. Where trades are missing, after a lost connection for example, they are downloaded before
    anything behind them is stored. It may be killed at any moment and started again.

    New pairs that fit a pattern are recorded as Kraken lists them. A pair that Kraken does not know is left
    out; what else it refuses is asked for again. The exit code is 1 if it still refuses a pair at the end.

    Receives from Kraken over the network, or from what KRAKEN_WS_URL and KRAKEN_BASE_URL name.
    """
    from kraken_db.recorder import Recorder

    source = alarm_source("record", symbols, exclude, stored=stored)
    if notify_test:
        example = [Problem("feed", "no live feed since 02:10:00 UTC: nothing came for 8.1 s (an example)")]
        asyncio.run(test_alarm(webhook, source, example))
        return

    async def run() -> bool:
        recorder = Recorder(
            db_url,
            symbols,
            exclude=exclude,
            stored=stored,
            rate_limit_delay=rate_limit,
            flush_interval=flush_interval,
            journal_dir=journal_dir,
        )
        with show_view(as_json=as_json) as view, Signals().stopping(recorder):
            async with (
                metrics_of(recorder, "recorder", lambda: _families(recorder), metrics),
                beside(_report(recorder, view, every or view.every)),
                alarms_of(recorder, webhook, db_url, source),
                AsyncExitStack() as at_the_end,
            ):
                at_the_end.push_async_callback(recorder.close)
                if await recorder.connect_patiently():
                    await tell_default(symbols or DEFAULT_SYMBOLS, recorder)
                    await recorder.run()
            view.end(recorder.status())
            return recorder.is_flawed

    context.exit(int(asyncio.run(run())))


def _families(recorder: Recorder) -> Iterator[Metric]:
    from kraken_db.metrics.families import of_recorder

    return of_recorder(recorder)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have something done for as long as this lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def alarms_of(
    recorder: Recorder, webhook: Webhook | None, db_url: str, source: str
) -> AsyncIterator[None]:
    """Tell what goes wrong with a recording, and that it has ended if it has failed."""
    if webhook is None:
        yield
        return
    from kraken_db.alarms import Alarms

    alarms = Alarms(webhook, db_url, source)
    try:
        async with beside(alarms.watch(recorder.problems)):
            yield
    except JobRunningError:
        raise  # another process records these pairs: nothing is wrong
    except Exception as error:
        what = f"internal error: {type(error).__name__}"
        if isinstance(error, KrakenDBError):
            what = sentence(error)
        with suppress(KrakenDBError):  # what has ended it is told here
            await alarms.check([Problem("recording", f"the recording has ended: {what}")], is_all=False)
        raise


async def _report(recorder: Recorder, view: View, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        if recorder.has_begun:
            view.show(recorder.status())
