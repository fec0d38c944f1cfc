"""Lines at the end of a terminal that are painted anew again and again, and leave nothing behind.

A terminal that is made narrower folds the lines that are on it. rich would go up by the lines that it has
written, and leave the rest: here the folded ones are counted.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import Segment


def open_live(
    shown_on: Console, get_renderable: Callable[[], RenderableType], *, every: float | None = None
) -> Live:
    """What is painted while this lasts; nothing of it stays. What is printed meanwhile appears above it.

    The last column stays free: a line as wide as the terminal would be left behind.

    ``every``: seconds between two paintings; None: only where ``refresh`` is called.
    """
    live = Live(
        console=shown_on,
        get_renderable=get_renderable,
        auto_refresh=every is not None,
        refresh_per_second=1 / (every or 1),
        transient=True,
    )
    live._live_render = _Reflowing(shown_on, get_renderable())  # rich has no other place for it
    return live


class _Reflowing(LiveRender):
    """What was painted, and how wide each of its lines is."""

    def __init__(self, shown_on: Console, renderable: RenderableType) -> None:
        super().__init__(renderable)
        self._console = shown_on
        self._widths: list[int] = []

    def position_cursor(self) -> Control:
        self._count_folded()
        return super().position_cursor()

    def restore_cursor(self) -> Control:
        self._count_folded()
        return super().restore_cursor()

    def _count_folded(self) -> None:
        if self._shape is not None:
            columns = max(1, self._console.width)
            height = sum(max(1, -(-width // columns)) for width in self._widths)
            self._shape = (self._shape[0], height)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._widths = [0]
        room = options.update_width(max(1, options.max_width - 1))
        for part in super().__rich_console__(console, room):
            if isinstance(part, Segment):
                if part.text == "\n":
                    self._widths.append(0)
                else:
                    self._widths[-1] += part.cell_length
            yield part
