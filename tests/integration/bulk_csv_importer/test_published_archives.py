"""What archives say of themselves, in their names and in MANIFEST.json: what they cover, and how many rows
they have."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kraken_db import KrakenTradesBackfill
from kraken_db.bulk_csv_importer import BulkCSVImporter, ImportReport
from kraken_db.cli import cli
from kraken_db.repositories.coverage import CoverageRepository
from tests.support.archives import minutes, query, write
from tests.support.stores import opened

JANUARY, FEBRUARY, APRIL, JULY = (datetime(2023, month, 1, tzinfo=UTC) for month in (1, 2, 4, 7))
DAY = timedelta(days=1)
FIRST = FEBRUARY.replace(minute=10)
"""Of the rows of ``ROWS``, of which the last closes at ``LAST_CLOSE``."""
ROWS = minutes(3, start=int(FIRST.timestamp()))
LAST_CLOSE = FEBRUARY.replace(minute=13)


def archive(path: Path, members: dict[str, str], **manifest: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
        if manifest:
            told = {"product": "ohlcvt", "schema_version": 1} | manifest
            packed.writestr("MANIFEST.json", json.dumps(told))
    return path


async def imported(url: str, *paths: Path, now: datetime | None = None, **options: Any) -> ImportReport:
    clock = {} if now is None else {"clock": lambda: now}
    async with BulkCSVImporter(url, workers=1, **clock) as importer:  # type: ignore[arg-type]
        report = await importer.run(importer.plan(list(paths), **options))
    assert report.errors == []
    return report


async def covered(url: str, symbol: str = "BTC/USD", kind: str = "candles_1m") -> list[Any]:
    async with opened(url) as store, store.database.read() as connection:
        return list(await CoverageRepository(connection).covered(symbol, kind))


def run(url: str, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["import-csv", *map(str, arguments), "--db-url", url])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Kraken_OHLCVT_2023Q1.zip", (JANUARY, APRIL)),
        ("Kraken_OHLCVT_Q1_2023.zip", (JANUARY, APRIL)),
        ("Kraken_OHLCVT_Full_2023Q1.zip", (FIRST, APRIL)),  # before the first row there is nothing to claim
        ("Kraken_OHLCVT.zip", (FIRST, LAST_CLOSE)),
        ("mine.zip", (FIRST, LAST_CLOSE)),
    ],
)
async def test_candles_have_what_the_name_of_their_archive_says(
    db_url: str, tmp_path: Path, name: str, expected: tuple[datetime, datetime]
) -> None:
    await imported(db_url, archive(tmp_path / name, {"XBTUSD_1.csv": ROWS}))
    assert await covered(db_url) == [expected]


async def test_rows_that_go_straight_into_the_table_too(plain_url: str, tmp_path: Path) -> None:
    many = minutes(3000, start=int(FIRST.timestamp()))
    await imported(plain_url, archive(tmp_path / "Kraken_OHLCVT_2023Q1.zip", {"XBTUSD_1.csv": many}))
    assert await covered(plain_url) == [(JANUARY, APRIL)]


async def test_quarters_leave_no_gap_where_they_meet(plain_url: str, tmp_path: Path) -> None:
    may = minutes(1, start=int(datetime(2023, 5, 2, tzinfo=UTC).timestamp()))
    paths = [
        archive(tmp_path / "Kraken_OHLCVT_Full_2023Q1.zip", {"XBTUSD_1.csv": ROWS}),
        archive(tmp_path / "Kraken_OHLCVT_2023Q2.zip", {"XBTUSD_1.csv": may}),
    ]
    await imported(plain_url, *paths)
    assert await covered(plain_url) == [(FIRST, JULY)]


async def test_only_minutes_prove_that_others_are_quiet(plain_url: str, tmp_path: Path) -> None:
    hours = f"{int(FEBRUARY.timestamp())},1,1,1,1,1,1\n"
    path = archive(tmp_path / "Kraken_OHLCVT_2023Q1.zip", {"XBTUSD_60.csv": hours})
    await imported(plain_url, path, only_1m=False)
    assert await query(plain_url, "SELECT data_type FROM data_coverage") == []


async def test_nothing_is_known_beyond_now(plain_url: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "Kraken_OHLCVT_2023Q1.zip", {"XBTUSD_1.csv": ROWS})
    await imported(plain_url, path, now=datetime(2023, 2, 15, 12, 0, 59, tzinfo=UTC))
    assert await covered(plain_url) == [(JANUARY, datetime(2023, 2, 15, 12, 0, tzinfo=UTC))]


async def test_a_file_that_may_have_been_cut_says_nothing_of_what_follows(
    plain_url: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "Kraken_OHLCVT_2023Q1.zip", {"XBTUSD_1.csv": ROWS.removesuffix("\n")})
    await imported(plain_url, path)
    assert await covered(plain_url) == [(JANUARY, FEBRUARY.replace(minute=12))]


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("mine.zip", ["2023-01-01", "2023-03-31"], (JANUARY, APRIL)),
        # Both have to say it.
        ("Kraken_OHLCVT_2023Q1.zip", ["2023-01-15", "2023-02-28"], ("2023-01-15", "2023-03-01")),
        ("Kraken_OHLCVT_Full_2023Q2.zip", ["2013-09-11", "2023-03-31"], (FIRST, APRIL)),
        # What ends in the future was not true when it was written.
        ("mine.zip", ["2023-01-01", "2099-12-31"], (FIRST, LAST_CLOSE)),
        ("Kraken_OHLCVT_2023Q1.zip", ["2023-02-01", "2099-12-31"], (JANUARY, APRIL)),
        # They contradict each other: nobody knows what it covers.
        ("Kraken_OHLCVT_2023Q1.zip", ["2024-01-01", "2024-03-31"], (FIRST, LAST_CLOSE)),
    ],
)
async def test_what_the_manifest_says_that_it_covers(
    plain_url: str, tmp_path: Path, name: str, told: list[str], expected: tuple[Any, Any]
) -> None:
    path = archive(tmp_path / name, {"XBTUSD_1.csv": ROWS}, coverage=told)
    await imported(plain_url, path)
    start, end = (
        datetime.fromisoformat(f"{one}T00:00Z") if isinstance(one, str) else one for one in expected
    )
    assert await covered(plain_url) == [(start, end)]


async def test_a_quarter_of_trades_under_any_name_is_not_the_whole_history(
    plain_url: str, tmp_path: Path
) -> None:
    """Its first trade is not the first of all: the minutes before it are known, and not those before 2023."""
    trades = f"{FIRST.timestamp():.0f}.5,100,1,b,l,,41\n{FIRST.timestamp():.0f}.75,100,1,b,l,,42\n"
    columns = ["timestamp", "price", "volume", "type", "order_type", "misc", "trade_id"]
    path = archive(
        tmp_path / "mine.zip",
        {"XBTUSD.csv": trades},
        product="trades",
        schema_version=2,
        columns=columns,
        has_header=False,
        coverage=["2023-01-01", "2023-03-31"],
    )
    await imported(plain_url, path)
    assert await covered(plain_url, kind="trades") == [(JANUARY, APRIL)]


TWO = {"XBTUSD_1.csv": ROWS, "ETHUSD_1.csv": minutes(4), "SOLUSD_1.csv": ""}


def test_rows_that_a_manifest_says_and_that_are_not_there(plain_url: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "Kraken_OHLCVT_2023Q1.zip", TWO, files=3, rows=8)
    done = run(plain_url, path, "--skip-empty")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: {path}: MANIFEST.json says 8 rows, and there are 7. Get the archive again;"
        " what was imported of it stays"
    )
    # They are stored all the same; and JSON says it too.
    again = json.loads(run(plain_url, path, "--skip-empty", "--json").stdout)
    assert again["totals"]["unchanged"] == 7
    assert again["contradictions"] == [
        {
            "reason": "MANIFEST.json says 8 rows, and there are 7",
            "hint": "get the archive again; what was imported of it stays",
        }
    ]
    # A dry run counts them.
    dry = run(plain_url, path, "--skip-empty", "--dry-run")
    assert dry.exit_code == 1
    assert "MANIFEST.json says 8 rows, and there are 7" in dry.stderr


def test_rows_that_a_manifest_says_and_that_are_there(plain_url: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", TWO, files=3, rows=7)
    done = run(plain_url, path, "--skip-empty")
    assert (done.exit_code, "MANIFEST" in done.stderr) == (0, False)


@pytest.mark.parametrize(
    "arguments", [("--symbols", "BTC/USD"), ("--symbols", "BTC/USD", "ETH/USD", "--all")]
)
def test_of_an_archive_in_part_the_rows_are_not_counted(
    plain_url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    members = TWO | {"ADAUSD_1.csv": ROWS}
    path = archive(tmp_path / "a.zip", members, files=4, rows=99)
    done = run(plain_url, path, *arguments)
    assert (done.exit_code, "MANIFEST" in done.stderr) == (0, False)


def test_where_a_file_failed_its_rows_are_not_missed(plain_url: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", TWO | {"XBTUSD_1.csv": ROWS + "1,1\n"}, files=3, rows=7)
    done = run(plain_url, path, "--skip-empty")
    assert (done.exit_code, "MANIFEST" in done.stderr) == (1, False)


def test_candles_of_trades_are_shown(plain_url: str, tmp_path: Path) -> None:
    """Trades at 00:10:00, 00:10:30, 00:12:05 and 00:15:00: two minutes, and one that may have been cut."""
    start = int(FIRST.timestamp())
    trades = "".join(
        f"{start + seconds},100,1,b,l,,{number}\n" for number, seconds in enumerate((0, 30, 125, 300), 1)
    )
    write(tmp_path, "XBTUSD.csv", trades)
    done = run(plain_url, tmp_path, "--no-trades")
    assert done.exit_code == 0, done.stderr
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "symbol data files read new changed unchanged rejected candles from (UTC) to (UTC)",
        "BTC/USD trades 1 4 0 0 0 0 2 2023-02-01 00:10 2023-02-01 00:15",
    ]
    told = json.loads(run(plain_url, tmp_path, "--json").stdout)
    assert (told["totals"]["new"], told["totals"]["candles"]) == (4, 0)


async def test_of_trades_that_are_not_stored_none_will_be_dropped(timescale_url: str, tmp_path: Path) -> None:
    """What is stored of them are candles."""
    path = write(tmp_path, "XBTUSD.csv", f"{FIRST.timestamp():.0f},100,1,b,l,,1\n")
    async with BulkCSVImporter(timescale_url, workers=1) as importer:
        report = await importer.run(importer.plan([path]), keeps_trades=False)
    assert report.errors == []
    assert report.files[0].notes == ["candles older than 365 days will be dropped by the retention policy"]


def traded(*days: datetime) -> str:
    """Whole seconds, no ids: two trades in the first minute of each day."""
    return "".join(f"{int(day.timestamp()) + n},100.5,0.25\n" for day in days for n in (5, 5))


@pytest.mark.parametrize("first", [1, 2])
async def test_quiet_days_of_archives_without_ids_are_built(db_url: str, tmp_path: Path, first: int) -> None:
    """Two quarters that adjoin: every minute of them is known, traded or not, whichever came first."""
    quarters = {
        1: {"XBTUSD.csv": traded(JANUARY, FEBRUARY, APRIL - DAY)},
        2: {"XBTUSD.csv": traded(APRIL + DAY)},
    }
    for number in (first, 3 - first):
        path = tmp_path / f"Kraken_Trading_History_Q{number}_2023.zip"
        await imported(db_url, archive(path, quarters[number]))
    assert await covered(db_url, kind="trades") == [(JANUARY, JULY)]
    assert await covered(db_url) == [(JANUARY, JULY)]
    built = [JANUARY, FEBRUARY, APRIL - DAY, APRIL + DAY]
    assert await query(db_url, "SELECT timestamp, trade_count FROM candles ORDER BY 1") == [
        (day, 2) for day in built
    ]
    async with opened(db_url) as store, store.database.read() as connection:
        assert await CoverageRepository(connection).without_candles("BTC/USD") == []


async def test_days_whose_trades_may_have_been_dropped_are_not_called_quiet(
    plain_url: str, tmp_path: Path
) -> None:
    """The trades of January are gone without a note: nobody knows the minutes of that time any more."""
    path = tmp_path / "Kraken_Trading_History_Q1_2023.zip"
    content = {"XBTUSD.csv": traded(JANUARY, FEBRUARY, APRIL - DAY)}
    async with BulkCSVImporter(plain_url, workers=1) as importer:
        await importer.run(importer.plan([archive(path, content)]), build_candles=False)
    await query(plain_url, "DELETE FROM trades WHERE timestamp < '2023-02-01'")
    async with KrakenTradesBackfill(plain_url) as service:
        assert await service.build_missing_candles(["BTC/USD"]) == {"BTC/USD": 2}
    assert await covered(plain_url) == [(FEBRUARY, APRIL)]
