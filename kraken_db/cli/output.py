"""Results on stdout: tables for people, aligned text for pipes, JSON for programs.

Colours and lines only on a terminal; rich looks at NO_COLOR and TERM. Everything that is not a result goes to
stderr, through ``note``. Both may be closed, on a full disk, or left by their reader.

Names of files, keys of answers and errors of servers are others' words: whatever is printed shows their
control characters as escapes (``printable``), for a terminal would obey them. ``_Printer`` does it for both
streams, so nobody has to think of it. Only what is coloured goes past it: ``print_styled`` and ``console``.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, TextIO

import click

from kraken_db.errors import KrakenDBError

if TYPE_CHECKING:
    from rich.console import Console

_INPUT, _OUTPUT, _ERROR = 0, 1, 2

# C0 but tab and line feed, DEL, C1; marks and overrides of the direction, ends of lines that are none here;
# what stands for a byte of a name that is no UTF-8.
_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_COMMANDS = re.compile(f"[{_UNSAFE}]")
_COMMANDS_AND_BREAKS = re.compile(rf"[\t\n{_UNSAFE}]")
_BUT_COLOURS = re.compile(rf"(?P<colour>\x1b\[[0-9;]*m)|[{_UNSAFE}]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
# Bytes that are searched for in no time: most of what is printed is ASCII and has none.
_ASCII_COMMANDS = bytes(code for code in (*range(32), 127) if code not in b"\t\n")


def printable(text: str, *, one_line: bool = False) -> str:
    """``text`` with escapes (``\\x1b``) for what a terminal would obey.

    ``one_line``: a tab and the end of a line are shown as escapes, too.
    """
    return (_COMMANDS_AND_BREAKS if one_line else _COMMANDS).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _json_escape(text: str) -> str:
    """``\\u202e``, beyond 16 bits two of them: right in JSON too."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _json_escape(error.object[error.start : error.end]), error.end


_ESCAPES = "kraken_db.escapes"
codecs.register_error(_ESCAPES, _escape_unencodable)


class _Printer(io.TextIOBase):
    """A standard stream that shows everything and fails at nothing; ``styled``: the stream itself."""

    def __init__(self, styled: TextIO) -> None:
        self.styled = styled

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIOBase has attributes there
        return self.styled.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.styled.errors

    def write(self, text: str) -> int:
        is_harmless = text.isascii() and not _has_commands(text.encode())
        self.styled.write(text if is_harmless else printable(text))
        return len(text)

    def flush(self) -> None:
        self.styled.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.styled.isatty()

    def fileno(self) -> int:
        return self.styled.fileno()


def _has_commands(data: bytes) -> bool:
    return len(data.translate(None, _ASCII_COMMANDS)) != len(data)


def _styled(stream: TextIO) -> TextIO:
    """Where colours may be written: past the ``_Printer``, if there is one."""
    found: TextIO = getattr(stream, "styled", stream)
    return found


def print_styled(text: str) -> None:
    """Lines with colours of ours (``click.style``); everything else of them is made printable."""
    shown = _BUT_COLOURS.sub(lambda found: found["colour"] or _escape(found), text)
    click.echo(shown, file=_styled(sys.stdout))


def console(*, err: bool = False, width: int | None = None) -> Console:
    """rich's console on a standard stream; whatever is printed there is made printable."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class _SafeConsole(Console):
        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return _SafeConsole(file=_styled(sys.stderr if err else sys.stdout), width=width, highlight=False)


class _Output(io.FileIO):
    """Standard output whose failure is an error of this package, raised once: what follows is lost anyway.

    An OSError would be taken for one of the database's connection, which is busy at that moment.
    """

    def __init__(self, failure: str | None) -> None:
        super().__init__(_OUTPUT, "wb", closefd=False)
        self._failure = failure
        self._is_lost = False

    def write(self, data: Any) -> int:
        if self._is_lost:
            return memoryview(data).nbytes
        try:
            if self._failure is None:
                return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._failure = error.strerror
        self._is_lost = True
        raise KrakenDBError(f"cannot write to standard output: {self._failure}")


def guard_streams() -> None:
    """Make the standard streams of this process safe to use. For its very beginning.

    What was closed becomes /dev/null: or a file or a connection would get its number, and our words.
    """
    was_closed = sys.stdout is None
    for number in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(_INPUT, closefd=False)  # noqa: SIM115 (until the process ends)
    if sys.stderr is None:
        sys.stderr = open(_ERROR, "w", closefd=False)  # noqa: SIM115 (until the process ends)
    writer = io.BufferedWriter(_Output("it is closed" if was_closed else None))
    encoding, errors = ("utf-8", "strict") if was_closed else (sys.stdout.encoding, sys.stdout.errors)
    # The user may have asked for another way (PYTHONIOENCODING).
    errors = _ESCAPES if errors in ("strict", "surrogateescape") else errors
    is_terminal = writer.isatty()
    text = io.TextIOWrapper(writer, encoding=encoding, errors=errors, line_buffering=is_terminal)
    sys.stdout, sys.stderr = _Printer(text), _Printer(sys.stderr)


def discard(stream: IO[str]) -> None:
    """Nobody reads any more: what is still buffered must not raise again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


# No cell is ever wrapped or cut: one that is wider than the terminal is the terminal's to break.
_UNLIMITED = 10_000
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """``right``: numbers, aligned at their right end."""

    title: str
    right: bool = False


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """A table; on a pipe plain columns, two spaces apart, without lines.

    On a terminal that is too narrow for it each row takes several lines, indented from the second one on.
    """
    shown = [tuple(printable(cell, one_line=True) for cell in row) for row in rows]
    if is_terminal():
        _print_rich(columns, shown)
        return
    widths = [max(len(column.title), *(len(row[i]) for row in shown), 0) for i, column in enumerate(columns)]
    for row in [tuple(column.title for column in columns), *shown]:
        cells = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        click.echo(_GAP.join(cells).rstrip())


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    widths = _widths(columns, rows)
    lines = _folded(widths, console().width)
    if len(lines) > 1:
        _print_folded(columns, rows, widths, lines)
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console(width=_UNLIMITED).print(table)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    titles = [column.title for column in columns]
    return [max(map(cell_len, cells)) for cells in zip(titles, *rows, strict=True)]


def _folded(widths: Sequence[int], limit: int) -> list[list[int]]:
    """The positions of the columns, line by line: as many on each as fit, at least one."""
    lines: list[list[int]] = [[]]
    used = 0
    for position, width in enumerate(widths):
        used += width + len(_GAP)
        if lines[-1] and used - len(_GAP) > limit:
            lines.append([])
            used = 2 * len(_GAP) + width  # indented
        lines[-1].append(position)
    return lines


def _print_folded(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int], lines: list[list[int]]
) -> None:
    from rich.cells import cell_len
    from rich.text import Text

    wide = console(width=_UNLIMITED)

    def show(cells: Sequence[str], style: str) -> None:
        for number, line in enumerate(lines):
            padded = []
            for position in line:
                blank = " " * (widths[position] - cell_len(cells[position]))
                cell = cells[position]
                padded.append(blank + cell if columns[position].right else cell + blank)
            wide.print(Text((_GAP if number else "") + _GAP.join(padded).rstrip(), style=style))

    show([column.title for column in columns], "bold")
    for row in rows:
        show(row, "")


def wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours, and its user has nothing against them."""
    found = console()
    return found.is_terminal and not found.no_color and found.color_system is not None


def note(message: str) -> None:
    """One line on stderr, whatever is in it: a name with a line end in it must not look like another message.

    Where it cannot be written the work goes on: the exit code tells how it ended.
    """
    _to_stderr(printable(message, one_line=True))


def note_lines(text: str) -> None:
    """The same of several lines, as in a traceback."""
    _to_stderr(printable(text))


def _to_stderr(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:
        discard(sys.stderr)


def plain_number(value: Decimal) -> str:
    """All digits, no exponent, no zeros behind the last one that counts."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def iso(moment: datetime) -> str:
    """``2023-01-31T15:30:00Z``, with a fraction only where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def moment_text(moment: datetime | None) -> str:
    """For people: ``2023-01-31 15:30``, UTC."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def count_text(number: int) -> str:
    return f"{number:,}"


def size_text(size: int) -> str:
    """``3.3 MB``."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def plural(number: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count_text(number)} {noun}" + ("" if number == 1 else "s")


def to_json(document: Any, *, indent: int | None = 2) -> str:
    """JSON as it may be printed: what it would let through to the terminal is escaped in its own way."""
    text = json.dumps(document, indent=indent, default=_json_value, ensure_ascii=False)
    return _COMMANDS.sub(lambda found: _json_escape(found[0]), text)


def print_json(document: Any) -> None:
    click.echo(to_json(document))


def _json_value(value: Any) -> Any:
    match value:
        case Decimal():
            return plain_number(value)
        case datetime():
            return iso(value)
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
