"""What is logged where, by -v, --debug, --quiet and --log-file. No password reaches stderr or the file."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any

import click

from kraken_db.cli.output import LONGEST_LINE, SAID, be_quiet, note_lines, printable, say, shortened
from kraken_db.errors import first_line

if sys.platform != "win32":
    import fcntl

_OUR_LOGGERS = ("kraken_db", "alembic.runtime.migration")
# What takes long and would look hung without a word: shown without being asked for.
_NOTICES = "kraken_db.notices"
_FAILURES = logging.getLogger("kraken_db.failures")
_COMMANDS = logging.getLogger("kraken_db.commands")
# What the command line prints by itself, and when it begins and ends: for the file alone.
_PRINTED = (_FAILURES.name, SAID.name, _COMMANDS.name)
_LARGEST_LOG, _OLD_LOGS = 10_000_000, 5
_WORD = re.compile(r"\S+")
_BEFORE_PASSWORD = re.compile(r"(?<![a-z0-9+])[a-z0-9+]+://[^\s:/@]*:(?!password@host)", re.IGNORECASE)
_AS_PARAMETER = re.compile(r"(?P<before>\b(?:password|passwd)=)[^\s&]+", re.IGNORECASE)


def redact(text: str) -> str:
    """``text`` without the passwords that stand in database addresses, and without the middle of a line of
    more than ``LONGEST_LINE`` characters. Its time grows with the length of the text, whatever stands in it.
    """
    text = _WORD.sub(_without_password, text)
    text = _AS_PARAMETER.sub(r"\g<before>***", text)
    return "\n".join(map(shortened, text.split("\n"))) if len(text) > LONGEST_LINE else text


def _without_password(word: re.Match[str]) -> str:
    """A word whose password, from the first colon of an address to the last @, is not shown."""
    shown = word[0]
    end = shown.rfind("@")
    found = _BEFORE_PASSWORD.search(shown) if end > 0 else None
    return f"{shown[: found.end()]}***{shown[end:]}" if found and found.end() <= end else shown


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for, before and after the name of the command together."""

    verbose: bool = False
    debug: bool = False
    quiet: bool = False
    log_file: Path | None = None


class _StderrHandler(logging.Handler):
    """Writes one line a record to whatever ``sys.stderr`` is at that moment."""

    def __init__(self, wishes: Wishes) -> None:
        super().__init__()
        self._wishes = wishes
        self._least = logging.DEBUG if wishes.debug else logging.INFO if wishes.verbose else logging.WARNING
        if wishes.quiet and not wishes.debug:
            self._least = logging.ERROR
        debug_format = "%(asctime)s %(name)s: %(message)s"
        self.setFormatter(logging.Formatter(debug_format if wishes.debug else "%(message)s"))

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name in _PRINTED:
            return False
        is_notice = record.name == _NOTICES and not self._wishes.quiet
        return is_notice or record.levelno >= self._least

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._wishes.debug:
                note_lines(redact(self.format(record)))
                return
            level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            say(redact(level + one_line(record.getMessage())))
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """In one line: what others have sent must not look like a line of ours."""
        return printable(super().formatMessage(record), one_line=True)

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


class _FileHandler(RotatingFileHandler):
    """A file that its owner alone can read. When it is full it becomes ``FILE.1``, and that ``FILE.2``.

    Several processes may write into it: one of them puts it aside, the others go on in the new one. Without
    -v it has what somebody wants to know after months: starts and ends, warnings, errors, what was printed.
    """

    def __init__(self, path: Path, wishes: Wishes) -> None:
        self._failed = False
        self._least = logging.DEBUG if wishes.debug else logging.INFO if wishes.verbose else logging.WARNING
        super().__init__(path, maxBytes=_LARGEST_LOG, backupCount=_OLD_LOGS, encoding="utf-8", delay=True)
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"))

    def _open(self) -> IO[Any]:  # type: ignore[override]  # the class asks for a wrapper of text, which it is
        def own(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=own)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self._least or record.name in (_NOTICES, *_PRINTED)

    def emit(self, record: logging.LogRecord) -> None:
        self._follow()
        super().emit(record)

    def _follow(self) -> None:
        """Go on in the file of that name, where another process has put ours aside."""
        if self.stream is None:
            return
        with suppress(OSError):
            ours = os.fstat(self.stream.fileno())
            try:
                named = Path(self.baseFilename).stat()
            except FileNotFoundError:
                named = None
            if named is None or (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
                self.stream.close()
                self.stream = None  # the next line opens it

    def doRollover(self) -> None:  # noqa: N802
        """By one process at a time; where another was faster there is nothing to do."""
        fd = os.open(
            f"{self.baseFilename}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            if sys.platform != "win32":
                fcntl.flock(fd, fcntl.LOCK_EX)
            before = self.stream
            self._follow()
            if self.stream is before:
                super().doRollover()
        finally:
            os.close(fd)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The work goes on without: it is said once."""
        if not self._failed:
            self._failed = True
            say(f"warning: the log {self.baseFilename} cannot be written: {sys.exception() or 'unknown'}")


def configure_logging(wishes: Wishes | None = None) -> None:
    """Set up logging for one run: warnings by default. Raises UsageError if the file cannot be opened."""
    wishes = wishes or Wishes()
    root = logging.getLogger()
    for old in [item for item in root.handlers if isinstance(item, _StderrHandler | _FileHandler)]:
        root.removeHandler(old)
        with suppress(OSError):  # a full disk was told of when it was found
            old.close()
    root.addHandler(_StderrHandler(wishes))
    if wishes.log_file is not None:
        root.addHandler(_opened(wishes.log_file, wishes))
    be_quiet(wishes.quiet)
    is_asked_for_more = wishes.verbose or wishes.log_file is not None
    level = logging.DEBUG if wishes.debug else logging.INFO if is_asked_for_more else logging.WARNING
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(_NOTICES).setLevel(min(level, logging.INFO))


_OTHER_FILE = "Name a file in a folder of your own, or have an administrator make it for you"


class UnusableLogError(click.ClickException):
    """Wrong usage that no --help helps with."""

    exit_code = 2


def _opened(path: Path, wishes: Wishes) -> _FileHandler:
    """The handler of a file that is known to take what is written."""
    try:
        handler = _FileHandler(path.expanduser().absolute(), wishes)
        with handler._open():
            return handler
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UnusableLogError(f"the log file {path} cannot be written: {why}. {_OTHER_FILE}") from None


def is_debugging() -> bool:
    return logging.getLogger(_OUR_LOGGERS[0]).isEnabledFor(logging.DEBUG)


def log_begin(command: str) -> None:
    """Note in the log file which command it is."""
    _COMMANDS.info("%s begins", command)


def log_end(code: int) -> None:
    """Note in the log file how the command has ended."""
    _COMMANDS.info("ended with exit code %d", code)


def log_failure(line: str, error: Exception | None = None) -> None:
    """Note in the log file what ended the command; its traceback too, where it is one of ours."""
    _FAILURES.error("%s", printable(line), exc_info=error)


_WISHES = f"{__name__}.wishes"


def wish(ctx: click.Context, **changes: Any) -> None:
    """Add to what was asked for, and set up logging by it."""
    wishes = replace(ctx.meta.get(_WISHES, Wishes()), **changes)
    if wishes != ctx.meta.get(_WISHES):
        ctx.meta[_WISHES] = wishes
        configure_logging(wishes)
        if "log_file" in changes:
            log_begin(ctx.command_path)


def has_log_file(ctx: click.Context) -> bool:
    wishes: Wishes = ctx.meta.get(_WISHES, Wishes())
    return wishes.log_file is not None


def one_line(text: str) -> str:
    return " ".join(text.split())
