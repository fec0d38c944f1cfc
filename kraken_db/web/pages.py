"""The pages of ``kraken-db serve``: HTML that holds no data, and the files that fill it in the browser.

A page is the same for everybody: what is stored comes by the API, which asks for the token. So pages and
files need none. The files' address has a hash of all of them in it: a browser keeps them for good, and an
upgraded server has new addresses.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from kraken_db.errors import KrakenDBError
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.pairs import parse_symbol

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_GOOD = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_IMPORT = re.compile(rb'^import (?:.* from )?"\./([\w.]+)";', re.MULTILINE)

PATHS = (
    "/", "/pair/{slug}", "/coverage/{slug}", "/jobs",
    "/certificate/{job}", "/login", "/static/{version}/{name}", "/favicon.ico",
)  # fmt: skip
"""What is answered here: to everybody, because nothing of what is stored is in it."""


def slug_of(symbol: str) -> str:
    """``BTC/USD`` -> ``BTC-USD``: a symbol as a part of an address."""
    return symbol.replace("/", "-")


def symbol_of(slug: str) -> str:
    """``BTC-USD`` -> ``BTC/USD``. Raises PairError for what can be no pair."""
    return parse_symbol(slug)


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str


class Pages:
    """Templates and files, read once. ``add_to`` puts them into an application."""

    def __init__(self) -> None:
        # Only `serve` needs it: an extra.
        import jinja2

        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        )
        paths = sorted((_HERE / "static").iterdir())
        self._files = {
            path.name: _File(path.read_bytes(), _TYPES[path.suffix])
            for path in paths
            if path.suffix in _TYPES
        }
        every = hashlib.sha256()
        for name, file in self._files.items():
            every.update(name.encode() + b"\0" + file.body)
        self._version = every.hexdigest()[:12]

    def add_to(self, app: web.Application) -> None:
        answers = (
            self._overview, self._pair, self._coverage, self._jobs,
            self._certificate, self._login, self._static, self._icon,
        )  # fmt: skip
        for path, answer in zip(PATHS, answers, strict=True):
            app.router.add_get(path, answer)

    async def _overview(self, _: web.Request) -> web.Response:
        return self._page("overview", "Overview")

    async def _pair(self, request: web.Request) -> web.Response:
        return self._page_of_pair("pair", request)

    async def _coverage(self, request: web.Request) -> web.Response:
        return self._page_of_pair("coverage", request)

    async def _jobs(self, _: web.Request) -> web.Response:
        return self._page("jobs", "Jobs")

    async def _certificate(self, request: web.Request) -> web.Response:
        return self._page("certificate", "Certificate", job=request.match_info["job"])

    async def _login(self, _: web.Request) -> web.Response:
        return self._page("login", "Token")

    async def _static(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["name"])
        if file is None:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="there is no such file")
        is_this_version = request.match_info["version"] == self._version
        return web.Response(
            body=file.body,
            content_type=file.content_type,
            charset="utf-8",
            headers={"Cache-Control": _FOR_GOOD if is_this_version else _ASK_AGAIN},
        )

    async def _icon(self, _: web.Request) -> web.Response:
        file = self._files["icon.svg"]
        return web.Response(body=file.body, content_type=file.content_type)

    def _imports(self, script: str) -> list[str]:
        """All modules that a script needs: a browser that asks for them at once waits only once."""
        found, waiting = {script}, [script]
        while waiting:
            names = [name.decode() for name in _IMPORT.findall(self._files[waiting.pop()].body)]
            waiting += [name for name in names if name not in found]
            found.update(names)
        return sorted(found - {script})

    def _page_of_pair(self, page: str, request: web.Request) -> web.Response:
        slug = request.match_info["slug"]
        try:
            symbol = symbol_of(slug)
        except KrakenDBError as error:
            return self._page("missing", "No such page", status=HTTPStatus.NOT_FOUND, why=str(error))
        if slug != slug_of(symbol):
            return web.Response(status=HTTPStatus.FOUND, headers={"Location": f"/{page}/{slug_of(symbol)}"})
        title = symbol if page == "pair" else f"{symbol} coverage"
        return self._page(page, title, symbol=symbol, slug=slug)

    def _page(self, page: str, title: str, *, status: int = HTTPStatus.OK, **values: Any) -> web.Response:
        script = "login.js" if page == "login" else "missing.js" if page == "missing" else f"{page}.js"
        text = self._templates.get_template(f"{page}.html").render(
            page=page,
            title=title,
            script=script,
            modules=self._imports(script),
            static=f"/static/{self._version}",
            intervals=INTERVAL_NAMES.items(),
            **{"symbol": None, "slug": None, "job": None, **values},
        )
        return web.Response(
            text=text, status=status, content_type="text/html", headers={"Cache-Control": _ASK_AGAIN}
        )
