"""What the config file says of the commands: defaults of their options, below the environment.

The file is TOML. Its first keys are those of ``KEYS``; a table named as a command (``[backfill]``,
``[gaps.fill]``) has the defaults of that command's options, by their long names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kraken_db.cli.logs import has_log_file, one_line, redact, wish
from kraken_db.cli.output import note
from kraken_db.errors import ConfigurationError
from kraken_db.settings import VARIABLES, ConfigFile, config_path, configured, parse_size, read_config


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the file that several commands take their default from."""

    summary: str
    parameter: str = ""
    """The parameter of a command that it is the default of; empty where it is read elsewhere."""
    commands: Sequence[str] = ()
    is_list: bool = False


KEYS = {
    "database": Key("postgresql://user@host:port/database, or embedded:"),
    "data-dir": Key("where the embedded database keeps its files"),
    "symbols": Key(
        "the pairs of backfill, record and gaps where none is named",
        "symbols",
        ("backfill", "record", "gaps list", "gaps fill"),
        is_list=True,
    ),
    "rate-limit": Key(
        "seconds between two requests for a pair", "rate_limit", ("backfill", "record", "gaps fill", "verify")
    ),
    "interval": Key("of candles and charts", "interval", ("candles", "chart")),
    "tz": Key("the time zone of days and times in candles and charts", "tz", ("candles", "chart")),
    "intervals": Key("of exported candles", "intervals", ("export",), is_list=True),
    "notify": Key("the webhook of record and status --check", "webhook", ("record", "status")),
    "log-file": Key("where every command logs, as --log-file"),
    "color": Key("auto, always or never"),
    "base-url": Key("another exchange's REST, as KRAKEN_BASE_URL"),
    "ws-url": Key("another exchange's WebSocket, as KRAKEN_WS_URL"),
    "archive-url": Key("where archives are, as KRAKEN_ARCHIVE_URL"),
    "cache-dir": Key("where the cache of repeated reads is, as KRAKEN_DB_CACHE_DIR"),
    "cache-limit": Key("how large it becomes (4 GB), as KRAKEN_DB_CACHE_LIMIT"),
}
_COLORS = {"auto": None, "always": "FORCE_COLOR", "never": "NO_COLOR"}
SECRET_KEYS = ("database", "notify")

_PATH = f"{__name__}.path"
_OPEN = f"{__name__}.open"


class WrongConfigError(click.ClickException):
    """A file that cannot be read, or has something in it that cannot be: wrong usage, and no --help helps."""

    exit_code = 2

    def __init__(self, error: ConfigurationError) -> None:
        super().__init__(f"{error.message}; {error.hint}" if error.hint else error.message)


class ConfiglessCommand(click.Command):
    """A command that works whatever the config file says: it is how one gets it right."""


def choose(ctx: click.Context, path: Path | None) -> None:
    """Take the defaults of a command from the file of ``--config``, of the environment, or the usual one.

    Of a group only the path is noted: what is wrong in a file must not be in the way of ``--help``.
    """
    if path is not None:
        ctx.meta[_PATH] = path
    if isinstance(ctx.command, click.Group | ConfiglessCommand) or ctx.resilient_parsing:
        return
    file = chosen_file(ctx)
    if not file.values:
        return
    try:
        ctx.default_map = dict(defaults(file, ctx))
        if not ctx.meta.get(_OPEN):
            ctx.meta[_OPEN] = True
            ctx.find_root().with_resource(configured(file.variables()))
    except ConfigurationError as error:
        raise WrongConfigError(error) from None
    _apply(ctx, file)


def chosen_path(ctx: click.Context) -> tuple[Path, bool]:
    """Where the config file is, and whether somebody has named it."""
    from kraken_db.settings import CONFIG_VARIABLE

    named: Path | None = ctx.meta.get(_PATH)
    return (config_path(), bool(os.environ.get(CONFIG_VARIABLE))) if named is None else (named, True)


def chosen_file(ctx: click.Context, *, must_exist: bool | None = None) -> ConfigFile:
    """The config file of this run. Raises WrongConfigError."""
    path, is_named = chosen_path(ctx)
    try:
        return read_config(path, must_exist=is_named if must_exist is None else must_exist)
    except ConfigurationError as error:
        raise WrongConfigError(error) from None


def _apply(ctx: click.Context, file: ConfigFile) -> None:
    """What no option of a command stands for."""
    if (log_file := file.values.get("log-file")) and not has_log_file(ctx):
        wish(ctx, log_file=Path(log_file))
    variable = _COLORS[file.values.get("color", "auto")]
    if variable and not {"NO_COLOR", "FORCE_COLOR"} & set(os.environ):
        os.environ[variable] = "1"
    mode = file.path.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077 and secrets(file):
        note(f"Warning: {file.path} holds a password, and others can read it: chmod 600 {file.path}")


def secrets(file: ConfigFile) -> list[str]:
    """The keys whose values have a password in them."""
    values = {key: str(file.values.get(key, "")) for key in SECRET_KEYS}
    return [key for key, value in values.items() if shown(key, value) != value]


def shown(key: str, value: Any) -> str:
    """A value as it may be printed."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if key.rpartition(".")[2] == "notify" and "://" in text and not text.startswith("env:"):
        scheme, _, rest = text.partition("://")
        return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}/***"
    return redact(text)


def command_words(ctx: click.Context) -> tuple[str, ...]:
    """The words of a command behind the program's name: ``("gaps", "fill")``."""
    return tuple(ctx.command_path.split()[len(ctx.find_root().command_path.split()) :])


def defaults(file: ConfigFile, ctx: click.Context) -> Iterator[tuple[str, Any]]:
    """The parameters of a command and their defaults, checked. Raises ConfigurationError, with the line."""
    words = command_words(ctx)
    names = {option.name: option for option in ctx.command.params if isinstance(option, click.Option)}
    check_keys(file, ctx)
    for key, told in KEYS.items():
        if key in file.values and " ".join(words) in told.commands and told.parameter in names:
            yield told.parameter, _checked(file, ctx, names[told.parameter], file.values[key], key)
    for key, value in table(file, words).items():
        if not isinstance(value, Mapping):
            option = settable(ctx.command, key)
            if option is None:
                raise _unknown(file, (*words, key), settable_names(ctx.command))
            assert option.name is not None
            yield option.name, _checked(file, ctx, option, value, *words, key)


def table(file: ConfigFile, words: Sequence[str]) -> Mapping[str, Any]:
    """The table of a command; empty if there is none."""
    found: Any = file.values
    for word in words:
        found = found.get(word, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def settable(command: click.Command, key: str) -> click.Option | None:
    """The option of a command that a key of its table stands for."""
    name = f"--{key.replace('_', '-')}"
    return next((option for option in _options(command) if name in option.opts), None)


def settable_names(command: click.Command) -> list[str]:
    """Its keys: the first long name of each option, without dashes."""
    names = ([name for name in option.opts if name.startswith("--")] for option in _options(command))
    return [found[0].removeprefix("--") for found in names if found]


def _options(command: click.Command) -> Iterator[click.Option]:
    """Those that a file can have: not the common ones, and not the database, which has a key of its own."""
    for option in command.params:
        is_common = not (option.expose_value or getattr(option, "is_setting", False))
        if isinstance(option, click.Option) and not is_common and option.name != "db_url":
            yield option


def check_keys(file: ConfigFile, ctx: click.Context) -> None:
    """Raise ConfigurationError for a key that nothing reads, or whose value cannot be."""
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    groups = root.command.list_commands(root)
    for key, value in file.values.items():
        if isinstance(value, Mapping):
            if key not in groups:
                raise _unknown(file, (key,), groups)
        elif key not in KEYS:
            raise _unknown(file, (key,), KEYS)
        else:
            check_value(file, key, value)
    file.variables()


def check_value(file: ConfigFile, key: str, value: Any) -> None:
    """What can be said of a value without the commands that it is a default of."""
    if key == "color" and (not isinstance(value, str) or value not in _COLORS):
        raise ConfigurationError(f"{file.where(key)}: color is {', '.join(_COLORS)}, not {value!r}")
    elif key in (*VARIABLES, "log-file", "notify", "interval", "tz") and not isinstance(value, str):
        raise ConfigurationError(f"{file.where(key)}: {key} is no text", hint='write it in quotes: "..."')
    elif key == "notify":
        check_webhook(value, file.where(key))
    elif key == "cache-limit":
        parse_size(value, f"{file.where(key)}: {key}")


def check_webhook(value: str, where: str) -> None:
    """Raises ConfigurationError for what can be no webhook. What the environment has is looked at when it is
    used."""
    from kraken_db.alarms import Webhook

    if value.startswith("env:"):
        return
    try:
        Webhook.parse(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: notify: {error.message}", hint=error.hint) from None


def _unknown(file: ConfigFile, keys: tuple[str, ...], known: Iterable[str]) -> ConfigurationError:
    import difflib

    key = keys[-1]
    names = list(known)
    near = difflib.get_close_matches(key.replace("_", "-"), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return ConfigurationError(f"{file.where(*keys)}: there is no key {'.'.join(keys)}", hint=hint)


def _checked(file: ConfigFile, ctx: click.Context, option: click.Option, value: Any, *keys: str) -> Any:
    """A value as its option takes it: one text is a list of one where several are meant."""
    if option.multiple and not isinstance(value, list):
        value = [value]
    try:
        option.type_cast_value(ctx, value)
        if option.multiple and not value:
            raise click.BadParameter("it is empty")
        if isinstance(value, list) and not option.multiple:
            raise click.BadParameter("it is a list, and one value is meant")
        if option.is_flag and not isinstance(value, bool):
            raise click.BadParameter("it is true or false, without quotes")
    except click.UsageError as error:
        raise ConfigurationError(
            f"{file.where(*keys)}: {'.'.join(keys)}: {one_line(error.message)}"
        ) from None
    except (TypeError, ValueError):
        raise ConfigurationError(f"{file.where(*keys)}: {'.'.join(keys)} cannot be {value!r}") from None
    return value
