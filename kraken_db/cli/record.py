"""``kraken-db record``: the live trades of some pairs, for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from kraken_db.cli.options import MultiValueCommand, db_url_option, rate_limit_option, symbols_option
from kraken_db.cli.output import count_text, is_terminal, plural, to_json
from kraken_db.pairs import DEFAULT_SYMBOLS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from kraken_db.recorder import Recorder, RecorderStatus


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
    if not is_terminal():
        yield LineView()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False, transient=True) as live:
        yield TableView(live)


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

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, status: RecorderStatus) -> None:
        self._live.update(_table(status), refresh=True)

    def end(self, status: RecorderStatus) -> None:
        self._live.stop()
        click.echo(line(status, is_over=True))


def line(status: RecorderStatus, *, is_over: bool = False) -> str:
    """``3 pairs, 12.4 trades/s, lag 0.1 s, 0 reconnects, 0 repaired, buffer 12``."""
    live = sum(pair.state == "live" for pair in status.pairs)
    pairs = plural(len(status.pairs), "pair")
    parts = [
        pairs if live == len(status.pairs) else f"{pairs} ({count_text(live)} live)",
        f"{status.trades_per_second:,.1f} trades/s",
        f"{plural(status.received, 'trade')} received",
        f"lag {_seconds(status.lag)}",
        plural(status.reconnects, "reconnect"),
        f"{count_text(status.repaired)} repaired",
        f"buffer {count_text(status.buffer)}",
    ]
    if status.journal:
        parts.append(f"journal {count_text(status.journal)}")
    if is_over:
        parts.append("stopped")
    elif not status.is_connected:
        parts.append("not connected")
    if status.system not in (None, "online"):
        parts.append(f"Kraken: {status.system}")
    return ", ".join(parts)


def _table(status: RecorderStatus) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("symbol", "state", "last trade (UTC)"):
        table.add_column(title, no_wrap=True)
    for title in ("received", "repaired", "holes", "waiting"):
        table.add_column(title, justify="right", no_wrap=True)
    for pair in status.pairs:
        moment = "-" if pair.last_time is None else f"{pair.last_time:%Y-%m-%d %H:%M:%S}"
        numbers = (pair.received, pair.repaired, pair.holes, pair.waiting)
        table.add_row(Text(pair.symbol), Text(pair.state), moment, *map(count_text, numbers))
    return Group(Text(f"{status.time:%H:%M:%S} {line(status)}"), table)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


@click.command(
    cls=MultiValueCommand,
    short_help="Record live trades, and build their candles.",
    epilog="Example: kraken-db record --symbols BTC/USD ETH/USD",
)
@symbols_option(f"Default: {' '.join(DEFAULT_SYMBOLS)}.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Between two reports. Default: 10, on a terminal 1.",
)
@click.option(
    "--flush-interval",
    type=click.FloatRange(0, min_open=True),
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
@click.option("--json", "as_json", is_flag=True, help="Report as one JSON object a line.")
@db_url_option
def record(
    symbols: tuple[str, ...] | None,
    every: float | None,
    flush_interval: float,
    journal_dir: Path | None,
    rate_limit: float,
    as_json: bool,
    db_url: str,
) -> None:
    """Record every trade of some pairs as it happens, and build their 1m candles, until Ctrl-C or SIGTERM.

    First it downloads what has happened since the last stored trade; of a pair that was never stored it
    begins now. Where trades are missing, after a lost connection for example, they are downloaded before
    anything behind them is stored. It may be killed at any moment and started again.

    Receives from Kraken over the network, or from what KRAKEN_WS_URL and KRAKEN_BASE_URL name.
    """
    from kraken_db.cli.base import Signals
    from kraken_db.recorder import Recorder

    async def run() -> None:
        async with Recorder(
            db_url,
            symbols,
            rate_limit_delay=rate_limit,
            flush_interval=flush_interval,
            journal_dir=journal_dir,
        ) as recorder:
            with show_view(as_json=as_json) as view, Signals().stopping(recorder):
                reporting = asyncio.create_task(_report(recorder, view, every or view.every))
                try:
                    view.end(await recorder.run())
                finally:
                    reporting.cancel()
                    await asyncio.gather(reporting, return_exceptions=True)

    asyncio.run(run())


async def _report(recorder: Recorder, view: View, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        view.show(recorder.status())
