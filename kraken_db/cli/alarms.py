"""What the commands with ``--notify`` share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kraken_db.cli.base import sentence
from kraken_db.cli.output import note, plural, print_json
from kraken_db.errors import KrakenDBError
from kraken_db.problems import Problem

if TYPE_CHECKING:
    from kraken_db.alarms import Webhook


def alarm_source(
    command: str, symbols: Sequence[str] | None, exclude: Sequence[str], *, stored: bool = False
) -> str:
    """``record BTC/USD --stored``: who looks, the same whenever the same command runs again."""
    words = [command, *sorted(symbols or ()), *(["--stored"] if stored else [])]
    return " ".join([*words, *(f"--exclude {name}" for name in sorted(exclude))])


async def test_alarm(webhook: Webhook | None, source: str, problems: Sequence[Problem]) -> None:
    """Print the message for these problems; post it as a test if there is a webhook. Nothing is remembered.

    Raises NotificationError.
    """
    from kraken_db.alarms import Change, message_of
    from kraken_db.times import utc_now

    now = utc_now()
    changes = [Change(problem.key, "wrong", problem.text, now) for problem in problems]
    message = message_of(changes, source, now, is_test=True, is_well=not changes)
    print_json(message)
    if webhook is None:
        note("--notify URL would post this; nothing was posted")
        return
    await webhook.post(message)
    note(f"posted to {webhook.host}, and taken there")


async def tell(
    webhook: Webhook, db_url: str, source: str, problems: Sequence[Problem], *, is_all: bool = True
) -> None:
    """Post what has changed since the last time. Raises NotificationError and ConfigurationError."""
    from kraken_db.alarms import Alarms

    changes = await Alarms(webhook, db_url, source).check(problems, is_all=is_all)
    if changes:
        note(f"{plural(len(changes), 'change')} posted to {webhook.host}")


@contextmanager
def telling_failures(webhook: Webhook | None, db_url: str, source: str, *, is_test: bool) -> Iterator[None]:
    """A status that cannot be read is told, too; of everything else nothing is known then."""
    try:
        yield
    except KrakenDBError as error:
        if webhook is not None and not is_test:
            unreadable = Problem("database", f"the database cannot be read: {sentence(error)}")
            try:
                asyncio.run(tell(webhook, db_url, source, [unreadable], is_all=False))
            except KrakenDBError as failure:
                note(sentence(failure))
        raise
