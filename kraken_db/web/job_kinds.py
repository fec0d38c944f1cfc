"""Which commands can be started from the page, and with which arguments.

Each argument is read by the grammar of the command line and written again in our own spelling: no text of a
request is ever an option, a path or a part of a shell's line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kraken_db.errors import ConfigurationError, WrongValueError
from kraken_db.intervals import as_interval
from kraken_db.json_values import iso
from kraken_db.patterns import parse_pair
from kraken_db.times import parse_time

MOST_SYMBOLS = 2_000
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class Argument:
    """``words``: of the command line, for a value of JSON. Raises WrongValueError or PairError."""

    words: Callable[[Any, datetime], list[str]]
    schema: Mapping[str, Any]
    is_required: bool = False


def _symbols(value: Any, _now: datetime) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_SYMBOLS:
        raise WrongValueError(f"it is a list of 1 to {MOST_SYMBOLS:,} pairs")
    return ["--symbols", *dict.fromkeys(parse_pair(_text(text)) for text in texts)]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT:
        raise WrongValueError(f"it is a text of 1 to {_LONGEST_TEXT} characters")
    return value


def _time(option: str) -> Argument:
    def words(value: Any, now: datetime) -> list[str]:
        return [option, iso(parse_time(_text(value), now))]

    return Argument(words, {"type": "string"})


def _flag(option: str) -> Argument:
    def words(value: Any, _now: datetime) -> list[str]:
        if not isinstance(value, bool):
            raise WrongValueError("it is true or false")
        return [option] if value else []

    return Argument(words, {"type": "boolean"})


def _choice(option: str, *known: str) -> Argument:
    def words(value: Any, _now: datetime) -> list[str]:
        if value not in known:
            raise WrongValueError(f"it is none of {', '.join(known)}")
        return [option, value]

    return Argument(words, {"type": "string", "enum": list(known)})


def _intervals(value: Any, _now: datetime) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not 0 < len(texts) <= 20:
        raise WrongValueError("it is a list of 1 to 20 intervals")
    return ["--interval", ",".join(as_interval(_text(text)).name for text in texts)]


_SYMBOLS = Argument(
    _symbols, {"type": "array", "items": {"type": "string"}, "maxItems": MOST_SYMBOLS}, is_required=True
)
_INTERVALS = Argument(_intervals, {"type": "array", "items": {"type": "string"}, "maxItems": 20})


@dataclass(frozen=True, slots=True)
class JobKind:
    words: Sequence[str]
    arguments: Mapping[str, Argument]
    needs_folder: bool = False
    """Whether it writes into a folder below that of ``--export-dir``: argument ``folder``, one name."""


KINDS = {
    "backfill": JobKind(
        ["backfill"],
        {
            "symbols": _SYMBOLS,
            "since": _time("--since"),
            "until": _time("--until"),
            "resume": _flag("--resume"),
            "no_candles": _flag("--no-candles"),
            "source": _choice("--source", "auto", "archive", "rest"),
        },
    ),
    "gaps-fill": JobKind(["gaps", "fill"], {"symbols": _SYMBOLS}),
    "verify": JobKind(
        ["verify"],
        {
            "symbols": _SYMBOLS,
            "since": _time("--since"),
            "until": _time("--until"),
            "offline": _flag("--offline"),
            "trades": _flag("--trades"),
            "repair": _flag("--repair"),
        },
    ),
    "export": JobKind(
        ["export"],
        {
            "symbols": _SYMBOLS,
            "what": _choice("--what", "candles", "trades"),
            "intervals": _INTERVALS,
            "format": _choice("--format", "parquet", "csv", "feather"),
            "since": _time("--since"),
            "until": _time("--until"),
        },
        needs_folder=True,
    ),
}


def command_of(content: Any, now: datetime, folder: Path | None) -> tuple[str, dict[str, Any], list[str]]:
    """Kind, arguments and command line of a request. ``folder``: that of ``--export-dir``.

    Raises WrongValueError, PairError, and ConfigurationError where there is no folder.
    """
    if not isinstance(content, dict) or not set(content) <= {"kind", "arguments"}:
        raise WrongValueError('a job is {"kind": ..., "arguments": {...}}')
    name, given = content.get("kind"), content.get("arguments", {})
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise WrongValueError("there is no such kind of job", hint=f"known: {', '.join(KINDS)}")
    if not isinstance(given, dict):
        raise WrongValueError("arguments is an object")
    known = [*kind.arguments, *(["folder"] if kind.needs_folder else [])]
    if unknown := [key for key in given if key not in known]:
        raise WrongValueError(
            f"{name} has no argument {unknown[0][:40]!r}", hint=f"known: {', '.join(known)}"
        )
    words = [*kind.words, "--json"]
    for key, argument in kind.arguments.items():
        if given.get(key) is not None:
            words += _words(key, argument, given[key], now)
        elif argument.is_required:
            raise WrongValueError(f"{key} is missing")
    if kind.needs_folder:
        words += ["--out", str(_below(folder, given.get("folder")))]
    return str(name), given, words


def _words(key: str, argument: Argument, value: Any, now: datetime) -> list[str]:
    try:
        return argument.words(value, now)
    except ValueError as error:
        message = getattr(error, "message", "it cannot be")
        raise WrongValueError(f"{key}: {message}", hint=getattr(error, "hint", None)) from None


def _below(folder: Path | None, name: Any) -> Path:
    if folder is None:
        raise ConfigurationError(
            "exports are switched off here", hint="start kraken-db serve with --export-dir DIR"
        )
    if not isinstance(name, str) or not _FOLDER.fullmatch(name):
        raise WrongValueError(
            "folder: it is one name of letters, digits, dots, dashes and underscores",
            hint="it is made below the folder of --export-dir",
        )
    path = folder / name
    if path.is_symlink():
        raise WrongValueError("folder: it is a link")
    return path
