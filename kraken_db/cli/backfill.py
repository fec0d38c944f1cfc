"""``kraken-db backfill``: a pair's whole history of trades from Kraken."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import (
    MultiValueCommand,
    TimeType,
    db_url_option,
    json_option,
    rate_limit_option,
    symbols_option,
)
from kraken_db.pairs import DEFAULT_SYMBOLS

if TYPE_CHECKING:
    from kraken_db.historical_backfill import BackfillReport


@click.command(
    cls=MultiValueCommand,
    short_help="Download every trade of a pair from Kraken.",
    epilog="Example: kraken-db backfill --symbols XRP/USDT BTC/USDT --resume",
)
@symbols_option(
    f"Pairs, or patterns such as 'XRP/*'. Default: {' '.join(DEFAULT_SYMBOLS)}.", takes_patterns=True
)
@click.option("--resume", is_flag=True, help="Go on where the last download of each pair ended.")
@click.option("--since", type=TimeType(), help="Trades from this time on. Default: the pair's first trade.")
@click.option("--until", type=TimeType(), help="Trades before this time. Default: now.")
@click.option("--no-candles", is_flag=True, help="Store trades only; a later run builds their candles.")
@click.option(
    "--no-auto-stop", is_flag=True, help="When everything is there, wait for new trades until Ctrl-C."
)
@rate_limit_option
@click.option(
    "--jobs", type=click.IntRange(min=1), default=10, show_default=True, metavar="N", help="Pairs at a time."
)
@json_option
@db_url_option
@click.pass_context
def backfill(
    context: click.Context,
    symbols: tuple[str, ...] | None,
    resume: bool,
    since: datetime | None,
    until: datetime | None,
    no_candles: bool,
    no_auto_stop: bool,
    rate_limit: float,
    jobs: int,
    as_json: bool,
    db_url: str,
) -> None:
    """Download every trade since a pair's first one, and build its candles.

    Kraken gives 1,000 trades a request and about one request a second for each pair; pairs are downloaded
    side by side. It may be stopped or killed at any moment, and repeated: nothing is stored twice, and
    --resume goes on where it ended. Ctrl-C stores what has been received; a second one ends it at once.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL names.
    """
    if resume and since:
        raise click.UsageError("--resume cannot be combined with --since: choose where to begin")
    if since and until and since >= until:
        raise click.UsageError("--since is not before --until")
    from kraken_db.cli.backfill_report import show_reports
    from kraken_db.cli.progress import show_progress
    from kraken_db.cli.stopping import Signals
    from kraken_db.historical_backfill import KrakenTradesBackfill
    from kraken_db.historical_backfill.cursor import to_cursor

    signals = Signals()

    async def run() -> list[BackfillReport]:
        async with KrakenTradesBackfill(db_url, rate_limit, pairs_at_once=jobs, progress=progress) as service:
            with signals.stopping(service):
                return await service.backfill(
                    symbols or DEFAULT_SYMBOLS,
                    since=to_cursor(since) if since else 0,
                    end_timestamp=until,
                    resume=resume,
                    build_candles=not no_candles,
                    auto_stop_realtime=not no_auto_stop,
                )

    with show_progress() as progress:
        reports = asyncio.run(run())
    show_reports(reports, as_json=as_json)
    context.exit(signals.exit_code(is_flawed=any(report.is_flawed for report in reports)))
