"""A Chromium for tests of our pages: Debian's, one that ``KRAKEN_DB_CHROMIUM`` names, or Playwright's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Route, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OWN = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")


def find() -> str | None:
    """The program, or None."""
    named = os.environ.get("KRAKEN_DB_CHROMIUM")
    if named:
        return named
    installed = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return installed or next(
        (str(path) for path in sorted(_OWN.glob("chromium-*/chrome-linux*/chrome"))), None
    )


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A running browser; skips where there is none."""
    program = find()
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium, or set KRAKEN_DB_CHROMIUM")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """A window of a browser on one of our servers. Whatever its pages complain about is in ``complaints``."""

    address: str
    page: Page
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Requests to other servers."""

    async def open(self, path: str) -> Page:
        await self.page.goto(self.address + path)
        return self.page

    async def ready(self, path: str, selector: str) -> Page:
        """Open a page, and wait until this is on it."""
        page = await self.open(path)
        await page.wait_for_selector(selector)
        return page


@asynccontextmanager
async def visiting(browser: Browser, address: str, **options: Any) -> AsyncIterator[Visit]:
    """``options``: of Playwright's contexts. Fails if a page complained, or asked another server."""
    context: BrowserContext = await browser.new_context(**options)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    visit = Visit(address, page)

    def on_console(message: ConsoleMessage) -> None:
        # A refusal that a page shows to its user is in the console, too.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            visit.complaints.append(message.text)

    def on_error(error: Error) -> None:
        visit.complaints.append(str(error))

    async def on_request(route: Route) -> None:
        visit.foreign.append(route.request.url)
        await route.abort()

    page.on("console", on_console)
    page.on("pageerror", on_error)
    await context.route(lambda url: not url.startswith(address), on_request)
    try:
        yield visit
        assert visit.complaints == []
        assert visit.foreign == []
    finally:
        await context.close()
