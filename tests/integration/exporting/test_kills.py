"""Exports killed at random moments, and two at once: readers see a state of the database, never a mix."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.support.exports import change, export, fill, seen, stored
from tests.support.object_stores import AZURITE, BUCKET, azure_server, environment, s3_server

_KILLS = int(os.environ.get("KRAKEN_DB_TEST_KILLS", "4"))
_CONTEXT = multiprocessing.get_context("forkserver")
_NO_AZURE = pytest.mark.skipif(AZURITE is None, reason="KRAKEN_DB_TEST_AZURITE is not set")
_PLACES = [
    *((style, where) for style in ("parquet", "delta") for where in ("store", "folder")),
    # Not Delta: deltalake 1.6 cannot append to a table of its own there ("Invalid table version: 1").
    pytest.param("parquet", "azure", marks=_NO_AZURE),
]


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, tuple[str, dict[str, str]]]]:
    """Their addresses and environments."""
    _CONTEXT.set_forkserver_preload(["tests.integration.exporting.test_kills", "kraken_db.exporting.delta"])
    with ExitStack() as servers:
        found = {"store": ("s3", environment(servers.enter_context(s3_server())))}
        if AZURITE is not None:
            found["azure"] = ("az", servers.enter_context(azure_server()))
        yield found


@pytest.fixture
def out(
    stores: dict[str, tuple[str, dict[str, str]]],
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> str:
    if where == "folder":
        return str(tmp_path / "out")
    scheme, variables = stores[where]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return f"{scheme}://{BUCKET}/{tmp_path.name}"


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
async def test_killed_at_any_moment(plain_url: str, out: str, style: str) -> None:
    """After each kill, and while the run is under way, readers have one of the two states."""
    await fill(plain_url)
    url = plain_url
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
async def test_two_at_once_one_of_them_killed(plain_url: str, out: str, style: str) -> None:
    """While neither knows whether the other one lives, readers have the state before or the one after it."""
    await fill(plain_url)
    url = plain_url
    drawn = random.Random(17)
    await export(url, out, style=style)
    states = [await stored(url)]
    began = time.monotonic()
    assert end(start(url, out, style)) == 0
    length = time.monotonic() - began
    for step in range(_KILLS):
        both = []
        # Not while they run: each file is of a moment of its own.
        await change(url, step)
        states.append(await stored(url))
        for _ in range(2):
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
