"""``kraken-db verify``: is what is stored complete, and is it right?"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import (
    SourcePath,
    SymbolType,
    TimeType,
    db_url_option,
    json_option,
    rate_limit_option,
)

if TYPE_CHECKING:
    from kraken_db.verification import Certificate


@click.command(
    short_help="Prove that what is stored is complete and right.",
    epilog="Example: kraken-db verify BTC/USD ETH/USD --since '30 days ago' --repair",
)
@click.argument("symbols", nargs=-1, type=SymbolType(), metavar="[SYMBOL]...")
@click.option("--since", type=TimeType(), help="Only what is from this time on. Default: everything.")
@click.option("--until", type=TimeType(), help="Only what is before this time. Default: everything.")
@click.option("--offline", "--no-exchange", "offline", is_flag=True, help="Do not ask Kraken.")
@click.option(
    "--trades",
    "all_trades",
    is_flag=True,
    help="Ask Kraken for every trade again, 1,000 a request, and compare one by one.",
)
@click.option(
    "--against",
    type=SourcePath(),
    metavar="DIR",
    help="Compare candles with the OHLCVT files in this folder or zip, of all intervals.",
)
@click.option("--repair", is_flag=True, help="Put right what is wrong, and verify again.")
@rate_limit_option
@json_option
@db_url_option
@click.pass_context
def verify(
    context: click.Context,
    symbols: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    offline: bool,
    all_trades: bool,
    against: Path | None,
    repair: bool,
    rate_limit: float,
    as_json: bool,
    db_url: str,
) -> None:
    """Verify what is stored of each SYMBOL; of all of them by default.

    Trade ids without a hole, candles that are what the trades say, higher intervals that are what the minutes
    say, and the newest 720 minutes as Kraken has them. Whatever cannot be compared is named and not claimed.
    The exit code is 1 if something is missing or differs. Changes nothing without --repair.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL names.
    """
    if offline and all_trades:
        raise click.UsageError("--trades asks Kraken: it cannot be combined with --offline")
    if since and until and since >= until:
        raise click.UsageError("--since is not before --until")
    from kraken_db.cli.progress import show_progress
    from kraken_db.cli.verify_report import show_certificates
    from kraken_db.verification import StoreVerifier

    async def run() -> list[Certificate]:
        async with StoreVerifier(db_url, rate_limit, progress=progress) as verifier:
            return await verifier.verify(
                symbols or None,
                since=since,
                until=until,
                ask_exchange=not offline,
                all_trades=all_trades,
                against=against,
                repair=repair,
            )

    with show_progress() as progress:
        certificates = asyncio.run(run())
    show_certificates(certificates, as_json=as_json)
    context.exit(0 if all(found.is_clean for found in certificates) else 1)
