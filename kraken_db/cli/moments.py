"""Options of times: intervals and the calendar that they are placed in, moments, ranges, periods, spans."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kraken_db.cli import completing
from kraken_db.cli.base import NUMBER, Parsed
from kraken_db.cli.suggestions import interval_advice
from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.intervals import Interval, as_interval, parse_interval, parse_zone
from kraken_db.times import parse_period, parse_time, period_text, utc_now

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Value = TypeVar("_Value")
_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def _advised(parse: Callable[[str], _Value], text: str) -> _Value:
    """An interval; what other programs call so is told by its name here."""
    try:
        return parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, hint=interval_advice(text) or error.hint) from None


class IntervalType(Parsed):
    """One of the stored intervals, ``1h`` or ``60``: minutes."""

    name = "interval"

    def parse(self, text: str) -> int:
        return _advised(parse_interval, text)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return completing.intervals(incomplete)


class AnyIntervalType(Parsed):
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


class ZoneType(Parsed):
    """The IANA name of a time zone, which stays a text."""

    name = "zone"

    def parse(self, text: str) -> str:
        zone = parse_zone(text)
        return "UTC" if zone is UTC else str(zone)


class _CalendarType(Parsed):
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


class TimeType(Parsed):
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


class PeriodType(Parsed):
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
