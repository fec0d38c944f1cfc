"""The probe against servers that say one thing each."""

import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kraken_db.db.embedded.postmaster import Answer, Probe, probe

Serve = Callable[[bytes], Path]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def error(code: bytes, text: bytes) -> bytes:
    return message(b"E", b"SFATAL\0C" + code + b"\0M" + text + b"\0\0")


LOGIN_OK = (
    message(b"R", b"\0\0\0\0")
    + message(b"S", b"server_version\x0018.6\0")
    + message(b"S", b"TimeZone\0UTC\0")
    + message(b"K", b"12345678")
    + message(b"Z", b"I")
)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory, "s")
        threads: list[threading.Thread] = []

        def answer(reply: bytes) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(reply)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1000)  # until the other side has gone

        def start(reply: bytes) -> Path:
            listener.bind(str(path))
            listener.listen()
            threads.append(threading.Thread(target=answer, args=(reply,)))
            threads[0].start()
            return path

        yield start
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (LOGIN_OK, Probe(Answer.READY, "18.6")),
        (error(b"57P03", b"starting up"), Probe(Answer.BUSY, "starting up")),
        (error(b"53300", b"too many clients"), Probe(Answer.READY)),
        (error(b"28000", b"peer failed"), Probe(Answer.REFUSED, "peer failed")),
        (message(b"R", b"\0\0\0\3"), Probe(Answer.REFUSED, "it asks for a password")),
        (b"", Probe(Answer.SILENT)),
        (LOGIN_OK[:20], Probe(Answer.SILENT)),
    ],
    ids=["login", "starting", "too many", "refused", "password", "hangs up", "breaks off"],
)
def test_answers(serve: Serve, reply: bytes, expected: Probe) -> None:
    assert probe(serve(reply)) == expected


def test_nobody_there(tmp_path: Path) -> None:
    assert probe(tmp_path / "none") == Probe(Answer.SILENT)
