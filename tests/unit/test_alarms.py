"""What a webhook is told: each change once, whoever looks and however often."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kraken_db.alarms import Alarms, Change, Webhook, message_of
from kraken_db.errors import ConfigurationError, NotificationError
from kraken_db.problems import Problem
from tests.support.webhooks import SECRET, Hook, webhook

DATABASE = "postgresql://me:hunter2@db.example/kraken"
GAP = Problem("gaps BTC/USD trades", "BTC/USD trades has 2 gaps", size=2)
FEED = Problem("feed", "no live feed since 02:10:00 UTC: nothing came for 8.1 s", patience=30)


@dataclass
class Place:
    hook: Hook
    folder: Path
    now: datetime = field(default_factory=lambda: datetime(2026, 11, 28, 2, 10, tzinfo=UTC))

    def alarms(self, source: str = "status --check", database: str = DATABASE) -> Alarms:
        """As a new process has them."""
        return Alarms(
            Webhook.parse(self.hook.url), database, source, folder=self.folder, clock=lambda: self.now
        )

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with webhook() as hook:
        yield Place(hook, tmp_path / "alarms")


async def test_a_problem_is_told_once_and_once_when_it_is_over(place: Place) -> None:
    for _ in range(3):
        await place.alarms().check([GAP])
        place.wait(60)
    assert place.hook.texts == ["- BTC/USD trades has 2 gaps"]
    for _ in range(3):
        await place.alarms().check([])
    assert place.hook.texts == ["- over, after 3 min 0 s. It was: BTC/USD trades has 2 gaps"]
    await place.alarms().check([GAP])
    assert place.hook.texts == ["- BTC/USD trades has 2 gaps"], "it has come back"


async def test_what_began_before_it_was_seen_is_told_with_that_time(place: Place) -> None:
    began = place.now - timedelta(seconds=8)
    alarms = place.alarms()
    problem = replace(FEED, since=began)
    await alarms.check([problem])
    assert place.hook.received == [], "it may pass: it is told after the same time"
    place.wait(30)
    await alarms.check([problem])
    (body,) = place.hook.received
    assert body["changes"][0]["since"] == "2026-11-28T02:09:52Z"
    place.wait(22)
    await alarms.check([])
    assert place.hook.texts[-1].startswith("- over, after 1 min 0 s.")


def test_a_test_where_nothing_is_wrong_says_so() -> None:
    message = message_of([], "status --check", datetime(2026, 11, 28, tzinfo=UTC), is_test=True, is_well=True)
    assert message["text"].endswith(": this is a test; nothing is wrong")
    assert (message["is_test"], message["is_well"], message["changes"]) == (True, True, [])


async def test_the_message_is_for_chats_and_for_programs(place: Place) -> None:
    await place.alarms().check([GAP])
    (body,) = place.hook.received
    assert body["text"] == body["content"]
    assert body["text"].startswith(f"kraken-db status --check on {body['host']}\n- BTC/USD")
    assert body["source"] == "kraken-db status --check"
    assert (body["time"], body["is_test"], body["more_changes"]) == ("2026-11-28T02:10:00Z", False, 0)
    assert body["changes"] == [
        {
            "key": "gaps BTC/USD trades",
            "state": "wrong",
            "text": "BTC/USD trades has 2 gaps",
            "since": "2026-11-28T02:10:00Z",
            "until": None,
        }
    ]


async def test_what_has_grown_is_news_and_what_has_shrunk_is_none(place: Place) -> None:
    sizes = [2, 3, 3, 1, 2, 1]
    for size in sizes:
        await place.alarms().check([Problem("gaps", f"{size} gaps", size)])
    assert place.hook.texts == ["- 2 gaps", "- 3 gaps", "- 2 gaps"]


async def test_what_may_pass_is_told_after_a_while(place: Place) -> None:
    alarms = place.alarms()
    for _ in range(3):
        await alarms.check([FEED])
        place.wait(14.9)
    assert place.hook.received == []
    await alarms.check([])
    await alarms.check([FEED])
    place.wait(29)
    await alarms.check([FEED])
    assert place.hook.received == [], "it had passed: the time counts anew"
    place.wait(1)
    await alarms.check([FEED])
    place.wait(10)
    await alarms.check([])
    assert place.hook.texts == [f"- {FEED.text}", f"- over, after 40.0 s. It was: {FEED.text}"]


async def test_what_comes_and_goes_is_told_once(place: Place) -> None:
    """So is what lasts while the recording begins again: at first that knows of nothing."""
    disk = Problem("disk", "only 1 GiB is free")
    alarms = place.alarms()
    for found in ([disk], [], [disk], []):
        await alarms.check(found, calm=30)
        place.wait(25)
    alarms = place.alarms()
    for found in ([], [disk], [], []):
        await alarms.check(found, calm=30)
        place.wait(25)
    assert place.hook.texts == ["- only 1 GiB is free"]
    await alarms.check([], calm=30)
    assert place.hook.texts == ["- over, after 2 min 30 s. It was: only 1 GiB is free"]


async def test_several_changes_are_one_message(place: Place) -> None:
    await place.alarms().check([GAP])
    place.hook.received.clear()
    await place.alarms().check([Problem("disk", "only 1 GiB is free"), Problem("job", "it fails")])
    (text,) = place.hook.texts
    assert text.splitlines() == [
        "- only 1 GiB is free",
        "- it fails",
        "- over, after 0.0 s. It was: BTC/USD trades has 2 gaps",
    ]


async def test_a_partial_look_ends_nothing(place: Place) -> None:
    await place.alarms().check([GAP])
    await place.alarms().check([Problem("database", "nobody answers")], is_all=False)
    assert place.hook.texts == [f"- {GAP.text}", "- nobody answers"]
    await place.alarms().check([GAP])
    assert place.hook.texts == ["- over, after 0.0 s. It was: nobody answers"]


async def test_two_that_look_at_one_database_tell_a_thing_once(place: Place) -> None:
    disk = Problem("disk", "only 1 GiB is free")
    await place.alarms().check([disk])
    await place.alarms("record BTC/USD").check([disk])
    assert len(place.hook.texts) == 1
    await place.alarms().check([])
    assert place.hook.texts == [], "the other one still sees it"
    await place.alarms("record BTC/USD").check([])
    assert len(place.hook.texts) == 1
    await place.alarms().check([disk])
    await place.alarms(database="postgresql://me@db.example/other").check([disk])
    assert len(place.hook.texts) == 2


async def test_who_has_ended_without_a_word_hides_nothing(place: Place) -> None:
    disk = Problem("disk", "only 1 GiB is free")
    await place.alarms("record BTC/USD").check([disk])
    (path,) = place.folder.glob("*/*.json")
    os.utime(path, (time.time() - 3600,) * 2)
    await place.alarms().check([disk])
    assert len(place.hook.texts) == 2


@pytest.mark.parametrize("status", [301, 307, 403, 404, 429, 500, 503])
async def test_what_was_not_taken_is_told_by_the_next_check(place: Place, status: int) -> None:
    place.hook.statuses = [status]
    with pytest.raises(NotificationError) as failure:
        await place.alarms().check([GAP])
    assert str(failure.value).startswith(f"the alarm for 127.0.0.1 was not taken: HTTP {status}")
    assert SECRET not in str(failure.value)
    assert place.hook.received == []
    await place.alarms().check([GAP])
    assert place.hook.texts == [f"- {GAP.text}"]
    place.hook.statuses = [status]
    with pytest.raises(NotificationError):
        await place.alarms().check([])
    await place.alarms().check([])
    assert len(place.hook.texts) == 1


async def test_a_service_that_takes_no_other_fields_gets_the_text(place: Place) -> None:
    place.hook.is_strict = True
    await place.alarms().check([GAP])
    (body,) = place.hook.received
    assert body.keys() == {"text"}


async def test_nobody_there(place: Place) -> None:
    place.hook.url = f"http://127.0.0.1:9/{SECRET}"
    with pytest.raises(NotificationError, match=r"the alarm for .*:9 cannot be reached") as it:
        await place.alarms().check([GAP])
    assert SECRET not in f"{it.value} {it.value.__cause__}"


async def test_what_was_told_is_private_and_may_be_damaged(place: Place) -> None:
    await place.alarms().check([GAP])
    (path,) = place.folder.glob("*/*.json")
    assert {one.stat().st_mode & 0o777 for one in (place.folder, path.parent)} == {0o700}
    assert not [one for one in place.folder.rglob("*") if SECRET.encode() in bytes(str(one), "utf-8")]
    assert SECRET not in path.read_text()
    for damage in ("", "[]", '{"feed": 1}', '{"feed": {"text": 1}}', "\x00\xff"):
        place.hook.received.clear()
        path.write_text(damage)
        await place.alarms().check([GAP])
        assert len(place.hook.received) == 1, "better twice than never"


async def test_a_folder_that_cannot_be_used(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place.folder = tmp_path / "file"
    with pytest.raises(ConfigurationError, match="directory of alarms"):
        place.alarms()


async def test_it_is_told_once_where_it_cannot_be_noted(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full: that is what is told."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    alarms = place.alarms()
    monkeypatch.setattr(Path, "write_text", full)
    for _ in range(3):
        await alarms.check([Problem("disk", "nothing is free")])
    assert place.hook.texts == ["- nothing is free"]
    assert "may be reported again: No space left on device" in caplog.text


async def test_a_watch_outlasts_a_webhook_that_is_away(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kraken_db.alarms._AFTER_FAILURE", 0.01)
    place.hook.statuses = [500, 500]

    async def look() -> list[Problem]:
        return [GAP]

    watching = asyncio.create_task(place.alarms().watch(look, every=0.01))
    async with asyncio.timeout(10):
        while not place.hook.received:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    watching.cancel()
    assert len(place.hook.received) == 1
    assert caplog.text.count("an alarm could not be sent") == 2
    assert SECRET not in caplog.text


def text_of(*texts: str) -> str:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    message = message_of([Change(text, "wrong", text, now) for text in texts], "record", now)
    assert isinstance(message["text"], str)
    return message["text"]


def test_many_changes_are_a_short_text() -> None:
    text = text_of(*(f"C{number}/USD " + "x" * 5_000 for number in range(1_600)))
    assert len(text) < 2_000
    assert text_of(*(f"C{number}/USD" for number in range(1_600))).endswith("- and 1,590 more")


async def test_the_last_all_clear_says_that_all_is_well(place: Place) -> None:
    """Also where more is over than a message has lines for."""
    many = [Problem(f"gap P{number}/USD", f"P{number}/USD has a gap") for number in range(14)]
    await place.alarms().check(many)
    await place.alarms().check(many[:1])
    await place.alarms().check([])
    begun, some, last = (body["text"].splitlines() for body in place.hook.received)
    assert not begun[0].endswith("well again")
    assert not some[0].endswith("well again"), "one is left"
    assert some[-1] == "- and 3 more, all over"
    assert last[0].endswith(": all is well again")
    assert [body["is_well"] for body in place.hook.received] == [False, False, True]


def test_what_others_say_calls_nobody() -> None:
    text = text_of("Kraken says '@everyone <!channel> <https://evil.example|click>\n\x07now'")
    assert "@everyone" not in text
    assert "<" not in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "address",
    ["", "hooks.example/x", "ftp://hooks.example/x", "https:///x", "https://?x", "http://h:99999/x",
     "https://h/ x", "https://h/\nx", "http://[::1", "file:///etc/passwd"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        Webhook.parse(address)
    assert not address or address not in str(refusal.value)


def test_the_address_is_in_no_text_of_it() -> None:
    assert SECRET not in repr(Webhook.parse(f"https://hooks.example/{SECRET}"))
