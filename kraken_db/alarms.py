"""Alarms: messages to a webhook about what has gone wrong and what is over, each once.

What has been reported is kept in a file of the user's state directory, one for each source of alarms, so that
a check that runs every minute, and a recording that begins again, say nothing twice::

    alarms/<digest of the address>/<digest of database and source>.json
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp

from kraken_db.db.embedded.keeper import try_lock
from kraken_db.db.embedded.locks import open_private
from kraken_db.db.state_folder import fingerprint, make_private, state_folder
from kraken_db.errors import ConfigurationError, KrakenDBError, NotificationError
from kraken_db.kraken.transport import network_failure, open_session
from kraken_db.problems import Problem
from kraken_db.times import Clock, duration_text, utc_now
from kraken_db.web_addresses import server_parts

EVERY = 10.0
"""Seconds between two looks of ``Alarms.watch``."""
CALM = 30.0
"""Seconds that ``Alarms.watch`` does not see a problem before it is over: a recording that begins again knows
nothing at first, and what comes and goes is reported once."""
_AFTER_FAILURE = 60.0
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_IS_AWAY_AFTER = 900.0
"""Seconds: a source that has not looked for so long has ended, and what it has reported counts no more."""

_MOST_LINES = 10
_MOST_CHANGES = 100
_LONGEST = 1_800
"""Letters of the text: Discord takes 2,000."""
_LONGEST_LINE = 300
# What chat services take for a mention of somebody, or a link: texts of others must not ring all bells.
_HARMLESS = str.maketrans({"<": "‹", ">": "›", "@": "@\u200b"})
_BAD_REQUEST = 400

_VARIABLE = "KRAKEN_DB_NOTIFY_URL"
_HINT = f"check the address in --notify or {_VARIABLE}"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """``since`` and ``until``: when it began and was over, UTC; None while it lasts."""

    key: str
    state: Literal["wrong", "over"]
    text: str
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """What was last reported of a problem that goes on."""

    text: str
    size: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that takes JSON by POST, of a chat (Slack, Mattermost, Rocket.Chat, Discord) or yours.

    Whoever knows the address may write there, so only its host is ever shown.
    """

    url: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ConfigurationError for what is no http(s) address."""
        if server_parts(url) is None or any(c.isspace() or not c.isprintable() for c in url):
            raise ConfigurationError(
                "that is no address of a webhook", hint="it begins with https:// (or http://)"
            )
        return cls(url)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    async def post(self, message: Mapping[str, Any]) -> None:
        """Raises NotificationError where it was not taken."""
        what = f"the alarm for {self.host}"
        try:
            async with open_session() as session:
                # Some services take no field that they do not know.
                for body in (message, {"text": message["text"]}):
                    status = await self._send(session, body)
                    if status != _BAD_REQUEST:
                        break
        except (aiohttp.ClientError, OSError) as error:  # time-outs too
            failure = network_failure(error, what, _VARIABLE)
            raise NotificationError(failure.message, hint=failure.hint) from None  # it may show the address
        if not 200 <= status < 300:
            raise NotificationError(f"{what} was not taken: HTTP {status}", hint=_HINT)

    async def _send(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> int:
        async with session.post(self.url, json=body, timeout=_TIMEOUT, allow_redirects=False) as response:
            return response.status


class Alarms:
    """Compares what is wrong with what was reported, and tells the difference.

    ``source`` says who looks (``record BTC/USD``): each has a memory of its own, and where several look at
    the same database, what one of them has reported the others do not tell again.
    """

    def __init__(
        self,
        webhook: Webhook,
        db_url: str,
        source: str,
        *,
        folder: Path | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._webhook = webhook
        self._source = source
        self._clock = clock
        self._memory = Memory.of(webhook, db_url, source, folder)
        self._reported: dict[str, Reported] | None = None
        self._seen: dict[str, datetime] = {}
        """What lasts, and since when: for those that are reported only after a while."""
        self._gone: dict[str, datetime] = {}
        """What was reported and is not there any more, and since when."""

    async def check(
        self, problems: Sequence[Problem], *, is_all: bool = True, calm: float = 0.0
    ) -> Sequence[Change]:
        """Tell what has changed; returns that.

        ``is_all``: what is not among ``problems`` is over, if it has been away for ``calm`` seconds.

        Raises NotificationError; then the next check tells it. What two sources see is reported by the first.
        """
        with self._memory.held() as is_free:
            if not is_free:
                return ()  # another process with the same source is at it
            reported = self._memory.load() if self._reported is None else dict(self._reported)
            now = self._clock()
            changes = [*self._begun(problems, reported, now)]
            if is_all:
                changes += self._over(reported, now, calm)
            others = self._memory.of_others() if changes else set()
            news = [change for change in changes if change.key not in others]
            if news:
                left = self._after(changes, problems, reported)
                is_well = is_all and not problems and not left
                await self._webhook.post(message_of(news, self._source, now, is_well=is_well))
            self._reported = self._after(changes, problems, reported)
            self._memory.save(self._reported)
        return news

    async def watch(
        self,
        look: Callable[[], Awaitable[Sequence[Problem]]],
        every: float = EVERY,
        calm: float = CALM,
    ) -> None:
        """Check again and again what ``look`` finds; never ends by itself. What fails is logged."""
        while True:
            pause = every
            try:
                await self.check(await look(), calm=calm)
            except KrakenDBError as error:
                pause = max(every, _AFTER_FAILURE)
                _log.warning("an alarm could not be sent, it is tried again in %.0f s: %s", pause, error)
            await asyncio.sleep(pause)

    def _begun(
        self, problems: Sequence[Problem], reported: Mapping[str, Reported], now: datetime
    ) -> Iterator[Change]:
        """What is to be reported now; also notes what is there and what is not."""
        self._seen = {problem.key: self._seen.get(problem.key, now) for problem in problems}
        for problem in problems:
            since = self._seen[problem.key]
            before = reported.get(problem.key)
            if before is not None:
                if problem.size > before.size:
                    yield Change(problem.key, "wrong", problem.text, before.since)
            elif (now - since).total_seconds() >= problem.patience:
                yield Change(problem.key, "wrong", problem.text, problem.since or since)

    def _over(self, reported: Mapping[str, Reported], now: datetime, calm: float) -> Iterator[Change]:
        self._gone = {key: self._gone.get(key, now) for key in reported if key not in self._seen}
        for key, until in self._gone.items():
            if (now - until).total_seconds() >= calm:
                yield Change(key, "over", reported[key].text, reported[key].since, until)

    @staticmethod
    def _after(
        changes: Sequence[Change], problems: Sequence[Problem], reported: Mapping[str, Reported]
    ) -> dict[str, Reported]:
        """What is known to be reported when these changes are."""
        since = {key: one.since for key, one in reported.items()}
        for change in changes:
            if change.state == "over":
                del since[change.key]
            else:
                since[change.key] = change.since
        now = {problem.key: problem for problem in problems}
        return {
            key: Reported(now[key].text, now[key].size, begun) if key in now else reported[key]
            for key, begun in since.items()
        }


@dataclass(frozen=True, slots=True)
class Memory:
    """What one source has reported, in a file that nobody else may read."""

    path: Path

    @classmethod
    def of(cls, webhook: Webhook, db_url: str, source: str, folder: Path | None) -> Self:
        """Makes the folder. Raises ConfigurationError where that cannot be."""
        base = folder or state_folder("alarms")
        place = base / f"{_digest(webhook.url)}-{fingerprint(db_url)}"
        for path in (base, place):
            make_private(path, "directory of alarms", hint="set XDG_STATE_HOME to a directory of your own")
        return cls(place / f"{_digest(source)}.json")

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Gives False where another process has it."""
        fd = open_private(self.path.with_suffix(".lock"))
        try:
            yield try_lock(fd, exclusive=True)
        finally:
            os.close(fd)

    def load(self) -> dict[str, Reported]:
        """Nothing where there is no file, or one that cannot be read: what lasts is reported again then."""
        return _read(self.path)

    def save(self, reported: Mapping[str, Reported]) -> None:
        """Where that fails the process itself still knows it."""
        draft = self.path.with_suffix(".part")
        try:
            os.close(open_private(draft))  # private whatever the umask is, and no link
            draft.write_text(
                json.dumps({key: asdict(one) for key, one in reported.items()}, default=datetime.isoformat)
            )
            draft.replace(self.path)
        except OSError as error:
            _log.warning(
                "what was reported is not noted, and may be reported again: %s", error.strerror or error
            )

    def of_others(self) -> set[str]:
        """The keys that other sources have reported, and that go on."""
        fresh = time.time() - _IS_AWAY_AFTER
        keys: set[str] = set()
        for path in self.path.parent.glob("*.json"):
            with suppress(OSError):
                if path != self.path and path.stat().st_mtime >= fresh:
                    keys |= _read(path).keys()
        return keys


def _read(path: Path) -> dict[str, Reported]:
    try:
        found = json.loads(path.read_bytes())
        return {
            str(key): Reported(str(one["text"]), int(one["size"]), datetime.fromisoformat(one["since"]))
            for key, one in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def message_of(
    changes: Sequence[Change],
    source: str,
    now: datetime,
    *,
    is_test: bool = False,
    is_well: bool = False,
) -> dict[str, Any]:
    """What is posted: a text for chats, under the names that they know, and the same for programs.

    ``is_well``: nothing is wrong any more, which the first line says.
    """
    said = ": all is well again" if is_well else ""
    if is_test:
        said = ": this is a test" + ("; nothing is wrong" if is_well else "")
    text = _text(changes, source, said).translate(_HARMLESS)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    return {
        "text": text,
        "content": text,
        "host": socket.gethostname(),
        "source": f"kraken-db {source}",
        "time": _stamp(now),
        "is_test": is_test,
        "is_well": is_well,
        "changes": [
            {
                "key": one.key,
                "state": one.state,
                "text": one.text,
                "since": _stamp(one.since),
                "until": one.until and _stamp(one.until),
            }
            for one in changes[:_MOST_CHANGES]
        ],
        "more_changes": max(0, len(changes) - _MOST_CHANGES),
    }


def _text(changes: Sequence[Change], source: str, said: str) -> str:
    lines = [f"kraken-db {source} on {socket.gethostname()}{said}"]
    for change in changes[:_MOST_LINES]:
        line = " ".join(change.text.split())
        if change.until is not None:
            line = f"over, after {duration_text(change.until - change.since)}. It was: {line}"
        lines.append(f"- {line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + ' ...'}")
    if hidden := changes[_MOST_LINES:]:
        over = sum(change.until is not None for change in hidden)
        which = "" if not over else ", all over" if over == len(hidden) else f", {over:,} of them over"
        lines.append(f"- and {len(hidden):,} more{which}")
    return "\n".join(lines)


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
