"""Debian's Prometheus, and what it says; also ``promtool``, which comes with it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support.lanes.postgres import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "kraken-db.rules.yml"


def program(name: str) -> str:
    """Its path; skips the test without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def promtool(*arguments: object, standard_input: str | None = None, cwd: Path | None = None) -> str:
    """What it prints; fails the test where it finds something wrong."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=standard_input,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """A running one."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of its API. Raises AssertionError with its reason for an error."""
        async with self._session.get(f"{self._url}/api/v1/{path}", params=parameters) as answer:
            document = await answer.json()
        assert document["status"] == "success", (parameters, document)
        return document["data"]

    async def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The values of an instant query, by their labels without name, instance and job."""
        found = await self.get("query", query=expression)
        left_out = ("__name__", "instance", "job", "process")
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k not in left_out)): float(
                one["value"][1]
            )
            for one in found["result"]
        }

    async def has(self, expression: str) -> None:
        """Wait until a query has a result."""
        deadline = time.monotonic() + 60
        while not await self.query(expression):
            assert time.monotonic() < deadline, expression
            await asyncio.sleep(0.2)


@asynccontextmanager
async def prometheus(folder: Path, *targets: str) -> AsyncIterator[Prometheus]:
    """Our own configuration and rules, but for its targets and a quicker pace."""
    command, port = program("prometheus"), free_port()
    shutil.copytree(DEPLOY / "prometheus", folder, dirs_exist_ok=True)
    settings = yaml.safe_load((folder / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    (folder / "targets.yml").write_text(yaml.safe_dump([{"targets": list(targets)}]))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            [
                command,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        async with aiohttp.ClientSession() as session:
            await _answers(session, f"http://127.0.0.1:{port}", process, folder / "log")
            yield Prometheus(session, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


async def _answers(
    session: aiohttp.ClientSession, url: str, process: subprocess.Popen[bytes], log: Path
) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.poll() is None, log.read_text()  # noqa: ASYNC240
            try:
                async with session.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
