"""Options and kinds of values that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from kraken_db.cli import completing
from kraken_db.cli.base import NUMBER
from kraken_db.cli.output import iso, note, plural
from kraken_db.cli.suggestions import asset_pattern, interval_advice, pair_advice
from kraken_db.errors import ConfigurationError, KrakenDBError, PairError
from kraken_db.intervals import Interval, as_interval, parse_interval, parse_zone
from kraken_db.pairs import parse_symbol
from kraken_db.patterns import has_known_quote, is_pattern, parse_pair, without
from kraken_db.times import parse_period, parse_time, period_text, utc_now

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kraken_db.alarms import Webhook

_Value = TypeVar("_Value")
_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class _Parsed(click.ParamType):  # type: ignore[type-arg]
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
        try:
            return parse_symbol(text)
        except PairError as error:
            raise _told(error, text, pair_advice(text)) from None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.pairs(incomplete)


def _advised(parse: Callable[[str], _Value], text: str) -> _Value:
    """An interval; what other programs call so is told by its name here."""
    try:
        return parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, hint=interval_advice(text) or error.hint) from None


class IntervalType(_Parsed):
    """One of the stored intervals, ``1h`` or ``60``: minutes."""

    name = "interval"

    def parse(self, text: str) -> int:
        return _advised(parse_interval, text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.intervals(incomplete)


class AnyIntervalType(_Parsed):
    """See ``as_interval``."""

    name = "interval"

    def parse(self, text: str) -> Interval:
        return _advised(as_interval, text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.intervals(incomplete, any_length=True)


class _IntervalsType(AnyIntervalType):
    """Several, separated by commas: a tuple."""

    def parse(self, text: str) -> tuple[Interval, ...]:  # type: ignore[override]  # of one option, with a callback
        found = tuple(_advised(as_interval, item) for item in text.split(",") if item.strip())
        return found or (_advised(as_interval, text),)  # which is refused


class ZoneType(_Parsed):
    """The IANA name of a time zone, which stays a text."""

    name = "zone"

    def parse(self, text: str) -> str:
        zone = parse_zone(text)
        return "UTC" if zone is UTC else str(zone)


class _CalendarType(_Parsed):
    """A text that ``as_interval`` takes as one of its arguments."""

    def __init__(self, argument: str) -> None:
        self.name = argument

    def parse(self, text: str) -> str:
        as_interval("1d", **{self.name: text})
        return text


class _CalendarOption(click.Option):
    """Placed in intervals, and in times that name no zone. The config file may have it."""

    is_setting = True


_CALENDAR = ("tz", "anchor", "session")


def _note_calendar(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    ctx.meta[f"{__name__}.{option.name}"] = value


def _calendar(ctx: click.Context | None, name: str) -> str | None:
    """What one of these options says, else the config file, which is read after them."""
    if ctx is None:
        return None
    typed: str | None = ctx.meta.get(f"{__name__}.{name}")
    return ctx.lookup_default(name) if typed is None else typed


def _zone_of(ctx: click.Context | None) -> tzinfo:
    name = _calendar(ctx, "tz")
    return UTC if name is None else parse_zone(name)


def _placed(
    ctx: click.Context, option: click.Parameter, value: Interval | tuple[Interval, ...]
) -> Interval | tuple[Interval, ...]:
    """The intervals in the zone, and as of the anchor, that other options name."""
    if isinstance(value, tuple):
        listed = [one for group in value for one in (group if isinstance(group, tuple) else (group,))]
        return tuple(dict.fromkeys(_placed(ctx, option, one) for one in listed))  # type: ignore[misc]  # each of them is one
    said: dict[str, Any] = {name: _calendar(ctx, name) for name in _CALENDAR}
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
        "tz": (
            "ZONE",
            "The zone of days, weeks and months, and of dates after --since and --until: Europe/Berlin."
            " Default: UTC.",
        ),
        "anchor": ("DATE", "A day on which a candle opens, e.g. of 2d; weeks begin on its weekday."),
        "session": ("TIME", "When a day begins: 17:00, or -07:00 for the evening before. Default: 00:00."),
    }

    def decorate(command: _Decorated) -> _Decorated:
        for option, (metavar, text) in reversed(helps.items()):
            command = click.option(
                f"--{option}",
                cls=_CalendarOption,
                type=ZoneType() if option == "tz" else _CalendarType(option),
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
            type=_IntervalsType() if multiple else AnyIntervalType(),
            default=default,
            show_default=default is not None,
            multiple=multiple,
            callback=_placed,
            help=help_text,
        )(command)

    return decorate


class TimeType(_Parsed):
    """See ``parse_time``. What names no zone is of ``--tz``, where the command has that."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return self._advised(lambda: parse_time(value, utc_now(), _zone_of(ctx)), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.times(incomplete)


class PeriodType(_Parsed):
    """See ``parse_period``. A tuple of one, so that never (None) is not the same as nothing."""

    name = "period"

    def parse(self, text: str) -> tuple[timedelta | None]:
        return (parse_period(text),)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.periods(incomplete)


class SpanType(click.ParamType):  # type: ignore[type-arg]
    """A number of ``unit``, or a period as ``parse_period`` reads it: ``10``, ``10s`` and ``2min``.

    ``numbers`` says which numbers are taken.
    """

    def __init__(self, unit: timedelta, numbers: click.FloatRange | click.IntRange) -> None:
        self._unit = unit
        self._numbers = numbers
        self.name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            value = self._in_units(value, param, ctx)
        return self._numbers.convert(value, param, ctx)

    def _in_units(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        try:
            period = _milliseconds(text) or parse_period(text)
        except KrakenDBError:
            period = None
        if period is None:
            self.fail(f"{text!r} is not a number. Write it like 10, or like 10s, 5min or 1h", param, ctx)
        if isinstance(self._numbers, click.FloatRange):
            return period / self._unit
        count, rest = divmod(period, self._unit)
        if rest:
            self.fail(f"{text!r} is no multiple of {period_text(self._unit)}", param, ctx)
        return count


def _milliseconds(text: str) -> timedelta | None:
    """``500ms``: an option may be that exact, a period of policies never is."""
    count = text.removesuffix("ms")
    return timedelta(milliseconds=int(count)) if count != text and re.fullmatch(r"\d{1,9}", count) else None


class PairListType(_Parsed):
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
            if ctx.meta.get(_READS):
                require_stored(ctx.params["db_url"])
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
_READS = f"{__name__}.reads"
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
    symbols = given or (None if is_typed or ctx.params.get("stored") else named)
    ctx.meta[_NAMED] = bool(given or ctx.params.get("stored"))
    if not option.is_one:
        if option.is_required and not symbols and not ctx.params.get("stored"):
            raise click.MissingParameter(
                ctx=ctx, param_type="argument", param_hint="'SYMBOL...' (or --stored)"
            )
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
    kind: PairListType | None = None,
) -> Callable[[_Decorated], _Decorated]:
    """``SYMBOL...`` and ``--symbols`` as ``symbols``: a tuple of pairs and patterns, or None for neither.

    ``help_text`` says what is meant then; ``required``: that is an error without ``--stored``.
    ``stored_adds``: ``--stored`` may be given with pairs, and adds to them. ``kind``: another way to read
    the words.
    """
    kind = kind or PairListType()

    def decorate(command: _Decorated) -> _Decorated:
        option = click.option(
            "--symbols",
            cls=_option_class(is_required=required, stored_adds=stored_adds),
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


SINCE, UNTIL = ("--since", "--start"), ("--until", "--end")
"""The names of the two ends of a range, the first of them the one that help and messages say."""


def range_options(since: str, until: str) -> Callable[[_Decorated], _Decorated]:
    """``--since``, ``--until``, and the same as ``--start``, ``--end``: as ``since`` and ``until``, or None.

    Both are aware, the first is before the second; it is included, the second is not. The texts are help.
    For a MultiValueCommand.
    """

    def decorate(command: _Decorated) -> _Decorated:
        begin = click.option(*SINCE, "since", type=TimeType(), help=since)
        end = click.option(*UNTIL, "until", type=TimeType(), help=until)
        return begin(end(command))

    return decorate


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


def _stored_database_url(ctx: click.Context, option: click.Parameter, value: str | None) -> str:
    url = _database_url(ctx, option, value)
    if isinstance(ctx.command, MultiValueCommand):
        ctx.meta[_READS] = True  # looked at once the pairs are known: wrong usage is told first
    elif not ctx.resilient_parsing:
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
