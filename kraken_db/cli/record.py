"""``kraken-db record``: the live trades of some pairs, for as long as it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import MultiValueCommand, db_url_option, rate_limit_option, symbols_option
from kraken_db.pairs import DEFAULT_SYMBOLS

if TYPE_CHECKING:
    from kraken_db.cli.record_view import View
    from kraken_db.recorder import Recorder


@click.command(
    cls=MultiValueCommand,
    short_help="Record live trades, and build their candles.",
    epilog="Example: kraken-db record --symbols BTC/USD ETH/USD",
)
@symbols_option(f"Pairs. Default: {' '.join(DEFAULT_SYMBOLS)}.")
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
    from kraken_db.cli.record_view import show_view
    from kraken_db.cli.stopping import Signals
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
