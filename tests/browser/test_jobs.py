"""The pages of jobs, of a certificate, and of the token."""

from __future__ import annotations

from playwright.async_api import Browser, expect

from tests.support.browsers import visiting
from tests.support.made_up_site import (
    MadeUpSite,
    made_up_certificate,
    made_up_job,
    made_up_part,
    serving,
)


async def test_a_job_is_started_watched_and_stopped(browser: Browser) -> None:
    site = MadeUpSite(pairs=5)
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await visit.ready("/jobs", "#live[data-state=live]")
        await expect(page.locator("#running")).to_have_text("Nothing is running.")
        await page.get_by_label("Verify").check()
        await page.locator("#field-symbols").fill("BTC/USD, */EUR")
        await page.get_by_label("From").fill("30 days ago")
        await expect(page.locator("#command")).to_have_text(
            "kraken-db verify BTC/USD '*/EUR' --since '30 days ago'"
        )
        await page.get_by_role("button", name="Start").click()
        card = page.locator("#running .job")
        await expect(card.get_by_role("heading")).to_have_text("Verify")
        assert site.posted == [
            {"kind": "verify", "arguments": {"symbols": ["BTC/USD", "*/EUR"], "since": "30 days ago"}}
        ]
        site.jobs[0]["progress"] = {"share": 0.875, "text": "7 of 8 pairs · 9 s left"}
        site.say("job", site.jobs[0])
        await expect(card.locator(".progress-text")).to_have_text("7 of 8 pairs · 9 s left")
        await expect(card.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "87")
        await card.get_by_role("button", name="Stop Verify").click()
        await expect(page.locator("#over .badge")).to_have_text("stopped")
        await expect(page.locator("#said")).to_have_text("Verify: stopped")


async def test_a_refusal_stands_beside_the_button(browser: Browser) -> None:
    async with serving(MadeUpSite(pairs=5)) as address, visiting(browser, address) as visit:
        page = await visit.ready("/jobs", "#start")
        await page.locator("#field-symbols").fill("what!")
        await page.keyboard.press("Enter")
        await expect(page.locator("#start-problem")).to_have_text(
            "symbols: 'what!' is not a pair. write it as BASE/QUOTE"
        )


async def test_an_open_log_stays_open(browser: Browser) -> None:
    site = MadeUpSite(jobs=[made_up_job("a", "backfill")])
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await visit.ready("/jobs", ".job")
        await page.get_by_text("What it said").click()
        site.jobs[0]["log"].append("<b>a second line</b>")
        site.say("job", site.jobs[0])
        await expect(page.locator("pre")).to_contain_text("<b>a second line</b>")
        await expect(page.locator("pre")).to_be_visible()


async def test_what_another_process_runs_cannot_be_stopped_here(browser: Browser) -> None:
    site = MadeUpSite(
        jobs=[made_up_job("a", "record", origin="elsewhere", progress={"share": None, "text": "3 pairs"})]
    )
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await visit.ready("/jobs", ".job")
        await expect(page.locator(".job")).to_contain_text("another process")
        await expect(page.get_by_role("button", name="Stop")).to_have_count(0)


async def test_a_certificate_claims_what_was_compared(browser: Browser) -> None:
    found = [
        made_up_certificate("BTC/USD", clean=True, parts=[
            made_up_part("candles"), made_up_part("Kraken's candles", compared=0, not_checked="--offline"),
        ]),
        made_up_certificate("ETH/USD", clean=False, parts=[
            made_up_part("trade ids", unit="trades", first_id=1, last_id=99, missing_ids=3,
                 problems={"missing ids": 3},
                 findings=[{"kind": "missing ids", "text": "ids 41 to 43 are not stored"}]),
        ]),
    ]  # fmt: skip
    job = made_up_job("a", "verify", state="done", has_result=True)
    site = MadeUpSite(jobs=[job], certificates={"a": {"symbols": found}})
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await visit.ready("/jobs", ".job")
        await page.get_by_role("link", name="Certificate").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("1 of 2 pairs has something wrong")
        cards = page.locator(".certificate")
        await expect(cards.nth(0)).to_contain_text("Wrong: missing ids (3)")
        await expect(cards.nth(0)).to_contain_text("ids 1 to 99, 3 missing")
        await expect(cards.nth(1)).to_contain_text("Nothing is wrong")
        await expect(cards.nth(1)).to_contain_text("1,234 minutes compared")
        await expect(cards.nth(1)).to_contain_text("not compared: --offline")
        await visit.open("/certificate/nothing")
        await expect(page.get_by_role("alert")).to_contain_text("there is no such certificate")


async def test_the_token_stays_in_its_tab(browser: Browser) -> None:
    site = MadeUpSite(pairs=5, token="a-token-of-tests")
    async with serving(site) as address, visiting(browser, address) as visit:
        page = await visit.ready("/?q=btc", "#token")
        await page.get_by_label("Token", exact=True).fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#login-problem")).to_have_text("The server does not know this token.")
        await page.get_by_label("Token", exact=True).fill(" a-token-of-tests ")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#rows .pair-row")
        assert page.url == f"{address}/?q=btc"
        await page.wait_for_selector("#live[data-state=live]")
        assert await page.context.cookies() == []
        assert await page.evaluate("Object.values(localStorage).join()") == ""
        assert all("a-token" not in path for path in site.asked)
        other = await page.context.new_page()
        await other.goto(address)
        await other.wait_for_selector("#token")
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_selector("#token")


async def test_login_leads_to_no_other_server(browser: Browser) -> None:
    async with (
        serving(MadeUpSite(pairs=5, token="a-token-of-tests")) as address,
        visiting(browser, address) as visit,
    ):
        for elsewhere in (
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "javascript:alert(1)",
        ):
            page = await visit.ready(f"/login?next={elsewhere}", "#token")
            await page.get_by_label("Token", exact=True).fill("a-token-of-tests")
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#rows .pair-row")
            assert page.url == f"{address}/"
