"""``kraken-db help`` and ``kraken-db version``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kraken_db.cli.configuration import ConfiglessCommand


@click.command(
    "help",
    cls=ConfiglessCommand,
    short_help="Explain a command.",
    epilog="Example: kraken-db help gaps fill",
)
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def show_help(ctx: click.Context, words: Sequence[str]) -> None:
    """Print what --help prints: of kraken-db, or of COMMAND, which may be of two words."""
    root = ctx.find_root()
    root.command.main([*words, "--help"], prog_name=root.info_name, standalone_mode=False)


@click.command("version", cls=ConfiglessCommand)
def show_version() -> None:
    """Print the version, as --version does."""
    from kraken_db.cli import PROGRAM, version

    click.echo(f"{PROGRAM} {version()}")
