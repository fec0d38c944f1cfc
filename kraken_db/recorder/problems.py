"""What of a recording somebody has to look after, and how long each may last before it is told."""

from __future__ import annotations

from collections.abc import Iterator

from kraken_db.problems import Problem
from kraken_db.recorder.beginning import Wait
from kraken_db.recorder.status import PairStatus, RecorderStatus

FEED_MAY_BE_AWAY = 30.0
DATABASE_MAY_BE_AWAY = 30.0
"""Seconds: a restart of either passes by itself, and nothing is lost."""
HOLE_MAY_LAST = 60.0
"""Seconds: most are filled by the next answer of REST."""
_JOURNAL_MAY_BE_USED = 10.0


def database_problem(why: str) -> Problem:
    """The database does not answer, or not as it should."""
    return Problem("database", f"the database cannot be used: {why}", patience=DATABASE_MAY_BE_AWAY)


def waiting_problem(wait: Wait) -> Problem:
    """The recording has not begun: what it waits for is away."""
    if wait.is_for_database:
        return database_problem(wait.reason)
    text = f"no live feed since {wait.since:%H:%M:%S} UTC: the recording waits for Kraken: {wait.reason}"
    return Problem("feed", text, patience=FEED_MAY_BE_AWAY, since=wait.since)


def problems_of(status: RecorderStatus) -> list[Problem]:
    """No feed, Kraken not online, a journal in use, pairs that are refused or have a gap."""
    return [*_feed(status), *_journal(status), *(one for pair in status.pairs for one in _pair(pair))]


def _feed(status: RecorderStatus) -> Iterator[Problem]:
    if status.outage is not None:
        since, reason = status.outage
        text = f"no live feed since {since:%H:%M:%S} UTC: {reason}"
        yield Problem("feed", text, patience=FEED_MAY_BE_AWAY, since=since)
    if status.system not in (None, "online"):
        yield Problem("kraken", f"Kraken says that it is in the state {status.system!r}")


def _journal(status: RecorderStatus) -> Iterator[Problem]:
    if status.journal:
        yield Problem(
            "journal",
            "the journal is in use: the database does not take what comes, it is kept on disk",
            patience=_JOURNAL_MAY_BE_USED,
        )


def _pair(pair: PairStatus) -> Iterator[Problem]:
    match pair.state:
        case "refused":
            yield Problem(f"pair {pair.symbol}", f"{pair.symbol} is not recorded: {pair.error}")
        case "catching up" if pair.error or pair.holes:
            why = f": {pair.error}" if pair.error else ""
            todo = f"The recording goes on asking; if this lasts: kraken-db gaps fill {pair.symbol}"
            yield Problem(
                f"gap {pair.symbol}",
                f"{pair.symbol}: trades{_missing_time(pair)} are missing{why}. {todo}",
                patience=HOLE_MAY_LAST,
            )


def _missing_time(pair: PairStatus) -> str:
    """`` from 2026-11-28 02:10:05 to 02:11:00 UTC``; as much of it as is known."""
    if pair.last_time is None:
        return ""
    start, end = f"{pair.last_time:%Y-%m-%d %H:%M:%S}", pair.waiting_from
    if end is None:
        return f" since {start} UTC"
    date = "" if end.date() == pair.last_time.date() else f"{end:%Y-%m-%d} "
    return f" from {start} to {date}{end:%H:%M:%S} UTC"
