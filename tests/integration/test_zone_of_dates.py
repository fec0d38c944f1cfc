"""Dates that name no zone are of ``--tz`` and ``tz=``: on the command line, in load, and for a provider."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

import kraken_db
from kraken_db import HistoricalDataProvider
from kraken_db.intervals import as_interval
from tests.support.archives import ROW, import_file, write
from tests.support.shell import run

HOUR = 3600
FIRST = 1767135600  # 2025-12-31 00:00 in Berlin, at +01:00
DAYS = ("2026-01-01", "2026-01-03")
"""January 1 and 2, of whichever zone."""


@pytest.fixture
def filled(db_url: str, tmp_path: Path) -> str:
    """Six days of Berlin, with a minute at the beginning of each hour; the last of them is January 5."""
    rows = "".join(f"{FIRST + hour * HOUR},{ROW}\n" for hour in range(6 * 24))
    asyncio.run(import_file(db_url, write(tmp_path, "XBTUSD_1.csv", rows)))
    return db_url


def candles(url: str, *words: str) -> list[str]:
    done = run(url, "candles", "BTC/USD", *words)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_the_days_that_were_asked_for_are_shown(filled: str) -> None:
    words = ("-i", "1d", "--tz", "Europe/Berlin", "--since", DAYS[0], "--until", DAYS[1])
    assert [line.split()[0] for line in candles(filled, *words)[1:]] == ["2026-01-01", "2026-01-02"]
    # The order of options does not matter, and an offset says it all.
    words = (
        "--since",
        "2026-01-01",
        "--until",
        "2026-01-02T00:00+01:00",
        "-i",
        "1d",
        "--tz",
        "Europe/Berlin",
    )
    assert [line.split()[0] for line in candles(filled, *words)[1:]] == ["2026-01-01"]
    months = candles(filled, "-i", "1M", "--tz", "Europe/Berlin", "--since", "2026-01")
    assert [line.split()[0] for line in months[1:]] == ["2026-01-01"]


def test_csv_and_json_stay_utc(filled: str) -> None:
    words = ("-i", "1d", "--tz", "Europe/Berlin", "--since", DAYS[0], "--until", DAYS[1])
    csv = [line.partition(",")[0] for line in candles(filled, *words, "--format", "csv")[1:]]
    document = json.loads("\n".join(candles(filled, *words, "--json")))
    assert csv == ["2025-12-31T23:00:00Z", "2026-01-01T23:00:00Z"]
    assert [candle["timestamp"] for candle in document["candles"]] == csv
    assert document["tz"] == "Europe/Berlin"


def test_a_chart_runs_from_midnight_to_midnight(filled: str) -> None:
    done = run(filled, "chart", "BTC/USD", "--tz", "Europe/Berlin", "--since", DAYS[0], "--until", DAYS[1])
    assert "2026-01-01 00:00 to 2026-01-03 00:00 Europe/Berlin" in done.stdout


def test_an_export_has_the_same_days(filled: str, tmp_path: Path) -> None:
    words = ("--tz", "Europe/Berlin", "--since", DAYS[0], "--until", DAYS[1], "--out", str(tmp_path / "out"))
    done = run(filled, "export", "BTC/USD", "-i", "1d", *words)
    assert done.exit_code == 0, done.output
    frame = pl.read_parquet(tmp_path / "out" / "**" / "*.parquet")
    assert [str(moment) for moment in frame["timestamp"]] == [
        "2025-12-31 23:00:00+00:00",
        "2026-01-01 23:00:00+00:00",
    ]


def test_load_and_a_provider_read_them_so(filled: str) -> None:
    for start, end in (DAYS, map(date.fromisoformat, DAYS)):
        frame = kraken_db.load("BTC/USD", "1d", start, end, tz="Europe/Berlin", db_url=filled)
        assert [str(day)[:10] for day in frame.index] == ["2026-01-01", "2026-01-02"]
    kraken_db.analysis.close()

    async def read() -> None:
        async with HistoricalDataProvider(filled) as provider:
            berlin = as_interval("1d", tz="Europe/Berlin")
            found = await provider.get_candles("BTC/USD", berlin, *DAYS)
            assert [candle.timestamp.isoformat() for candle in found] == [
                "2025-12-31T23:00:00+00:00",
                "2026-01-01T23:00:00+00:00",
            ]
            assert len(await provider.get_candles("BTC/USD", "1h", *DAYS)) == 48

    asyncio.run(read())


def test_the_config_file_may_have_the_zone(
    filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("KRAKEN_DB_CONFIG", str(config))
    config.write_text('tz = "Europe/Berlin"\n[candles]\ninterval = "1d"\nsession = "06:00"\n')
    words = ("--since", DAYS[0], "--until", DAYS[1])
    titles, *rows = candles(filled, *words)
    assert titles.startswith("time (Europe/Berlin)")
    assert [row[:16] for row in rows] == ["2026-01-01 06:00", "2026-01-02 06:00"]
    titles, *_ = candles(filled, *words, "--tz", "UTC")
    assert titles.startswith("time (UTC)")
