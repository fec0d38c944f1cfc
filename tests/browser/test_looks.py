"""Every page at three widths, in light and dark: nothing sticks out, and a screen reader finds its way.

``KRAKEN_DB_SCREENSHOTS`` names a folder for pictures of all of them.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page

from tests.support.browsers import visiting
from tests.support.made_up_site import (
    MadeUpSite,
    made_up_certificate,
    made_up_job,
    made_up_part,
    serving,
)

NOW = datetime.now(UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAGES = {
    "overview": ("/", "#rows .pair-row"),
    "pair": ("/pair/BTC-USD", "#readout .when"),
    "coverage": ("/coverage/LTC-USD", ".gap-item"),
    "jobs": ("/jobs", ".job"),
    "certificate": ("/certificate/c", ".certificate"),
    "login": ("/login", "#token"),
    "missing": ("/pair/no-such-pair", "h1"),
}


def site() -> MadeUpSite:
    found = made_up_certificate("BTC/USD", clean=True, parts=[made_up_part("candles")])
    return MadeUpSite(
        gaps=[(NOW - 30 * HOUR, NOW - 27 * HOUR), (NOW - 400 * DAY, NOW - 396 * DAY)],
        unknown=[(NOW - 60 * HOUR, NOW - 50 * HOUR), (NOW - 900 * DAY, NOW - 800 * DAY)],
        quiet=[(NOW - 12 * HOUR, NOW - 8 * HOUR)],
        jobs=[
            made_up_job("a", "backfill", symbols=["BTC/USD", "ETH/EUR"]),
            made_up_job("b", "record", origin="elsewhere", progress={"share": None, "text": "3 pairs"}),
            made_up_job("c", "verify", state="done"),
            made_up_job("d", "export", state="failed", error="the disk is full"),
        ],
        certificates={"c": {"symbols": [found]}},
    )


async def serious(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    await page.evaluate(AXE_SCRIPT)
    result = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 820, 390])
async def test_page(browser: Browser, width: int, theme: str) -> None:
    is_phone = width == 390
    options = {
        "viewport": {"width": width, "height": 844 if is_phone else 900}, "color_scheme": theme,
        "has_touch": is_phone, "is_mobile": is_phone, "device_scale_factor": 2 if is_phone else 1,
        "reduced_motion": "reduce",
    }  # fmt: skip
    async with serving(site()) as address, visiting(browser, address, **options) as visit:
        for name, (path, selector) in PAGES.items():
            page = await visit.ready(path, selector)
            await page.wait_for_load_state()
            await page.wait_for_timeout(300)
            if folder := os.environ.get("KRAKEN_DB_SCREENSHOTS"):
                await page.screenshot(path=Path(folder) / f"{name}-{width}-{theme}.png")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert await serious(page) == [], name


async def test_dialogs(browser: Browser) -> None:
    async with serving(site()) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        await page.keyboard.press("/")
        await page.wait_for_selector("#jump-list [data-symbol]")
        assert await serious(page) == []
        await page.keyboard.press("Escape")
        # Chromium closes a dialog by Escape after the key, and keys typed in a dialog belong to it.
        await page.wait_for_selector("#jump", state="hidden")
        await page.keyboard.press("?")
        await page.wait_for_selector("#help[open]")
        assert await serious(page) == []


async def test_the_theme_is_kept_and_seen_before_the_first_paint(browser: Browser) -> None:
    async with serving(site()) as address, visiting(browser, address, color_scheme="light") as visit:
        page = await visit.ready("/jobs", ".job")
        await page.keyboard.press("t")
        await page.keyboard.press("t")
        background = "getComputedStyle(document.documentElement).backgroundColor"
        assert await page.evaluate(background) == "rgb(14, 17, 22)"
        await page.reload(wait_until="commit")
        await page.wait_for_selector("body", state="attached")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
