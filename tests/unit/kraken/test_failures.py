"""What Kraken's refusals mean, and what is tried again how often."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from kraken_db.errors import (
    ConfigurationError,
    ExchangeError,
    ExchangeFormatError,
    ExchangeLockoutError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    PairError,
    TransientError,
    UnknownPairError,
)
from kraken_db.kraken.rest import KrakenRestClient, checked_base_url, limit_name
from kraken_db.kraken.transport import application_error, excerpt, status_error
from kraken_db.retry import MAX_THROTTLED, REQUEST, Retry

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("EGeneral:Too many requests", ExchangeThrottledError),
        ("EAPI:Rate limit exceeded", ExchangeThrottledError),
        ("EService: Throttled: 1700000007", ExchangeThrottledError),
        ("EService:Throttled", ExchangeThrottledError),
        ("EService:Unavailable", ExchangeUnavailableError),
        ("EService:Busy", ExchangeUnavailableError),
        ("EService:Deadline elapsed", ExchangeUnavailableError),
        ("EGeneral:Internal error", ExchangeUnavailableError),
        ("EGeneral:Internal error[500]", ExchangeUnavailableError),
        ("EDatabase:Internal error", ExchangeUnavailableError),
        ("EGeneral:Temporary lockout", ExchangeLockoutError),
        ("EQuery:Unknown asset pair", UnknownPairError),
        ("EQuery:Invalid asset pair", UnknownPairError),
        ("EGeneral:Invalid arguments", ExchangeRequestError),
        ("EGeneral:Invalid arguments:since", ExchangeRequestError),
        ("EGeneral:Unknown method", ExchangeRequestError),
        ("EFuture:Something new", ExchangeRequestError),
    ],
)
def test_application_errors_by_kind(text: str, kind: type[ExchangeError]) -> None:
    error = application_error([text], "Trades of X", NOW)
    assert type(error) is kind
    assert str(error).startswith(f"Trades of X: Kraken says {text!r}")


def test_kinds_that_may_pass_and_kinds_that_do_not() -> None:
    assert issubclass(ExchangeThrottledError, TransientError)
    assert issubclass(ExchangeUnavailableError, TransientError)
    for kind in (ExchangeLockoutError, ExchangeRequestError, ExchangeFormatError):
        assert not issubclass(kind, TransientError)
    assert issubclass(UnknownPairError, PairError)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("EService: Throttled: 1700000007", 7.0),
        ("EService:Throttled:1700000007.5", 7.5),
        ("EService: Throttled: 1600000000", 0.0),
        ("EService: Throttled: soon", None),
    ],
)
def test_throttled_until(text: str, wait: float | None) -> None:
    error = application_error([text], "x", NOW)
    assert isinstance(error, ExchangeThrottledError)
    assert error.retry_after == wait


def test_of_several_errors_the_gravest_counts() -> None:
    texts = ["WGeneral:x", "EService:Busy", "EGeneral:Too many requests", "EGeneral:Unknown method"]
    assert type(application_error(texts[:2], "x", NOW)) is ExchangeUnavailableError
    assert type(application_error(texts[:3], "x", NOW)) is ExchangeThrottledError
    assert type(application_error(texts, "x", NOW)) is ExchangeRequestError
    assert type(application_error([*texts, "EGeneral:Temporary lockout"], "x", NOW)) is ExchangeLockoutError
    assert application_error(texts[:1], "x", NOW) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (204, None),
        (301, ExchangeRequestError),
        (400, ExchangeRequestError),
        (403, ExchangeRequestError),
        (408, ExchangeUnavailableError),
        (429, ExchangeThrottledError),
        (500, ExchangeUnavailableError),
        (503, ExchangeUnavailableError),
        *((status, ExchangeUnavailableError) for status in range(520, 526)),
    ],
)
def test_statuses_by_kind(status: int, kind: type[ExchangeError] | None) -> None:
    error = status_error(status, None, "x", NOW)
    assert type(error) is (type(None) if kind is None else kind)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        (format_datetime(datetime.fromtimestamp(NOW + 7, UTC), usegmt=True), 7.0),
        (format_datetime(datetime.fromtimestamp(NOW - 7, UTC), usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("٧", None),
        (None, None),
        ("1000000000", 1e9),
        ("9" * 400, math.inf),
        ("1 Jan 99999999999999999999999", math.inf),
        ("Wed, 21 Oct 99999 07:28:00 GMT", math.inf),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", math.inf),
        ("Wed, 21 Oct 9999 23:59:59 -1400", 253_396_216_799.0 - NOW),
        ("1 Jan 2026 25:00:00", None),
        ("0x10", None),
        ("1e9", None),
        ("1_000", None),
    ],
)
def test_retry_after(header: str | None, wait: float | None) -> None:
    error = status_error(429, header, "x", NOW)
    assert isinstance(error, ExchangeThrottledError)
    assert error.retry_after == wait


def test_retry_after_of_an_outage() -> None:
    assert isinstance(status_error(503, "9", "x", NOW), ExchangeThrottledError)


def test_excerpts_are_short_printable_and_no_web_pages() -> None:
    assert excerpt("<!DOCTYPE html>" + "x" * 9000) == excerpt(b"  <html>") == "a web page"
    assert len(excerpt("x" * 9000)) < 130
    assert excerpt(b"a\x00\n\x1b[31mb\xff") == "'a [31mb\ufffd'"


# --- retries ---


class Attempts:
    """Fails as it is told, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def policy(pauses: list[float] | None = None, max_retries: int = 3) -> Retry:
    async def sleep(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    return replace(REQUEST, attempts=max_retries + 1, sleep=sleep)


def busy() -> ExchangeError:
    return ExchangeUnavailableError("Time: busy", hint="wait")


async def test_three_retries_are_four_attempts() -> None:
    attempts = Attempts(busy(), busy(), busy())
    assert await policy().run(attempts) == "done"
    assert attempts.made == 4


async def test_the_last_error_names_attempts_and_cause() -> None:
    attempts = Attempts(*(busy() for _ in range(9)))
    with pytest.raises(ExchangeUnavailableError) as error:
        await policy().run(attempts)
    assert (attempts.made, error.value.attempts) == (4, 4)
    assert str(error.value) == "Time: busy; tried 4 times (wait)"


async def test_no_retries() -> None:
    attempts = Attempts(busy())
    with pytest.raises(ExchangeUnavailableError, match="busy") as error:
        await policy(max_retries=0).run(attempts)
    assert (attempts.made, error.value.message) == (1, "Time: busy")


@pytest.mark.parametrize("kind", [ExchangeLockoutError, ExchangeRequestError, ExchangeFormatError])
async def test_what_does_not_pass_is_not_tried_again(kind: type[ExchangeError]) -> None:
    attempts = Attempts(kind("no"))
    with pytest.raises(kind, match=r"^no$"):
        await policy().run(attempts)
    assert attempts.made == 1


async def test_a_lockout_after_failures_names_the_attempts() -> None:
    attempts = Attempts(busy(), ExchangeLockoutError("out"))
    with pytest.raises(ExchangeLockoutError, match="out; tried 2 times"):
        await policy().run(attempts)


async def test_being_throttled_does_not_use_up_the_retries() -> None:
    throttled = [ExchangeThrottledError("slow down") for _ in range(MAX_THROTTLED)]
    attempts = Attempts(*throttled, busy(), busy(), busy())
    assert await policy().run(attempts) == "done"


async def test_being_throttled_ends_too() -> None:
    attempts = Attempts(*(ExchangeThrottledError("slow down") for _ in range(99)))
    with pytest.raises(ExchangeThrottledError, match=f"tried {MAX_THROTTLED + 1} times"):
        await policy().run(attempts)


async def test_a_wait_of_hours_is_an_error_at_once() -> None:
    attempts = Attempts(ExchangeThrottledError("until tomorrow", retry_after=80_000))
    with pytest.raises(ExchangeThrottledError, match="until tomorrow"):
        await policy().run(attempts)
    assert attempts.made == 1


async def test_pauses_double_with_jitter_up_to_a_bound() -> None:
    pauses: list[float] = []
    await policy(pauses, max_retries=9).run(Attempts(*(busy() for _ in range(9))))
    for number, pause in enumerate(pauses):
        assert min(2.0**number, 30) <= pause <= min(2.0**number, 30) + 1
    assert len(set(pauses[:4])) == 4


# --- addresses and lanes ---


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://api.kraken.com", "https://api.kraken.com"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        (" https://proxy.example/kraken/ ", "https://proxy.example/kraken"),
    ],
)
def test_base_urls(url: str, checked: str) -> None:
    assert checked_base_url(url) == checked


@pytest.mark.parametrize(
    "url",
    [
        "api.kraken.com",
        "ftp://x",
        "https://",
        "https://h:99999",
        "https://u:s3cr3t@h",
        "https://h?a=b",
        "http://[x",
        "http://a b/",
    ],
)
def test_base_urls_that_cannot_work(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        checked_base_url(url)
    assert "s3cr3t" not in str(error.value)


def test_a_pair_has_one_lane_however_it_is_written() -> None:
    assert {limit_name(name) for name in ("XBTUSD", "XXBTZUSD", "BTCUSD")} == {"BTC/USD"}
    assert limit_name("what is this") == "what is this"


@pytest.mark.parametrize("delay", [1e99, 1e-99, 3601.0, -1.0, float("nan"), float("inf")])
def test_a_pause_between_requests_that_nobody_means(delay: float) -> None:
    with pytest.raises(ConfigurationError, match=r"it is 0, or 0\.000001 to 3,600 s"):
        KrakenRestClient("http://127.0.0.1:9", rate_limit_delay=delay)
