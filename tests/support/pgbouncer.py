"""PgBouncer in front of a server of the tests: Debian's, or whatever is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.lanes.postgres import free_port, server_account

_PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pooled(url: str, mode: str, *, most: int = 10, settings: str = "") -> Iterator[str]:
    """The address of a pool in this mode, of ``most`` sessions of the server at ``url``; skips without it."""
    if _PROGRAM is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    server, port, owner = urlsplit(url), free_port(), server_account()
    password = f" password={unquote(server.password)}" if server.password else ""
    folder = Path(tempfile.mkdtemp(prefix="kraken-pgbouncer-"))
    try:
        file = folder / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host={server.hostname} port={server.port} user={server.username}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = {most}\nserver_round_robin = 1\n{settings}\n"
        )
        for path in (folder, file):
            os.chown(path, owner.uid, owner.gid)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [_PROGRAM, str(file)], stdout=log, stderr=subprocess.STDOUT, **owner.options()
            )
        try:
            _answers(port, process, folder / "log")
            yield f"postgresql://anybody@127.0.0.1:{port}{server.path}"
        finally:
            process.kill()  # in session mode it would wait for its clients
            process.wait()
    finally:
        shutil.rmtree(folder)


def _answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
