"""The page of coverage: its calendar, and how a gap is filled from it."""

from __future__ import annotations

from datetime import UTC, datetime

from playwright.async_api import Browser, Page, expect

from tests.support.browsers import Visit, visiting
from tests.support.made_up_site import MadeUpSite, serving

GAP = datetime(2024, 2, 28, 21, tzinfo=UTC), datetime(2024, 2, 29, 3, tzinfo=UTC)
LOST = datetime(2020, 6, 1, tzinfo=UTC), datetime(2020, 6, 4, tzinfo=UTC)


async def opened(visit: Visit, path: str = "/coverage/BTC-USD") -> Page:
    page = await visit.ready(path, ".day[data-source]")
    await page.wait_for_selector(".gap-item")
    return page


def site() -> MadeUpSite:
    return MadeUpSite(gaps=[GAP], unknown=[LOST])


async def test_years_by_days(browser: Browser) -> None:
    async with serving(site()) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        years = await page.locator(".year h2").all_inner_texts()
        assert years == [str(year) for year in range(datetime.now(UTC).year, 2015, -1)]
        assert await page.locator(".year[aria-label='2024'] .day").count() == 366
        marked = await page.locator("#calendar .day.gap").evaluate_all(
            "(days) => days.map((day) => day.dataset.day)"
        )
        assert marked == ["2024-02-28", "2024-02-29"]
        unknown = await page.locator("#calendar .day.unknown").evaluate_all(
            "(days) => days.map((day) => day.dataset.day)"
        )
        assert unknown == ["2020-06-01", "2020-06-02", "2020-06-03"]
        await expect(page.locator("[data-day='2017-03-05']")).to_have_attribute(
            "aria-label", "2017-03-05: 100 % covered, by archives"
        )


async def test_a_gap_says_why_and_how_it_is_filled(browser: Browser) -> None:
    made_up = site()
    async with serving(made_up) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        await page.locator("[data-day='2024-02-29']").click()
        day = page.locator("#day")
        await expect(day).to_contain_text("72 % covered, by archives, with a gap")
        await expect(day).to_contain_text("2024-02-28 21:00 to 2024-02-29 03:00")
        await expect(day).to_contain_text("No source covers this time")
        await expect(day.locator("code")).to_have_text("kraken-db gaps fill BTC/USD")
        await day.get_by_role("button", name="Fill the gaps of BTC/USD").click()
        await expect(page.locator("#filling .badge")).to_have_text("running")
        assert made_up.posted == [{"kind": "gaps-fill", "arguments": {"symbols": ["BTC/USD"]}}]
        await expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "42")
        job = {**made_up.jobs[0], "state": "done", "progress": {"share": 1.0, "text": "1 gap filled"}}
        made_up.jobs[0], made_up.gaps = job, []
        made_up.say("job", job)
        await expect(page.locator("#gaps-title")).to_have_text("No gaps")
        await expect(page.locator(".day.gap[data-day]")).to_have_count(0)


async def test_by_source(browser: Browser) -> None:
    async with serving(site()) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        await page.get_by_role("button", name="archives").click()
        assert await page.locator("[data-day='2017-03-05'].dim").count() == 0
        today = datetime.now(UTC).date().isoformat()
        assert await page.locator(f"[data-day='{today}'].dim").count() == 1
        await page.get_by_role("button", name="archives").click()
        assert await page.locator(".day.dim").count() == 0
        await page.get_by_role("button", name="Candles", exact=True).click()
        await page.wait_for_url("**?of=candles")
        await expect(page.locator("#gaps-title")).to_have_text("1 gap")


async def test_by_keys(browser: Browser) -> None:
    async with serving(site()) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        await page.locator("[data-day='2024-03-01']").focus()
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#said")).to_have_text("2024-02-29: 72 % covered, by archives, with a gap")
        await page.keyboard.press("Enter")
        await expect(page.locator("#day h2")).to_have_text("2024-02-29")
        await page.keyboard.press("PageUp")
        await expect(page.locator("[data-day='2023-02-28']")).to_be_focused()
        await page.keyboard.press("ArrowUp")
        await expect(page.locator("[data-day='2023-01-28']")).to_be_focused()
        await page.keyboard.press("End")
        await expect(page.locator("[data-day='2023-01-31']")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.locator("#day")).to_be_hidden()
        await page.keyboard.press("v")
        await page.wait_for_url("**/pair/BTC-USD*")


async def test_the_days_of_a_year_are_one_stop_of_tab(browser: Browser) -> None:
    async with serving(site()) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        assert await page.locator(".day[tabindex='0']").count() == 1
