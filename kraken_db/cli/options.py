"""Options and kinds of values that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kraken_db.errors import KrakenDBError
from kraken_db.intervals import Interval, as_interval, parse_interval
from kraken_db.pairs import parse_symbol
from kraken_db.patterns import has_known_quote, parse_pair
from kraken_db.times import parse_period, parse_time, utc_now

if TYPE_CHECKING:
    from kraken_db.alarms import Webhook

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class _Parsed(click.ParamType):  # type: ignore[type-arg]
    """A value that one of the package's own functions reads; its error is shown as wrong usage."""

    def parse(self, text: str) -> Any:
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except KrakenDBError as error:
            self.fail(f"{error.message}; {error.hint}" if error.hint else error.message, param, ctx)


class SourcePath(click.Path):
    """A file or folder to read. An empty one is no path: it would be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a path is empty; the current folder is written as .", param, ctx)
        return super().convert(value, param, ctx)


class SymbolType(_Parsed):
    """``BTC/USD``, ``btc-usd``, ``XBTUSD``: our name of the pair."""

    name = "symbol"

    def parse(self, text: str) -> str:
        return parse_symbol(text)


class IntervalType(_Parsed):
    """One of the stored intervals, ``1h`` or ``60``: minutes."""

    name = "interval"

    def parse(self, text: str) -> int:
        return parse_interval(text)


class AnyIntervalType(_Parsed):
    """See ``as_interval``."""

    name = "interval"

    def parse(self, text: str) -> Interval:
        return as_interval(text)


_CALENDAR = ("tz", "anchor", "session")


def _note_calendar(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    ctx.meta[f"{__name__}.{option.name}"] = value


def _placed(
    ctx: click.Context, option: click.Parameter, value: Interval | tuple[Interval, ...]
) -> Interval | tuple[Interval, ...]:
    """The intervals in the zone, and as of the anchor, that other options name."""
    if isinstance(value, tuple):
        return tuple(_placed(ctx, option, one) for one in value)  # type: ignore[misc]  # each of them is one
    said = {name: ctx.meta.get(f"{__name__}.{name}") for name in _CALENDAR}
    try:
        return as_interval(value, **said)
    except KrakenDBError as error:
        raise click.BadParameter(str(error), ctx, option) from None


INTERVALS_HELP = "1m, 5m, 2h, 1d, 2w, 1M (a month), 1Y, ...; or minutes"


def interval_options(
    help_text: str, *, name: str = "interval", default: str | None = None, multiple: bool = False
) -> Callable[[_Decorated], _Decorated]:
    """``--interval`` as ``name``, an Interval or a tuple of them; ``--tz``, ``--anchor``, ``--session``."""
    helps = {
        "tz": ("ZONE", "Days, weeks and months of this zone, e.g. Europe/Berlin. Default: UTC."),
        "anchor": ("DATE", "A day on which a candle opens, e.g. of 2d; weeks begin on its weekday."),
        "session": ("TIME", "When a day begins: 17:00, or -07:00 for the evening before. Default: 00:00."),
    }

    def decorate(command: _Decorated) -> _Decorated:
        for option, (metavar, text) in reversed(helps.items()):
            command = click.option(
                f"--{option}",
                metavar=metavar,
                help=text,
                is_eager=True,
                expose_value=False,
                callback=_note_calendar,
            )(command)
        return click.option(
            "-i",
            "--interval",
            name,
            type=AnyIntervalType(),
            default=default,
            show_default=default is not None,
            multiple=multiple,
            callback=_placed,
            help=help_text,
        )(command)

    return decorate


class TimeType(_Parsed):
    """See ``parse_time``."""

    name = "time"

    def parse(self, text: str) -> datetime:
        return parse_time(text, utc_now())


class PairType(_Parsed):
    """A pair as SymbolType has it, or a pattern such as ``XRP/*``."""

    name = "pair"

    def parse(self, text: str) -> str:
        return parse_pair(text)


class PeriodType(_Parsed):
    """See ``parse_period``. A tuple of one, so that never (None) is not the same as nothing."""

    name = "period"

    def parse(self, text: str) -> tuple[timedelta | None]:
        return (parse_period(text),)


class _PairList(_Parsed):
    """Pairs and patterns, separated by commas."""

    name = "symbols"

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(parse_pair(item) for item in text.split(",") if item.strip())

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "SYMBOL..."


class _SymbolsOption(click.Option):
    """Takes several values after one name; needs ``MultiValueCommand``."""


class MultiValueCommand(click.Command):
    """A command with ``--symbols A B C``: every value after the name belongs to the option.

    They end at the next option, at ``--``, and, where the command takes paths too, at the first value that
    exists as a file or folder or that does not read as a pair.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._repeated(ctx, args)))

    def _repeated(self, ctx: click.Context, args: Sequence[str]) -> Iterator[str]:
        """The arguments with the option's name before each of its values, as Click understands them."""
        names = {name for p in self.params if isinstance(p, _SymbolsOption) for name in p.opts}
        takes_paths = any(isinstance(p, click.Argument) for p in self.params)
        current: str | None = None
        values = 0
        for position, arg in enumerate(args):
            if current and not arg.startswith("-") and (not (takes_paths and values) or _is_symbol(arg)):
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


def _require_value(ctx: click.Context, name: str | None, values: int) -> None:
    if name and not values:
        raise click.BadOptionUsage(
            name, f"Option {name!r} needs at least one symbol, e.g. {name} BTC/USD", ctx
        )


def _is_symbol(text: str) -> bool:
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


_SEVERAL = "Several after one another, separated by commas, or by repeating the option."


def symbols_option(help_text: str) -> Callable[[_Decorated], _Decorated]:
    """``--symbols``: a tuple of pairs and patterns, or None if it was not given. For a MultiValueCommand.

    ``help_text`` says the default. ``kraken_db.patterns.select`` finds the pairs.
    """
    return click.option(
        "--symbols",
        cls=_SymbolsOption,
        type=_PairList(),
        multiple=True,
        callback=_flattened_or_none,
        help=f"Pairs, or patterns in quotes: 'XRP/*', '*/USD', '*x/USD' (tokenized). {help_text} {_SEVERAL}",
    )


def _require_symbols(
    ctx: click.Context, argument: click.Parameter, symbols: tuple[str, ...]
) -> tuple[str, ...]:
    if not symbols and not ctx.params.get("stored"):
        raise click.MissingParameter(ctx=ctx, param=argument, param_hint="'SYMBOL...' (or --stored)")
    return symbols


def symbol_arguments(*, required: bool = False) -> Callable[[_Decorated], _Decorated]:
    """``SYMBOL...`` as ``symbols``: a tuple of pairs and patterns.

    ``required``: it is empty only with ``--stored``.
    """
    metavar, check = ("SYMBOL...", _require_symbols) if required else ("[SYMBOL]...", None)
    return click.argument("symbols", nargs=-1, type=PairType(), metavar=metavar, callback=check)


exclude_option = click.option(
    "--exclude",
    cls=_SymbolsOption,
    type=_PairList(),
    multiple=True,
    callback=_flattened,
    help="Not these pairs, or the pairs of these patterns; several after one another.",
)
"""``--exclude`` as ``exclude``: a tuple of pairs and patterns, maybe empty. For a MultiValueCommand."""

stored_option = click.option(
    "--stored", is_flag=True, is_eager=True, help="All pairs of which something is stored."
)
"""``--stored`` as ``stored``, instead of pairs by name."""


def _database_url(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str:
    from kraken_db.settings import Settings

    return Settings.from_environment().database_url if value is None else value


_DATABASE_URL_HELP = (
    "postgresql://user@host:port/database, or embedded: for the embedded database. Default: what the"
    " environment's DATABASE_URL says (a password is safer there), else the embedded database."
)

db_url_option = click.option(
    "--db-url",
    metavar="URL",
    callback=_database_url,
    help=_DATABASE_URL_HELP,
)
"""``--db-url`` as ``db_url``: always an address; ``embedded:`` where nothing else was said."""


def _stored_database_url(ctx: click.Context, option: click.Parameter, value: str | None) -> str:
    url = _database_url(ctx, option, value)
    if not ctx.resilient_parsing:
        require_stored(url)
    return url


def require_stored(db_url: str) -> None:
    """Raises ConfigurationError for an embedded database that is not there yet: who reads makes none."""
    from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
    from kraken_db.settings import EMBEDDED_URL, Settings

    if db_url.startswith(EMBEDDED_URL):
        EmbeddedServer(resolve_embedded(db_url) or Settings.from_environment().data_dir).require_data()


stored_db_url_option = click.option(
    "--db-url", metavar="URL", callback=_stored_database_url, help=_DATABASE_URL_HELP
)
"""The same for commands that only read: an embedded database that is not there is not made."""

rate_limit_option = click.option(
    "--rate-limit",
    type=click.FloatRange(0, 3600),
    default=1.1,
    show_default=True,
    metavar="SECONDS",
    help="Between two requests for a pair; longer by itself where Kraken throttles.",
)
"""``--rate-limit`` as ``rate_limit``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, numbers as exact strings.")


def _webhook(ctx: click.Context, option: click.Parameter, value: str | None) -> Webhook | None:
    if value is None:
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
