"""``kraken-db completion``: commands, options, pairs, intervals and times at Tab."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.configuration import ConfiglessCommand
from kraken_db.cli.output import note
from kraken_db.errors import ConfigurationError, KrakenDBError

_PROGRAM = "kraken-db"
_MARK = "# kraken-db completion"
_SHELLS = ("bash", "zsh", "fish")


@click.group(cls=LazyGroup, epilog="Begin with: kraken-db completion install")
def completion() -> None:
    """Complete commands, options, pairs, intervals and times at Tab, in bash, zsh and fish."""


def _shell(ctx: click.Context, argument: click.Parameter, shell: str | None) -> str:
    """The shell of the user, if none is named."""
    found = shell or Path(os.environ.get("SHELL", "")).name
    if found not in _SHELLS:
        raise click.BadParameter(f"which shell? Name one: {', '.join(_SHELLS)}", ctx, argument)
    return found


_shell_argument = click.argument(
    "shell", type=click.Choice(_SHELLS), required=False, callback=_shell, metavar="[bash|zsh|fish]"
)


@completion.command(cls=ConfiglessCommand, epilog='Example: eval "$(kraken-db completion show bash)"')
@_shell_argument
def show(shell: str) -> None:
    """Print the script for a shell. Without a name: the shell of the variable SHELL."""
    click.echo(script(shell))


@completion.command(cls=ConfiglessCommand, epilog="Example: kraken-db completion install zsh")
@_shell_argument
def install(shell: str) -> None:
    """Have a shell complete kraken-db from its next start on. Without a name: the shell of SHELL.

    The script goes to where the shell looks for it (fish), or below the user's data, and bash and zsh read it
    by one line at the end of ~/.bashrc or ~/.zshrc. May be repeated. All pairs are known once 'kraken-db
    pairs' has listed them; until then the most used ones.
    """
    path = _place(shell)
    _write(path, script(shell) + "\n")
    note(f"written: {path}")
    if shell == "fish":
        return
    start = _start_file(shell)
    line = f'[ -r "{path}" ] && . "{path}" {_MARK}\n'
    if _add_line(start, line):
        note(f"added at the end of {start}: {line.rstrip()}")
    note(f"It works in new shells; here at once with: . {path}")
    if shutil.which(_PROGRAM) is None:
        note(f"Warning: {_PROGRAM} is not on the PATH: the shell has to find it")


def script(shell: str) -> str:
    """What a shell has to read. Raises KrakenDBError for one that is none of ours."""
    from click.shell_completion import get_completion_class

    from kraken_db.cli import COMPLETE_VARIABLE, cli

    kind = get_completion_class(shell)
    if kind is None:
        raise KrakenDBError(f"there is no completion for {shell}")
    made = kind(cli, {}, _PROGRAM, COMPLETE_VARIABLE)
    text = made.source_template % made.source_vars()
    if shell == "zsh":
        # A zsh without a framework has not loaded what completion needs.
        text = text.replace("#compdef kraken-db\n", f"#compdef kraken-db\n\n{_LOAD}", 1)
    return text.strip()


_LOAD = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n"


def _place(shell: str) -> Path:
    home = Path.home()
    if shell == "fish":
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return base / "fish" / "completions" / f"{_PROGRAM}.fish"
    base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / _PROGRAM / f"completion.{shell}"


def _start_file(shell: str) -> Path:
    if shell == "zsh":
        return Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc"
    return Path.home() / ".bashrc"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _failed(path, error) from None


def _add_line(start: Path, line: str) -> bool:
    """Put a line at the end of a file, in the place of one of an earlier version; False if it is there."""
    try:
        text = start.read_text(encoding="utf-8", errors="surrogateescape") if start.exists() else ""
        if line in text:
            return False
        kept = "".join(each for each in text.splitlines(keepends=True) if not each.rstrip().endswith(_MARK))
        if kept and not kept.endswith("\n"):
            kept += "\n"
        with start.open("w", encoding="utf-8", errors="surrogateescape") as out:
            out.write(kept + line)
    except OSError as error:
        raise _failed(start, error) from None
    return True


def _failed(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be written: {error.strerror}", hint="kraken-db completion show prints the script"
    )
