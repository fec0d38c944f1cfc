"""A store that a former version made, with rows, is brought up to date: nothing of it is lost.

The stores are in ``former_stores``, as the code of their time made them. What is expected was worked out by
hand: seven trades of BTC/USD, three of ETH/USD without ids, candles of files of the others.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kraken_db.db.migrations import head_revision
from kraken_db.intervals import INTERVAL_VIEWS
from tests.support.archives import import_file, query, write
from tests.support.lanes import Lane
from tests.support.shell import Shell

STORES = Path(__file__).parent / "former_stores"
FORMER = "1003"

TRADES = """
-9223372036854775808 ETH/USD 2023-01-02 00:00:00        10.5 0.00000001 -    -      -
-9223372036854775807 ETH/USD 2023-01-02 00:00:00        10.5 0.00000001 -    -      -
-9223372036854775806 ETH/USD 2023-01-03 00:00:00        11.5 2          -    -      -
1                    BTC/USD 2023-01-02 00:00:10.25     100  0.5        buy  market -
2                    BTC/USD 2023-01-02 00:00:50        104  1.5        sell limit  -
3                    BTC/USD 2023-01-02 00:01:30.123456 102  2          buy  limit  -
4                    BTC/USD 2023-01-02 00:07:00        98   1          sell market -
5                    BTC/USD 2023-01-02 02:00:00        106  3          buy  market -
6                    BTC/USD 2023-01-02 02:01:00        101  1          sell market -
8                    BTC/USD 2023-01-02 05:00:00        103  1          buy  limit  -
"""

_LTC = """
LTC/USD 2022-12-26 00:00 70 80 65 79   40 - 10 -
LTC/USD 2023-01-02 00:00 60 61 59 60.5 2  - 3  -
"""
_ALIKE = """
ETH/USD  2023-01-02 00:00 10.5 10.5 10.5 10.5 0.00000002 0.00000021 2 10.5
PEPE/USD 2023-01-02 00:00 1e-10 3e-10 1e-10 2e-10 12345678901234567890.0000000001 - 1 -
"""
_HALF_HOURS = f"""
BTC/USD 2023-01-02 00:00 100 104 98  98  5 508 4 101.6
BTC/USD 2023-01-02 02:00 106 106 106 106 3 318 1 106
{_ALIKE}{_LTC}"""
_HOURS = f"BTC/USD 2023-01-02 00:00 100 106 98 106 8 826 5 103.25\n{_ALIKE}{_LTC}"
CANDLES = {
    1: f"""
BTC/USD 2023-01-02 00:00 100 104 100 104 2 206 2 103
BTC/USD 2023-01-02 00:01 102 102 102 102 2 204 1 102
BTC/USD 2023-01-02 00:07 98  98  98  98  1 98  1 98
BTC/USD 2023-01-02 02:00 106 106 106 106 3 318 1 106
LTC/USD 2023-01-02 00:00 60  61  59  60.5 2 -  3 -
{_ALIKE}""",
    5: f"""
BTC/USD 2023-01-02 00:00 100 104 100 102 4 410 3 102.5
BTC/USD 2023-01-02 00:05 98  98  98  98  1 98  1 98
BTC/USD 2023-01-02 02:00 106 106 106 106 3 318 1 106
{_ALIKE}{_LTC}""",
    **dict.fromkeys((15, 30, 60), _HALF_HOURS),
    **dict.fromkeys((240, 720, 1440, 10080), _HOURS),
}
# What another program had written on plain PostgreSQL, and nothing had rolled up yet.
_SOL = {
    1: """
SOL/USD 2023-01-02 00:00 1   2 0.5 1.5 10 15 3 1.5
SOL/USD 2023-01-02 00:04 1.5 4 1.5 3   30 75 5 2.5
""",
    5: "SOL/USD 2023-01-02 00:00 1 4 0.5 3 40 90 8 2.25\n",
}
_DAY = "2023-01-02 00:00:00"
COVERAGE = [
    ("BTC/USD", "candles_1m", "csv", f'{{["{_DAY}+00","2023-01-02 02:01:00+00")}}'),
    (
        "BTC/USD",
        "trades",
        "csv",
        f'{{["{_DAY}+00","2023-01-02 02:01:00.000001+00"),'
        '["2023-01-02 05:00:00+00","2023-01-02 05:00:00.000001+00")}',
    ),
    ("ETH/USD", "candles_1m", "csv", f'{{["{_DAY}+00","2023-01-03 00:00:00+00")}}'),
    ("ETH/USD", "trades", "csv", f'{{["{_DAY}+00","2023-01-03 00:00:00+00")}}'),
    ("LTC/USD", "candles_1m", "csv", '{["2022-12-26 00:00:00+00","2023-01-02 00:01:00+00")}'),
    ("PEPE/USD", "candles_1m", "csv", f'{{["{_DAY}+00","2023-01-02 00:01:00+00")}}'),
]
COUNTERS = [
    ("BTC/USD", "candles_1m", _DAY, "2023-01-02 02:00:00", None, 4, None),
    ("BTC/USD", "trades", "2023-01-02 00:00:10.25", "2023-01-02 05:00:00", 1672635600000000123, 7, None),
    ("DOT/USD", "candles_1h", _DAY, "2023-01-02 01:00:00", None, 2, None),
    ("ETH/USD", "candles_1m", _DAY, _DAY, None, 1, "2023-02-01 00:00:00"),
    ("ETH/USD", "trades", _DAY, "2023-01-03 00:00:00", None, 3, "2023-02-01 00:00:00"),
    ("LTC/USD", "candles_1m", "2022-12-26 00:00:00", _DAY, None, 3, None),
    ("PEPE/USD", "candles_1m", _DAY, _DAY, None, 1, None),
]
UNPROVEN = [
    ("BTC/USD", "trades", f'{{["2023-01-01 00:00:00+00","{_DAY}+00")}}'),
    ("DOT/USD", "candles_1h", f'{{["{_DAY}+00","2023-01-02 02:00:00+00")}}'),
    ("ETH/USD", "trades", '{["2023-01-03 00:00:00+00","2023-01-03 00:00:01+00")}'),
]
DROPPED = [("LTC/USD", "candles_1m", '{["2022-12-26 00:00:00+00","2022-12-31 00:00:00+00")}')]


@pytest.fixture
async def former_url(lane: Lane, empty_url: str) -> str:
    """A store of the former revision, in a database of its own."""
    is_plain = lane.name != "timescale"
    script = (STORES / f"{FORMER}_{'postgresql' if is_plain else 'timescaledb'}.sql").read_text()
    connection = await asyncpg.connect(empty_url)
    try:
        # Aggregates cannot be refreshed in a transaction, which several statements at once are.
        for statement in [script] if is_plain else script.split("\n--\n"):
            await connection.execute(statement)
    finally:
        await connection.close()
    return empty_url


def table(text: str, width: int) -> list[list[str]]:
    """The words of each line; a date and its time are one."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    at = next(place for place, word in enumerate(rows[0]) if word.startswith("20"))
    tiny = {f"{digit}e-10": f"0.000000000{digit}" for digit in range(1, 4)}
    rows = [[tiny.get(word, word) for word in row] for row in rows]
    joined = [[*row[:at], " ".join(row[at : at + 2]), *row[at + 2 :]] for row in rows]
    assert {len(row) for row in joined} == {width}
    return sorted(joined)


async def read(url: str, columns: str, source: str) -> list[list[str]]:
    """Each column as text, numbers without zeros at their end; ``-`` for nothing."""
    rows = await query(url, f"SELECT {columns} FROM {source}")
    return sorted([str(value) if value not in (None, "") else "-" for value in row] for row in rows)


async def candles(url: str, interval: int) -> list[list[str]]:
    numbers = "open, high, low, close, volume, quote_volume, trade_count, vwap"
    trimmed = ", ".join(f"trim_scale(CAST({name} AS numeric))::text" for name in numbers.split(", "))
    opens = "to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"
    return await read(
        url, f"symbol, {opens}, {trimmed}", f"{INTERVAL_VIEWS[interval]} WHERE interval_minutes = {interval}"
    )


async def assert_nothing_is_lost(url: str, *, is_plain: bool) -> None:
    when = "CAST({} AT TIME ZONE 'UTC' AS text)"
    told = f"id::text, symbol, {when.format('timestamp')}"
    told += ", trim_scale(price)::text, trim_scale(volume)::text, side, order_type, misc"
    assert await read(url, told, "trades") == table(TRADES, 8)
    for interval, expected in CANDLES.items():
        more = _SOL[min(interval, 5)] if is_plain else ""
        assert await candles(url, interval) == table(expected + more, 10), interval
    assert (
        await query(url, "SELECT symbol, data_type, source, covered::text FROM data_coverage ORDER BY 1, 2")
        == COVERAGE
    )
    times = [when.format(name) for name in ("oldest_timestamp", "newest_timestamp", "ended_at")]
    assert (
        await query(
            url,
            f"SELECT symbol, data_type, {times[0]}, {times[1]}, last_kraken_since, total_records, {times[2]}"
            " FROM data_sync_status ORDER BY 1, 2",
        )
        == COUNTERS
    )
    synced = f"SELECT DISTINCT {when.format('last_sync_at')} FROM data_sync_status"
    assert await query(url, synced) == [("2023-01-05 06:07:08.123456",)]
    assert (
        await query(url, "SELECT symbol, data_type, unproven::text FROM unproven_ranges ORDER BY 1")
        == UNPROVEN
    )
    dropped = await query(url, "SELECT symbol, data_type, dropped::text FROM dropped_ranges")
    assert dropped == (DROPPED if is_plain else [])  # the chunk that is gone says it
    assert await query(url, "SELECT CAST(stream AS text), position FROM flush_positions") == [
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", 42)
    ]
    assert await query(url, "SELECT host, pid, state FROM running_jobs") == [
        ("old-host", 4711, "1 of 1 pair live")
    ]


def told_by(shell: Shell, *arguments: str, code: int = 0) -> Any:
    done = shell.run(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


async def test_an_upgrade_loses_nothing(former_url: str, tmp_path: Path) -> None:
    is_plain = not await query(former_url, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
    shell = Shell(tmp_path, DATABASE_URL=former_url)
    await assert_nothing_is_lost(former_url, is_plain=is_plain)  # the store is what is told here
    refused = shell.run("candles", "BTC/USD")
    assert refused.returncode == 1
    assert (
        f"too old: revision {FORMER}, needed is {head_revision()}. Run: kraken-db db upgrade"
        in refused.stderr
    )

    for said in (f"schema upgraded from {FORMER} to revision {head_revision()}", head_revision()):
        upgraded = shell.run("db", "upgrade")
        assert (upgraded.returncode, upgraded.stderr) == (0, ""), upgraded
        assert said in upgraded.stdout
        await assert_nothing_is_lost(former_url, is_plain=is_plain)
    assert shell.run("db", "current").stdout == f"{head_revision()} (fits this kraken-db)\n"
    kept = r"candles +12 days" if is_plain else r"trades +retention +36,500 days"
    assert re.search(kept, shell.run("policies", "show").stdout)

    hours = shell.run("candles", "DOT/USD", "--interval", "1h", "--format", "csv")
    assert hours.stdout.splitlines()[1:] == [
        "2023-01-02T00:00:00Z,4,5,3,4.5,100,9,",
        "2023-01-02T01:00:00Z,4.5,6,4,5,50,8,",
    ]


async def test_what_commands_say_of_it_afterwards(former_url: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, DATABASE_URL=former_url)
    assert shell.run("db", "upgrade").returncode == 0
    (listed,) = told_by(shell, "gaps", "list", "BTC/USD", "--json")["symbols"]
    assert (listed["known_from"], listed["known_to"]) == (
        "2023-01-02T00:00:00Z",
        "2023-01-02T05:00:00.000001Z",
    )
    assert [(gap["data_type"], gap["start"], gap["kind"]) for gap in listed["gaps"]] == [
        ("trades", "2023-01-02T02:01:00.000001Z", "ids"),
        ("candles_1m", "2023-01-02T05:00:00Z", "end"),
    ]
    assert listed["gaps"][0]["end"] == "2023-01-02T05:00:00Z"

    (bitcoin,) = told_by(shell, "verify", "BTC/USD", "--offline", "--json", code=1)["symbols"]
    trades, minutes, higher, _ = bitcoin["parts"]
    assert trades["problems"] == {"missing ids": 1, "gap": 1}
    assert [(lost["first"], lost["last"]) for lost in trades["missing_ranges"]] == [(7, 7)]
    # Higher ones: 3 of 5m, 2 each of 15m, 30m and 1h, 1 each of 4h, 12h, 1d and 1w.
    assert (trades["compared"], minutes["compared"], higher["compared"]) == (7, 4, 13)
    assert minutes["problems"] == higher["problems"] == {}
    status = told_by(shell, "status", "--json")
    assert [job["state"] for job in status["running"]] == ["1 of 1 pair live"]

    # It goes on from there: id 7 comes, and with it the minutes up to the last trade.
    rows = ("101.0,1.0,1672624860,s,m,,6", "102.0,1.0,1672630000,b,l,,7", "103.0,1.0,1672635600,b,l,,8")
    missing = write(tmp_path, "XBTUSD.csv", "".join(f"{row}\n" for row in rows))
    done = await import_file(former_url, missing)
    assert done.new == 1
    (bitcoin,) = told_by(shell, "verify", "BTC/USD", "--offline", "--json")["symbols"]
    assert bitcoin["clean"]
    assert [row[1:6] for row in await candles(former_url, 1) if row[0] == "BTC/USD"][4:] == [
        ["2023-01-02 02:01", "101", "101", "101", "101"],
        ["2023-01-02 03:26", "102", "102", "102", "102"],
    ]
