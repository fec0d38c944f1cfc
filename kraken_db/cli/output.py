"""Results on stdout: tables for people, aligned text for pipes, JSON for programs.

Colours and lines only on a terminal; rich looks at NO_COLOR and TERM. Everything that is not a result goes to
stderr, through ``note``. Both may be closed, on a full disk, or left by their reader.

Names of files, keys of answers and errors of servers are others' words: whatever is printed shows their
control characters as escapes (``printable``), for a terminal would obey them. ``_Printer`` does it for both
streams, so nobody has to think of it. Only what is coloured goes past it: ``print_styled`` and ``console``.

No cell of a table is ever wrapped. Where a terminal is too narrow for all columns, long cells of some columns
stand below their rows; moments are shown as days, and then the columns that matter least are left out, and
named. What is too wide even so takes several lines a row.
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from textwrap import wrap
from typing import IO, TYPE_CHECKING, Any, TextIO

import click

from kraken_db.errors import KrakenDBError
from kraken_db.json_values import iso as iso
from kraken_db.json_values import json_value
from kraken_db.json_values import plain_number as plain_number

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


def _unguarded(stream: TextIO) -> TextIO:
    """Where colours may be written: past the ``_Printer``, if there is one."""
    found: TextIO = getattr(stream, "styled", stream)
    return found


def print_styled(text: str) -> None:
    """Lines with colours of ours (``click.style``); everything else of them is made printable."""
    shown = _BUT_COLOURS.sub(lambda found: found["colour"] or _escape(found), text)
    click.echo(shown, file=_unguarded(sys.stdout))


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

    return _SafeConsole(file=_unguarded(sys.stderr if err else sys.stdout), width=width, highlight=False)


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


def is_terminal() -> bool:
    return sys.stdout.isatty()


def can_repaint(*, err: bool = False) -> bool:
    """Whether the stream is a terminal on which lines can be painted anew: TERM=dumb is none.

    Nor is the output of ``!kraken-db`` in a notebook, which shows each painting below the last one.
    """
    found = sys.stderr if err else sys.stdout
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown") or "JPY_PARENT_PID" in os.environ
    return found.isatty() and not is_dumb


def folded(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most ``width`` characters, cut between words; ``indent``: of all but the first.

    What fits stays as it is, and so does a word that is longer than a line, unless it is a list: that is
    cut behind a comma. A number and its unit stay together.
    """
    if cell_width(text) <= width:
        return [text.replace(_KEPT_SPACE, " ")]
    kept = _BEFORE_UNIT.sub(_KEPT_SPACE, text)
    room = max(1, width - len(indent))
    kept = re.sub(rf"\S{{{room + 1},}}", lambda word: " ".join(_pieces(word[0], room)), kept)
    lines = wrap(kept, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_KEPT_SPACE, " ") for line in lines]


def _pieces(word: str, width: int) -> list[str]:
    """``open,high,low`` in pieces of at most ``width`` characters, as few as can be."""
    pieces = [""]
    for item in re.findall(r"[^,]*,|[^,]+$", word):
        if pieces[-1] and len(pieces[-1] + item) > width:
            pieces.append("")
        pieces[-1] += item
    return pieces


_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:bytes|kB|MB|GB|s|min|h|days?)\b)")
_KEPT_SPACE = "\0"  # no text that is shown has one


def print_folded(text: str, indent: str = "") -> None:
    """One line of text on stdout, folded between words where a terminal is too narrow for it."""
    lines = folded(text, shutil.get_terminal_size().columns, indent) if is_terminal() else [text]
    for line in lines:
        click.echo(line)


def wants_colour(*, err: bool = False) -> bool:
    """Whether the stream is a terminal that shows colours, and its user has nothing against them."""
    found = console(err=err)
    return found.is_terminal and not found.no_color and found.color_system is not None


_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """``right``: numbers, aligned at their right end."""

    title: str
    right: bool = False
    short: int = 0
    """So many characters of a cell are enough where there is no room; 0: none can be spared."""
    rank: int = 0
    """Where there is no room the column with the highest rank is left out first; 0: never."""
    is_spare: bool = False
    """It is left out before anything is cut."""
    may_hang: bool = False
    """A cell that has no room stands on a line of its own, below its row: paths, addresses."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, and the colour of what is wrong with it."""

    cells: tuple[str, ...]
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table as a terminal has room for it."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    widths: Sequence[int]
    left_out: Sequence[str] = ()
    """The titles of the columns that have no room."""
    hanging: Sequence[Sequence[str]] = ()
    """What stands below each row; empty where nothing does."""

    def line(self, cells: Sequence[str], positions: Iterable[int] | None = None) -> str:
        chosen = range(len(self.columns)) if positions is None else positions
        return _GAP.join(
            _padded(cells[at], self.widths[at], right=self.columns[at].right) for at in chosen
        ).rstrip()


def day_column(title: str, rank: int = 0) -> Column:
    """Moments of which the day is enough where there is no room."""
    return Column(title, short=len("2023-01-31"), rank=rank)


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Fitted:
    """The table in at most ``width`` characters, if that can be."""
    found = _measured(columns, rows)
    if _total(found.widths) <= width:
        return found
    without = [at for at, column in enumerate(columns) if not column.is_spare]
    if len(without) < len(columns) and _total([found.widths[at] for at in without]) <= width:
        return _chosen(found, without)
    rows, hanging = _with_hanging(columns, rows, width)
    rows = [
        tuple(
            cell[: column.short] if column.short else cell for cell, column in zip(row, columns, strict=True)
        )
        for row in rows
    ]
    found = replace(_measured(columns, rows), hanging=hanging)
    kept = list(range(len(columns)))
    for at in sorted((at for at in kept if columns[at].rank), key=lambda at: -columns[at].rank):
        if _total([found.widths[one] for one in kept]) <= width:
            break
        kept.remove(at)
    return _chosen(found, kept)


def _chosen(found: Fitted, kept: Sequence[int]) -> Fitted:
    return Fitted(
        [found.columns[at] for at in kept],
        [[row[at] for at in kept] for row in found.rows],
        [found.widths[at] for at in kept],
        [column.title for at, column in enumerate(found.columns) if at not in kept],
        found.hanging,
    )


def _with_hanging(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[list[str]], list[list[str]]]:
    """The rows without the longest of the cells that may hang, as few as have to; and those, row by row."""
    left = [list(row) for row in rows]
    hanging: list[dict[int, str]] = [{} for _ in rows]
    movable = [
        (cell_width(row[at]), number, at)
        for number, row in enumerate(left)
        for at, column in enumerate(columns)
        if column.may_hang and cell_width(row[at]) > cell_width(column.title)
    ]
    for _, number, at in sorted(movable, key=lambda cell: -cell[0]):
        if _total(_measured(columns, left).widths) <= width:
            break
        hanging[number][at] = left[number][at]
        left[number][at] = ""
    return left, [[cells[at] for at in sorted(cells)] for cells in hanging]


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str] | Row]) -> None:
    """A table; on a pipe plain columns, two spaces apart, all of them and without lines."""
    given = [row if isinstance(row, Row) else Row(tuple(row)) for row in rows]
    shown = [tuple(printable(cell, one_line=True) for cell in row.cells) for row in given]
    if not is_terminal():
        found = _measured(columns, shown)
        for cells in [[column.title for column in columns], *shown]:
            click.echo(found.line(cells))
        return
    width = shutil.get_terminal_size().columns
    found = fit(columns, shown, width)
    for line in _lines(found, [row.colour for row in given], width):
        print_styled(line)
    if found.left_out:
        titles = [title.replace(" ", _KEPT_SPACE) for title in found.left_out]
        for line in folded(f"(no room for: {', '.join(titles)})", width):
            print_styled(styled(line, dim=True))


def _lines(found: Fitted, colours: Sequence[str], width: int) -> Iterable[str]:
    """The heading and the rows; each in several lines, indented from the second one on, where it must be."""
    places = _folded(found.widths, width)

    def on_lines(cells: Sequence[str]) -> Iterable[str]:
        for number, positions in enumerate(places):
            yield (_GAP if number else "") + found.line(cells, positions)

    for line in on_lines([column.title for column in found.columns]):
        yield styled(line, bold=True)
    if len(places) == 1:
        rule = "─" if _can_show("─") else "-"
        yield rule * _total(found.widths)
    is_coloured = wants_colour()  # asked once: a store may have thousands of rows
    hanging = found.hanging or [()] * len(found.rows)
    for row, below, colour in zip(found.rows, hanging, colours, strict=True):
        hung = [_GAP + line for cell in below for line in folded(cell, width - len(_GAP))]
        for line in [*on_lines(row), *hung]:
            yield click.style(line, fg=colour) if colour and is_coloured else line


def styled(text: str, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None) -> str:
    """``text`` in a colour, where stdout shows one. For ``print_styled``."""
    return click.style(text, fg=fg, bold=bold, dim=dim) if wants_colour() else text


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _measured(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Fitted:
    titles = [column.title for column in columns]
    return Fitted(columns, rows, [max(map(cell_width, cells)) for cells in zip(titles, *rows, strict=True)])


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _padded(text: str, width: int, *, right: bool) -> str:
    blank = " " * (width - cell_width(text))
    return blank + text if right else text + blank


def cell_width(text: str) -> int:
    """The places that a text takes on a terminal: some characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


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


SAID = logging.getLogger("kraken_db.said")
"""Gets every line that goes to stderr: a log file has them, too."""
_OF_ERRORS = ("Error:", "Failed:", "internal error:", "interrupted")
_is_quiet = False


def be_quiet(wanted: bool) -> None:
    """Whether ``note`` is to print errors alone (``--quiet``)."""
    global _is_quiet
    _is_quiet = wanted


def is_quiet() -> bool:
    return _is_quiet


def note(message: str) -> None:
    """One line on stderr, whatever is in it: a name with a line end in it must not look like another message.

    Where it cannot be written the work goes on: the exit code tells how it ended. With ``--quiet`` only what
    begins as an error does (``Error:``, ``Failed:``).
    """
    SAID.info("%s", printable(message))
    if not _is_quiet or message.startswith(_OF_ERRORS):
        say(message)


def say(message: str) -> None:
    """The same for what is logged already, and is to be seen whatever was asked for."""
    text = shortened(printable(message, one_line=True))
    _to_stderr("\n".join(folded(text, shutil.get_terminal_size().columns)) if sys.stderr.isatty() else text)


LONGEST_LINE = 4_000
"""Characters of a message: what is longer was sent by somebody, and only its ends say something."""


def shortened(line: str) -> str:
    """A line without its middle, if it has more than ``LONGEST_LINE`` characters."""
    left = len(line) - LONGEST_LINE
    half = LONGEST_LINE // 2
    return line if left <= 0 else f"{line[:half]} [{left:,} characters left out] {line[-half:]}"


def note_lines(text: str) -> None:
    """The same of several lines, as in a traceback."""
    _to_stderr(printable(text))


def _to_stderr(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:
        discard(sys.stderr)


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


def left_text(seconds: float) -> str:
    """``0:07``, ``2:10``, ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def plural(number: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count_text(number)} {noun}" + ("" if number == 1 else "s")


def to_json(document: Any, *, indent: int | None = 2) -> str:
    """JSON as it may be printed: what it would let through to the terminal is escaped in its own way."""
    text = json.dumps(document, indent=indent, default=json_value, ensure_ascii=False)
    return _COMMANDS.sub(lambda found: _json_escape(found[0]), text)


def print_json(document: Any) -> None:
    click.echo(to_json(document))
