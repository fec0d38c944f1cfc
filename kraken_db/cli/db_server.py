"""``kraken-db db start | stop | status | url``: the embedded PostgreSQL by hand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kraken_db.db.embedded import EmbeddedServer, ServerStatus

_Command = Callable[..., Any]


def _data_dir_option(command: _Command) -> _Command:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the embedded database keeps its files. Default: what DATABASE_URL=embedded:///... or"
        " KRAKEN_DB_DATA_DIR says, else the platform's place for a user's data.",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _server(data_dir: Path | None) -> EmbeddedServer:
    """The server that the other commands would use: the option, then the environment."""
    from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
    from kraken_db.settings import EMBEDDED_URL, Settings

    settings = Settings.from_environment()
    if data_dir is not None:
        return EmbeddedServer(data_dir.expanduser())
    named = settings.database_url if settings.database_url.startswith(EMBEDDED_URL) else EMBEDDED_URL
    return EmbeddedServer(resolve_embedded(named) or settings.data_dir)


def _as_json(status: ServerStatus) -> str:
    return json.dumps(dataclasses.asdict(status), default=str, indent=2)


@click.command()
@_data_dir_option
@_json_option
def start(data_dir: Path | None, as_json: bool) -> None:
    """Start the embedded PostgreSQL and leave it running until `stop`.

    Other commands start it by themselves when they need it, and it stops after them: this is for
    connecting with other programs. Prints the address.
    """
    server = _server(data_dir)
    url = server.start()
    click.echo(_as_json(server.status()) if as_json else url)


@click.command()
@_data_dir_option
def stop(data_dir: Path | None) -> None:
    """Stop the embedded PostgreSQL, whoever uses it. Nothing that was stored is lost."""
    click.echo("stopped" if _server(data_dir).stop() else "was not running")


@click.command()
@_data_dir_option
@_json_option
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show whether the embedded PostgreSQL runs, and where it keeps its files."""
    found = _server(data_dir).status()
    if as_json:
        click.echo(_as_json(found))
        return
    rows = {
        "state": _state(found),
        "version": found.version or "no data yet",
        "data": found.data_dir,
        "log": found.log_file,
        "url": found.url,
    }
    for name, value in rows.items():
        click.echo(f"{name:<8} {value}")


def _state(found: ServerStatus) -> str:
    if not found.running:
        return "not running"
    state = "running" if found.ready else "starting or stopping"
    until = "until 'kraken-db db stop'" if found.kept else "until its last user ends"
    return f"{state}, process {found.pid}, {until}" if found.pid else state


@click.command()
@_data_dir_option
def url(data_dir: Path | None) -> None:
    """Print the address of the embedded PostgreSQL, for example for psql, without starting it."""
    click.echo(_server(data_dir).url())
