"""The overview with 1,635 pairs."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.support.browsers import visiting
from tests.support.made_up_site import MadeUpSite, serving

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


async def symbols(page: Page) -> list[str]:
    """The pairs in view, from above to below."""
    found: list[str] = await page.evaluate(
        "[...document.querySelectorAll('#rows .name a')]"
        ".map((link) => ({top: link.getBoundingClientRect().top, text: link.textContent}))"
        ".filter(({top}) => top >= 0 && top < innerHeight)"
        ".sort((a, b) => a.top - b.top).map(({text}) => text)"
    )
    return found


async def test_what_needs_attention_comes_first(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        # Numbers 7, 138, .. 1,579 have gaps, and 11, 184, .. 1,568 are behind: 13 and 10 of 0 to 1,634.
        await expect(page.locator("h1")).to_have_text("23 of 1,635 pairs need attention")
        await expect(page).to_have_title("(23) Overview · kraken-db")
        first = page.locator("#rows .pair-row").first
        await expect(first.locator(".badge")).to_have_text("5 gaps")
        await expect(page.locator("#total-pairs")).to_have_text("1,635")


async def test_only_what_is_in_view_is_in_the_page(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        assert await page.locator("#rows .pair-row").count() < 60
        await expect(page.get_by_role("table", name="Pairs")).to_have_attribute("aria-rowcount", "1636")
        await page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await page.wait_for_selector("#rows [aria-rowindex='1636']")
        assert await page.locator("#rows .pair-row").count() < 60
        assert len(await symbols(page)) > 10


async def test_search_sort_and_choice_are_in_the_address(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        await page.get_by_label("Search pairs").fill("eth")
        await expect(page.locator("#shown")).to_have_text(
            "24 of 1,635 pairs"
        )  # 19 bases in ETH, 5 quotes of ETH
        assert (await symbols(page))[0].startswith("ETH/")
        await page.get_by_role("columnheader", name="Pair").get_by_role("button").click()
        assert (await symbols(page))[:2] == ["AAVE/ETH", "ADA/ETH"]
        await page.wait_for_url("**/?q=eth&sort=symbol")
        await page.reload()
        await page.wait_for_selector("#rows .pair-row")
        assert (await symbols(page))[:2] == ["AAVE/ETH", "ADA/ETH"]
        await page.get_by_role("columnheader", name="Pair").get_by_role("button").click()
        assert (await symbols(page))[0] == "XRP/ETH"
        await page.get_by_role("button", name="Trouble").click()
        assert all("ETH" in symbol for symbol in await symbols(page))


async def test_nothing_found_says_so(browser: Browser) -> None:
    async with serving(MadeUpSite(pairs=3)) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        await page.get_by_label("Search pairs").fill("nothing")
        await expect(page.locator("#empty")).to_contain_text("No pair here is called “nothing”.")
        await page.get_by_role("button", name="Show all pairs").click()
        await expect(page.locator("#rows .pair-row")).to_have_count(3)


async def test_an_empty_store_says_what_to_do(browser: Browser) -> None:
    async with serving(MadeUpSite(pairs=0)) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#empty a")
        await expect(page.locator("h1")).to_have_text("Nothing is stored yet")
        await page.get_by_role("link", name="Start a backfill").click()
        await expect(page.get_by_label("Backfill")).to_be_checked()


async def test_by_keys_alone(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        await page.keyboard.press("s")
        await page.keyboard.type("sol/usd")
        await expect(page.locator("#shown")).to_have_text("2 of 1,635 pairs")
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#rows a").first).to_be_focused()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/pair/SOL-USD*")
        await page.keyboard.press("/")
        await page.keyboard.type("eth/e")
        await expect(page.get_by_role("option", name="ETH/EUR")).to_have_attribute("aria-selected", "true")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/pair/ETH-EUR*")


async def test_the_arrow_keys_go_through_all_rows(browser: Browser) -> None:
    async with serving(MadeUpSite(pairs=200)) as address, visiting(browser, address) as visit:
        page = await visit.ready("/?sort=symbol", "#rows .pair-row")
        await page.keyboard.press("ArrowDown")
        for _ in range(70):
            await page.keyboard.press("ArrowDown")
        row = page.locator("#rows .pair-row:focus-within")
        await expect(row).to_have_attribute("aria-rowindex", "72")
        await expect(row).to_be_in_viewport()
        await page.keyboard.press("End")
        await expect(page.locator("#rows .pair-row:focus-within")).to_have_attribute("aria-rowindex", "201")


async def test_a_new_price_is_there_at_once(browser: Browser) -> None:
    site = MadeUpSite(pairs=5)
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#live[data-state=live]")
        await page.wait_for_selector("#rows .pair-row")
        site.say(
            "trade-price", {"symbol": "BTC/USD", "price": "123456.7800000000", "time": "2026-11-29T00:00:00Z"}
        )
        await expect(page.locator("[data-symbol='BTC/USD'] .price-cell")).to_have_text(
            "123,456.78", timeout=2000
        )


async def test_the_server_goes_and_comes_back(browser: Browser) -> None:
    site = MadeUpSite(pairs=5)
    async with serving(site) as address, visiting(browser, address) as visit:
        site.fails = True
        page = await visit.ready("/", "#problem .notice")
        await expect(page.get_by_role("alert")).to_contain_text("the database does not answer is it running?")
        site.fails = False
        await page.get_by_role("button", name="Try again").click()
        await expect(page.locator("#rows .pair-row")).to_have_count(5)
        await expect(page.locator("#problem .notice")).to_have_count(0)


async def test_markup_in_what_is_stored_is_text(browser: Browser) -> None:
    bad = "<img src=x onerror=alert(1)>"
    pair: dict[str, Any] = {
        "symbol": f"{bad}/USD", "status": "behind", "trouble": [bad],
        "newest_trade": None, "newest_candle": None, "last_sync": "2026-11-29T00:00:00Z", "spark": [],
        "price": None, "lag_seconds": None, "trades": 0, "candles": 0, "size": 0, "gaps": 0, "ended_at": None,
        "coverage": {"share": None, "start": None, "end": None},
    }  # fmt: skip
    async with serving(MadeUpSite(pairs=2, more=[pair])) as address, visiting(browser, address) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        assert await page.locator("#rows img").count() == 0
        await expect(page.locator("#rows .badge").first).to_have_text(bad)


async def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address, **PHONE) as visit:
        page = await visit.ready("/", "#rows .pair-row")
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        row = await page.locator("#rows .pair-row").first.bounding_box()
        assert row is not None and row["height"] >= 44
        await page.locator("#rows .pair-row").nth(2).tap()
        await page.wait_for_url("**/pair/*")
