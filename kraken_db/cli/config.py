"""``kraken-db config``: what every command takes from the config file, shown and changed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kraken_db.cli.base import NUMBER, LazyGroup
from kraken_db.cli.completing import intervals, pairs
from kraken_db.cli.configuration import (
    KEYS,
    SECRET_KEYS,
    ConfiglessCommand,
    WrongConfigError,
    check_keys,
    chosen_file,
    chosen_path,
    defaults,
    secrets,
    settable,
    settable_names,
    shown,
    table,
)
from kraken_db.cli.options import json_option
from kraken_db.cli.output import Column, note, print_json, print_table
from kraken_db.errors import ConfigurationError
from kraken_db.settings import VARIABLES, ConfigFile

_HEADER = "# kraken-db: see kraken-db config show. Options and environment variables override this file.\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """A key, its value as it may be printed, and where it comes from."""

    key: str
    value: str | None
    source: str


@click.group(cls=LazyGroup, epilog="Begin with: kraken-db config set database postgresql://user@host/name")
def config() -> None:
    """Show and change the config file: values used where no option or environment variable is set.

    Its keys are those of 'config show'. The options of a command are keys too, behind its name:
    backfill.jobs, gaps.fill.max-concurrent, candles.format.
    """


def _command_of(root: click.Context, words: Sequence[str]) -> click.Context | None:
    """The context of a command by its words; None if there is none."""
    context = root
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            return None
        context = click.Context(command, info_name=word, parent=context)
    return context


def _all_commands(context: click.Context) -> Iterator[click.Context]:
    """Every command that is no group."""
    if not isinstance(context.command, click.Group):
        yield context
        return
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is not None and not isinstance(command, ConfiglessCommand):
            yield from _all_commands(click.Context(command, info_name=name, parent=context))


def check(file: ConfigFile, root: click.Context) -> None:
    """Look at every key of a file as the command does that it is for. Raises WrongConfigError."""
    try:
        check_keys(file, root)
        for command in _all_commands(root):
            for _ in defaults(file, command):
                pass
        for keys in _tables(file.values):
            if _command_of(root, keys) is None:
                raise ConfigurationError(f"{file.where(*keys)}: there is no command {' '.join(keys)}")
    except ConfigurationError as error:
        raise WrongConfigError(error) from None


def _tables(values: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield (*before, key)
            yield from _tables(value, (*before, key))


@config.command(
    cls=ConfiglessCommand,
    short_help="Print every key, its value, and where it comes from.",
    epilog="Example: kraken-db config show database",
)
@click.argument("key", required=False)
@json_option
@click.pass_context
def show(ctx: click.Context, key: str | None, as_json: bool) -> None:
    """Print every KEY with its value and where that comes from; or one of them.

    Passwords and the paths of webhooks are not shown.
    """
    root, file = ctx.find_root(), chosen_file(ctx)
    check(file, root)
    found = list(_settings(file))
    if key is not None:
        _require_key(root, key)
        found = [one for one in found if one.key == key] or [Setting(key, None, "default")]
    if as_json:
        document = [{"key": one.key, "value": one.value, "from": one.source} for one in found]
        print_json({"path": file.path, "settings": document})
        return
    columns = [Column("key"), Column("value", may_hang=True), Column("from", may_hang=True)]
    rows = [(one.key, one.value or "-", one.source.replace(str(file.path), "config file")) for one in found]
    print_table(columns, rows)
    if file.text:
        note(f"config file: {file.path}")
    else:
        note(f"There is no config file yet; kraken-db config set makes {file.path}")


def _settings(file: ConfigFile) -> Iterator[Setting]:
    for key in KEYS:
        if (variable := VARIABLES.get(key)) and (value := os.environ.get(variable)):
            yield Setting(key, shown(key, value), f"{variable} (environment)")
        elif key in file.values:
            yield Setting(key, shown(key, file.values[key]), file.where(key))
        else:
            yield Setting(key, _USUAL.get(key), "default")
    for words in _tables(file.values):
        for key, value in table(file, words).items():
            if not isinstance(value, Mapping):
                name = ".".join((*words, key))
                yield Setting(name, shown(name, value), file.where(*words, key))


_USUAL = {
    "database": "embedded:",
    "rate-limit": "1.1",
    "interval": "1h",
    "tz": "UTC",
    "intervals": "1m",
    "color": "auto",
    "cache-limit": "4 GB",
}


@config.command(cls=ConfiglessCommand, epilog='Example: $EDITOR "$(kraken-db config path)"')
@click.pass_context
def path(ctx: click.Context) -> None:
    """Print where the config file is, or would be."""
    click.echo(chosen_path(ctx)[0])


def _complete_value(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
    key = ctx.params.get("key")
    if key == "symbols":
        return pairs(incomplete)
    return intervals(incomplete) if key in ("interval", "intervals") else []


def _complete_key(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [key for key in KEYS if key.startswith(incomplete)]


@config.command(
    "set",
    cls=ConfiglessCommand,
    short_help="Set a key.",
    epilog="Example: kraken-db config set symbols BTC/USD ETH/USD",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("key", shell_complete=_complete_key)
@click.argument("values", nargs=-1, metavar="[VALUE]...", shell_complete=_complete_value)
@click.pass_context
def set_key(ctx: click.Context, key: str, values: Sequence[str]) -> None:
    """Set KEY to VALUE, or to several; without VALUE it is asked for, and not shown as it is typed.

    The file is made if there is none, and what else is in it stays. It is looked at as a whole before it is
    written: nothing is stored that a command would refuse.
    """
    root = ctx.find_root()
    option = _require_key(root, key)
    if not values:
        values = [_asked(key)]
    file = chosen_file(ctx, must_exist=False)
    words = key.split(".")
    text = with_key(file, words, _toml(_typed(key, option, values)))
    new = _parsed(file.path, text)
    check(new, root)
    _write(new)
    note(f"{new.path}: {key} is {shown(key, _value(new, words))}")
    if key == "database" and key in secrets(new):
        note("Note: whoever lists the processes could see it; without VALUE it is asked for")
    variable = VARIABLES.get(key)
    if variable and os.environ.get(variable):
        note(f"Warning: {variable} is set in the environment, and counts more")


def _asked(key: str) -> str:
    """What somebody types, or the first line of a pipe. Raises UsageError for none."""
    if sys.stdin.isatty():
        typed: str = click.prompt(key, hide_input=key in SECRET_KEYS, err=True)
        return typed
    line = sys.stdin.readline().strip()
    if not line:
        raise click.UsageError(f"there is no value for {key}: standard input is empty")
    return line


@config.command(cls=ConfiglessCommand, epilog="Example: kraken-db config unset symbols")
@click.argument("key", shell_complete=_complete_key)
@click.pass_context
def unset(ctx: click.Context, key: str) -> None:
    """Take KEY out of the config file: the default holds again."""
    file = chosen_file(ctx, must_exist=False)
    words = key.split(".")
    if _value(file, words) is None:
        raise click.UsageError(f"{file.path} has no {key}", ctx)
    _write(_parsed(file.path, with_key(file, words, None)))
    note(f"{file.path}: {key} is no longer set")


def _require_key(root: click.Context, key: str) -> click.Option | None:
    """The option that a key of a command's table stands for; None for a key of all commands.

    Raises UsageError for what is neither.
    """
    if key in KEYS:
        return None
    *words, name = key.split(".")
    context = _command_of(root, words) if words else None
    if context is None or isinstance(context.command, click.Group):
        raise _no_key(key, list(KEYS))
    option = settable(context.command, name)
    if option is None:
        raise _no_key(key, [".".join((*words, one)) for one in settable_names(context.command)])
    return option


def _no_key(key: str, known: Sequence[str]) -> click.UsageError:
    import difflib

    near = difflib.get_close_matches(key.replace("_", "-"), known, n=1)
    what = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return click.UsageError(f"there is no key {key}; {what}")


def _value(file: ConfigFile, words: Sequence[str]) -> Any:
    return table(file, words[:-1]).get(words[-1])


def _typed(key: str, option: click.Option | None, values: Sequence[str]) -> Any:
    """Words as the value of a key: a number, true or false, a list, or a text."""
    if option is not None:
        is_list = option.multiple
        is_flag, is_number = option.is_flag, not isinstance(option.type, click.types.StringParamType)
    else:
        is_list, is_flag, is_number = KEYS[key].is_list, False, key == "rate-limit"
    if is_list:
        return [item for value in values for item in value.split(",") if item.strip()]
    if len(values) > 1:
        raise click.UsageError(f"{key} has one value, not {len(values)}")
    (value,) = values
    if is_flag and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        return value.lower() in ("true", "yes", "on")
    if is_number and NUMBER.fullmatch(value):
        return float(value) if set(value) & set(".eE") else int(value)
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def with_key(file: ConfigFile, words: Sequence[str], value: str | None) -> str:
    """The text of a file with a key set to a value as TOML writes it, or without the key.

    Everything else stays as it is, with its comments.
    """
    lines = (file.text or _HEADER).splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    *before, name = words
    new = [] if value is None else [f"{name} = {value}\n"]
    if _value(file, words) is not None:
        start = file.line(*words) - 1
        return "".join([*lines[:start], *new, *lines[_end(lines, start) :]])
    if before and not table(file, before):
        return "".join([*lines, "\n", f"[{'.'.join(before)}]\n", *new])
    at = file.line(*before) if before else _first_table(lines)
    return "".join([*lines[:at], *new, *lines[at:]])


def _first_table(lines: Sequence[str]) -> int:
    """Where the keys end that belong to no table."""
    return next((at for at, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))


def _end(lines: Sequence[str], start: int) -> int:
    """The line behind an entry: a list may go over several."""
    import tomllib

    for end in range(start + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return start + 1


def _parsed(path: Path, text: str) -> ConfigFile:
    import tomllib

    try:
        return ConfigFile(path, tomllib.loads(text), text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} would be no TOML: {error}", hint="change it by hand") from None


def _write(file: ConfigFile) -> None:
    """Whole or not at all. A new file is its owner's alone, and so is one that has a password in it.

    Where the path is a link, what it leads to is written: configuration is often kept elsewhere.
    """
    target = file.path.resolve()
    if target.exists() and not target.is_file():
        raise ConfigurationError(f"{file.path} is no file", hint="name one with --config")
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as out:
            beside.chmod(mode & 0o700 if secrets(file) else mode)
            out.write(file.text)
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigurationError(
            f"the config file {file.path} cannot be written: {error.strerror}",
            hint="choose one with --config",
        ) from None
