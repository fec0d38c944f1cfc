"""``kraken-db sql``: what one types, read-only unless it is said, every value as the server has it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator

import pytest

from kraken_db.cli import sql as command
from tests.support.archives import import_texts, minutes, query
from tests.support.lanes import Lane
from tests.support.shell import run


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": minutes(3)})


@pytest.fixture
def filled(lane: Lane) -> Iterator[str]:
    with lane.filled_database(fill) as url:
        yield url


COUNT = "SELECT symbol, count(*) AS minutes, sum(volume) AS volume FROM candles GROUP BY symbol"


def test_a_table_csv_and_json_say_the_same(filled: str) -> None:
    table = run(filled, "sql", COUNT)
    assert table.stdout.split() == ["symbol", "minutes", "volume", "BTC/USD", "3", "7.5"]
    assert run(filled, "sql", COUNT, "--format", "csv").stdout.splitlines() == [
        "symbol,minutes,volume",
        "BTC/USD,3,7.5000000000",
    ]
    assert json.loads(run(filled, "sql", COUNT, "--json").stdout) == [
        {"symbol": "BTC/USD", "minutes": 3, "volume": "7.5000000000"}
    ]


VALUES = (
    "SELECT timestamptz '2024-01-02 03:04:05.6+00' AS at, true AS yes, NULL::text AS nothing, '' AS empty,"
    " E'a\\tb\\nc\\\\d,\"e\"' AS text, 0.10::numeric AS number, 1.5::float8 AS half, 'nan'::float8 AS nan,"
    " ARRAY[1, 2] AS list, '{\"a\": [1.50]}'::jsonb AS document, 9223372036854775807 AS large -- the end"
)


def test_every_kind_of_value(filled: str) -> None:
    assert json.loads(run(filled, "sql", VALUES, "--json").stdout) == [
        {
            "at": "2024-01-02T03:04:05.600000Z",
            "yes": True,
            "nothing": None,
            "empty": "",
            "text": 'a\tb\nc\\d,"e"',
            "number": "0.10",
            "half": 1.5,
            "nan": "NaN",
            "list": "{1,2}",
            "document": {"a": ["1.5"]},
            "large": 9223372036854775807,
        }
    ]
    (_, row) = csv.reader(io.StringIO(run(filled, "sql", VALUES, "--format", "csv").stdout, newline=""))
    assert row[1:6] == ["t", "", "", 'a\tb\nc\\d,"e"', "0.10"]
    # As PostgreSQL reads it: NULL is nothing at all, an empty text is quoted.
    assert ',t,,"",' in run(filled, "sql", VALUES, "--format", "csv").stdout


@pytest.mark.parametrize("statement", ["SHOW timezone", "EXPLAIN SELECT 1", "TABLE alembic_version;"])
def test_what_is_no_select(filled: str, statement: str) -> None:
    done = run(filled, "sql", statement)
    assert done.exit_code == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM candles",
        "WITH gone AS (DELETE FROM candles RETURNING 1) SELECT count(*) FROM gone",
        "DROP TABLE candles",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "DO $$ BEGIN SET TRANSACTION READ WRITE; DELETE FROM candles; END $$",
        "SELECT nextval('trades_id_seq')",
    ],
)
async def test_it_only_reads(filled: str, statement: str) -> None:
    done = await asyncio.to_thread(run, filled, "sql", statement)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert await query(filled, "SELECT count(*) FROM candles") == [(3,)]


async def test_with_write_it_writes(filled: str) -> None:
    done = await asyncio.to_thread(
        run, filled, "sql", "--write", "DELETE FROM candles WHERE symbol = 'BTC/USD'"
    )
    assert (done.exit_code, done.stderr) == (0, "DELETE 3\n")
    assert await query(filled, "SELECT count(*) FROM candles") == [(0,)]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT symbl FROM candles", 'column "symbl" does not exist (line 1, at "symbl FROM candles")'),
        ("SELECT\n 1 +", "syntax error at end of input"),
        ("SELECT 1; DELETE FROM candles", "there is more than one statement. Run them one by one"),
        ("SELECT 1 / (count(*) - 3) FROM candles", "division by zero"),
        ("DELETE FROM candles", "if it is meant to, add --write"),
        ("SELECT 1) TO PROGRAM 'true' --", "syntax error"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(filled: str, statement: str, said: str) -> None:
    done = run(filled, "sql", statement)
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_columns_of_one_name_cannot_be_json(filled: str) -> None:
    done = run(filled, "sql", "SELECT 1 AS a, 2 AS a", "--json")
    assert done.exit_code == 1
    assert "Name them apart with AS" in done.stderr


def test_a_table_ends_and_the_others_go_on(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_MOST_ROWS", 100)
    many = "SELECT generate_series(1, 60000) AS n"
    table = run(filled, "sql", many)
    assert table.stdout.splitlines()[-1].strip() == "100"
    assert "the first 100 rows" in table.stderr
    assert run(filled, "sql", many, "--format", "csv").stdout.splitlines()[-1] == "60000"
    assert len(json.loads(run(filled, "sql", many, "--json").stdout)) == 60_000


@pytest.mark.parametrize("statement", ["", "  ", "SELECT '\0'"])
def test_what_is_no_statement_is_wrong_usage(filled: str, statement: str) -> None:
    assert run(filled, "sql", statement).exit_code == 2
