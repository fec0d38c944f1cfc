"""The TimescaleDB lane: the server of ``KRAKEN_DB_TEST_URL``, else a Docker container, else WASM."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.lanes import node
from tests.support.lanes.base import Server

_WASM_START_TIMEOUT = 120
_COMPOSE_FILE = Path(__file__).parents[3] / "docker-compose.yml"
_IMAGE = "timescale/timescaledb:2.23.0-pg17"


def rung() -> str:
    """Which step of the ladder this machine reaches: ``url``, ``docker`` or ``wasm``."""
    if os.environ.get("KRAKEN_DB_TEST_URL"):
        return "url"
    return "docker" if _docker_answers() else "wasm"


def start_timescale() -> Server:
    match rung():
        case "url":
            url = os.environ["KRAKEN_DB_TEST_URL"].replace("postgresql+asyncpg://", "postgresql://")
            return Server(url, stop=lambda: None, prepare=_add_extension_alone)
        case "docker":
            return _start_container()
        case _:
            return _start_wasm()


async def _add_extension(connection: asyncpg.Connection) -> None:
    """Fails, as it should, on a server that has no TimescaleDB."""
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")


async def _add_extension_alone(connection: asyncpg.Connection) -> None:
    await _add_extension(connection)
    # The tests run the jobs themselves; a policy that wakes up in between would make them random.
    if await connection.fetchval("SHOW timescaledb.max_background_workers") != "0":
        raise RuntimeError(
            "the server of KRAKEN_DB_TEST_URL runs background jobs: start it with"
            " timescaledb.max_background_workers = 0"
        )


# --- Docker ---


@cache
def _docker_answers() -> bool:
    """Asked in a process of its own: the client leaves sockets open when nobody answers."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False
    command = [sys.executable, "-c", "import docker; docker.from_env(timeout=3).ping()"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _image() -> str:
    """The version that docker-compose.yml gives to users."""
    text = _COMPOSE_FILE.read_text() if _COMPOSE_FILE.exists() else ""
    found = re.search(r"image:\s*[\"']?(timescale/timescaledb[^\s\"']+)", text)
    return found[1] if found else _IMAGE


def _start_container() -> Server:
    with warnings.catch_warnings(action="ignore"):  # its deprecations are not ours
        from testcontainers.postgres import PostgresContainer

        container: Any = PostgresContainer(_image(), username="postgres", dbname="postgres", driver=None)
        container.with_command("-c fsync=off -c timescaledb.max_background_workers=0")
        container.start()
    return Server(container.get_connection_url(), stop=container.stop, prepare=_add_extension)


# --- WASM ---


def _start_wasm() -> Server:
    command = [*node.install(), str(node.SERVER / "server.mjs")]
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the server
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # the server ends when this is closed, which kill -9 does, too
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,  # Ctrl-C must not end it before the tests have cleaned up
        text=True,
    )

    def stop() -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
        log.close()

    port = _port(process)
    if port is None:
        process.kill()
        log.seek(0)
        said = log.read()
        stop()
        raise RuntimeError(f"the TimescaleDB server did not start:\n{said}")
    return Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", stop, prepare=_add_extension)


def _port(process: subprocess.Popen[str]) -> int | None:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(_WASM_START_TIMEOUT):
            return None
    words = process.stdout.readline().split()
    return int(words[1]) if words[:1] == ["READY"] else None
