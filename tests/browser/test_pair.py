"""The page of a pair: its chart, and what is under the cursor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.support.browsers import Visit, visiting
from tests.support.made_up_site import MadeUpSite, candle_row, serving

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime.now(UTC)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# `painted` resolves with what was painted, once it is all there.
_PAINTED = """void (window.painted = new Promise((done) => {
  const chart = document.getElementById("chart");
  const look = (event) => {
    if (!event.detail.whole) return;
    chart.removeEventListener("painted", look);
    done(event.detail);
  };
  chart.addEventListener("painted", look);
}))"""

# The colours below the candles at these places.
_RIBBON = """(places) => {
  const canvas = document.getElementById("chart-base");
  const y = canvas.clientHeight - 24 - 4 + 3;
  const line = canvas.getContext("2d").getImageData(0, y, canvas.clientWidth, 1).data;
  return places.map((x) => [...line.slice(Math.round(x) * 4, Math.round(x) * 4 + 4)]);
}"""


def address_of(start: datetime, end: datetime, symbol: str = "BTC-USD") -> str:
    return f"/pair/{symbol}?from={start:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"


async def opened(visit: Visit, path: str = "/pair/BTC-USD") -> Page:
    page = await visit.open(path)
    await expect(page.locator("#span-text")).not_to_be_empty()
    await page.wait_for_selector("#live[data-state=live]")
    return page


async def point(page: Page, moment: datetime, start: datetime, end: datetime) -> None:
    """Move the mouse to a time, of a chart that shows this range."""
    box = await page.locator("#chart").bounding_box()
    assert box is not None
    plot = box["width"] - await axis_width(page)
    place = (box["x"] + plot * ((moment - start) / (end - start)), box["y"] + box["height"] / 3)
    await page.mouse.move(*place)


async def axis_width(page: Page) -> float:
    """As chart_draw.js makes it: by the length of the newest price."""
    text = await page.locator("#price").inner_text()
    return max(72, len(text) * 7.3 + 18)


async def test_the_head_says_how_well_it_is_known(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await opened(visit, "/pair/LTC-USD")  # the eighth pair: it has gaps
        await expect(page.get_by_role("heading", level=1)).to_have_text("LTC/USD")
        await expect(page.locator("#facts")).to_contain_text("99.21 % covered")
        await page.locator("#facts").get_by_role("link", name="3 gaps").click()
        await page.wait_for_url("**/coverage/LTC-USD")


async def test_other_spellings_lead_to_ours(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await opened(visit, "/pair/xbt-usd")
        assert page.url.split("?")[0] == f"{address}/pair/BTC-USD"
        page = await visit.open("/pair/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
        await expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
        assert await page.locator("main script").count() == 0


async def test_a_pair_that_is_not_stored_says_what_to_do(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await visit.open("/pair/KSM-USD")
        await page.get_by_role("link", name="Backfill it").click()
        await expect(page.locator("#field-symbols")).to_have_value("KSM/USD")
        await expect(page.locator("#command")).to_have_text("kraken-db backfill KSM/USD")


async def test_zoom_from_ten_years_to_ten_minutes(browser: Browser) -> None:
    site = MadeUpSite()
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        await page.get_by_role("button", name="All", exact=True).click()
        await expect(page.locator("#span-text")).to_contain_text("1w candles, 2016")
        await page.locator("#chart").focus()
        seen = []
        for _ in range(70):
            await page.evaluate(_PAINTED)
            await page.keyboard.press("+")
            detail = await page.evaluate("window.painted")
            seen.append(detail["minutes"])
            assert detail["candles"] <= 500
        assert seen[-1] == 1
        assert [minutes for at, minutes in enumerate(seen) if at == 0 or minutes != seen[at - 1]] == [
            10080, 1440, 720, 240, 60, 30, 15, 5, 1,
        ]  # fmt: skip
        asked = [path for path in site.asked if path.startswith("/api/v1/candles")]
        assert all("limit=500" in path for path in asked)


async def test_quiet_unknown_and_gap_are_told_apart(browser: Browser) -> None:
    start, end = NOW - 10 * HOUR, NOW - HOUR
    site = MadeUpSite(
        gaps=[(start + HOUR, start + 2 * HOUR)],
        unknown=[(start + 3 * HOUR, start + 4 * HOUR)],
        quiet=[(start + 5 * HOUR, start + 6 * HOUR)],
    )
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await opened(visit, address_of(start, end))
        readout = page.locator("#readout")
        await page.wait_for_timeout(400)
        for hours, text in (
            (1.5, "A gap: this time is missing"),
            (3.5, "Unknown: no source"),
            (5.5, "Quiet: nothing was"),
        ):
            await point(page, start + hours * HOUR, start, end)
            await expect(readout).to_contain_text(text)
            await expect(page.locator("#trades-of")).to_contain_text(text)
        await point(page, start + 7 * HOUR, start, end)
        await expect(readout).to_contain_text("5m")
        await expect(page.locator("#trades tbody tr")).to_have_count(15)  # one each 20 s, five minutes


async def test_the_colours_of_gap_and_unknown_are_on_the_canvas(browser: Browser) -> None:
    start, end = NOW - 10 * HOUR, NOW - HOUR
    site = MadeUpSite(gaps=[(start + HOUR, start + 2 * HOUR)], unknown=[(start + 3 * HOUR, start + 4 * HOUR)])
    async with serving(site) as address, visiting(browser, address, color_scheme="light") as visit:
        page = await opened(visit, address_of(start, end))
        await page.wait_for_timeout(400)
        width = await page.evaluate("document.getElementById('chart-base').clientWidth") - await axis_width(
            page
        )
        gap, unknown, covered = await page.evaluate(_RIBBON, [width * hours / 9 for hours in (1.5, 3.5, 5.5)])
        assert gap == [0xB3, 0x26, 0x3A, 255]
        assert unknown == [0xAA, 0xB2, 0xBF, 255]
        assert covered[2] > covered[0]  # the accent is blue


async def test_a_live_candle_appears_within_two_seconds(browser: Browser) -> None:
    site = MadeUpSite()
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        await page.get_by_role("button", name="1 h", exact=True).click()
        await page.wait_for_timeout(400)
        opens = datetime.now(UTC).replace(second=0, microsecond=0)
        row: list[Any] = [*candle_row("BTC/USD", opens, 1)]
        row[1:5] = [777.0, 778.5, 776.25, 778.25]
        site.say("candle", {"symbol": "BTC/USD", "interval": "1m", "row": row})
        await expect(page.locator("#readout")).to_contain_text("C778.25", timeout=2000)
        site.say("candle", {"symbol": "ETH/USD", "interval": "1m", "row": [*row[:4], 999.0, *row[5:]]})
        site.say("trade-price", {"symbol": "BTC/USD", "price": "779.5", "time": row[0]})
        await expect(page.locator("#price")).to_have_text("779.5", timeout=2000)
        await expect(page.locator("#readout")).not_to_contain_text("999")


async def test_by_keys_and_by_ear(browser: Browser) -> None:
    site = MadeUpSite()
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        await page.keyboard.press("3")  # one day
        await page.keyboard.press("c")
        await expect(page.get_by_role("application", name="Candles of BTC/USD")).to_be_focused()
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#said")).to_contain_text("open")
        first = await page.locator("#said").text_content()
        await page.keyboard.press("ArrowLeft")
        await expect(page.locator("#said")).not_to_have_text(first or "")
        await page.keyboard.press("Enter")
        await expect(page.locator("#trades-of")).to_contain_text("kept")
        await expect(page.locator("#trades tbody tr")).to_have_count(45)
        await page.keyboard.press("Escape")
        await page.keyboard.press("Home")
        await expect(page.locator("#span-text")).to_contain_text("2016-1")
        await page.keyboard.press("l")
        await expect(page.get_by_role("button", name="Log")).to_have_attribute("aria-pressed", "true")


async def test_the_view_is_in_the_address(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        start, end = datetime(2021, 5, 1, tzinfo=UTC), datetime(2021, 5, 8, tzinfo=UTC)
        page = await opened(visit, address_of(start, end) + "&interval=240")
        await expect(page.locator("#span-text")).to_have_text("4h candles, 2021-05-01 to 2021-05-08, UTC")
        await page.locator("#interval").select_option("60")
        await expect(page.locator("#span-text")).to_contain_text("1h candles")
        await page.wait_for_url("**interval=60")
        await page.reload()
        await expect(page.locator("#span-text")).to_have_text("1h candles, 2021-05-01 to 2021-05-08, UTC")


async def test_the_viewers_zone_and_its_odd_hours(browser: Browser) -> None:
    # On 2024-11-03 at 06:00 UTC New York's clocks go back from 2 to 1 o'clock.
    start, end = datetime(2024, 11, 3, 4, tzinfo=UTC), datetime(2024, 11, 3, 10, tzinfo=UTC)
    async with (
        serving(MadeUpSite()) as address,
        visiting(browser, address, timezone_id="America/New_York") as visit,
    ):
        page = await opened(visit, address_of(start, end))
        await expect(page.locator("#span-text")).to_contain_text("2024-11-03 04:00 to 2024-11-03 10:00, UTC")
        await page.keyboard.press("z")
        await expect(page.locator("#span-text")).to_contain_text(
            "2024-11-03 00:00 to 2024-11-03 05:00, America/New_York"
        )
        await point(page, start + 1.51 * HOUR, start, end)
        await expect(page.locator("#readout")).to_contain_text("2024-11-03 01:30 (UTC-04:00)")
        await point(page, start + 2.51 * HOUR, start, end)
        await expect(page.locator("#readout")).to_contain_text("2024-11-03 01:30 (UTC-05:00)")
        await page.reload()
        await expect(page.locator("#zone")).to_have_text("Local")


async def test_what_fails_is_said_and_tried_again(browser: Browser) -> None:
    site = MadeUpSite()
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        site.fails = True
        await page.get_by_role("button", name="1 h", exact=True).click()
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("the database does not answer")
        await page.get_by_role("button", name="Try again").click()
        await expect(alert).to_contain_text("the database does not answer")
        site.fails = False
        await expect(page.locator("#problem .notice")).to_have_count(0)
        await expect(page.locator("#span-text")).to_contain_text("1m candles")


async def test_a_price_that_comes_in_between_leaves_the_way_to_try_again(browser: Browser) -> None:
    site = MadeUpSite()
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await opened(visit)
        site.fails = True
        await page.get_by_role("button", name="1 h", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("the database does not answer")
        site.say("trade-price", {"symbol": "BTC/USD", "price": "7", "time": "2026-11-29T00:00:00Z"})
        await expect(page.locator("#price")).to_contain_text("7")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()


async def test_candles_as_a_table(browser: Browser) -> None:
    start, end = datetime(2021, 5, 1, tzinfo=UTC), datetime(2021, 5, 2, tzinfo=UTC)
    async with serving(MadeUpSite()) as address, visiting(browser, address) as visit:
        page = await opened(visit, address_of(start, end) + "&interval=240")
        await page.get_by_text("The candles in view as a table").click()
        cells = page.locator("#as-table tbody tr")
        await expect(cells).to_have_count(6)
        await expect(cells.first).to_contain_text("2021-05-01 20:00")


async def test_a_finger_moves_pinches_and_taps(browser: Browser) -> None:
    async with serving(MadeUpSite()) as address, visiting(browser, address, **PHONE) as visit:
        page = await opened(visit)
        await page.get_by_role("button", name="1 d", exact=True).tap()
        before = await page.locator("#span-text").text_content()
        box = await page.locator("#chart").bounding_box()
        assert box is not None
        await page.touchscreen.tap(box["x"] + 150, box["y"] + 100)
        await expect(page.locator("#trades-of")).to_contain_text("kept")
        session = await page.context.new_cdp_session(page)

        async def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": box["x"] + x, "y": box["y"] + y, "id": at} for at, (x, y) in enumerate(places)]
            await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        await touch("touchStart", (120, 150), (180, 150))
        for step in range(1, 9):
            await touch("touchMove", (120 - 8 * step, 150), (180 + 8 * step, 150))
        await touch("touchEnd")
        await expect(page.locator("#span-text")).not_to_have_text(before or "")
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
