"""What every command has in common: loading on demand, errors as one line, --debug and --verbose."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from kraken_db.cli.diagnostics import configure_logging, report_failure
from kraken_db.cli.output import note
from kraken_db.cli.streams import discard
from kraken_db.errors import ConfigurationError

INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that its reader has left: 128 + SIGPIPE."""


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is (``module:name``), and its line in the list of commands."""

    target: str
    summary: str

    def load(self) -> click.Command:
        module, _, name = self.target.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("kraken_db"):
                raise
            raise ConfigurationError(
                f"this command needs the Python package {error.name}, which is not installed",
                hint="pip install 'kraken-historical-data[all]'",
            ) from error
        return command


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed.

    It turns every error into one line on stderr and an exit code, and gives ``--debug`` and
    ``--verbose`` to itself and to all of its commands.
    """

    def __init__(
        self, *args: Any, lazy_commands: Mapping[str, LazyCommand] | None = None, **options: Any
    ) -> None:
        options.setdefault("context_settings", {}).update(
            help_option_names=["-h", "--help"], max_content_width=100
        )
        super().__init__(*args, **options)
        self._lazy = dict(lazy_commands or {})
        _add_common_options(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self._lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in self._lazy:
            self.add_command(self._lazy[cmd_name].load(), cmd_name)
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _add_common_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.commands.get(name)
            summary = self._lazy[name].summary if name in self._lazy else ""
            rows.append((name, summary or (command.get_short_help_str(80) if command else "")))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            discard(sys.stdout)
            ctx.exit(BROKEN_PIPE)
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        run: Callable[[], Any] = partial(
            super().main, args, prog_name, complete_var, standalone_mode=False, **extra
        )
        if not standalone_mode:
            return run()
        configure_logging()
        try:
            result = run()
        except click.Abort:
            note("interrupted")
            sys.exit(INTERRUPTED)
        except Exception as error:
            sys.exit(report_failure(error))
        sys.exit(result if isinstance(result, int) else 0)


def _add_common_options(command: click.Command) -> None:
    if any(option.name == "debug" for option in command.params):
        return
    command.params += [
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_on_verbose,
            help="Say more about what is done, on stderr.",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_on_debug,
            help="Log everything, and show the traceback of an error.",
        ),
    ]


def _on_verbose(_context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        configure_logging(verbose=True)


def _on_debug(_context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        configure_logging(debug=True)
