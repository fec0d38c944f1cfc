"""Pages without a browser: what they name is there, and nothing in them breaks the content policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

import kraken_db.web
from kraken_db.errors import PairError
from kraken_db.web.pages import Pages, slug_of, symbol_of

STATIC = Path(kraken_db.web.__file__).parent / "static"
PAGES = {
    "overview": "/",
    "pair": "/pair/BTC-USD",
    "coverage": "/coverage/BTC-USD",
    "jobs": "/jobs",
    "certificate": "/certificate/1",
    "login": "/login",
}
_IMPORT = re.compile(r'^(?:import|export) (?:.* from )?"\./([\w.]+)";', re.MULTILINE)


def with_imports(name: str) -> set[str]:
    """A module, and all that it needs."""
    found, waiting = set[str](), [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _IMPORT.findall((STATIC / module).read_text())
    return found


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_asks_at_once_for_all_that_it_needs(page: str) -> None:
    app = web.Application()
    Pages().add_to(app)
    async with TestClient(TestServer(app)) as client:
        text = await (await client.get(PAGES[page])).text()
        assert not re.search(
            r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", text
        )
        preloaded = set(re.findall(r'rel="modulepreload" href="/static/\w+/([\w.]+)"', text))
        script = re.findall(r'type="module" src="/static/\w+/([\w.]+)"', text)
        assert preloaded | set(script) == with_imports(script[0])
        for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', text):
            answer = await client.get(path)
            assert answer.status == 200, path
            assert "immutable" in answer.headers["Cache-Control"]


async def test_files_of_elsewhere_are_not_given() -> None:
    app = web.Application()
    Pages().add_to(app)
    async with TestClient(TestServer(app)) as client:
        for path in ("/static/x/..%2Fpages.py", "/static/x/%2Fetc%2Fpasswd", "/static/x/nothing.js"):
            assert (await client.get(path)).status == 404, path
        old = await client.get("/static/000000000000/api.js")
        assert (old.status, old.headers["Cache-Control"]) == (200, "no-cache")


async def test_a_pair_has_one_address() -> None:
    app = web.Application()
    Pages().add_to(app)
    async with TestClient(TestServer(app)) as client:
        moved = await client.get("/pair/xbt-usd", allow_redirects=False)
        assert (moved.status, moved.headers["Location"]) == (302, "/pair/BTC-USD")
        missing = await client.get("/pair/%3Cb%3E")
        assert missing.status == 404
        text = await missing.text()
        assert "&lt;b&gt;" in text.lower()
        assert "<b>" not in text.lower()


@pytest.mark.parametrize("symbol", ["BTC/USD", "AAPLx/USD", "BRK.Bx/USD", "1INCH/EUR", "ETH2.S/ETH"])
def test_symbols_in_addresses(symbol: str) -> None:
    assert symbol_of(slug_of(symbol)) == symbol


@pytest.mark.parametrize("slug", ["", "..", "<script>", "BTC-USD-EUR", "A" * 5000])
def test_what_is_no_symbol(slug: str) -> None:
    with pytest.raises(PairError):
        symbol_of(slug)
