"""Pages and pictures: complete in themselves, of the right size, and with what they are to show in them."""

from __future__ import annotations

import io
import struct
from html.parser import HTMLParser

import plotly.offline
import pytest
from PIL import Image

from kraken_db.charts.page import page
from kraken_db.charts.picture import HEIGHT, WIDTH, picture
from kraken_db.charts.series import Series
from tests.support.drawn import DOWN, FIVE_HOURS, UP, candle, quiet

SERIES = Series.of([*FIVE_HOURS[:3], candle(5, "16541.77", "16600", "16541.1", "16599.5", "12.03450000")])
UP_COLOUR, DOWN_COLOUR, UNKNOWN_COLOUR = (0x26, 0xA6, 0x9A), (0xEF, 0x53, 0x50), (0xEC, 0xEF, 0xF1)


class References(HTMLParser):
    """What a document would load, and its text outside of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.title = ""
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        loading = ("src", "href", "srcset", "data", "poster", "action")
        self.found += [f"{tag} {value}" for name, value in attrs if name in loading]

    def handle_data(self, data: str) -> None:
        if self._tag == "title":
            self.title += data.strip()
        if self._tag == "style" and ("url(" in data or "@import" in data):
            self.found.append(data)


@pytest.fixture(scope="module")
def written() -> str:
    return page(SERIES)


def test_a_page_loads_nothing(written: str) -> None:
    references = References()
    references.feed(written)
    assert references.found == []
    assert references.title == "BTC/USD 1h, 2023-01-01 00:00 to 2023-01-01 06:00 UTC"
    # The library is in it, whole; nothing else in it names an address.
    library = plotly.offline.get_plotlyjs()
    assert written.count(library) == 1
    assert "//" not in written.replace(library, "").replace("<!doctype", "")


def test_a_page_has_the_candles_in_it_exactly(written: str) -> None:
    ours = written.replace(plotly.offline.get_plotlyjs(), "")
    for text in (
        "open 16,541.77\\u003cbr\\u003ehigh 16,600.00\\u003cbr\\u003elow 16,541.10",
        "close 16,599.50\\u003cbr\\u003evolume 12.0345\\u003cbr\\u003e7 trades",
        '"2023-01-01T05:00:00"',
        "nothing traded",
        "not known",
        "16541.77",
    ):
        assert text in ours, text


def test_a_picture_has_its_size_and_its_colours() -> None:
    content = picture(SERIES)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (WIDTH, HEIGHT) == (1600, 900)
    colours = shown(content)
    assert {UP_COLOUR, DOWN_COLOUR, UNKNOWN_COLOUR} <= colours


def test_a_picture_shows_what_there_is() -> None:
    assert DOWN_COLOUR not in shown(picture(Series.of([UP])))
    assert UP_COLOUR not in shown(picture(Series.of([DOWN])))
    assert UNKNOWN_COLOUR not in shown(picture(Series.of([UP, DOWN])))
    assert shown(picture(Series.of([quiet(0, "0"), quiet(1, "0")])))


def shown(content: bytes) -> set[tuple[int, int, int]]:
    image = Image.open(io.BytesIO(content))
    image.load()
    found = image.convert("RGB").getcolors(WIDTH * HEIGHT)
    assert found is not None
    return {colour for _, colour in found}  # type: ignore[misc]
