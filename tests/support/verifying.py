"""A store that is verified against the simulated exchange it was filled from, or offline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kraken_db.simulator import Market, SimulatedExchange
from kraken_db.verification import Certificate, StoreVerifier
from tests.support.archives import query
from tests.support.downloading import ShortTime, quick_client
from tests.support.gap_filling import HOUR, LATER, START, World, calm

NOWHERE = "http://127.0.0.1:9"
"""Where nobody answers: a verification that asks it fails."""


@asynccontextmanager
async def verifier(url: str, exchange: SimulatedExchange, **options: Any) -> AsyncIterator[StoreVerifier]:
    """A service that is connected to both."""
    async with (
        exchange.serve() as base_url,
        StoreVerifier(url, client=quick_client(base_url), sleep=ShortTime().sleep, **options) as service,
    ):
        yield service


async def verify(
    url: str, exchange: SimulatedExchange | Market | None = None, *, clock: Any = None, **options: Any
) -> Certificate:
    """The certificate of the one symbol that is stored; offline without an exchange."""
    made = {} if clock is None else {"clock": clock}
    if exchange is None:
        async with StoreVerifier(url, client=quick_client(NOWHERE), **made) as service:
            (found,) = await service.verify(ask_exchange=False, **options)
        return found
    known = SimulatedExchange([exchange]) if isinstance(exchange, Market) else exchange
    async with verifier(url, known, **made) as service:
        (found,) = await service.verify(**options)
    return found


def kinds(found: Certificate, part: str) -> dict[str, int]:
    """What is wrong in a part, and how often."""
    looked_at = found.part(part)
    assert looked_at is not None
    return {kind: count for kind, count in looked_at.problems.items() if count}


def wrong(found: Certificate) -> dict[str, dict[str, int]]:
    """What is wrong, by part."""
    return {part.name: kinds(found, part.name) for part in found.parts if part.is_flawed}


async def only_candles(url: str) -> World:
    """Two hours, of which an outage of one was filled by OHLC; no trade is stored any more."""
    world = World(calm(a_minute=3), now=START + HOUR + LATER)
    await world.backfill(url)
    world.advance(HOUR)
    result = await world.fill(url)
    assert (result["errors"], world.asked("Trades")) == ([], [])
    for statement in (
        "DELETE FROM trades",
        "DELETE FROM data_coverage WHERE data_type = 'trades'",
        "DELETE FROM data_sync_status WHERE data_type = 'trades'",
    ):
        await query(url, statement)
    return world
