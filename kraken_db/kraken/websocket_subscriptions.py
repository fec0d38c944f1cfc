"""What a client wants to receive, and how far it is with each of it; no socket in here.

A subscription that says nothing for long may be quiet or may have been forgotten by the other side: nothing
on the connection tells. So it is given up and asked for anew: the snapshot shows what there is. Where there
was nothing new, the next such look comes after twice the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from kraken_db.errors import ExchangeError, UnknownPairError
from kraken_db.kraken.websocket_messages import (
    Answer,
    Event,
    Quiet,
    Refused,
    Subscribed,
    Topic,
    Unsubscribed,
    subscription_request,
)

MOST_SYMBOLS = 50
"""In one request."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Seconds after which something is done about silence."""

    answer_within: float = 10.0
    """A subscription that is neither accepted nor refused by then is asked for again."""
    quiet_after: float = 60.0
    """A subscription without a word is looked after; after twice as long the next time, and so on."""
    quiet_at_most: float = 900.0
    refused_again_after: float = 30.0
    """A refusal that may pass is followed by another try."""
    ping_after: float = 5.0
    """A connection without any frame is pinged, and one on which we said nothing for four times as long."""
    dead_after: float = 10.0
    """A connection without any frame is given up."""


@dataclass(slots=True)
class _Wanted:
    topic: Topic
    snapshot: bool
    is_active: bool = False
    is_leaving: bool = False
    asked_at: float | None = None
    req_id: int | None = None
    heard_at: float = 0.0
    again_at: float | None = 0.0
    """When to ask; None: never again."""
    quiet_limit: float = 0.0
    last_id: int = 0


@dataclass(slots=True)
class SubscriptionBook:
    """All topics of one client, over all of its connections."""

    watch: Watch
    _wanted: dict[Topic, _Wanted] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def topics(self) -> list[Topic]:
        return [wanted.topic for wanted in self._wanted.values() if not wanted.is_leaving]

    def next_number(self) -> int:
        """For ``req_id``."""
        return next(self._numbers)

    def add(self, topic: Topic, *, snapshot: bool) -> None:
        self._wanted[topic] = _Wanted(topic, snapshot, quiet_limit=self.watch.quiet_after)

    def leave(self, topics: list[Topic]) -> Iterator[str]:
        """The frames that end these subscriptions; those that were never asked for are just forgotten."""
        known = [self._wanted[topic] for topic in topics if topic in self._wanted]
        for wanted in known:
            wanted.is_leaving = True
            if wanted.asked_at is None:
                del self._wanted[wanted.topic]
        yield from self._frames("unsubscribe", [wanted for wanted in known if wanted.asked_at is not None])

    @property
    def is_empty(self) -> bool:
        return not self._wanted

    def disconnected(self) -> None:
        """Nothing is subscribed to any more. What was refused for good stays so."""
        for wanted in list(self._wanted.values()):
            if wanted.is_leaving:
                del self._wanted[wanted.topic]
            wanted.is_active, wanted.asked_at = False, None
            wanted.again_at = None if wanted.again_at is None else 0.0

    def due(self, now: float) -> tuple[list[str], list[Event]]:
        """The frames to send now, and what there is to say about it."""
        events: list[Event] = []
        frames: list[str] = []
        for wanted in self._wanted.values():
            if wanted.is_leaving:
                continue
            quiet = now - wanted.heard_at
            if wanted.is_active and quiet >= wanted.quiet_limit:
                events.append(Quiet(wanted.topic, quiet))
                frames += self._frames("unsubscribe", [wanted])
                wanted.quiet_limit = min(2 * wanted.quiet_limit, self.watch.quiet_at_most)
                wanted.is_active, wanted.again_at = False, now
        due = [
            wanted
            for wanted in self._wanted.values()
            if not (wanted.is_active or wanted.is_leaving)
            and wanted.again_at is not None
            and wanted.again_at <= now
        ]
        for wanted in due:
            wanted.asked_at, wanted.again_at = now, now + self.watch.answer_within
        return frames + list(self._frames("subscribe", due)), events

    def heard(self, topic: Topic, now: float, *, newest_id: int, is_snapshot: bool) -> None:
        """Something came for a topic; ``newest_id`` 0 where there are none."""
        wanted = self._wanted.get(topic)
        if wanted is None:
            return
        wanted.heard_at = now
        if not is_snapshot or newest_id > wanted.last_id:
            wanted.quiet_limit = self.watch.quiet_after
        wanted.last_id = max(wanted.last_id, newest_id)

    def answered(self, answer: Answer, now: float) -> list[Event]:
        """What Kraken's answer to a request means."""
        if answer.method == "unsubscribe":
            return self._left(answer)
        if answer.error is None:
            wanted = self._wanted.get(answer.topic) if answer.topic else None
            if wanted is None:
                return []
            wanted.is_active, wanted.heard_at = True, now
            return [Subscribed(wanted.topic)]
        return self._refused(answer, answer.error, now)

    def _left(self, answer: Answer) -> list[Event]:
        if answer.topic is not None:
            wanted = self._wanted.get(answer.topic)
            if wanted is None or not wanted.is_leaving:
                return []
            del self._wanted[wanted.topic]
            return [Unsubscribed(wanted.topic)]
        for wanted in [one for one in self._wanted.values() if one.is_leaving]:
            if answer.symbol in (None, wanted.topic.symbol):  # refused: then there is nothing to leave
                del self._wanted[wanted.topic]
        return []

    def _refused(self, answer: Answer, error: ExchangeError, now: float) -> list[Event]:
        is_final = isinstance(error, UnknownPairError)
        again = None if is_final else self.watch.refused_again_after
        events: list[Event] = []
        for wanted in self._meant(answer):
            wanted.is_active, wanted.again_at = False, None if again is None else now + again
            events.append(Refused(wanted.topic, error, again))
        return events or [Refused(None, error, None)]

    def _meant(self, answer: Answer) -> list[_Wanted]:
        """The subscriptions that a refusal is about: Kraken names a symbol, or only answers a request."""
        waiting = [
            wanted
            for wanted in self._wanted.values()
            if wanted.asked_at is not None and not wanted.is_active and wanted.again_at is not None
        ]
        if answer.req_id is not None:
            waiting = [wanted for wanted in waiting if wanted.req_id == answer.req_id]
        elif answer.symbol is None:
            return []
        return [wanted for wanted in waiting if answer.symbol in (None, wanted.topic.symbol)]

    def _frames(self, method: Literal["subscribe", "unsubscribe"], wanted: list[_Wanted]) -> Iterator[str]:
        groups: dict[tuple[str, int, bool], list[_Wanted]] = {}
        for one in wanted:
            key = (one.topic.channel, one.topic.interval_minutes, one.snapshot)
            groups.setdefault(key, []).append(one)
        for (_, _, snapshot), members in groups.items():
            for at in range(0, len(members), MOST_SYMBOLS):
                part = members[at : at + MOST_SYMBOLS]
                number = self.next_number()
                if method == "subscribe":
                    for one in part:
                        one.req_id = number
                topics = [one.topic for one in part]
                yield subscription_request(method, topics, number, snapshot=snapshot)
