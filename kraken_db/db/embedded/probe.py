"""Asks a PostgreSQL over its Unix socket whether it lets us in: the start of its protocol, nothing more."""

from __future__ import annotations

import contextlib
import enum
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_STARTUP = b"user\0kraken\0database\0kraken\0application_name\0kraken-db probe\0\0"
_PROTOCOL = 3 << 16
_TERMINATE = b"X\0\0\0\4"
_CANNOT_CONNECT_NOW = "57P03"
_TOO_MANY_CONNECTIONS = "53300"


class Answer(enum.Enum):
    """``SILENT``: nobody listens. ``BUSY``: it is starting up, recovering or shutting down."""

    SILENT = enum.auto()
    BUSY = enum.auto()
    READY = enum.auto()
    REFUSED = enum.auto()


@dataclass(frozen=True, slots=True)
class Probe:
    """``text``: the server's version when it is ready, its message when it is not."""

    answer: Answer
    text: str | None = None


def probe(path: Path, timeout: float = 5.0) -> Probe:
    """Log in and out again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(struct.pack("!ii", 8 + len(_STARTUP), _PROTOCOL) + _STARTUP)
            return _read_answer(connection)
        except (OSError, EOFError):
            return Probe(Answer.SILENT)


def _read_answer(connection: socket.socket) -> Probe:
    version: str | None = None
    while True:
        kind, body = _message(connection)
        if kind == b"E":
            return _refusal(body)
        if kind == b"S":
            name, value, _ = body.split(b"\0", 2)
            version = value.decode() if name == b"server_version" else version
        elif kind == b"R" and body != b"\0\0\0\0":
            return Probe(Answer.REFUSED, "it asks for a password")
        elif kind == b"Z":
            with contextlib.suppress(OSError):
                connection.sendall(_TERMINATE)
            return Probe(Answer.READY, version)


def _refusal(body: bytes) -> Probe:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    code = fields.get(b"C", "")
    if code == _TOO_MANY_CONNECTIONS:
        return Probe(Answer.READY)
    return Probe(Answer.BUSY if code == _CANNOT_CONNECT_NOW else Answer.REFUSED, fields.get(b"M", code))


def _message(connection: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(connection, 5)
    return head[:1], _exactly(connection, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
