"""Options that several commands share: pairs, the database, formats, alarms. Those of times: ``moments``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from kraken_db.cli import completing
from kraken_db.cli.base import Parsed
from kraken_db.cli.moments import SINCE, UNTIL, SpanType
from kraken_db.cli.output import iso, note, plural
from kraken_db.cli.suggestions import asset_pattern, pair_advice
from kraken_db.errors import ConfigurationError, KrakenDBError, PairError
from kraken_db.intervals import as_interval
from kraken_db.pairs import parse_symbol
from kraken_db.patterns import has_known_quote, is_pattern, parse_pair, without

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kraken_db.alarms import Webhook

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class SourcePath(click.Path):
    """A file or folder to read. An empty one is no path: it would be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a path is empty; the current folder is written as .", param, ctx)
        return super().convert(value, param, ctx)


class SymbolType(Parsed):
    """``BTC/USD``, ``btc-usd``, ``XBTUSD``: our name of the pair."""

    name = "symbol"

    def parse(self, text: str) -> str:
        try:
            return parse_symbol(text)
        except PairError as error:
            raise _told(error, text, pair_advice(text)) from None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.pairs(incomplete)


class PairListType(Parsed):
    """Pairs and patterns, separated by commas."""

    name = "symbols"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(_parse_pair(item) for item in text.split(",") if item.strip())

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "SYMBOL..."

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.pairs(incomplete)


def _parse_pair(text: str) -> str:
    try:
        return parse_pair(text)
    except PairError as error:
        raise _told(error, text, pair_advice(text, or_pattern=True)) from None


_OF_A_TIME = re.compile(
    r"\d{1,2}:\d\d.*|ago|(?:sec(?:ond)?|min(?:ute)?|hour|day|week|month|year)s?", re.IGNORECASE
)


def _told(error: PairError, text: str, advice: str | None) -> PairError:
    """The error of a word that is no pair: with the pair that was meant, or where the word belongs."""
    if _OF_A_TIME.fullmatch(text.strip()):
        return PairError(
            f"{text!r} is part of a time, and no pair",
            hint="put a time with a blank in quotes: '2023-01-31 15:30', '7 days ago'",
        )
    if _is_interval(text):
        return PairError(
            f"{text!r} is an interval, and no pair", hint="several intervals are one word: -i 1h,1d"
        )
    return PairError(error.message, hint=advice or error.hint)


def _is_interval(text: str) -> bool:
    try:
        as_interval(text)
    except ConfigurationError:
        return False
    return True


class _SymbolsOption(click.Option):
    """Takes several values after one name; needs ``MultiValueCommand``."""


class MultiValueCommand(click.Command):
    """A command with ``--symbols A B C``: every value after the name belongs to the option.

    They end at the next option, at ``--``, and, where the command takes paths too, at the first value that
    exists as a file or folder or that does not read as a pair. Pairs that are arguments are joined to those
    of the option: see ``pair_options`` and ``one_pair_options``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_TYPED] = {arg.partition("=")[0] for arg in args if arg.startswith("--")}
        left = super().parse_args(ctx, list(self._repeated(ctx, args)))
        if not ctx.resilient_parsing:
            _join_pairs(ctx)
            _check_range(ctx)
        return left

    def _repeated(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        """The arguments with the option's name before each of its values, as Click understands them."""
        names = {name for p in self.params if isinstance(p, _SymbolsOption) for name in p.opts}
        takes_paths = any(isinstance(p, click.Argument) and p.name != _ARGUMENTS for p in self.params)
        current: str | None = None
        values = 0
        for position, arg in enumerate(args):
            if current and not arg.startswith("-") and (not (takes_paths and values) or is_symbol(arg)):
                values += 1
                yield from (current, arg)
                continue
            _require_value(ctx, current, values)
            current, values = (arg if arg in names else None), 0
            if arg == "--":
                yield from args[position:]
                return
            if current is None:
                yield arg
        _require_value(ctx, current, values)


_TYPED = f"{__name__}.typed"
_NAMED = f"{__name__}.named"
_ARGUMENTS = "pairs_as_arguments"
"""The parameter of the pairs that are arguments, until they are joined to those of ``--symbols``."""


def typed_name(ctx: click.Context, *names: str) -> str:
    """The name of an option as it was typed, else the first: nobody is told of a name that is new to them."""
    return next((name for name in names if name in ctx.meta.get(_TYPED, ())), names[0])


def _join_pairs(ctx: click.Context) -> None:
    """Make one parameter of the pairs that are arguments and those of ``--symbols``."""
    if _ARGUMENTS not in ctx.params:
        return
    arguments: tuple[str, ...] = ctx.params.pop(_ARGUMENTS)
    named: tuple[str, ...] | None = ctx.params["symbols"]
    is_typed = ctx.get_parameter_source("symbols") is ParameterSource.COMMANDLINE
    given = tuple(dict.fromkeys((*arguments, *((named or ()) if is_typed else ()))))
    option = next(p for p in ctx.command.params if isinstance(p, _PairsOption))
    if given and ctx.params.get("stored") and not option.stored_adds:
        typed = "--symbols" if is_typed else "SYMBOL"
        raise click.UsageError(f"--stored cannot be combined with {typed}: it means all of them", ctx)
    # Pairs of the config file are a default: whatever is typed takes their place.
    takes_default = not (is_typed or ctx.params.get("stored") or option.must_be_typed)
    symbols = given or (named if takes_default else None)
    ctx.meta[_NAMED] = bool(given or ctx.params.get("stored"))
    if not option.is_one:
        if option.is_required and not symbols and not ctx.params.get("stored"):
            or_all = " (or --stored)" if "stored" in ctx.params else ""
            raise click.MissingParameter(ctx=ctx, param_type="argument", param_hint=f"'SYMBOL...'{or_all}")
        ctx.params["symbols"] = symbols
        return
    del ctx.params["symbols"]
    if not symbols:
        raise click.MissingParameter(ctx=ctx, param_type="argument", param_hint="'SYMBOL'")
    if len(symbols) > 1:
        raise click.UsageError(f"{ctx.info_name} takes one pair, not {', '.join(symbols)}", ctx)
    ctx.params["symbol"] = symbols[0]


def _check_range(ctx: click.Context) -> None:
    since, until = ctx.params.get("since"), ctx.params.get("until")
    if since and until and since >= until:
        names = typed_name(ctx, *SINCE), typed_name(ctx, *UNTIL)
        raise click.UsageError(f"{names[0]} is not before {names[1]} ({iso(until)}): it is {iso(since)}", ctx)


def _require_value(ctx: click.Context, name: str | None, values: int) -> None:
    if name and not values and not ctx.resilient_parsing:
        raise click.BadOptionUsage(
            name, f"Option {name!r} needs at least one symbol, e.g. {name} BTC/USD", ctx
        )


def is_symbol(text: str) -> bool:
    """Whether a value that may be a symbol or a path is a symbol."""
    if Path(text).exists():
        return False
    return all(has_known_quote(item) for item in text.split(",") if item.strip())


def _flattened(
    _ctx: click.Context, _option: click.Parameter, groups: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(symbol for group in groups for symbol in group))


def _flattened_or_none(
    ctx: click.Context, option: click.Parameter, groups: Sequence[Sequence[str]]
) -> tuple[str, ...] | None:
    found = _flattened(ctx, option, groups)
    if groups and not found:  # an empty variable of a script must not mean all pairs
        raise click.BadParameter("it names no pair", ctx, option)
    return found or None


class AssetsType(PairListType):
    """Pairs and patterns, and assets: ``BTC`` is ``'BTC/*'``."""

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(self._pattern(item.strip()) for item in text.split(",") if item.strip())

    def _pattern(self, text: str) -> str:
        try:
            return parse_pair(text)
        except PairError:
            pattern = asset_pattern(text)
            if pattern is None:
                return _parse_pair(text)
            note(f"Note: {text} is read as '{pattern}'; what is priced in it: '*/{pattern[:-2]}'")
            return pattern


class PairNamesType(PairListType):
    """Pairs alone, separated by commas: a tuple. A pattern is refused, and so is nothing at all."""

    def parse(self, text: str) -> tuple[str, ...]:
        found = tuple(SymbolType().parse(item) for item in text.split(",") if item.strip())
        if not found:
            raise PairError("it names no pair")
        return found


class _OnePairList(PairListType):
    """One pair, and no pattern."""

    def parse(self, text: str) -> tuple[str, ...]:
        if is_pattern(text):
            raise PairError(
                f"{text!r} is not a pair, but a pattern", hint="one pair is taken here, e.g. BTC/USD"
            )
        return (SymbolType().parse(text),)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "SYMBOL"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.pairs(incomplete)


class _PairsOption(_SymbolsOption):
    """``--symbols``, and what ``_join_pairs`` has to know of the command."""

    is_required = False
    is_one = False
    stored_adds = False
    must_be_typed = False


_SEVERAL = "Several after one another, separated by commas, or by repeating the option."
_PATTERNS = "Pairs, or patterns in quotes: 'XRP/*', '*/USD', '*x/USD' (tokenized)."


def symbols_option(help_text: str) -> Callable[[_Decorated], _Decorated]:
    """``--symbols``: a tuple of pairs and patterns, or None if it was not given. For a MultiValueCommand.

    ``help_text`` says the default. ``kraken_db.patterns.select`` finds the pairs. For commands that take
    something else as arguments; the others have ``pair_options``.
    """
    return click.option(
        "--symbols",
        cls=_PairsOption,
        type=PairListType(),
        multiple=True,
        callback=_flattened_or_none,
        help=f"{_PATTERNS} {help_text} {_SEVERAL}",
    )


def pair_options(
    help_text: str,
    *,
    required: bool = False,
    stored_adds: bool = False,
    must_be_typed: bool = False,
    kind: PairListType | None = None,
) -> Callable[[_Decorated], _Decorated]:
    """``SYMBOL...`` and ``--symbols`` as ``symbols``: a tuple of pairs and patterns, or None for neither.

    ``help_text`` says what is meant then; ``required``: that is an error without ``--stored``.
    ``stored_adds``: ``--stored`` may be given with pairs, and adds to them. ``must_be_typed``: pairs of the
    config file are not meant. ``kind``: another way to read the words.
    """
    kind = kind or PairListType()

    def decorate(command: _Decorated) -> _Decorated:
        option = click.option(
            "--symbols",
            cls=_option_class(is_required=required, stored_adds=stored_adds, must_be_typed=must_be_typed),
            type=kind,
            multiple=True,
            callback=_flattened_or_none,
            help=f"The same as SYMBOL. {_PATTERNS} {help_text} {_SEVERAL}",
        )
        argument = click.argument(
            _ARGUMENTS,
            nargs=-1,
            type=kind,
            metavar="SYMBOL..." if required else "[SYMBOL]...",
            callback=_flattened_arguments,
        )
        return argument(option(command))

    return decorate


def one_pair_options(command: _Decorated) -> _Decorated:
    """``SYMBOL`` and ``--symbols`` as ``symbol``: exactly one pair."""
    option = click.option(
        "--symbols",
        cls=_option_class(is_one=True),
        type=_OnePairList(),
        multiple=True,
        callback=_flattened_or_none,
        help="The same as SYMBOL: one pair.",
    )
    argument = click.argument(
        _ARGUMENTS, nargs=-1, type=_OnePairList(), metavar="SYMBOL", callback=_flattened
    )
    return argument(option(command))


def _option_class(**values: bool) -> type[_PairsOption]:
    return type("_PairsOption", (_PairsOption,), values)


def _flattened_arguments(
    ctx: click.Context, argument: click.Parameter, groups: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    if groups and not (found := _flattened(ctx, argument, groups)):
        raise click.BadParameter("it names no pair", ctx, argument, param_hint="'SYMBOL'")
    return found if groups else ()


class _KnowsStored(Protocol):
    async def stored_symbols(self) -> list[str]: ...


async def tell_default(
    symbols: Sequence[str], service: _KnowsStored, say: Callable[[str], None] = note
) -> None:
    """Where no pair was named, say which are meant, and how to get at those that are stored."""
    ctx = click.get_current_context()
    if ctx.meta[_NAMED]:
        return
    is_configured = ctx.get_parameter_source("symbols") is ParameterSource.DEFAULT_MAP
    whose = "those of the config file" if is_configured else "the default pairs"
    stored = await service.stored_symbols()
    more = ""
    if set(stored).difference(symbols):
        left = f" and {plural(len(stored) - _NAMES, 'other')}" if len(stored) > _NAMES else ""
        more = f"; --stored takes the stored ones: {', '.join(stored[:_NAMES])}{left}"
    meant = without(symbols, ctx.params.get("exclude", ()))
    say(f"Note: no pair named: {whose} {', '.join(meant)}{more}")


_NAMES = 5
"""Stored pairs that are named; of more, the number is said."""


exclude_option = click.option(
    "--exclude",
    cls=_SymbolsOption,
    type=PairListType(),
    multiple=True,
    callback=_flattened,
    help="Not these pairs, or the pairs of these patterns; several after one another.",
)
"""``--exclude`` as ``exclude``: a tuple of pairs and patterns, maybe empty. For a MultiValueCommand."""

stored_option = click.option("--stored", is_flag=True, help="All pairs of which something is stored.")
"""``--stored`` as ``stored``, instead of pairs by name."""


def _database_url(ctx: click.Context, _option: click.Parameter, value: str | None) -> str:
    from kraken_db.settings import Settings

    if value is None:
        value = ctx.meta.get(_DB_URL)
    return Settings.from_environment().database_url if value is None else value


def _note_url(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_DB_URL] = value


_DB_URL = f"{__name__}.db_url"

root_db_url_option = click.option(
    "--db-url", metavar="URL", expose_value=False, callback=_note_url, help="The database of the command."
)
"""``--db-url`` before the name of the command."""

_DATABASE_URL_HELP = "postgresql://user@host/name. Default: DATABASE_URL, the config file, else embedded:"
"""The rest is in docs/databases.md."""

db_url_option = click.option(
    "--db-url",
    metavar="URL",
    callback=_database_url,
    help=_DATABASE_URL_HELP,
)
"""``--db-url`` as ``db_url``: always an address; ``embedded:`` where nothing else was said."""


rate_limit_option = click.option(
    "--rate-limit",
    type=SpanType(timedelta(seconds=1), click.FloatRange(0, 3600)),
    default=1.1,
    show_default=True,
    metavar="SECONDS",
    help="Between two requests for a pair; longer by itself where Kraken throttles.",
)
"""``--rate-limit`` as ``rate_limit``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, numbers as exact strings.")


def style_options(help_text: str) -> Callable[[_Decorated], _Decorated]:
    """``--format`` as ``style`` (table, csv, json), and ``--json``, its short form, as ``as_json``."""
    style = click.option(
        "--format",
        "style",
        type=click.Choice(["table", "csv", "json"]),
        default="table",
        show_default=True,
        help=help_text,
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
    return lambda command: style(as_json(command))


def _webhook(ctx: click.Context, option: click.Parameter, value: str | None) -> Webhook | None:
    is_configured = ctx.get_parameter_source("webhook") is ParameterSource.DEFAULT_MAP
    if value is None or (is_configured and not ctx.params.get("check", True)):
        return None
    from kraken_db.alarms import Webhook
    from kraken_db.cli.base import FROM_ENVIRONMENT

    name = value.removeprefix(FROM_ENVIRONMENT)
    if name != value and not (value := os.environ.get(name, "")):
        raise click.BadParameter(f"the environment has no variable {name}", ctx, option)
    try:
        return Webhook.parse(value)
    except KrakenDBError as error:
        raise click.BadParameter(f"{error.message}; {error.hint}", ctx, option) from None


def notify_options(command: _Decorated) -> _Decorated:
    """``--notify`` as ``webhook``, None if it was not given, and ``--notify-test`` as ``notify_test``."""
    notify = click.option(
        "--notify",
        "webhook",
        metavar="URL",
        callback=_webhook,
        help="Post a message there when something has gone wrong, and when it is over, each once: to the"
        " webhook of a chat (Slack, Mattermost, Rocket.Chat, Discord) or to a service of yours. env:NAME"
        " takes the address from the environment.",
    )
    test = click.option(
        "--notify-test",
        is_flag=True,
        help="Show the message that would be posted, post it as a test if --notify says where, and end.",
    )
    return notify(test(command))


def listen_address(ctx: click.Context, option: click.Parameter, value: str) -> str:
    """What ``--host`` says, which is something."""
    if not value.strip():  # the system would take it for all addresses of the machine
        raise click.BadParameter("it is empty; 0.0.0.0 is every address", ctx, option)
    return value
