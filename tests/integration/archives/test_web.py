"""A file on a web server: ranges, and everything that goes wrong with them."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from kraken_db.archives.sources import HttpSource, PartedSource
from kraken_db.archives.web import shown
from kraken_db.archives.zip_reading import read_directory, unpack
from kraken_db.errors import ConfigurationError, ImportFileError
from kraken_db.retry import DOWNLOAD, Retry
from tests.support.file_server import (
    Fault,
    FileServer,
    cut_after,
    never_ending,
    says,
    serving,
    short,
    stalls_after,
    status,
)
from tests.support.zips import contents, cut, rows, unpacked, zip_bytes

DATA = random.Random(1).randbytes(3_000_000)


class Pauses:
    """What was slept between attempts, without sleeping."""

    def __init__(self, **changes: float) -> None:
        self.slept: list[float] = []
        self.policy = replace(DOWNLOAD, sleep=self._sleep, **changes)  # type: ignore[arg-type]  # floats only

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@asynccontextmanager
async def source_of(
    server: FileServer,
    name: str = "a",
    *,
    retry: Retry | None = None,
    connections: int = 1,
    stall: float = 5.0,
) -> AsyncIterator[HttpSource]:
    retry = retry or Pauses(attempts=4).policy
    size = len(server.files[name])
    source = HttpSource(
        server.url + name, size, connections=connections, piece=1 << 19, retry=retry, stall=stall
    )
    try:
        yield source
    finally:
        await source.close()


async def test_reading() -> None:
    async with serving({"a": DATA}) as server:
        source = await HttpSource.open(server.url + "a")
        assert (source.name, source.size) == (server.url + "a", len(DATA))
        assert await source.read(10, 20) == DATA[10:30]
        assert await source.read(0, 0) == b""
        blocks = [block async for block in source.stream(1, len(DATA) - 1)]
        assert b"".join(blocks) == DATA[1:]
        assert max(map(len, blocks)) <= 1 << 20
        assert server.gets == [(10, 30), (1, len(DATA))]
        assert "kraken" in server.requests[0].agent
        with pytest.raises(ImportFileError, match="are not in it"):
            await source.read(len(DATA), 1)
        await source.close()


async def test_it_can_be_used_again_after_closing() -> None:
    async with serving({"a": DATA}) as server, source_of(server) as source:
        for _ in range(2):
            assert await source.read(0, 5) == DATA[:5]
            await source.close()


@pytest.mark.parametrize("connections", [1, 2, 4])
async def test_members_of_a_zip_in_parts_on_a_server(connections: int) -> None:
    members = {"ETHUSD.csv": rows(70_000), "XBTUSD.csv": rows(30_000, seed=2), "MANIFEST.json": b"{}"}
    data = zip_bytes(members, zip64=True)
    parts = {f"a.zip.part{number:02}": piece for number, piece in enumerate(cut(data, 700_000))}
    async with serving(parts) as server:
        sources = [
            HttpSource(server.url + name, len(piece), connections=connections, piece=100_000)
            for name, piece in parts.items()
        ]
        source = PartedSource(sources, "a.zip")
        assert await contents(source) == members
        await source.close()


async def test_only_the_directory_and_the_wanted_member_travel() -> None:
    draw = random.Random(3)
    data = zip_bytes({f"{name}USD.csv": draw.randbytes(1_500_000) for name in "ABCDEF"})
    async with serving({"a": data}) as server, source_of(server) as source:
        members = await read_directory(source)
        assert len(await unpacked(source, members[3])) == 1_500_000
        assert server.sent < 256 * 1024 + 1_500_000 + 10_000
        assert len(server.gets) == 3


# --- what may pass ---


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_lost_connection_goes_on_where_it_was(connections: int) -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [cut_after(400_000), cut_after(0), cut_after(100_001)]
        pauses = Pauses(attempts=4)
        async with source_of(server, retry=pauses.policy, connections=connections) as source:
            assert b"".join([block async for block in source.stream(0, len(DATA))]) == DATA
    assert len(pauses.slept) == 3
    assert server.sent == len(DATA)  # nothing came twice


async def test_a_member_is_unpacked_over_lost_connections() -> None:
    content = rows(150_000)
    async with serving({"a": zip_bytes({"XBTUSD.csv": content})}) as server, source_of(server) as source:
        (member,) = await read_directory(source)
        server.faults = [cut_after(500_000), None, status(503), cut_after(600_000)]
        assert await unpacked(source, member) == content
        assert not server.faults
        # What has come and was not read yet when a connection is lost comes again: half a mebibyte each time.
        assert server.sent < member.packed_size + 256 * 1024 + 1000 + 2 * 512 * 1024


async def test_every_request_begins_at_the_byte_that_did_not_come() -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [cut_after(300_000), stalls_after(200_000), short(1_000_000)]
        async with source_of(server, stall=0.5) as source:
            assert await source.read(100, len(DATA) - 100) == DATA[100:]
    end = len(DATA)
    assert server.gets == [(100, end), (300_100, end), (500_100, end), (end - 1_000_000, end)]


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (status(503), [1.0]),
        (status(500, "<html>error</html>"), [1.0]),
        (status(520), [1.0]),
        (status(408), [1.0]),
        (status(429), [1.0]),
        (status(429, Retry_After="7"), [1.0, 7.0]),
        (status(503, Retry_After="30"), [1.0, 30.0]),
        (stalls_after(0), [1.0]),
        (short(50), [1.0]),
    ],
)
async def test_what_may_pass_is_tried_again(fault: Fault, waits: list[float]) -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [fault]
        pauses = Pauses()
        async with source_of(server, retry=pauses.policy, stall=0.5) as source:
            assert await source.read(0, 100) == DATA[:100]
    assert pauses.slept == pytest.approx(waits, abs=0.5)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(503), "HTTP 503"),
        (status(429, Retry_After="2000"), "HTTP 429"),
        (cut_after(0), "broke off"),
        (short(100), "broke off"),
        (stalls_after(10), "no answer in time"),
    ],
)
async def test_what_does_not_pass_ends_in_the_end(fault: Fault, reason: str) -> None:
    async with serving({"a": DATA}) as server:
        server.always = fault
        async with source_of(server, stall=0.5) as source:
            with pytest.raises(ImportFileError, match=reason) as error:
                await source.read(0, 100)
    assert str(error.value).startswith(f"{server.url}a: ")
    assert str(error.value).count(server.url) == 1
    assert len(server.requests) <= 4


async def test_a_trickle_of_lost_connections_ends() -> None:
    """A byte each time is no progress: a block must come, or the attempts are used up."""
    async with serving({"a": DATA}) as server:
        server.always = cut_after(1)
        async with source_of(server) as source:
            with pytest.raises(ImportFileError, match="broke off"):
                await source.read(0, 1000)
    assert server.gets == [(0, 1000), (1, 1000), (2, 1000), (3, 1000)]


async def test_attempts_are_counted_from_the_last_block_that_came() -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [cut_after(300_000)] * 9
        async with source_of(server, retry=Pauses(attempts=2).policy) as source:
            assert await source.read(0, len(DATA)) == DATA


async def test_nobody_there() -> None:
    async with serving({"a": DATA}) as server:
        pass
    async with source_of(server) as source:
        with pytest.raises(ImportFileError, match="cannot be reached"):
            await source.read(0, 1)


# --- what is refused ---


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(200, "all of it"), "ignores Range"),
        (never_ending(200), "ignores Range"),
        (status(200, "<html>", Content_Type="text/html"), "a web page instead"),
        (status(206, "<html>", Content_Type="text/html"), "a web page instead"),
        (status(204), "ignores Range"),
        (status(206, "no Content-Range"), "another piece"),
        (status(416), "HTTP 416"),
        (status(404), "HTTP 404"),
        (status(403), "HTTP 403"),
        (status(401), "HTTP 401"),
        (says(Content_Range="bytes 0-99/2999999"), "has changed"),
        (says(Content_Range="bytes 1-100/3000000"), "another piece than bytes 0-99: 'bytes 1-100/3000000'"),
        (says(Content_Range="bytes 0-100/3000000"), "another piece"),
        (says(Content_Range="bytes 0-99/*"), "another piece"),
        (says(Content_Range="\u0661"), "another piece"),
        (says(Content_Encoding="gzip"), "another piece"),
        (
            status(302, Location="https://user:secret@example.com/b?token=secret"),
            "to https://example.com/b, is",
        ),
        (status(301, Location="/b"), "a redirect to http://127.0.0.1:"),
        (status(307, Location="http://[bad"), "a redirect"),
        (status(308), "a redirect, is not followed"),
    ],
)
async def test_answers_that_are_refused(fault: Fault, reason: str) -> None:
    async with serving({"a": DATA}) as server:
        server.always = fault
        async with source_of(server) as source:
            with pytest.raises(ImportFileError, match=reason.replace("*", r"\*")) as error:
                await source.read(0, 100)
    assert "secret" not in str(error.value)
    assert error.value.hint
    assert len(server.requests) == 1


async def test_an_endless_body_is_read_as_far_as_it_was_asked_for() -> None:
    async with serving({"a": DATA}) as server:
        server.always = never_ending(206)
        tracemalloc.start()
        async with source_of(server) as source:
            assert await source.read(0, 100_000) == DATA[:100_000]
            assert await source.read(5, 100) == DATA[5:105]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "change",
    [
        says(ETag='"2"'),
        says(Last_Modified="Mon, 01 Jun 2026 00:00:00 GMT"),
        says(Content_Range="bytes 9-9/10"),
    ],
)
async def test_a_file_that_changes_on_the_server(change: Fault) -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [says(Last_Modified="Sun, 31 May 2026 00:00:00 GMT"), change]
        async with source_of(server) as source:
            assert await source.read(0, 1) == DATA[:1]
            with pytest.raises(ImportFileError, match="has changed"):
                await source.read(9, 1)


async def test_a_change_in_the_middle_of_a_stream() -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [cut_after(1_000_000), says(ETag='"2"')]
        async with source_of(server) as source:
            with pytest.raises(ImportFileError, match="has changed"):
                await source.read(0, len(DATA))


async def test_wrong_bytes_are_seen_by_the_check_sum() -> None:
    data = zip_bytes({"a.csv": os.urandom(2_000_000)})
    wrong = data[:1_500_000] + bytes([data[1_500_000] ^ 1]) + data[1_500_001:]
    async with serving({"a": wrong}) as server, source_of(server) as source:
        (member,) = await read_directory(source)
        with pytest.raises(ImportFileError, match="check sum"):
            await unpacked(source, member)


async def test_an_address_that_is_not_one() -> None:
    source = HttpSource("http://[nobody", 5)
    assert source.name == "an address that is not one"
    with pytest.raises(ConfigurationError, match="KRAKEN_ARCHIVE_URL"):
        await source.read(0, 1)
    await source.close()


def test_addresses_are_shown_without_credentials() -> None:
    assert shown("https://me:pass@example.com:8443/a%20b/c.zip?sig=pass#pass") == (
        "https://example.com:8443/a%20b/c.zip"
    )


async def test_credentials_are_used_and_not_shown() -> None:
    async with serving({"a": DATA}) as server:
        url = server.url.replace("http://", "http://me:secret@") + "a"
        source = await HttpSource.open(url)
        assert source.name == server.url + "a"
        server.always = status(404)
        with pytest.raises(ImportFileError) as error:
            await source.read(0, 1)
        assert "secret" not in str(error.value)
        await source.close()


# --- looking for a file ---


async def test_where_head_is_refused_a_byte_is_asked_for() -> None:
    async with serving({"a": DATA}) as server:
        for refusal in (405, 403, 501):
            server.head = status(refusal)
            source = await HttpSource.open(server.url + "a")
            assert source.size == len(DATA)
        assert server.gets == [(0, 1)] * 3


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (None, "HTTP 404"),
        (status(403), "HTTP 404"),
        (status(302, Location="http://example.com/"), "a redirect to http://example.com/"),
        (status(200, Content_Type="text/html"), "a web page"),
    ],
)
async def test_a_file_that_is_not_there(head: Fault | None, reason: str) -> None:
    async with serving({"a": DATA}) as server:
        server.head = head
        with pytest.raises(ImportFileError, match=reason):
            await HttpSource.open(server.url + "b")


# --- memory, and what runs at once ---


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_slow_consumer_bounds_what_is_asked_for(connections: int) -> None:
    data = os.urandom(30_000_000)
    async with (
        serving({"a": data}) as server,
        source_of(server, connections=connections) as source,
        aclosing(source.stream(0, len(data))) as blocks,
    ):
        async for _ in blocks:
            await asyncio.sleep(0.3)
            break
        assert server.sent < 15_000_000


@pytest.mark.parametrize("connections", [1, 3])
async def test_nothing_is_left_running(connections: int) -> None:
    data = zip_bytes({"a.csv": os.urandom(8_000_000)})
    async with serving({"a": data}) as server:
        async with source_of(server, connections=connections) as source:
            (member,) = await read_directory(source)
            before = len(asyncio.all_tasks())
            async with aclosing(unpack(source, member)) as blocks:
                async for _ in blocks:
                    break
            await asyncio.sleep(0.05)
            assert len(asyncio.all_tasks()) <= before + connections  # those of the server, which close
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1


async def test_a_failure_on_one_of_several_connections() -> None:
    async with serving({"a": DATA}) as server:
        server.faults = [None, None, status(404)]
        async with source_of(server, connections=3) as source:
            with pytest.raises(ImportFileError, match="HTTP 404"):
                await source.read(0, len(DATA))
