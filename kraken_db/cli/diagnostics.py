"""Logging and errors as the user of the command line sees them: one line each, without any password."""

from __future__ import annotations

import logging
import re
import traceback

import click

from kraken_db.cli.output import note
from kraken_db.errors import KrakenDBError

FAILURE, WRONG_USAGE, INTERNAL_ERROR = 1, 2, 70

_OUR_LOGGERS = ("kraken_db", "alembic")
# What takes long and would look hung without a word: shown without being asked for.
_NOTICES = "kraken_db.notices"
_IN_ADDRESS = re.compile(r"(?P<before>[a-z0-9+]+://[^\s:/@]*:)(?!password@host)[^\s]*(?=@)", re.IGNORECASE)
_AS_PARAMETER = re.compile(r"(?P<before>\b(?:password|passwd)=)[^\s&]+", re.IGNORECASE)
# Hints that begin with a command to type stay as they are.
_SENTENCE = re.compile(r"(?!pip |chmod |chown )[a-z]+[ :,]")


def redact(text: str) -> str:
    """``text`` without the passwords that stand in database addresses."""
    for pattern in (_IN_ADDRESS, _AS_PARAMETER):
        text = pattern.sub(r"\g<before>***", text)
    return text


class _StderrHandler(logging.Handler):
    """Writes one line a record to whatever ``sys.stderr`` is at that moment."""

    def __init__(self, *, debug: bool) -> None:
        super().__init__()
        self._debug = debug
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s" if debug else "%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._debug:
                text = self.format(record)
            else:
                level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
                text = level + one_line(record.getMessage())
            note(redact(text))
        except Exception:
            self.handleError(record)


def configure_logging(*, verbose: bool = False, debug: bool = False) -> None:
    """Set up logging for one run: warnings by default, more on request, never less than before asked for."""
    root = logging.getLogger()
    root.handlers = [item for item in root.handlers if not isinstance(item, _StderrHandler)]
    debug = debug or (verbose and is_debugging())
    root.addHandler(_StderrHandler(debug=debug))
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(_NOTICES).setLevel(min(level, logging.INFO))


def is_debugging() -> bool:
    return logging.getLogger(_OUR_LOGGERS[0]).isEnabledFor(logging.DEBUG)


def one_line(text: str) -> str:
    return " ".join(text.split())


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
        note(redact("".join(traceback.format_exception(error))).rstrip())
    match error:
        case KrakenDBError():
            line, code = sentence(error), FAILURE
        case click.UsageError():
            line, code = _usage(error), WRONG_USAGE
        case click.ClickException():
            line, code = one_line(redact(error.format_message())), error.exit_code
        case _:
            message = one_line(redact(str(error)))
            name = type(error).__name__ + (f": {message}" if message else "")
            note(f"internal error: {name}; run again with --debug")
            return INTERNAL_ERROR
    note(f"Error: {line}")
    return code


def _usage(error: click.UsageError) -> str:
    message = one_line(redact(error.format_message())).rstrip(".?")
    return f"{message}. Try: {error.ctx.command_path} --help" if error.ctx else message
