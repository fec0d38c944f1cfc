"""The REST client over a real socket: every answer and every fault that Kraken is known for."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import aiohttp
import pytest
from aiohttp import web

from kraken_db.errors import (
    ConfigurationError,
    ExchangeError,
    ExchangeFormatError,
    ExchangeLockoutError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    ImpossibleRowError,
    UnknownPairError,
)
from kraken_db.kraken import directory
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from tests.support.fake_kraken import (
    FakeKraken,
    Reply,
    endless,
    hang,
    html,
    ok,
    refused,
    reset,
    text,
    truncated,
    zipped,
)

PAGE = '{"error":[],"result":{"XXBTZUSD":[["1.50","2.0",1700000000.1234567,"b","l","",7]],"last":"17"}}'
GOOD = text(PAGE)


async def of_the_pair(request: web.Request) -> web.StreamResponse:
    """A page of the pair that is asked for."""
    key = {"XBTUSD": "XXBTZUSD"}.get(request.query["pair"], request.query["pair"])
    return await text(PAGE.replace("XXBTZUSD", key))(request)


TIME = ok({"unixtime": 1762820224, "rfc1123": "Tue, 11 Nov 25 00:17:04 +0000"})


# --- what is asked and what comes back ---


@pytest.mark.parametrize("asked", ["XBTUSD", "XXBTZUSD"])
async def test_an_answer_has_the_key_of_the_pair(
    kraken: FakeKraken, client: KrakenRestClient, asked: str
) -> None:
    kraken.script(GOOD)
    assert (await client.trades(asked)).key == "XXBTZUSD"


@pytest.mark.parametrize("key", ["XETHZUSD", "SOLUSD", "nonsense"])
async def test_an_answer_for_another_pair_is_refused(
    kraken: FakeKraken, client: KrakenRestClient, key: str
) -> None:
    kraken.script(text(PAGE.replace("XXBTZUSD", key)))
    with pytest.raises(ExchangeFormatError, match=f"Trades of XBTUSD: the answer is for '{key}'"):
        await client.trades("XBTUSD")


async def test_trades(kraken: FakeKraken, client: KrakenRestClient) -> None:
    kraken.script(GOOD)
    page = await client.trades("XBTUSD", 1762820035982277754)
    assert (page.key, page.last, page.trades[0].price) == ("XXBTZUSD", 17, Decimal("1.50"))
    _, path, query = kraken.seen[0]
    assert path == "/0/public/Trades"
    assert query == {"pair": "XBTUSD", "since": "1762820035982277754", "count": "1000"}


async def test_ohlc(kraken: FakeKraken, client: KrakenRestClient) -> None:
    row = [60, "1", "1", "1", "1", "1", "2", 3]
    kraken.script(ok({"SOLUSD": [row, [120, *row[1:]]], "last": 60}))
    page = await client.ohlc("SOLUSD", 1, since=59)
    assert (len(page.committed), page.interval_minutes) == (1, 1)
    assert kraken.seen[0][1:] == ("/0/public/OHLC", {"pair": "SOLUSD", "interval": "1", "since": "59"})


async def test_time_and_status(kraken: FakeKraken, client: KrakenRestClient) -> None:
    kraken.script(TIME, ok({"status": "maintenance", "timestamp": "2025-11-11T00:17:10Z"}))
    assert (await client.time()).isoformat() == "2025-11-11T00:17:04+00:00"
    assert (await client.system_status()).status == "maintenance"
    assert [path for _, path, _ in kraken.seen] == ["/0/public/Time", "/0/public/SystemStatus"]


async def test_zipped_answers(kraken: FakeKraken, client: KrakenRestClient) -> None:
    kraken.script(zipped(PAGE))
    assert len((await client.trades("XBTUSD")).trades) == 1


async def test_an_address_with_a_path(kraken: FakeKraken) -> None:
    kraken.script(TIME)
    async with KrakenRestClient(kraken.url + "/kraken/", limiter=RateLimiter()) as client:
        await client.time()
    assert kraken.seen[0][1] == "/kraken/0/public/Time"


async def test_the_address_of_the_environment(kraken: FakeKraken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_BASE_URL", kraken.url)
    kraken.script(TIME)
    async with KrakenRestClient(limiter=RateLimiter()) as client:
        await client.time()
    assert len(kraken.seen) == 1


async def test_a_proxy_of_the_environment(
    kraken: FakeKraken, client: KrakenRestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange plays the proxy: it is asked for a name that does not exist."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", kraken.url)
    kraken.script(TIME)
    async with KrakenRestClient("http://kraken.invalid", limiter=RateLimiter()) as proxied:
        await proxied.time()
    assert len(kraken.seen) == 1


async def test_a_session_that_was_passed_in_stays_open(kraken: FakeKraken) -> None:
    kraken.script(TIME)
    async with aiohttp.ClientSession() as session:
        async with KrakenRestClient(kraken.url, session=session, limiter=RateLimiter()) as client:
            await client.time()
        assert not session.closed


async def test_a_closed_client_may_be_used_again(kraken: FakeKraken, client: KrakenRestClient) -> None:
    kraken.script(TIME)
    await client.time()
    await client.close()
    await client.time()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.trades("XBTUSD", -1),
        lambda client: client.trades("XBTUSD", count=1001),
        lambda client: client.ohlc("XBTUSD", 720),
    ],
)
async def test_what_is_not_even_asked(
    kraken: FakeKraken, client: KrakenRestClient, call: Callable[[KrakenRestClient], asyncio.Future[object]]
) -> None:
    with pytest.raises(ConfigurationError):
        await call(client)
    assert kraken.seen == []


@pytest.mark.parametrize(
    "option", [{"rate_limit_delay": -1}, {"rate_limit_delay": float("nan")}, {"max_retries": -1}]
)
def test_options_that_cannot_work(option: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        KrakenRestClient("http://localhost", **option)  # type: ignore[arg-type]


# --- faults that pass ---

PASSING = {
    "too many requests": refused("EGeneral:Too many requests"),
    "rate limit": refused("EAPI:Rate limit exceeded"),
    "throttled until": refused("EService: Throttled: 1600000000"),
    "unavailable": refused("EService:Unavailable"),
    "busy": refused("EService:Busy"),
    "deadline": refused("EService:Deadline elapsed"),
    "internal": refused("EGeneral:Internal error"),
    "database": refused("EDatabase:Internal error"),
    "429": text("slow down", status=429, headers={"Retry-After": "0"}),
    "500": html(500),
    "503": refused("EService:Unavailable", status=503),
    **{str(status): html(status) for status in range(520, 526)},
    "a page instead of json": html(200),
    "promised more": truncated(PAGE[:50]),
    "half an answer": text(PAGE[:50]),
    "nothing": text(""),
    "broken gzip": text(gzip.compress(PAGE.encode())[:40], headers={"Content-Encoding": "gzip"}),
    "reset": reset,
    "hang": hang,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
async def test_a_fault_that_passes(kraken: FakeKraken, client: KrakenRestClient, fault: Reply) -> None:
    kraken.script(fault, GOOD)
    assert (await client.trades("XBTUSD")).trades[0].trade_id == 7
    assert len(kraken.seen) == 2


FAILING = [
    name for name in PASSING if name not in ("too many requests", "rate limit", "throttled until", "429")
]


@pytest.mark.parametrize("name", FAILING)
async def test_a_fault_that_stays(kraken: FakeKraken, client: KrakenRestClient, name: str) -> None:
    kraken.script(PASSING[name])
    with pytest.raises(ExchangeUnavailableError) as error:
        await client.trades("XBTUSD")
    assert (len(kraken.seen), error.value.attempts) == (4, 4)
    told = str(error.value)
    assert told.startswith("Trades of XBTUSD: ")
    assert "tried 4 times" in told
    assert "html" not in told.lower()
    assert "ray-id" not in told


async def test_max_retries(kraken: FakeKraken) -> None:
    kraken.script(refused("EService:Busy"))
    for retries in (0, 1, 5):
        kraken.seen.clear()
        async with KrakenRestClient(
            kraken.url, rate_limit_delay=0, backoff=0, max_retries=retries, limiter=RateLimiter()
        ) as client:
            with pytest.raises(ExchangeUnavailableError):
                await client.time()
        assert len(kraken.seen) == retries + 1


async def test_nobody_listens() -> None:
    async with KrakenRestClient(
        "http://127.0.0.1:1", rate_limit_delay=0, backoff=0, limiter=RateLimiter()
    ) as client:
        with pytest.raises(ExchangeUnavailableError, match=r"0\.1:1 cannot be reached.*tried 4 times"):
            await client.time()


async def test_a_proxy_that_is_not_there_keeps_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://bob:s3cr3t@127.0.0.1:1")
    async with KrakenRestClient("http://kraken.invalid", max_retries=0, limiter=RateLimiter()) as client:
        with pytest.raises(ExchangeUnavailableError, match="the proxy cannot be reached") as error:
            await client.time()
    assert "s3cr3t" not in str(error.value)


# --- faults that do not ---


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (refused("EGeneral:Temporary lockout"), ExchangeLockoutError, "Temporary lockout"),
        (refused("EGeneral:Temporary lockout", status=403), ExchangeLockoutError, "Temporary lockout"),
        (refused("EQuery:Unknown asset pair"), UnknownPairError, "Unknown asset pair"),
        (refused("EQuery:Invalid asset pair"), UnknownPairError, "Invalid asset pair"),
        (refused("EGeneral:Invalid arguments:since"), ExchangeRequestError, "Invalid arguments:since"),
        (refused("EGeneral:Unknown method"), ExchangeRequestError, "Unknown method"),
        (html(403), ExchangeRequestError, "HTTP 403"),
        (text("{}", status=404), ExchangeRequestError, "HTTP 404"),
        (
            text("", status=302, headers={"Location": "http://127.0.0.1:1/evil"}),
            ExchangeRequestError,
            "HTTP 302, a redirect, is not followed",
        ),
        (endless(), ExchangeFormatError, "larger than 1,000,000 bytes"),
        (text(b" " * 1_000_001), ExchangeFormatError, "larger than 1,000,000 bytes"),
        (zipped(" " * 1_000_001), ExchangeFormatError, "larger than 1,000,000 bytes"),
        (ok([]), ExchangeFormatError, "result: expected `object`, got `array`"),
        (ok({"A": [["1"]]}), ImpossibleRowError, r"result.A\[0\]: expected `array` of at least length 6"),
        (text("[]"), ExchangeFormatError, "the answer: expected `object`"),
        (text('{"error":[]}'), ExchangeFormatError, "neither an error nor a result"),
    ],
)
async def test_a_fault_that_is_not_tried_again(
    kraken: FakeKraken, client: KrakenRestClient, fault: Reply, kind: type[ExchangeError], told: str
) -> None:
    kraken.script(fault)
    with pytest.raises(kind, match=told) as error:
        await client.trades("XBTUSD")
    assert type(error.value) is kind
    assert len(kraken.seen) == 1


# --- pace ---


async def test_clients_share_the_pace_of_a_pair_and_pairs_run_side_by_side(kraken: FakeKraken) -> None:
    kraken.script(of_the_pair)
    limiter = RateLimiter()
    async with (
        KrakenRestClient(kraken.url, rate_limit_delay=0.1, limiter=limiter) as one,
        KrakenRestClient(kraken.url, rate_limit_delay=0.1, limiter=limiter) as other,
    ):
        await asyncio.gather(
            *(
                client.trades(pair)
                for client in (one, other)
                for pair in ("XBTUSD", "SOLUSD")
                for _ in range(3)
            )
        )
    asked = [[at for at, _, query in kraken.seen if query["pair"] == pair] for pair in ("XBTUSD", "SOLUSD")]
    for times in asked:
        assert len(times) == 6
        assert min(after - before for before, after in pairwise(times)) > 0.07
    assert max(map(min, asked)) < min(map(max, asked))  # side by side


async def test_being_throttled_slows_the_pair_down_but_no_other(kraken: FakeKraken) -> None:
    limiter = RateLimiter()
    kraken.script(refused("EGeneral:Too many requests"), GOOD)
    async with KrakenRestClient(kraken.url, rate_limit_delay=0.4, backoff=0, limiter=limiter) as client:
        await client.trades("XBTUSD")
    assert kraken.seen[1][0] - kraken.seen[0][0] > 0.45
    assert limiter.interval((kraken.url, "BTC/USD"), 0.4) == pytest.approx(0.4 * 1.5 * 0.98)
    assert limiter.interval((kraken.url, "SOL/USD"), 0.4) == 0.4


@pytest.mark.parametrize(
    "fault",
    [
        refused("EService: Throttled: 1000000001"),
        text("", status=429, headers={"Retry-After": "1"}),
        text("", status=429, headers={"Retry-After": "Sun, 09 Sep 2001 01:46:41 GMT"}),
        text("", status=503, headers={"Retry-After": "1"}),
    ],
)
async def test_waiting_until_kraken_says(kraken: FakeKraken, fault: Reply) -> None:
    kraken.script(fault, GOOD)
    async with KrakenRestClient(
        kraken.url, rate_limit_delay=0, backoff=0, limiter=RateLimiter(), clock=lambda: 1_000_000_000.0
    ) as client:
        await client.trades("XBTUSD")
    assert 0.95 < kraken.seen[1][0] - kraken.seen[0][0] < 2


async def test_a_wait_of_a_day_is_told_at_once(kraken: FakeKraken, client: KrakenRestClient) -> None:
    kraken.script(text("", status=429, headers={"Retry-After": "86400"}), GOOD)
    with pytest.raises(ExchangeThrottledError, match="HTTP 429"):
        await client.trades("XBTUSD")
    assert len(kraken.seen) == 1
    await client.trades("XBTUSD")  # and the next one does not sleep for that day


async def test_a_long_wait_is_told(kraken: FakeKraken, caplog: pytest.LogCaptureFixture) -> None:
    kraken.script(text("", status=429, headers={"Retry-After": "60"}), GOOD)
    naps: list[float] = []
    now = 1000.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        naps.append(seconds)
        now += seconds

    limiter = RateLimiter(clock=lambda: now, sleep=sleep)
    async with KrakenRestClient(kraken.url, rate_limit_delay=0, backoff=0, limiter=limiter) as client:
        await client.trades("XBTUSD")
    assert naps == [60.0]
    assert caplog.messages == ["Trades of XBTUSD: HTTP 429; waiting 60 s as it asks"]


async def test_a_cancelled_request_leaves_the_client_usable(
    kraken: FakeKraken, client: KrakenRestClient
) -> None:
    kraken.script(hang, GOOD)
    task = asyncio.create_task(client.trades("XBTUSD"))
    while not kraken.seen:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await client.trades("XBTUSD")).trades) == 1


# --- the list of pairs ---

PAIRS = ok(
    {
        "XXBTZUSD": {
            "altname": "XBTUSD",
            "wsname": "XBT/USD",
            "base": "XXBT",
            "quote": "ZUSD",
            "pair_decimals": 1,
            "lot_decimals": 8,
            "status": "online",
        }
    }
)


async def test_the_list_of_pairs_is_fetched_once(
    kraken: FakeKraken, client: KrakenRestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_CACHE", {})
    kraken.script(PAIRS)
    for _ in range(3):
        found = await directory.pair_directory(client)
        assert found.resolve("BTC/USD").rest_name == "XBTUSD"
    assert len(kraken.seen) == 1
    await directory.pair_directory(client, refresh=True)
    assert len(kraken.seen) == 2


# --- tokenized assets ---


def share(altname: str, wsname: str) -> dict[str, object]:
    names = {"altname": altname, "wsname": wsname, "base": "AAPLx", "quote": "ZUSD"}
    return {**names, "aclass_base": "tokenized_asset", "pair_decimals": 2, "lot_decimals": 8}


SHARES = ok({"AAPLxUSD": share("AAPLxUSD", "AAPLx/USD"), "AAPLSPVUSD": share("AAPLxUSD", "AAPLx/USD")})


def page_of(key: str) -> Reply:
    return ok({key: [["190.10", "0.5", 1700000000.1, "b", "l", "", 7]], "last": "1700000000100000000"})


async def test_a_tokenized_pair_is_asked_for_by_its_class(
    kraken: FakeKraken, client: KrakenRestClient
) -> None:
    kraken.script(SHARES, page_of("AAPLSPVUSD"), page_of("AAPLxUSD"), ok({"AAPLSPVUSD": [], "last": 0}))
    assert (await client.trades("AAPLxUSD", 5)).trades[0].trade_id == 7
    assert (await client.newest_trades("AAPLxUSD")).key == "AAPLxUSD"
    assert (await client.ohlc("AAPLxUSD")).key == "AAPLSPVUSD"
    assert [(path.rpartition("/")[2], query) for _, path, query in kraken.seen] == [
        ("AssetPairs", {"aclass_base": "tokenized_asset"}),
        ("Trades", {"pair": "AAPLxUSD", "count": "1000", "since": "5", "asset_class": "tokenized_asset"}),
        ("Trades", {"pair": "AAPLxUSD", "count": "1000", "asset_class": "tokenized_asset"}),
        ("OHLC", {"pair": "AAPLxUSD", "interval": "1", "asset_class": "tokenized_asset"}),
    ]


async def test_the_other_key_has_the_same_class(kraken: FakeKraken, client: KrakenRestClient) -> None:
    kraken.script(SHARES, page_of("AAPLSPVUSD"))
    await client.asset_pairs("tokenized")
    await client.trades("AAPLSPVUSD")
    assert kraken.seen[1][2]["asset_class"] == "tokenized_asset"


async def test_a_currency_pair_is_asked_for_without_a_class(
    kraken: FakeKraken, client: KrakenRestClient
) -> None:
    kraken.script(GOOD)
    await client.trades("XBTUSD")
    assert [list(query) for _, _, query in kraken.seen] == [["pair", "count", "since"]]


async def test_a_small_x_is_enough_where_no_list_has_the_pair(
    kraken: FakeKraken, client: KrakenRestClient
) -> None:
    kraken.script(refused("EGeneral:Invalid arguments"), page_of("MSFTxUSD"))
    assert (await client.trades("MSFTxUSD")).key == "MSFTxUSD"
    await client.trades("MSFTxUSD")
    assert [query.get("asset_class") for _, _, query in kraken.seen[1:]] == ["tokenized_asset"] * 2
    kraken.script(page_of("AAPLxUSD"))
    with pytest.raises(ExchangeFormatError, match="another pair"):
        await client.trades("MSFTxUSD")


async def test_each_list_is_fetched_where_it_is_needed(
    kraken: FakeKraken, client: KrakenRestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_CACHE", {})
    kraken.script(PAIRS, SHARES)
    assert len(await directory.pair_directory(client)) == 1
    both = await directory.pair_directory(client, kinds=["tokenized"])
    assert [pair.symbol for pair in both] == ["AAPLx/USD", "BTC/USD"]
    assert [query for _, _, query in kraken.seen] == [{}, {"aclass_base": "tokenized_asset"}]
    await directory.pair_directory(client, kinds=["tokenized"], refresh=True)
    assert len(kraken.seen) == 3
