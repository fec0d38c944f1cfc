"""Who works on the store: the words of jobs in the database, and what a status says of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from kraken_db.db.last_words import LastWord, leave
from kraken_db.heartbeat import Heartbeat, Word, pairs_done
from kraken_db.repositories.running_jobs import RunningJob, RunningJobRepository
from kraken_db.status import StoreStatus, read_status
from kraken_db.store import Store
from tests.support.archives import query
from tests.support.live_writing import Gateway
from tests.support.problems import problem_texts
from tests.support.shell import run
from tests.support.stores import opened

LATE = datetime(2030, 1, 5, tzinfo=UTC)  # a weekend and more behind everything
_KILL = "UPDATE running_jobs SET heard_at = heard_at - interval '46 seconds' WHERE ended_at IS NULL"
_ROW = (
    "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp, total_records)"
    " VALUES ('BTC/USD', 'trades', '2030-01-01', '2030-01-02', 1)"
)


async def jobs(store: Store) -> list[RunningJob]:
    async with store.database.read() as connection:
        return await RunningJobRepository(connection).all()


async def until(store: Store, holds: Callable[[list[RunningJob]], bool]) -> RunningJob:
    """The first job, as soon as this holds."""
    async with asyncio.timeout(10):
        while not holds(found := await jobs(store)):  # noqa: ASYNC110 - it is the database that changes
            await asyncio.sleep(0.02)
    return found[0]


async def status(store: Store, now: datetime = LATE) -> StoreStatus:
    async with store.database.read() as connection:
        return await read_status(connection, store.backend, now)


async def test_a_job_from_its_beginning_to_its_end(db_url: str) -> None:
    words = [Word("1 of 2 pairs live", ["ETH/USD"], "once"), Word("2 of 2 pairs live")]
    async with opened(db_url) as store:
        async with Heartbeat(store, "recording", ["BTC/USD", "ETH/USD"], lambda: words[0], every=0.05):
            found = await until(store, lambda found: found[0].state != "begins")
            assert (found.kind, found.symbols, found.behind) == (
                "recording",
                ["BTC/USD", "ETH/USD"],
                ["ETH/USD"],
            )
            assert (found.state, found.last_error, found.is_alive) == ("1 of 2 pairs live", "once", True)
            words.pop(0)
            found = await until(store, lambda found: not found[0].behind)
            assert found.last_error == "once"  # the last one stays
        (found,) = await jobs(store)
        assert found.ended_at is not None
        assert (found.is_alive, found.is_dead) == (False, False)


async def test_a_quiet_pair_that_is_recorded_is_not_behind_until_the_recording_dies(db_url: str) -> None:
    async with opened(db_url) as store:
        await query(db_url, _ROW)
        assert problem_texts(await status(store)) == [
            "BTC/USD trades is 3 days 0 h behind (allowed: 1 day)",
        ]
        async with Heartbeat(store, "recording", ["BTC/USD"], lambda: Word("live")):
            found = await status(store)
            assert problem_texts(found) == []
            assert found.data[0].watched_until == found.running[0].heard_at
            await query(db_url, _KILL)
            (killed,) = problem_texts(await status(store))  # it stands for its pairs
            assert killed.startswith("recording of BTC/USD on ")
            assert "was killed: its last word is of " in killed
            assert (
                problem_texts(await status(store), symbols=["ETH/USD"])[0] == "nothing is stored of ETH/USD"
            )
        # It went on after all, and has ended by itself: the lag counts again.
        assert problem_texts(await status(store)) == ["BTC/USD trades is 3 days 0 h behind (allowed: 1 day)"]


async def test_a_check_of_all_pairs_or_of_a_pattern_tells_a_recording_that_was_killed(db_url: str) -> None:
    async with opened(db_url) as store:
        await query(db_url, _ROW)
        async with Heartbeat(store, "recording", ["BTC/USD", "ETH/EUR"]):
            check = ("status", "--check", "--max-lag", "never")
            alive = await asyncio.to_thread(run, db_url, *check)
            assert alive.exit_code == 0, alive.output
            await query(db_url, _KILL)
            for chosen in ((), ("--symbols", "BTC/USD"), ("--symbols", "*/USD"), ("--exclude", "*/EUR")):
                checked = await asyncio.to_thread(run, db_url, *check, *chosen)
                assert checked.exit_code == 1, chosen
                assert "was killed: its last word is of " in checked.stderr


async def test_what_waits_for_a_refresh_is_not_left_while_somebody_is_at_work(db_url: str) -> None:
    """A clock that is two days ahead, or one that was: only a run that is gone has left something undone."""
    await query(db_url, _ROW)
    await query(
        db_url,
        "INSERT INTO pending_refresh (symbol, stale) VALUES ('BTC/USD', '[2030-01-01, 2030-01-02)')",
    )
    async with opened(db_url) as store:
        left = "of a killed run not in the higher intervals"
        assert [text for text in problem_texts(await status(store), None) if left in text]
        async with Heartbeat(store, "recording", ["BTC/USD"], lambda: Word("live")):
            assert problem_texts(await status(store), None) == []
            await query(db_url, _KILL)
            assert [text for text in problem_texts(await status(store), None) if left in text]


async def test_a_pair_that_is_not_live_is_behind(db_url: str) -> None:
    async with opened(db_url) as store:
        await query(db_url, _ROW)
        word = Word("0 of 1 pairs live", ["BTC/USD"])
        async with Heartbeat(store, "recording", ["BTC/USD"], lambda: word, every=0.02):
            await until(store, lambda found: bool(found[0].behind))
            found = await status(store)
            assert "behind" in problem_texts(found)[0]
            assert found.data[0].watched_until is None


async def test_who_begins_again_ends_the_killed_one(db_url: str) -> None:
    async with opened(db_url) as store:
        for symbols in (["BTC/USD"], ["ETH/USD", "XRP/USD"]):
            async with store.database.begin() as connection:
                heartbeat = Heartbeat(store, "recording", symbols)
                await RunningJobRepository(connection).begin(heartbeat.id, "recording", symbols, [], "a", 1)
        await query(db_url, _KILL)
        async with Heartbeat(store, "backfill", ["BTC/USD"]):  # other work of the same pair
            assert [job.is_dead for job in await jobs(store)] == [True, True, False]
        async with Heartbeat(store, "recording", ["ETH/USD", "BTC/USD"]):
            first, second, *_ = await jobs(store)
            # One of two pairs alone leaves the word that the other one is not recorded.
            assert (first.symbols, first.state, first.is_dead) == (["BTC/USD"], "killed", False)
            assert first.ended_at == first.heard_at
            assert (second.symbols, second.is_dead) == (["ETH/USD", "XRP/USD"], True)


async def test_a_recording_that_was_started_again_at_once_is_not_one_that_was_killed(db_url: str) -> None:
    """As systemd does it: the first one is not known to be dead when the second begins."""
    async with opened(db_url) as store:
        await query(db_url, _ROW)
        async with store.database.begin() as connection:
            first = Heartbeat(store, "recording", ["BTC/USD"])
            await RunningJobRepository(connection).begin(first.id, "recording", ["BTC/USD"], [], "a", 1)
        async with Heartbeat(store, "recording", ["BTC/USD", "ETH/USD"]):
            pass
        await query(db_url, _KILL)
        assert problem_texts(await status(store), None) == []
        killed, _ = await jobs(store)
        assert (killed.state, killed.ended_at) == ("killed", killed.heard_at)


@pytest.mark.parametrize("lost", ["DELETE FROM running_jobs", "TRUNCATE running_jobs"])
async def test_a_row_that_is_gone_comes_back(db_url: str, lost: str) -> None:
    async with opened(db_url) as store, Heartbeat(store, "import", ["BTC/USD"], every=0.02):
        await query(db_url, lost)
        assert (await until(store, bool)).symbols == ["BTC/USD"]


async def test_a_row_that_is_gone_at_the_end_stays_away(db_url: str) -> None:
    """Made anew it would have no end, and look like that of a job that was killed."""
    async with opened(db_url) as store:
        async with Heartbeat(store, "import", ["BTC/USD"]):
            await query(db_url, "DELETE FROM running_jobs")
        assert await jobs(store) == []


def test_what_it_says_of_pairs() -> None:
    assert pairs_done(["A/USD", "B/USD"], {"A/USD"}) == Word("1 of 2 pairs done", ["B/USD"])


async def test_news_are_told_at_once(db_url: str) -> None:
    word = Word("0 of 1 pairs done", ["BTC/USD"])
    async with opened(db_url) as store, Heartbeat(store, "backfill", ["BTC/USD"], lambda: word) as heartbeat:
        assert (await jobs(store))[0].behind == ["BTC/USD"]
        word = Word("1 of 1 pairs done")
        heartbeat.tell()
        await until(store, lambda found: not found[0].behind)


async def test_an_error_that_ends_the_job_stays_to_be_seen(db_url: str) -> None:
    async with opened(db_url) as store:
        with pytest.raises(ZeroDivisionError):
            async with Heartbeat(store, "maintenance", []):
                raise ZeroDivisionError
        (found,) = await jobs(store)
        assert (found.state, found.last_error) == ("failed", "ZeroDivisionError")
        assert found.ended_at is not None
        assert found.silence < timedelta(minutes=5)


async def test_news_at_the_very_end_do_not_keep_the_job_from_ending(db_url: str) -> None:
    async with asyncio.timeout(30), opened(db_url) as store:
        async with Heartbeat(store, "backfill", ["BTC/USD"]) as heartbeat:
            await asyncio.sleep(0.05)  # it waits for news or for its time
            heartbeat.tell()
        (found,) = await jobs(store)
        assert found.ended_at is not None


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "kraken-db" / "ended"


async def test_a_job_that_ends_while_its_database_is_away_was_not_killed(
    plain_url: str, state_home: Path
) -> None:
    """As where systemd stops both at once: the word is kept here, and the next job hands it over."""
    async with Gateway(plain_url) as gateway:
        async with opened(gateway.url) as store, Heartbeat(store, "recording", ["BTC/USD"]):
            gateway.close()
        await query(plain_url, _KILL)
        (kept,) = state_home.iterdir()  # noqa: ASYNC240
        async with opened(plain_url) as store:
            (found,) = await jobs(store)
            assert found.state == "ended"
            assert not found.is_dead
            assert not [text for text in problem_texts(await status(store), None) if "killed" in text]
            assert kept.exists(), "who reads writes nothing"
            async with Heartbeat(store, "import", ["ETH/USD"]):
                assert not kept.exists()
            (state, ended_after) = (
                await query(
                    plain_url, "SELECT state, ended_at >= heard_at FROM running_jobs WHERE kind = 'recording'"
                )
            )[0]
            assert (state, ended_after) == ("ended", True)


async def test_what_is_kept_of_ended_jobs_may_be_damaged_or_old(db_url: str, state_home: Path) -> None:
    old = LastWord(uuid4(), datetime(2026, 1, 1, tzinfo=UTC), "ended")
    leave(old)
    (state_home / f"{uuid4()}.json").write_text("{")
    (state_home / "x.json").write_text('{"at": "2026-01-01T00:00:00+00:00", "state": "ended", "error": null}')
    async with opened(db_url) as store, Heartbeat(store, "import", ["BTC/USD"]):
        (job,) = await jobs(store)
        assert job.is_alive
    assert not (state_home / f"{old.job}.json").exists(), "a week is long enough"


# --- kraken-db jobs ---

# Words of 2100 are alive for as long as anybody runs this, those of 2023 are not.
JOBS = """
INSERT INTO running_jobs
    (id, kind, symbols, behind, host, pid, started_at, heard_at, ended_at, state, last_error)
VALUES
    ('00000000-0000-0000-0000-000000000001', 'backfill', '{XRP/USD}', '{XRP/USD}', 'old', 11,
     '2023-01-02 03:04:05+00', '2023-01-02 04:05:06+00', NULL, '0 of 1 pairs done', 'HTTP 502'),
    ('00000000-0000-0000-0000-000000000002', 'maintenance', '{}', '{}', 'old', 12,
     '2023-01-03 03:04:05+00', '2023-01-03 03:14:05+00', '2023-01-03 03:14:05+00', 'ended', NULL),
    ('00000000-0000-0000-0000-000000000003', 'recording',
     '{BTC/USD,ETH/USD,ADA/USD,SOL/USD,LTC/USD}', '{LTC/USD}', 'new', 13,
     '2100-01-01 00:00:00+00', '2100-01-02 12:30:00+00', NULL, '4 of 5 pairs live', NULL)
"""


async def test_the_command_shows_who_is_at_work_and_who_was_killed(db_url: str) -> None:
    await query(db_url, JOBS)
    done = await asyncio.to_thread(run, db_url, "jobs")
    assert done.exit_code == 0
    assert [re.split(" {2,}", line) for line in done.stdout.splitlines()] == [
        ["job", "pairs", "where", "since (UTC)", "last word (UTC)", "state"],
        [
            "backfill",
            "XRP/USD",
            "old, process 11",
            "2023-01-02 03:04",
            "2023-01-02 04:05",
            "killed: 0 of 1 pairs done",
        ],
        [
            "recording",
            "BTC/USD ETH/USD ADA/USD and 2 more",
            "new, process 13",
            "2100-01-01 00:00",
            "2100-01-02 12:30",
            "4 of 5 pairs live",
        ],
    ]
    assert done.stderr == "backfill of XRP/USD on old (process 11): HTTP 502\n"


async def test_the_command_shows_who_has_ended_if_asked(db_url: str) -> None:
    await query(db_url, JOBS)
    done = await asyncio.to_thread(run, db_url, "jobs", "--all")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "job",
        "backfill",
        "maintenance",
        "recording",
    ]
    row = done.stdout.splitlines()[2]
    assert re.split(" {2,}", row)[1:3] == ["-", "old, process 12"]
    assert row.endswith("  ended: ended")


async def test_the_document_of_the_jobs(db_url: str) -> None:
    await query(db_url, JOBS)
    killed, alive = json.loads((await asyncio.to_thread(run, db_url, "jobs", "--json")).stdout)
    assert (killed["life"], killed["kind"], killed["last_error"]) == ("killed", "backfill", "HTTP 502")
    assert killed["silence_seconds"] > 45
    assert alive == {
        "id": "00000000-0000-0000-0000-000000000003",
        "kind": "recording",
        "life": "alive",
        "symbols": ["BTC/USD", "ETH/USD", "ADA/USD", "SOL/USD", "LTC/USD"],
        "behind": ["LTC/USD"],
        "host": "new",
        "pid": 13,
        "started_at": "2100-01-01T00:00:00Z",
        "heard_at": "2100-01-02T12:30:00Z",
        "silence_seconds": 0,
        "ended_at": None,
        "state": "4 of 5 pairs live",
        "last_error": None,
    }
    everybody = json.loads((await asyncio.to_thread(run, db_url, "jobs", "--all", "--json")).stdout)
    assert [job["life"] for job in everybody] == ["killed", "ended", "alive"]


async def test_nobody_is_at_work(db_url: str) -> None:
    for arguments, out, err in (
        ((), "", "Nobody is at work; --all shows who was.\n"),
        (("--all",), "", "Nobody is at work.\n"),
        (("--json",), "[]\n", ""),
    ):
        done = await asyncio.to_thread(run, db_url, "jobs", *arguments)
        assert (done.exit_code, done.stdout, done.stderr) == (0, out, err)
