"""Exports killed at random moments, and two at once: readers see a state of the database, never a mix."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.support.exports import change, export, filled, seen, stored
from tests.support.object_stores import BUCKET, environment, s3_server

_KILLS = int(os.environ.get("KRAKEN_DB_TEST_KILLS", "4"))
_CONTEXT = multiprocessing.get_context("forkserver")
_PLACES = [("parquet", "store"), ("delta", "store"), ("parquet", "folder"), ("delta", "folder")]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    _CONTEXT.set_forkserver_preload(["tests.integration.exporting.test_kills", "kraken_db.exporting.delta"])
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def out(server: str, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}" if where == "store" else str(tmp_path / "out")


def _run(url: str, out: str, style: Any, variables: dict[str, str]) -> None:
    import kraken_db.exporting.states as states

    states.LEASE = 1.0
    os.environ.update(variables)
    asyncio.run(export(url, out, style=style))


def start(url: str, out: str, style: str) -> BaseProcess:
    """A run in a process of its own, which has the packages loaded: the kills meet the run."""
    process = _CONTEXT.Process(target=_run, args=(url, out, style, dict(os.environ)))
    process.start()
    return process


def end(process: BaseProcess) -> int:
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize(("style", "where"), _PLACES)
async def test_killed_at_any_moment(plain_url: str, out: str, tmp_path: Path, style: str) -> None:
    """After each kill, and while the run is under way, readers have one of the two states."""
    url = await filled(plain_url, tmp_path)
    drawn, killed, lengths = random.Random(16), 0, []
    for _ in range(2):
        began = time.monotonic()
        assert end(start(url, out, style)) == 0
        lengths.append(time.monotonic() - began)
        await change(url, -1)
    states = [seen(out), await stored(url)]
    for step in range(_KILLS):
        process = start(url, out, style)
        ends = time.monotonic() + drawn.uniform(0.2, 1.1) * lengths[-1]
        while time.monotonic() < ends and process.is_alive():
            assert await asyncio.to_thread(seen, out) in states
        process.kill()
        killed += end(process) != 0
        found = seen(out)
        assert found in states, step
        await change(url, step)
        states = [found, await stored(url)]
    assert end(start(url, out, style)) == 0
    assert seen(out) == states[-1] == await stored(url)
    assert killed > 0, lengths
    logging.getLogger(__name__).info("%s of %s were killed before their end", killed, _KILLS)


@pytest.mark.parametrize(("style", "where"), _PLACES)
async def test_two_at_once_one_of_them_killed(plain_url: str, out: str, tmp_path: Path, style: str) -> None:
    """Each knows another state of the database: they may not mix."""
    url = await filled(plain_url, tmp_path)
    drawn = random.Random(17)
    await export(url, out, style=style)
    states = [await stored(url)]
    began = time.monotonic()
    assert end(start(url, out, style)) == 0
    length = time.monotonic() - began
    for step in range(_KILLS):
        both = []
        for number in range(2):
            await change(url, 2 * step + number)
            states.append(await stored(url))
            both.append(start(url, out, style))
            await asyncio.sleep(drawn.uniform(0, 0.3) * length)
        ends = time.monotonic() + drawn.uniform(0.1, 1) * length
        while time.monotonic() < ends:
            assert await asyncio.to_thread(seen, out) in states
        drawn.choice(both).kill()
        while any(process.is_alive() for process in both):
            assert await asyncio.to_thread(seen, out) in states
        for process in both:
            end(process)
        found = seen(out)
        assert found in states
        states = states[states.index(found) :]
    assert end(start(url, out, style)) == 0
    assert seen(out) == await stored(url)
