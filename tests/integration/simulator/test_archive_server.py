"""The simulated file server of archives over a real socket: ranges, and what each fault looks like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import (
    ArchiveFault,
    ArchiveFaults,
    ArchiveServer,
    Faults,
    SimulatedExchange,
    archive_url,
)
from tests.support.archive_making import archived_markets, changed
from tests.support.simulator_requests import ask

NAME = "Kraken_Trades_Full_2024Q1.zip.part00"
CONTENT = bytes(number * 7 % 251 for number in range(600_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_bytes(CONTENT)
    return tmp_path


@asynccontextmanager
async def served(
    folder: Path, *script: ArchiveFault | None, **options: Any
) -> AsyncIterator[tuple[aiohttp.ClientSession, ArchiveServer]]:
    exchange = SimulatedExchange([], archives=folder, archive_faults=ArchiveFaults(script, **options))
    assert exchange.archive is not None
    timeout = aiohttp.ClientTimeout(total=20)
    async with (
        exchange.serve() as url,
        aiohttp.ClientSession(archive_url(url), timeout=timeout) as http,
    ):
        yield http, exchange.archive


def span(start: int | str, last: int | str) -> dict[str, str]:
    return {"Range": f"bytes={start}-{last}"}


async def get(
    http: aiohttp.ClientSession, name: str = NAME, **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    async with http.get(name, headers=headers, allow_redirects=False) as response:
        return response.status, response.headers, await response.read()


# --- ranges ---


async def test_the_whole_file_and_its_head(folder: Path) -> None:
    async with served(folder) as (http, server):
        async with http.head(NAME) as response:
            head = response.headers
            assert (response.status, await response.read()) == (200, b"")
        status, headers, body = await get(http)
        assert (status, body) == (200, CONTENT)
        for name in ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges"):
            assert head[name] == headers[name]
        assert (headers["Content-Length"], headers["Accept-Ranges"]) == ("600000", "bytes")
        assert headers["Last-Modified"].endswith(" GMT")
        assert [(r.method, r.asked, r.status, r.sent) for r in server.requests] == [
            ("HEAD", None, 200, 0),
            ("GET", None, 200, 600_000),
        ]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        (span(0, 0), 0, 1),
        (span(1000, 299_999), 1000, 300_000),
        (span(599_000, ""), 599_000, 600_000),
        (span(599_000, 9_999_999), 599_000, 600_000),
        (span("", 500), 599_500, 600_000),
        (span("", 700_000), 0, 600_000),
    ],
)
async def test_a_range(asked: dict[str, str], start: int, stop: int, folder: Path) -> None:
    async with served(folder) as (http, server):
        status, headers, body = await get(http, **asked)
        assert (status, body) == (206, CONTENT[start:stop])
        assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/600000"
        assert headers["Content-Length"] == str(stop - start)
        assert (server.requests[0].asked, server.requests[0].sent) == ((start, stop), stop - start)


@pytest.mark.parametrize("asked", [span(600_000, ""), span(700_000, 800_000), span("", 0)])
async def test_a_range_that_is_not_there(asked: dict[str, str], folder: Path) -> None:
    async with served(folder) as (http, _):
        status, headers, _ = await get(http, **asked)
        assert (status, headers["Content-Range"]) == (416, "bytes */600000")


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=0-1,5-6", "bytes=-", "lines=0-1", "bytes=a-b"])
async def test_what_is_no_range_gives_the_whole_file(asked: str, folder: Path) -> None:
    async with served(folder) as (http, _):
        status, _, body = await get(http, Range=asked)
        assert (status, len(body)) == (200, 600_000)


async def test_conditions(folder: Path) -> None:
    async with served(folder) as (http, _):
        _, headers, _ = await get(http, **span(0, 9))
        for mark in (headers["ETag"], headers["Last-Modified"]):
            assert (await get(http, **span(0, 9), **{"If-Range": mark}))[0] == 206
        assert (await get(http, **span(0, 9), **{"If-Match": headers["ETag"]}))[0] == 206
        changed(folder / NAME, lambda content: content.append(1))
        status, later, body = await get(http, **span(0, 9), **{"If-Range": headers["ETag"]})
        assert (status, len(body)) == (200, 600_001)
        assert later["ETag"] != headers["ETag"]
        assert (await get(http, **{"If-Match": headers["ETag"]}))[0] == 412


async def test_what_is_not_there(folder: Path) -> None:
    (folder / ".kraken-db-simulate").write_text("ours")
    (folder / "sub").mkdir()
    async with served(folder) as (http, server):
        for name in ("Kraken_Trades_Full_2031Q1.zip.part00", ".kraken-db-simulate", "sub", "..%2Fx", ""):
            assert (await get(http, name))[0] == 404
        async with http.post(NAME) as response:
            assert response.status == 405
        assert server.requests[0].answer == "Not Found"


async def test_without_archives_there_is_nothing() -> None:
    async with SimulatedExchange([]).serve() as url, aiohttp.ClientSession() as http:
        response = await http.get(archive_url(url) + NAME)
        assert (await response.json())["error"] == ["EGeneral:Unknown method"]


# --- faults ---


async def test_an_answer_that_breaks_off(folder: Path) -> None:
    async with served(folder, ArchiveFault.CUT) as (http, server):
        with pytest.raises(aiohttp.ClientPayloadError):
            await get(http, **span(100, 400_099))
        assert (server.requests[0].answer, server.requests[0].sent) == ("cut", 200_000)
        assert (await get(http, **span(100, 199)))[2] == CONTENT[100:200]


async def test_a_length_that_is_too_short(folder: Path) -> None:
    async with served(folder, ArchiveFault.SHORT_LENGTH) as (http, _):
        status, headers, body = await get(http, **span(0, 999))
        assert (status, headers["Content-Range"], body) == (206, "bytes 0-999/600000", CONTENT[:500])


async def test_a_wrong_byte(folder: Path) -> None:
    async with served(folder, ArchiveFault.WRONG_BYTES) as (http, _):
        _, _, body = await get(http, **span(1000, 501_000))
        right = CONTENT[1000:501_001]
        assert [at for at in range(len(right)) if body[at] != right[at]] == [250_000]


async def test_a_proxy_without_ranges(folder: Path) -> None:
    async with served(folder, ArchiveFault.RANGE_IGNORED) as (http, _):
        status, headers, body = await get(http, **span(1000, 1999))
        assert (status, len(body)) == (200, 600_000)
        assert "Content-Range" not in headers


async def test_refusals(folder: Path) -> None:
    script = (ArchiveFault.HTTP_416, ArchiveFault.HTTP_503, ArchiveFault.HTTP_429)
    async with served(folder, *script, wait_seconds=7) as (http, server):
        status, headers, _ = await get(http, **span(0, 9))
        assert (status, headers["Content-Range"]) == (416, "bytes */600000")
        status, _, body = await get(http, **span(0, 9))
        assert (status, body[:15]) == (503, b"<!DOCTYPE html>")
        status, headers, _ = await get(http, **span(0, 9))
        assert (status, headers["Retry-After"]) == (429, "7")
        assert [request.answer for request in server.requests] == list(script)


async def test_another_host_and_a_page_for_people(folder: Path) -> None:
    script = (ArchiveFault.REDIRECT, ArchiveFault.HTML)
    async with served(folder, *script, redirect_to="http://127.0.0.2:1/") as (http, _):
        status, headers, _ = await get(http, **span(0, 9))
        assert (status, headers["Location"]) == (302, f"http://127.0.0.2:1/marketing/institutions/{NAME}")
        status, headers, body = await get(http, **span(0, 9))
        assert (status, body[:15]) == (200, b"<!DOCTYPE html>")
        assert headers["Content-Type"].startswith("text/html")


async def test_a_body_without_end(folder: Path) -> None:
    async with served(folder, ArchiveFault.ENDLESS) as (http, _):
        async with http.get(NAME, headers=span(0, 999)) as response:
            assert (response.status, response.headers["Content-Range"]) == (206, "bytes 0-999/600000")
            assert "Content-Length" not in response.headers
            body = await response.content.readexactly(3_000_000)
            assert (body[:1000], body[1000:2000]) == (CONTENT[:1000], b"0" * 1000)
        assert (await get(http, **span(0, 9)))[2] == CONTENT[:10]


async def test_silence(folder: Path) -> None:
    async with served(folder, ArchiveFault.STALL) as (http, _):
        async with http.get(NAME, headers=span(0, 999)) as response:
            assert await response.content.readexactly(500) == CONTENT[:500]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(response.content.read(1), 0.3)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5  # the server closes although the silence would last an hour
    async with served(folder, ArchiveFault.STALL, stall_seconds=0.2) as (http, _):
        with pytest.raises(aiohttp.ClientPayloadError):
            await get(http, **span(0, 999))


async def test_pace(folder: Path) -> None:
    async def seconds(http: aiohttp.ClientSession, last: int) -> float:
        begun = time.monotonic()
        assert len((await get(http, **span(0, last - 1)))[2]) == last
        return time.monotonic() - begun

    script = (None, ArchiveFault.SLOW)
    async with served(folder, *script, bytes_per_second=1e6, slow_bytes_per_second=1e4) as (http, _):
        assert 0.45 < await seconds(http, 500_000) < 5
        assert 0.45 < await seconds(http, 5_000) < 5


async def test_script_rates_and_names(folder: Path) -> None:
    other = "Trades_Full_PARTS_SHA256SUMS.txt"
    (folder / other).write_text("sums")
    refused = ArchiveFault.HTTP_503
    async with served(folder, None, refused, files="*.part*") as (http, _):
        async with http.head(NAME) as response:
            assert response.status == 200
        assert [(await get(http, name))[0] for name in (other, NAME, other, NAME, NAME)] == [
            200,
            200,
            200,
            503,
            200,
        ]
    async with served(folder, ArchiveFault.CUT, refused, heads=True) as (http, _):
        for status in (200, 503):  # a head cannot be cut
            async with http.head(NAME) as response:
                assert response.status == status
    found = []
    for seed in (1, 1, 2):
        async with served(folder, rates={refused: 0.5}, seed=seed) as (http, _):
            found.append([(await get(http, **span(0, 9)))[0] for _ in range(20)])
    assert found[0] == found[1] != found[2]
    assert {*found[0]} == {206, 503}
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        ArchiveFaults(rates={refused: 1.5})


# --- with markets ---


async def test_archives_and_rest_are_one_history(tmp_path: Path) -> None:
    made = archived_markets()
    made.write(tmp_path)
    exchange = made.exchange(tmp_path, faults=Faults(since_exclusive=True))
    async with exchange.serve() as url, aiohttp.ClientSession(url) as http:
        async with http.get(archive_url(url) + "Trades_Full_PARTS_SHA256SUMS.txt") as response:
            sums = await response.text()
        assert [line.split("  ")[1] for line in sums.splitlines()] == [
            f"Kraken_Trades_Full_2024Q1.zip.part{number:02d}" for number in range(3)
        ]
        # MATIC/USD is in the archives alone.
        listed = (await ask(http, "AssetPairs"))["result"]
        assert "XXBTZUSD" in listed
        assert "MATICUSD" not in listed
        answer = await ask(http, "Trades", pair="MATICUSD")
        assert answer["error"] == ["EQuery:Unknown asset pair"]
    truth = made.truth("ETH/USD")
    archived = [trade.id for trade in truth if trade.timestamp < made.archived_until]
    assert archived == list(range(1, len(archived) + 1))
    assert len(truth) > len(archived)


async def test_a_listed_pair_can_be_unknown() -> None:
    exchange = SimulatedExchange([], Faults(unknown=["LUNA/USD"]))
    async with exchange.serve() as url, aiohttp.ClientSession(url) as http:
        assert "LUNAUSD" not in (await ask(http, "AssetPairs"))["result"]
        assert (await ask(http, "OHLC", pair="LUNAUSD"))["error"] == ["EQuery:Unknown asset pair"]
