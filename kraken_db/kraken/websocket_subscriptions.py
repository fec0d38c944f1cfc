"""What a client wants to receive, and how far it is with each of it; no socket in here.

A subscription that says nothing for long may be quiet or may have been forgotten by the other side: nothing
on the connection tells. So it is given up and asked for anew: the snapshot shows what there is. Where there
was nothing new, the next such look comes after twice the time. All looks together cost a frame a second at
most, whatever the number of subscriptions: with 50 symbols in a frame and two frames for a look, all of 1,635
pairs have their turn within 66 seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from kraken_db.errors import ExchangeError, ExchangeThrottledError, UnknownPairError
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
from kraken_db.kraken.websocket_pace import RequestLimits, RequestPace

MOST_SYMBOLS = 50
"""In one request."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Seconds after which something is done about silence."""

    answer_within: float = 10.0
    """A subscription that is neither accepted nor refused by then is asked for again."""
    snapshot_within: float = 10.0
    """An accepted subscription whose snapshot has not come by then stands on a dead connection."""
    blame_again_after: float = 300.0
    """A connection is given up for a missing snapshot no more often than that; else it is asked again."""
    quiet_after: float = 60.0
    """A subscription without a word is looked after; after twice as long the next time, and so on."""
    quiet_at_most: float = 900.0
    looks_apart: float = 2.0
    """Between two looks after quiet subscriptions; each costs two frames."""
    refused_again_after: float = 2.0
    """A refusal that may pass is followed by another try; after twice as long the next time, and so on."""
    refused_at_most: float = 30.0
    throttled_again_after: float = 1.0
    """So is one for too many frames."""
    ping_after: float = 5.0
    """A connection without any frame is pinged, and one on which we said nothing for four times as long."""
    dead_after: float = 8.0
    """A connection without any frame is given up, and answers to our pings are none."""


@dataclass(slots=True)
class _Wanted:
    topic: Topic
    snapshot: bool
    is_active: bool = False
    is_leaving: bool = False
    asked_at: float | None = None
    """None: not on this connection, or it was refused."""
    req_id: int | None = None
    heard_at: float = 0.0
    again_at: float | None = 0.0
    """When to ask; None: never again."""
    quiet_limit: float = 0.0
    last_id: int = 0
    has_data: bool = False
    """Whether there is something that a snapshot must bring."""
    data_at: float = 0.0
    snapshot_due: float | None = None
    snapshots_missed: int = 0
    """In a row."""
    refusals: int = 0
    """In a row."""

    @property
    def kind(self) -> tuple[str, int, bool]:
        """What can be asked for in one frame."""
        return self.topic.channel, self.topic.interval_minutes, self.snapshot

    def is_quiet(self, now: float) -> bool:
        lacks_snapshot = self.snapshot_due is not None and self.snapshot_due <= now
        return self.is_active and (lacks_snapshot or now - self.heard_at >= self.quiet_limit)


_MOST_DOUBLINGS = 6


@dataclass(slots=True)
class SubscriptionBook:
    """All topics of one client, over all of its connections."""

    watch: Watch
    pace: RequestPace = field(default_factory=lambda: RequestPace(RequestLimits()))
    _wanted: dict[Topic, _Wanted] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _next_look: float = 0.0
    _blamed_at: float | None = None

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
        for part in _parts(wanted for wanted in known if wanted.asked_at is not None):
            yield self._frame("unsubscribe", part)

    @property
    def is_empty(self) -> bool:
        return not self._wanted

    @property
    def expects_more(self) -> bool:
        """Whether something is subscribed to, or asked for: then Kraken says something every second."""
        return any(wanted.is_active or wanted.asked_at is not None for wanted in self._wanted.values())

    def forget(self) -> None:
        """There is nothing to receive any more, and nobody is told."""
        self._wanted.clear()

    def disconnected(self) -> None:
        """Nothing is subscribed to any more. What was refused for good stays so."""
        for wanted in list(self._wanted.values()):
            if wanted.is_leaving:
                del self._wanted[wanted.topic]
            wanted.is_active, wanted.asked_at, wanted.snapshot_due = False, None, None
            wanted.again_at = None if wanted.again_at is None else 0.0

    def due(self, now: float, *, may_look: bool = True) -> tuple[list[str], list[Event]]:
        """The frames to send now, as many as the pace allows, and what there is to say about it.

        ``may_look``: whether quiet subscriptions may be looked after, too.
        """
        events: list[Event] = []
        frames: list[str] = []
        due = self._to_ask(now)
        if may_look and not due and now >= self._next_look:
            quiet = self._quiet(now)
            if quiet and self.pace.take(now):
                self._next_look = now + self.watch.looks_apart
                frames.append(self._frame("unsubscribe", quiet))
                events += [self._look_after(wanted, now) for wanted in quiet]
                due = self._to_ask(now)
        for part in _parts(due):
            if not self.pace.take(now):
                break
            frames.append(self._frame("subscribe", part))
            for wanted in part:
                wanted.asked_at, wanted.again_at = now, now + self.watch.answer_within
        return frames, events

    def _to_ask(self, now: float) -> list[_Wanted]:
        return [
            wanted
            for wanted in self._wanted.values()
            if not (wanted.is_active or wanted.is_leaving)
            and wanted.again_at is not None
            and wanted.again_at <= now
        ]

    def _quiet(self, now: float) -> list[_Wanted]:
        """Those that are looked after together: the ones that have been quiet for longest."""
        quiet = [one for one in self._wanted.values() if not one.is_leaving and one.is_quiet(now)]
        quiet.sort(key=lambda wanted: wanted.heard_at)
        return next(iter(_parts(quiet)), [])

    def _look_after(self, wanted: _Wanted, now: float) -> Quiet:
        wanted.quiet_limit = min(2 * wanted.quiet_limit, self.watch.quiet_at_most)
        if wanted.snapshot_due is not None:
            wanted.snapshots_missed += 1
        wanted.is_active, wanted.again_at, wanted.snapshot_due = False, now, None
        return Quiet(wanted.topic, now - wanted.heard_at)

    def missing_snapshot(self, now: float) -> Topic | None:
        """A topic that was accepted and whose snapshot does not come: the connection is to be given up.

        None where that has just been done for this reason, and did not help: the topic is asked for again.
        """
        if self._blamed_at is not None and now - self._blamed_at < self.watch.blame_again_after:
            return None
        for wanted in self._wanted.values():
            if wanted.is_active and wanted.snapshot_due is not None and wanted.snapshot_due <= now:
                self._blamed_at = now
                return wanted.topic
        return None

    def heard(self, topic: Topic, now: float, *, newest_id: int, is_snapshot: bool) -> None:
        """Something came for a topic; ``newest_id`` 0 where there are none."""
        wanted = self._wanted.get(topic)
        if wanted is None:
            return
        wanted.heard_at = wanted.data_at = now
        wanted.has_data, wanted.snapshot_due, wanted.snapshots_missed = True, None, 0
        if not is_snapshot or newest_id > wanted.last_id:
            wanted.quiet_limit = self.watch.quiet_after
        wanted.last_id = max(wanted.last_id, newest_id)

    def answered(self, answer: Answer, now: float) -> list[Event]:
        """What Kraken's answer to a request means."""
        if isinstance(answer.error, ExchangeThrottledError):
            return self._throttled(answer, answer.error, now)
        if answer.method == "unsubscribe":
            return self._left(answer)
        if answer.error is not None:
            return self._refused(answer, answer.error, now)
        if answer.is_known:
            return [self._accept(wanted, now) for wanted in self._meant(answer)]
        wanted = self._wanted.get(answer.topic) if answer.topic else None
        if wanted is None:
            return []
        has_come = wanted.asked_at is not None and wanted.data_at >= wanted.asked_at
        if wanted.snapshot and wanted.has_data and not has_come:
            within = self.watch.snapshot_within * 2 ** min(wanted.snapshots_missed, _MOST_DOUBLINGS)
            wanted.snapshot_due = now + within
        return [self._accept(wanted, now)]

    def _accept(self, wanted: _Wanted, now: float) -> Subscribed:
        wanted.is_active, wanted.heard_at, wanted.refusals = True, now, 0
        return Subscribed(wanted.topic)

    def _throttled(self, answer: Answer, error: ExchangeError, now: float) -> list[Event]:
        """Frames were too many: be slower, and ask again for what was in the one that was refused.

        Where Kraken does not say which one that was, for all that it has not answered a moment later.
        """
        self.pace.slow_down(now)
        again = self.watch.throttled_again_after
        for wanted in self._unanswered():
            if answer.req_id in (None, wanted.req_id):
                assert wanted.again_at is not None
                wanted.again_at = min(wanted.again_at, now + again)
        return [Refused(None, error, again)]

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
        events: list[Event] = []
        for wanted in self._meant(answer):
            again = None if is_final else self._pause(wanted)
            wanted.is_active, wanted.asked_at = False, None
            wanted.refusals += 1
            wanted.again_at = None if again is None else now + again
            events.append(Refused(wanted.topic, error, again))
        return events or [Refused(None, error, None)]

    def _pause(self, wanted: _Wanted) -> float:
        """Seconds until a topic that has just been refused is asked for again."""
        doubled: float = self.watch.refused_again_after * 2 ** min(wanted.refusals, _MOST_DOUBLINGS)
        return min(doubled, self.watch.refused_at_most)

    def _unanswered(self) -> list[_Wanted]:
        return [
            wanted
            for wanted in self._wanted.values()
            if wanted.asked_at is not None and not wanted.is_active and wanted.again_at is not None
        ]

    def _meant(self, answer: Answer) -> list[_Wanted]:
        """The subscriptions that an answer is about: Kraken names a symbol, or only answers a request."""
        waiting = self._unanswered()
        if answer.req_id is not None:
            waiting = [wanted for wanted in waiting if wanted.req_id == answer.req_id]
        elif answer.symbol is None:
            return []
        return [wanted for wanted in waiting if answer.symbol in (None, wanted.topic.symbol)]

    def _frame(self, method: Literal["subscribe", "unsubscribe"], wanted: list[_Wanted]) -> str:
        number = self.next_number()
        if method == "subscribe":
            for one in wanted:
                one.req_id = number
        topics = [one.topic for one in wanted]
        return subscription_request(method, topics, number, snapshot=wanted[0].snapshot)


def _parts(wanted: Iterable[_Wanted]) -> Iterator[list[_Wanted]]:
    """What fits into one frame each."""
    groups: dict[tuple[str, int, bool], list[_Wanted]] = {}
    for one in wanted:
        groups.setdefault(one.kind, []).append(one)
    for members in groups.values():
        for at in range(0, len(members), MOST_SYMBOLS):
            yield members[at : at + MOST_SYMBOLS]
