"""What every command has in common: loading on demand, errors as one line, common options, Ctrl-C.

No password reaches a log, an error, or the list of processes that every user of a machine can read.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import click
from click.core import augment_usage_errors

from kraken_db.cli import configuration
from kraken_db.cli.help import HelpContext, show_help
from kraken_db.cli.logs import (
    configure_logging,
    is_debugging,
    log_end,
    log_failure,
    one_line,
    redact,
    wish,
)
from kraken_db.cli.output import discard, note, note_lines, print_styled
from kraken_db.cli.suggestions import (
    OPTIONS_OF_COMMANDS,
    command_advice,
    meant,
    option_advice,
    removal_advice,
    way_of,
)
from kraken_db.errors import KrakenDBError, WrongValueError

FAILURE, WRONG_USAGE, INTERNAL_ERROR = 1, 2, 70

# Hints that begin with a command to type stay as they are.
_SENTENCE = re.compile(r"(?!pip |chmod |chown |kill |kraken-db )[a-z]+[ :,]")


def sentence(error: KrakenDBError) -> str:
    """``what happened. What to do``, in one line."""
    message, hint = one_line(error.message), one_line(error.hint or "")
    if not hint:
        return redact(message)
    if _SENTENCE.match(hint):
        hint = hint[0].upper() + hint[1:]
    return redact(f"{message.rstrip('.')}. {hint}")


def report_failure(error: Exception) -> int:
    """Print one line about an error (and its traceback with --debug) to stderr; return the exit code."""
    if is_debugging():
        note_lines(redact("".join(traceback.format_exception(error))).rstrip())
    match error:
        case KrakenDBError():
            line, code = sentence(error), WRONG_USAGE if isinstance(error, WrongValueError) else FAILURE
        case click.UsageError():
            line, code = _usage(error), WRONG_USAGE
        case click.ClickException():
            line, code = redact(one_line(error.format_message())), error.exit_code
        case _:
            message = redact(one_line(str(error)))
            name = type(error).__name__ + (f": {message}" if message else "")
            log_failure(f"internal error: {name}", error)
            note(f"internal error: {name}; run again with --debug")
            return INTERNAL_ERROR
    log_failure(line)
    note(f"Error: {line}")
    return code


def _usage(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        message = _no_such_option(error)
    else:
        message = redact(one_line(error.format_message())).rstrip(".?") + _values_of(error)
    message += "?" if "; did you mean " in message else "."
    return f"{message} Try: {error.ctx.command_path} --help" if error.ctx else message.removesuffix(".")


def _values_of(error: click.UsageError) -> str:
    """What may come after an option that stands alone."""
    if not isinstance(error, click.BadOptionUsage) or error.ctx is None:
        return ""
    option = next((one for one in error.ctx.command.params if error.option_name in one.opts), None)
    if option is None or not isinstance(option.type, click.Choice):
        return ""
    return f"; write {' or '.join(f'{error.option_name} {value}' for value in option.type.choices)}"


def _no_such_option(error: click.NoSuchOption) -> str:
    message = f"No such option: {one_line(error.option_name)}"
    if error.ctx is None:
        return message
    command = error.ctx.command
    known = [name for option in command.params for name in option.opts]
    if found := option_advice(error.option_name, known):
        return f"{message}; {meant(found)}"
    if way := way_of(error.option_name, known):
        return f"{message}; write {way}"
    is_of_commands = isinstance(command, click.Group) and option_advice(
        error.option_name, OPTIONS_OF_COMMANDS
    )
    return f"{message}; options of a command come after its name" if is_of_commands else message


class Parsed(click.ParamType):  # type: ignore[type-arg]
    """A value that one of the package's own functions reads; its error is shown as wrong usage."""

    def parse(self, text: str) -> Any:
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._advised(lambda: self.parse(value), param, ctx) if isinstance(value, str) else value

    def _advised(
        self, read: Callable[[], Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        try:
            return read()
        except KrakenDBError as error:
            self.fail(f"{error.message}; {error.hint}" if error.hint else error.message, param, ctx)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KILLED = 128
"""What a shell adds to the number of the signal that ended a program."""


class Stoppable(Protocol):
    def request_stop(self) -> None: ...


class Signals:
    """Of one command: what it was told to end by, and the exit code that says so."""

    def __init__(self) -> None:
        self._came: list[int] = []

    @contextmanager
    def stopping(self, service: Stoppable) -> Iterator[None]:
        """The first signal lets what was received be stored, the second ends everything at once.

        A command that a program runs on another thread of its own gets no signals: they are the program's.
        """
        import asyncio  # takes half of the time that --help has

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop, work = asyncio.get_running_loop(), asyncio.current_task()
        assert work is not None

        def on_signal(number: int) -> None:
            if self._came:
                work.cancel()
            else:
                service.request_stop()
            self._came.append(number)

        for number in _SIGNALS:
            loop.add_signal_handler(number, on_signal, number)
        try:
            yield
        except asyncio.CancelledError:
            raise click.Abort from None
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    @property
    def came(self) -> bool:
        return bool(self._came)

    def exit_code(self, *, is_flawed: bool) -> int:
        """130 or 143 where a signal came; else 1 for what is left to look at, or 0."""
        return _KILLED + self._came[0] if self._came else int(is_flawed)


_PACKAGE = __name__.partition(".")[0]


def _has_password(url: str) -> bool:
    # Among the parameters, libpq knows password and sslpassword.
    if "password=" in unquote(url).lower():
        return True
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        # What cannot be read may hold one all the same.
        return "@" in url


@dataclass(frozen=True, slots=True)
class _SecretOption:
    """An option whose value may be a secret, the variable that can hold it, and what is said instead."""

    name: str
    variable: str
    is_secret: Callable[[str], bool]
    instead: Sequence[str] = ()


_POSTGRESQL = ("postgres:", "postgresql:", "postgresql+")
FROM_ENVIRONMENT = "env:"
"""Before the name of a variable: a value that is a secret."""
_SECRET_OPTIONS = (
    _SecretOption("--db-url", "DATABASE_URL", _has_password),
    # Who knows the address of a webhook may write there.
    _SecretOption(
        "--notify",
        "KRAKEN_DB_NOTIFY_URL",
        lambda value: bool(value) and not value.startswith(FROM_ENVIRONMENT),
        ("--notify", f"{FROM_ENVIRONMENT}KRAKEN_DB_NOTIFY_URL"),
    ),
)


def hide_secrets(arguments: Sequence[str] | None = None) -> None:
    """Start this program again with its secrets in the environment, if its arguments hold any.

    The environment of a process can be read by its own user only. Returns where there is nothing to hide,
    and where the process is not ours: a program that passes ``arguments`` of its own.
    """
    if os.name == "nt" or not _is_ours(arguments):
        return
    words, secrets = without_secrets(sys.orig_argv)
    if words == sys.orig_argv:
        return
    os.environ.update(secrets)
    os.execv(sys.executable, [sys.executable, *words[1:]])  # noqa: S606 (our own command line)


def _is_ours(arguments: Sequence[str] | None) -> bool:
    """Whether the process is this command line: ``kraken-db``, or ``python -m`` of a module in here."""
    given = sys.argv[1:]
    if given and sys.orig_argv[-len(given) :] != given:
        return False
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return arguments is None or (spec is not None and spec.name.startswith(f"{_PACKAGE}."))


def without_secrets(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without their secrets, and the variables that say the same.

    As everywhere on the command line, the last value of an option counts, and ``--`` ends the options.
    """
    kept, found = list(words), {}
    for option in _SECRET_OPTIONS:
        kept, secret = _without(kept, option)
        if secret is not None:
            found[option.variable] = secret
    return _without_addresses(kept, found)


def _without_addresses(words: list[str], found: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The same without the addresses of ``kraken-db db copy``, which are no values of an option."""
    if "copy" not in words:
        return words, found
    kept: list[str] = []
    for word in words:
        if word.startswith(_POSTGRESQL) and _has_password(word):
            variable = f"KRAKEN_DB_COPY_{len(found) + 1}"
            found[variable] = word
            kept.append(f"{FROM_ENVIRONMENT}{variable}")
        else:
            kept.append(word)
    return kept, found


def _without(words: Sequence[str], option: _SecretOption) -> tuple[list[str], str | None]:
    """The arguments without the secrets in an option; the last value, if it is gone from them."""
    parts = _split(words, option.name)
    places = [at for at, (_, value) in enumerate(parts) if value is not None]
    last = parts[places[-1]][1] if places else None
    secret = last if last is not None and option.is_secret(last) else None
    kept: list[str] = []
    for at, (part, value) in enumerate(parts):
        if value is None or (secret is None and not option.is_secret(value)):
            kept.extend(part)
        elif secret is not None and at == places[-1]:
            kept.extend(option.instead)
    return kept, secret


def _split(words: Sequence[str], name: str) -> list[tuple[Sequence[str], str | None]]:
    """The arguments one by one, each such option together with its value."""
    parts: list[tuple[Sequence[str], str | None]] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            parts.append((words[at:], None))
            break
        if word == name and at + 1 < len(words):
            parts.append((words[at : at + 2], words[at + 1]))
            at += 1
        elif word.startswith(f"{name}="):
            parts.append(([word], word.partition("=")[2]))
        else:
            parts.append(([word], None))
        at += 1
    return parts


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
            raise KrakenDBError(
                f"this command needs the Python package {error.name}, which is not installed",
                hint="pip install 'kraken-historical-data[all]'",
            ) from error
        return command


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed.

    It turns every error into one line on stderr and an exit code, says which command was probably meant,
    and gives the common options to itself and to all of its commands.
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            found = command_advice(args[0], list(self._all_commands(ctx)))
            path = ctx.command_path
            shown = meant([f"{path} {name}" for name in found])
            shown = shown or removal_advice(args[0]) or self._pair_advice(ctx, args[0])
            raise click.UsageError(f"No such command {args[0]!r}" + (f"; {shown}" if shown else ""), ctx)
        return super().resolve_command(ctx, args)

    def _pair_advice(self, ctx: click.Context, typed: str) -> str:
        """A pair in the place of a command."""
        name = "candles" if ctx.parent is None else "list"
        if "/" not in typed or name not in self.list_commands(ctx):
            return ""
        return meant([f"{ctx.command_path} {name} {one_line(typed)}"])

    def _all_commands(self, ctx: click.Context) -> Iterator[str]:
        """The names of all commands, those of groups with the groups' names before them."""
        for name in self.list_commands(ctx):
            yield name
            command = self.get_command(ctx, name)
            if isinstance(command, LazyGroup):
                yield from (f"{name} {inner}" for inner in command.list_commands(ctx))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            print_styled(ctx.get_help())
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
            code = INTERRUPTED
        except Exception as error:
            code = report_failure(error)
        else:
            code = result if isinstance(result, int) else 0
        log_end(code)
        sys.exit(code)


NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?", re.ASCII)


def _refuse_odd_numbers(parameter: click.Parameter) -> None:
    """Have one grammar for numbers. Python's own takes nan, inf, 1_0 and the digits of other scripts."""
    if not isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
        return
    cast, kind = parameter.type_cast_value, parameter.type

    def checked(ctx: click.Context, value: Any) -> Any:
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise click.BadParameter(f"{value!r} is not a number.", ctx, parameter)
        try:
            return cast(ctx, value)
        except click.BadParameter as error:
            head, sign, _ = error.message.partition(" is not in the range ")
            if not sign:
                raise
            raise click.BadParameter(
                f"{head} is not in the range: {_range_of(kind)}.", ctx, parameter
            ) from None

    parameter.type_cast_value = checked  # type: ignore[method-assign]  # of this one alone


def _range_of(kind: Any) -> str:
    """``at least 1``, ``from 0 to 10``, ``above 0``: of one of Click's ranges."""
    least = None if kind.min is None else f"{'above' if kind.min_open else 'at least'} {kind.min}"
    most = None if kind.max is None else f"{'below' if kind.max_open else 'at most'} {kind.max}"
    return " and ".join(filter(None, (least, most)))


def _name_the_help(command: click.Command) -> None:
    """Click forgets the command of an option without its value."""
    parse = command.parse_args

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        with augment_usage_errors(ctx):
            return parse(ctx, args)

    command.parse_args = parse_args  # type: ignore[method-assign]  # of this one alone


def _add_common_options(command: click.Command) -> None:
    """Give a command what all have: these options may stand before and after its name."""
    if any(option.name == "debug" for option in command.params):
        return
    command.context_class = HelpContext
    for parameter in command.params:
        _refuse_odd_numbers(parameter)
        if isinstance(parameter.type, click.Choice):
            parameter.type.case_sensitive = False
    _name_the_help(command)
    command.params += _common_options()


def _common_options() -> list[click.Option]:
    def logs(*names: str, help: str, **changes: Any) -> click.Option:
        def on_wish(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
            if wanted:
                wish(ctx, **changes)

        return click.Option(
            list(names), is_flag=True, is_eager=True, expose_value=False, callback=on_wish, help=help
        )

    return [
        logs("-v", "--verbose", verbose=True, help="Say on stderr what is done, request by request."),
        logs("--debug", debug=True, help="Log everything, and show the traceback of an error."),
        logs("-q", "--quiet", quiet=True, help="Print results and errors, and nothing else."),
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_on_log_file,
            help="Log into FILE, too: starts, ends, warnings and errors; with -v or --debug all else. At"
            " 10 MB it is put aside; five are kept.",
        ),
        click.Option(
            ["--config"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_on_config,
            help="Read this config file instead of the usual one (kraken-db config path).",
        ),
        click.Option(
            ["-h", "--help"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=show_help,
            help="Show this message and exit.",
        ),
    ]


def _on_log_file(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    if path is not None:
        wish(ctx, log_file=path)


def _on_config(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    configuration.choose(ctx, path)
