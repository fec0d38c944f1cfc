"""An S3 server of moto on loopback, and a door before it that makes it refuse, wait or fill up."""

from __future__ import annotations

import base64
import hmac
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "history-of-tests"
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYSECRETKEY"
"""Must be in no message."""


def environment(endpoint: str) -> dict[str, str]:
    """What a user has in theirs."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": f"token-{SECRET}",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def s3_server() -> Iterator[str]:
    """Its endpoint; it holds one empty bucket. A process: a client may hold our interpreter's lock."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _make_bucket(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _make_bucket(port: int) -> None:
    _put_until_it_answers(port, f"/{BUCKET}", {}, 200)


def _put_until_it_answers(port: int, path: str, headers: dict[str, str], expected: int) -> None:
    until = time.monotonic() + 60
    while True:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            line.request("PUT", path, headers=headers)
            answer = line.getresponse()
            assert answer.status == expected, answer.read()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.1)
        finally:
            line.close()


AZURITE = os.environ.get("KRAKEN_DB_TEST_AZURITE")
"""The command ``azurite-blob`` of npm's azurite: without it, its tests are skipped."""
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own: everybody knows them."""


@contextmanager
def azure_server() -> Iterator[dict[str, str]]:
    """The environment of its users; it holds one empty container, ``BUCKET``."""
    assert AZURITE is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--blobPort", str(port), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        [AZURITE, *options, "--disableTelemetry"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _make_container(port)
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
        }
    finally:
        process.terminate()
        process.wait()


def _make_container(port: int) -> None:
    moment = formatdate(usegmt=True)
    headers = {"x-ms-date": moment, "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    signed = "\n".join([*lines, f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}", "restype:container"])
    digest = hmac.digest(base64.b64decode(_KEY), signed.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    _put_until_it_answers(port, f"/{_ACCOUNT}/{BUCKET}?restype=container", headers, 201)


PASS_ON_BUT_SAY = -500
"""As a status: the server does what it is asked, and the client hears of an error."""
_OF_THE_LINE = ("content-length", "connection", "transfer-encoding", "date", "server")


@dataclass
class Door:
    """Passes requests on to a server, and may answer them itself."""

    endpoint: str
    target: str
    answer: Callable[[str, str], tuple[int, str] | None] = lambda _method, _path: None
    """Status and body for a method and a path; None to pass it on."""
    delay: float = 0.0
    seen: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def door(target: str) -> Iterator[Door]:
    host, port = target.removeprefix("http://").split(":")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.seen.append((self.command, self.path))
            time.sleep(found.delay)
            said = found.answer(self.command, self.path)
            if said is not None and said[0] != PASS_ON_BUT_SAY:
                self._reply(said[0], {"Content-Type": "application/xml"}, said[1].encode())
                return
            line = http.client.HTTPConnection(host, int(port), timeout=60)
            line.request(self.command, self.path, body, dict(self.headers))
            got = line.getresponse()
            content = got.read()
            line.close()
            if said is not None:
                self._reply(500, {}, said[1].encode())
                return
            self._reply(got.status, dict(got.getheaders()), content)

        def _reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in (
                    "content-length",
                    "connection",
                    "transfer-encoding",
                    "date",
                    "server",
                ):
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests say what they saw."""

    for method in ("GET", "PUT", "HEAD", "DELETE", "POST"):
        setattr(Handler, f"do_{method}", Handler._pass)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Door(f"http://127.0.0.1:{server.server_address[1]}", target)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def error_body(code: str) -> str:
    """As S3 answers: with what the signature was made of."""
    return (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>no</Message>"
        f"<AWSAccessKeyId>AKIATESTKEY</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign></Error>"
    )
