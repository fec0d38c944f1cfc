"""Pages in a real browser. One Chromium serves all tests of a process; each test has a window of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")

from playwright.async_api import Browser, expect

from tests.support.browsers import chromium

_HERE = Path(__file__).parent
# Where many tests share two processors, a page takes its time.
expect.set_options(timeout=30_000)


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    # The browser lives in the loop of the session, and so do its tests.
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found
