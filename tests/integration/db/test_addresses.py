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


@pytest.mark.one_server("the coordinator asks for a password, and one built by hand trusts its own machine")
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


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("nonsense=1", 'unrecognized configuration parameter "nonsense"'),
        ("jit=nonsense", 'parameter "jit" requires a Boolean value'),
        ("work_mem=-5", "outside the valid range"),
        ("role=nobody-here", 'role "nobody-here" does not exist'),
        ("options=nonsense", "invalid command-line argument"),
        ("options=-cfoo%3Dbar", 'unrecognized configuration parameter "foo"'),
        ("timezone=Mars", 'invalid value for parameter "TimeZone"'),
        ("client_min_messages=%1b%5B31m", "invalid value for parameter"),
        ("sslmode=nonsense", "must be one of"),
    ],
)
async def test_a_parameter_that_the_server_refuses(plain_url: str, option: str, said: str) -> None:
    error = await refusal(f"{plain_url}{'&' if '?' in plain_url else '?'}{option}")
    assert isinstance(error, ConfigurationError)
    assert said in error.message
    assert error.hint == "correct the parameters of the database URL"


@pytest.mark.parametrize("target", ["standby", "read-only"])
async def test_no_server_is_what_target_session_attrs_asks_for(plain_url: str, target: str) -> None:
    error = await refusal(f"{plain_url}{'&' if '?' in plain_url else '?'}target_session_attrs={target}")
    assert isinstance(error, DatabaseUnavailableError)
    assert "target_session_attrs" in error.message


@pytest.mark.parametrize("host", ["a" * 64, "...", ".a", "a" * 300, "\u2026.example"])
async def test_a_host_that_is_no_name(host: str) -> None:
    assert await refusal(f"postgresql://trader:{SECRET}@{host}/kraken?connect_timeout=2")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://trader@db/kraken?x=%00", "zero byte"),
        ("postgresql://tra%00der@db/kraken", "zero byte"),
        ("postgresql://trader@db/kraken%00", "zero byte"),
        ("postgresql://trader@db/kraken?connect_timeout=nan", "not a number"),
        ("postgresql://trader@db/kraken?connect_timeout=inf", "not a number"),
        ("postgresql://trader@db/kraken?connect_timeout=1e400", "not a number"),
        ("postgresql://trader@db/kraken?connect_timeout=1_0", "not a number"),
        ("postgresql://trader@db/kraken?connect_timeout=\u0663", "not a number"),
        ("postgresql://trader@db/kraken?connect_timeout=99999999", "longer than 3600 seconds"),
        ("postgresql://trader@db/kraken?target_session_attrs=x", "target_session_attrs is one of"),
    ],
)
def test_an_address_that_cannot_be_meant(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_url(url)
