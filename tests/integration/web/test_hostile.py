"""Requests that nobody should send: refused, bounded, and without a word about what is inside."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.web import answers, connections, rows, site
from kraken_db.web.connections import Guard
from tests.support.archives import import_file, import_texts, minutes, write
from tests.support.lanes import Lane
from tests.support.serving import Answer, Served, served

TOKEN = "right-token-of-many-characters"
# What is inside: statements, tables, files, addresses of databases, tracebacks.
INSIDE = re.compile(
    r"select |insert |pg_|asyncpg|sqlalchemy|traceback|\.py\b|/home|/root|/tmp|/work|postgres(ql)?://|data_sync",
    re.IGNORECASE,
)


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": minutes(30)})


@pytest.fixture
async def server(plain_lane: Lane, tmp_path: Path) -> AsyncIterator[Served]:
    with plain_lane.filled_database(fill) as url:
        async with served(url, export_dir=tmp_path / "exports") as found:
            yield found


def is_refused(answer: Answer, *statuses: int) -> None:
    """It is one of these statuses, in our form, and says nothing of what is inside."""
    assert answer.status in (statuses or range(400, 500)), (answer.status, answer.body[:300])
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"error"} and set(answer.json["error"]) == {"message", "hint"}
    assert not INSIDE.search(answer.body.decode()), answer.body
    assert len(answer.body) < 2_000
    assert "<" not in answer.body.decode() or answer.headers["X-Content-Type-Options"] == "nosniff"


ODD_TEXTS = [
    *("<script>alert(1)</script>", "../../etc/passwd", "'; DROP TABLE trades; --", "$(id)", "%00", "\x00"),
    *("a" * 5_000, "BTC/USD\r\nX-Evil: 1", "\u202eDSU/CTB", "\U0001f600", "BTC/USD/", "*/USD", "nan"),
    *("-1", "1e9", "٣", "0x10", "1_000", "9" * 30, "' OR 1=1", "{{7*7}}", "${jndi:ldap://x}", "\\\\x\\y"),
]


async def test_odd_values_of_every_parameter(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "kraken_db"):
        document = (await server.get("/api/v1/openapi.json")).json
        for path, operations in document["paths"].items():
            operation = operations.get("get")
            if operation is None or "{" in path or path.endswith(("events", "openapi.json")):
                continue
            for parameter in operation["parameters"]:
                for text in ODD_TEXTS:
                    base = {"symbol": "BTC/USD", "resolution": "60", "to": "1700000000"}
                    names = {one["name"] for one in operation["parameters"]}
                    asked = {name: value for name, value in base.items() if name in names}
                    answer = await server.get(path, **(asked | {parameter["name"]: text}))
                    if answer.status == 200:  # texts that are searched for, and not used
                        assert parameter["schema"].get("maxLength") or text == "\x00", (path, parameter, text)
                    elif answer.status == 404 and path.startswith("/udf"):
                        assert answer.json["s"] == "error"
                    else:
                        is_refused(answer)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "Traceback" not in said and "X-Evil: 1\n" not in said


async def test_odd_paths(server: Served) -> None:
    for path in (
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/v1/", "/api/v2/overview", "/udf/marks"),
        *("/api/v1/jobs/..%2f..%2fetc%2fpasswd", "/api/v1/certificates/%00", "/api/v1/jobs/<b>"),
        *("/api/v1/certificates/" + "a" * 4_000, "//evil.example/", "/api/v1/overview/../../x"),
    ):
        is_refused(await server.get(path), 404)


async def test_methods_and_unknown_parameters(server: Served) -> None:
    for method in ("PUT", "PATCH", "OPTIONS", "TRACE"):
        is_refused(await server.ask(method, "/api/v1/overview"), 405)
    is_refused(await server.ask("DELETE", "/api/v1/overview"), 405)
    is_refused(await server.get("/api/v1/candles", symbol="BTC/USD", intervall="1h"), 400)
    twice = await server.get("/api/v1/candles?symbol=BTC/USD&symbol=ETH/USD")
    is_refused(twice, 400)
    assert (await server.get("/api/v1/candles", intervall="1h", symbol="BTC/USD")).json["error"]["hint"] == (
        "did you mean interval?"
    )


async def test_ten_megabytes(server: Served) -> None:
    huge, end = b"a" * 10_000_000, b" HTTP/1.1\r\nHost: localhost\r\n"
    for data in (
        b"GET /api/v1/candles?symbol=" + huge + end + b"\r\n",
        b"GET /healthz" + end + b"X-A: " + huge + b"\r\n\r\n",
        huge,
    ):
        found = await server.raw(data, within=3)
        assert found == b"" or found.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 414"))
        assert len(found) < 200_000
    headers = {"Content-Type": "application/json"}
    body = io.BytesIO(b'{"kind": "' + huge + b'"}')
    is_refused(await server.ask("POST", "/api/v1/jobs", data=body, headers=headers), 413)
    for text in ("[" * 100_000, "", "{", "nul", '{"kind": NaN}', "\xff", '{"kind": "sql"}'):
        sent = text.encode("latin-1")
        is_refused(await server.ask("POST", "/api/v1/jobs", data=sent, headers=headers), 400)
    assert (await server.get("/healthz")).status == 200


async def test_what_is_no_http(server: Served) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a browser that speaks TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\r\n" * 1000,
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    ):
        found = await server.raw(data, within=1)
        assert not INSIDE.search(found.decode("latin-1")), found
        assert not found.startswith(b"HTTP/1.1 200"), data
    assert (await server.get("/healthz")).status == 200


async def test_names_of_other_servers(plain_url: str) -> None:
    """What a page elsewhere does that has its name lead here (DNS rebinding)."""
    async with served(plain_url, hosts=["kraken.example"]) as server:
        port = server.address[1]
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ):
            is_refused(await server.get("/api/v1/symbols", headers={"Host": host}), 421)
        for host in ("localhost\\evil", "evil.example@127.0.0.1", "[::1", "127.0.0.1:x", "a" * 3_000):
            is_refused(await server.get("/api/v1/symbols", headers={"Host": host}), 421)
        for host in (
            "localhost",
            f"127.0.0.1:{port}",
            "LOCALHOST.",
            "kraken.example",
            "Kraken.Example:443",
            "[::1]:1",
        ):
            assert (await server.get("/api/v1/symbols", headers={"Host": host})).status == 200, host


async def test_pages_of_other_sites(server: Served) -> None:
    job = {"kind": "verify", "arguments": {"symbols": ["BTC/USD"]}}
    own = server.base
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": own.replace("http", "https") + ".evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": own, "Sec-Fetch-Site": "cross-site"},
    ):
        is_refused(await server.post("/api/v1/jobs", job, headers=headers), 403)
        is_refused(await server.ask("DELETE", "/api/v1/jobs/1", headers=headers), 403)
        read = await server.get("/api/v1/symbols", headers=headers)
        is_refused(read, 403)
        assert not [name for name in read.headers if name.lower().startswith("access-control")]
    # What a form of another page can send without asking first.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        is_refused(
            await server.ask("POST", "/api/v1/jobs", data=b"{}", headers={"Content-Type": kind or "x/y"}), 403
        )
    assert (
        await server.get("/api/v1/symbols", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"})
    ).status == 200
    assert (await server.get("/api/v1/jobs")).json == []


async def test_a_token(plain_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with served(plain_url, token=TOKEN) as server:
            for path in ("/api/v1/overview", "/api/v1/events", "/api/v1/jobs", "/udf/config", "/api/v1/gaps"):
                answer = await server.get(path)
                is_refused(answer, 401)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            for sent in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ", TOKEN):
                is_refused(await server.get("/api/v1/symbols", headers={"Authorization": sent}), 401)
            is_refused(await server.get("/api/v1/symbols", token=TOKEN), 401)  # never in an address
            right = {"Authorization": f"Bearer {TOKEN}"}
            assert (await server.get("/api/v1/symbols", headers=right)).status == 200
            assert (await server.get("/healthz")).status == 200
            assert "security" in str((await server.get("/api/v1/openapi.json")).json["paths"]["/api/v1/gaps"])
    assert TOKEN not in caplog.text


async def test_a_wrong_token_a_thousand_times(plain_url: str) -> None:
    """Each is answered, later and later, and the right one at once all the while."""
    async with served(plain_url, token=TOKEN) as server:

        async def guess(number: int) -> int:
            sent = {"Authorization": f"Bearer {number:0>30}"}
            return (await server.get("/api/v1/symbols", headers=sent)).status

        first = [await guess(number) for number in range(5)]
        assert first == [401] * 5
        guessing = asyncio.gather(*(guess(number) for number in range(995)))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        right = {"Authorization": f"Bearer {TOKEN}"}
        async with served(plain_url, token=TOKEN):
            pass  # another server has a count of its own
        answer = await server.raw(
            b"GET /api/v1/symbols HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: "
            + right["Authorization"].encode()
            + b"\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200") and time.monotonic() - began < 30
        statuses = await guessing
        assert set(statuses) <= {401, 429} and statuses.count(401) < 500


async def test_headers_of_every_answer(server: Served) -> None:
    for path in ("/api/v1/overview", "/nothing", "/api/v1/candles", "/udf/time"):
        headers = (await server.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Set-Cookie" not in headers and headers["Server"] == "kraken-db"


async def test_five_hundred_connections(server: Served) -> None:
    """They are all served, or asked to come back; nothing that is open stays so without a word."""

    async def one(number: int) -> bytes:
        ask = b"GET /api/v1/candles?symbol=BTC/USD HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        return (await server.raw(ask, within=60))[:12]

    found = await asyncio.gather(*(one(number) for number in range(500)))
    assert set(found) <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    assert found.count(b"HTTP/1.1 200") >= 250
    assert (await server.get("/healthz")).status == 200


async def test_more_connections_than_there_are_places(
    plain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard.__init__, "__defaults__", (3,))
    monkeypatch.setattr(connections, "SILENCE", 0.2)
    monkeypatch.setattr(connections, "_SWEEP", 0.1)
    async with served(plain_url) as server:
        kept = [await asyncio.open_connection(*server.address) for _ in range(3)]
        await asyncio.sleep(0.05)
        refused = await server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", within=2)
        assert refused.startswith(b"HTTP/1.1 503") and b"Retry-After" in refused
        # Those who say nothing are ended, and there is room again.
        for reader, writer in kept:
            async with asyncio.timeout(5):
                with suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
        assert (await server.get("/healthz")).status == 200


async def test_a_slow_reader_holds_nothing(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off; meanwhile nobody waits for a connection to the database."""
    monkeypatch.setattr(rows, "PAGE", 500)
    monkeypatch.setattr(answers, "PATIENCE", 1.0)
    monkeypatch.setattr(answers, "_SHORT", 1_000)
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(20_000)))
    async with served(plain_url) as server:
        ask = b"GET /api/v1/candles?symbol=BTC/USD&format=csv HTTP/1.0\r\nHost: localhost\r\n\r\n"
        slow = [await slow_reader(server) for _ in range(3)]
        for one in slow:
            one.send(ask)
        async with asyncio.timeout(120):
            while not all(is_cut_off(one) for one in slow):
                assert (await server.get("/api/v1/candles", symbol="BTC/USD", limit="10")).status == 200
                await asyncio.sleep(0.2)
        for one in slow:
            one.close()


def is_cut_off(one: socket.socket) -> bool:
    """Whether the server has ended it before its end: with a reset, and not a word."""
    watched = select.poll()
    watched.register(one, 0)
    return any(happened & select.POLLERR for _, happened in watched.poll(0))


async def slow_reader(server: Served) -> socket.socket:
    """With so small a buffer that the server notices soon."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.to_thread(one.connect, server.address)
    return one


async def test_the_database_is_away(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kraken_db.errors import DatabaseUnavailableError
    from kraken_db.web.site import Site

    async def fail(*_: Any) -> Any:
        raise DatabaseUnavailableError(
            "nobody answers at postgresql://user:secret@10.0.0.1/db: SELECT 1 failed"
        )

    async with served(plain_url) as server:
        monkeypatch.setattr(Site, "_read", fail)
        answer = await server.get("/api/v1/overview")
        is_refused(answer, 503)
        assert answer.error == "the database does not answer"


async def test_an_embedded_database_that_was_stopped_is_started_again(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """But not over and over: whoever stops it again within seconds has a reason."""
    monkeypatch.setattr(site, "_BETWEEN_STARTS", 600)
    url, database = f"embedded://{open_folder}/k", EmbeddedServer(open_folder / "k")
    await import_texts(url, {"XBTUSD_1.csv": minutes(30)})
    async with served(url) as server:
        database.stop()
        answer = await server.get("/api/v1/symbols")
        assert (answer.status, b"BTC/USD" in answer.body) == (200, True)
        assert caplog.text.count("the embedded database is gone: starting it again") == 1
        database.stop()
        is_refused(await server.get("/api/v1/symbols"), 503)
        assert caplog.text.count("the embedded database is gone: starting it again") == 1


async def test_a_fault_of_ours_says_nothing(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kraken_db.web.site import Site

    async def fail(*_: Any) -> Any:
        raise RuntimeError("SELECT secret FROM /root/file.py")

    async with served(plain_url) as server:
        monkeypatch.setattr(Site, "_read", fail)
        answer = await server.get("/api/v1/symbols")
        is_refused(answer, 500)
