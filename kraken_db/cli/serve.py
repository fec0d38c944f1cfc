"""``kraken-db serve``: what is stored as a page in a browser, and over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kraken_db.cli import configuration
from kraken_db.cli.options import db_url_option, listen_address
from kraken_db.cli.output import note
from kraken_db.errors import WrongValueError

if TYPE_CHECKING:
    from kraken_db.web.app import ServeOptions


@click.command(
    short_help="Show what is stored in a browser, and over HTTP.",
    epilog="Example: kraken-db serve --port 8712",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=listen_address,
    help="The address to listen on.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8712, show_default=True, help="0 takes a free one."
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers reach it, e.g. behind a proxy. Addresses and localhost always do. May be"
    " repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(0, 16),
    default=2,
    show_default=True,
    metavar="N",
    help="Downloads, gap fills, verifications and exports that the page may run at once; 0 for none.",
)
@click.option(
    "--export-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where exports that the page starts are written; without it there are none.",
)
@db_url_option
@click.pass_context
def serve(
    context: click.Context,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    jobs: int,
    export_dir: Path | None,
    db_url: str,
) -> None:
    """Serve a page with all pairs, charts, coverage and jobs, and an HTTP API, until Ctrl-C.

    On this machine alone nobody is asked for a token. With another --host everybody is: the token is that of
    KRAKEN_DB_TOKEN, or a new one, which is printed once. There is no encryption: put a proxy that has it in
    front, or a tunnel. The API is described at /api/v1/openapi.json; charts of TradingView are pointed at
    /udf.
    """
    from kraken_db.web.app import ServeOptions

    token = _token(host)
    options = ServeOptions(
        host=host,
        port=port,
        token=token,
        hosts=hosts,
        jobs=jobs,
        export_dir=None if export_dir is None else export_dir.expanduser().resolve(),
        environment={"KRAKEN_DB_CONFIG": str(configuration.chosen_path(context)[0])},
    )
    asyncio.run(_serve(db_url, options))


def _token(host: str) -> str | None:
    """None where none is needed. Raises WrongValueError for one that is easily guessed."""
    from kraken_db.web.security import LEAST_TOKEN, TOKEN_VARIABLE, new_token

    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        if len(given) < LEAST_TOKEN:
            raise WrongValueError(f"{TOKEN_VARIABLE} has less than {LEAST_TOKEN} characters")
        return given
    if _is_this_machine(host):
        return None
    token = new_token()
    click.echo(f"Token: {token}")
    return token


def _is_this_machine(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(db_url: str, options: ServeOptions) -> None:
    from kraken_db.web.app import serving

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with serving(db_url, options) as address:
        click.echo(f"Page: {address}")
        note("Ctrl-C ends it")
        await stopped.wait()
    note("ended")
