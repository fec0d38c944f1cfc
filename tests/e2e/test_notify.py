"""``--notify``: what a webhook gets from ``status --check`` and from a recording, run by run."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kraken_db.simulator import Market, Scenario, SimulatedExchange, feed_url
from tests.support.archives import query
from tests.support.processes import Ended, ended, running
from tests.support.shell import forked
from tests.support.webhooks import SECRET, webhook

ROW = (
    "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp, total_records)"
    " VALUES ('BTC/USD', 'trades', '2026-01-01', '2026-01-02', 1)"
)
NEVER = ("status", "--check", "--max-lag", "never")


async def kraken_db(home: Path, *arguments: str, **variables: str) -> Ended:
    environment = {"XDG_STATE_HOME": str(home), **variables}
    async with running(*forked(), *arguments, environment=environment) as process:
        return await ended(process)


async def test_a_check_that_runs_again_and_again(plain_url: str, tmp_path: Path) -> None:
    async with webhook() as hook:
        check = (*NEVER, "--db-url", plain_url, "--notify", "env:HOOK")
        empty = [await kraken_db(tmp_path, *check, HOOK=hook.url) for _ in range(2)]
        assert [one.code for one in empty] == [1, 1]
        assert empty[0].err == ("1 change posted to 127.0.0.1\nError: check failed: nothing is stored\n")
        assert empty[1].err == "Error: check failed: nothing is stored\n"
        assert hook.texts == ["- nothing is stored"]
        await query(plain_url, ROW)
        good = [await kraken_db(tmp_path, *check, HOOK=hook.url) for _ in range(2)]
        assert [one.code for one in good] == [0, 0]
        (text,) = hook.texts
        assert text.startswith("- over, after ")
        assert text.endswith(" s. It was: nothing is stored")


async def test_a_database_that_does_not_answer_is_told_once(plain_url: str, tmp_path: Path) -> None:
    async with webhook() as hook:
        check = (*NEVER, "--notify", hook.url)
        nowhere = "postgresql://me:hunter2@127.0.0.1:9/kraken"
        for _ in range(2):
            done = await kraken_db(tmp_path, *check, DATABASE_URL=nowhere)
            assert done.code == 1
        (text,) = hook.texts
        assert text.startswith("- the database cannot be read: ")
        assert "hunter2" not in text


async def test_an_alarm_that_is_not_taken_is_a_failure(plain_url: str, tmp_path: Path) -> None:
    await query(plain_url, ROW)
    async with webhook() as hook:
        check = (*NEVER, "--db-url", plain_url, "--symbols", "BTC/USD", "ETH/USD", "--notify", hook.url)
        hook.statuses = [404]
        done = await kraken_db(tmp_path, *check)
        assert done.code == 1
        assert "the alarm for 127.0.0.1 was not taken: HTTP 404" in done.err
        assert SECRET not in done.err + done.out
        await kraken_db(tmp_path, *check)
        assert hook.texts == ["- nothing is stored of ETH/USD"]


async def test_a_dry_run(plain_url: str, tmp_path: Path) -> None:
    """It shows the message, posts it as a test where an address is given, and remembers nothing."""
    async with webhook() as hook:
        check = (*NEVER, "--db-url", plain_url, "--notify-test")
        shown = await kraken_db(tmp_path, *check)
        assert shown.code == 0
        message = json.loads(shown.out)
        assert message["is_test"] is True
        assert message["text"].splitlines()[1:] == ["- nothing is stored"]
        assert "nothing was posted" in shown.err
        for command in (check, ("record", "--symbols", "BTC/USD", "--notify-test")):
            done = await kraken_db(tmp_path, *command, "--notify", hook.url)
            assert done.code == 0
            assert done.err == "posted to 127.0.0.1, and taken there\n"
            (body,) = hook.received
            assert body == json.loads(done.out)
            assert "this is a test" in body["text"]
            hook.received.clear()
        hook.statuses = [403]
        refused = await kraken_db(tmp_path, *check, "--notify", hook.url)
        assert refused.code == 1
        assert "was not taken: HTTP 403" in refused.err
        await kraken_db(tmp_path, *NEVER, "--db-url", plain_url, "--notify", hook.url)
        assert hook.texts == ["- nothing is stored"], "the test was none"


WRONG: Sequence[tuple[Sequence[str], str]] = [
    (("status", "--notify", "https://h/x"), "--notify and --notify-test need --check"),
    (("status", "--notify-test"), "need --check"),
    ((*NEVER, "--notify", "hooks.example/x"), "that is no address of a webhook"),
    ((*NEVER, "--notify", ""), "that is no address of a webhook"),
    ((*NEVER, "--notify", "env:NO_SUCH"), "the environment has no variable NO_SUCH"),
    (("record", "--notify", "ftp://h/s3cret"), "that is no address of a webhook"),
]


async def test_wrong_usage(tmp_path: Path) -> None:
    for arguments, told in WRONG:
        done = await kraken_db(tmp_path, *arguments)
        assert done.code == 2, arguments
        assert told in done.err
        assert "s3cret" not in done.err
        assert done.err.count("\n") == 1


async def test_a_recording_tells_a_pair_that_is_refused_and_its_failure(
    plain_url: str, tmp_path: Path
) -> None:
    start = datetime.now(UTC) - timedelta(seconds=30)
    market = Market("BTC/USD", seed=2, start=start, trades_per_minute=600, scenario=Scenario.CALM)
    async with webhook() as hook, SimulatedExchange([market]).serve() as base_url:
        addresses = {"KRAKEN_BASE_URL": base_url, "KRAKEN_WS_URL": feed_url(base_url)}
        environment = {"XDG_STATE_HOME": str(tmp_path), "HOOK": hook.url, **addresses}
        arguments = ("record", "--db-url", plain_url, "--notify", "env:HOOK", "--rate-limit", "0")
        several = (*arguments, "--symbols", "BTC/USD", "NOPE/USD", "--every", "0.5")
        for _ in range(2):
            async with running(*forked(), *several, environment=environment) as process:
                assert process.stdout is not None
                async with asyncio.timeout(60):
                    while b"(1 live)" not in await process.stdout.readline() or not hook.received:
                        pass
                await asyncio.sleep(1)  # some looks at what has been told
                process.send_signal(signal.SIGINT)
                assert (await ended(process)).code == 1
        (text,) = hook.texts
        assert text.startswith("- NOPE/USD is not recorded: ")
        async with running(*forked(), *arguments, "--symbols", "NOPE/USD", environment=environment) as alone:
            assert (await ended(alone)).code == 1
        assert "- the recording has ended: " in "\n".join(hook.texts)


async def test_a_recording_that_cannot_begin_is_told(
    plain_url: str, plain_empty_url: str, tmp_path: Path
) -> None:
    """Missing tables end it at once; a database that is away is waited for. Both are told, once."""
    arguments = ("record", "BTC/USD", "--journal-dir", str(tmp_path / "journal"), "--notify", "env:HOOK")
    async with webhook() as hook, SimulatedExchange([Market("BTC/USD")]).serve() as base_url:
        addresses = {"KRAKEN_BASE_URL": base_url, "KRAKEN_WS_URL": feed_url(base_url), "HOOK": hook.url}
        for _ in range(2):
            done = await kraken_db(tmp_path, *arguments, DATABASE_URL=plain_empty_url, **addresses)
            assert done.code == 1
        (text,) = hook.texts
        assert text.startswith("- the recording has ended: ")
        assert "kraken-db db upgrade" in text
        nowhere = {"DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:9/kraken", **addresses}
        environment = {"XDG_STATE_HOME": str(tmp_path), **nowhere}
        async with running(*forked(), *arguments, "--every", "0.5", environment=environment) as process:
            assert process.stderr is not None
            async with asyncio.timeout(60):
                said = (await process.stderr.readline()).decode()
            process.send_signal(signal.SIGTERM)
            done = await ended(process)
        assert done.code == 0, "it was stopped while it waited"
        assert "the recording waits for the database" in said
        assert "hunter2" not in said + done.err
