"""Addresses that do not work: one clear line, what to do, and never a password."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit, urlunsplit

import pytest

from kraken_db.db.urls import parse_url
from kraken_db.errors import (
    AuthenticationError,
    ConfigurationError,
    DatabaseUnavailableError,
    KrakenDBError,
    NotConnectedError,
)
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.store import Store

SECRET = "hunter2-p%40ss"


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    user, _, rest = parts.netloc.partition(":")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{rest.rpartition('@')[2]}"))


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def refusal(url: str) -> KrakenDBError:
    with pytest.raises(KrakenDBError) as refused:
        await Store.open(url)
    text = f"{refused.value} {refused.value!r}"
    assert "hunter2" not in text
    assert "\n" not in text
    assert refused.value.hint
    return refused.value


async def test_wrong_password(plain_url: str) -> None:
    error = await refusal(with_password(plain_url, SECRET))
    assert isinstance(error, AuthenticationError)
    assert "not accepted" in str(error)


async def test_database_that_does_not_exist(plain_url: str) -> None:
    error = await refusal(with_database(plain_url, "nowhere"))
    assert isinstance(error, AuthenticationError)
    assert '"nowhere" does not exist' in str(error)


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await refusal(f"postgresql://trader:{SECRET}@127.0.0.1:{port}/kraken")
    assert isinstance(error, DatabaseUnavailableError)
    assert f"127.0.0.1:{port}" in str(error)
    assert "no PostgreSQL answers" in str(error)


async def test_nobody_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        url = f"postgresql://trader:{SECRET}@127.0.0.1:{port}/kraken?connect_timeout=1"
        assert isinstance(await refusal(url), DatabaseUnavailableError)


async def test_host_that_does_not_exist() -> None:
    assert isinstance(
        await refusal(f"postgresql://trader:{SECRET}@no-such-host.invalid/kraken"), DatabaseUnavailableError
    )


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://trader:{SECRET}@localhost/kraken",
        f"trader:{SECRET}@localhost/kraken",
        f"postgresql://trader:{SECRET}@localhost:port/kraken",
        f"postgresql://trader:{SECRET}/x@localhost:54a/kraken",
        f"postgresql:trader:{SECRET}@localhost",
        f"postgresql://trader:{SECRET}@[::1/kraken",
        f"postgresql://trader:{SECRET}@localhost/kraken?sslmode=sometimes",
        f"postgresql://trader:{SECRET}@localhost/kraken?connect_timeout=soon",
        "",
        "postgresql",
    ],
)
async def test_address_that_cannot_be_read(url: str) -> None:
    assert isinstance(await refusal(url), ConfigurationError)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
async def test_schemes_and_parameters_of_managed_services(scheme: str, plain_url: str) -> None:
    rest = plain_url.partition("://")[2]
    url = f"{scheme}://{rest}?sslmode=prefer&channel_binding=prefer&connect_timeout=5&application_name=mine"
    store = await Store.open(url)
    await store.close()


def test_what_is_shown_of_an_address() -> None:
    url = parse_url(f"postgresql://trader:{SECRET}@db.example:5433/kraken?sslmode=require&password={SECRET}")
    assert str(url) == "postgresql://trader:***@db.example:5433/kraken?sslmode=require"
    assert "hunter2" not in repr(url)
    assert SECRET in url.dsn


async def test_health_check_tells_instead_of_raising(plain_url: str) -> None:
    provider = HistoricalDataProvider(plain_url)
    assert (await provider.health_check())["connected"] is False
    with pytest.raises(NotConnectedError, match=r"call connect\(\) first"):
        await provider.get_symbols()
    async with provider:
        assert await provider.health_check() == {
            "connected": True,
            "symbols": 0,
            "total_candles": 0,
            "oldest_data": None,
            "newest_data": None,
        }
