"""Exports into an S3 of moto: readers see the old or the new state, whatever happens to the run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.exporting import ExportReport, PlaceFailedError, files, scan
from kraken_db.exporting.states import HIDDEN, KEPT, MANIFEST, read_state
from kraken_db.exporting.stores import Bucket
from tests.support.archives import NEW_YEAR, at, import_file, query, write
from tests.support.exports import COLUMNS, MAIN, MONTHS, change, export, fill, run, seen, stored
from tests.support.lanes import Lane
from tests.support.object_stores import (
    BUCKET,
    PASS_ON_BUT_SAY,
    SECRET,
    Door,
    door,
    environment,
    error_body,
    s3_server,
)
from tests.support.shell import forked

_ADDRESS = f"s3://{BUCKET}"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def address(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A place of its own for each test."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("kraken_db.exporting.states.LEASE", 1.0)
    return f"{_ADDRESS}/{tmp_path.name}"


@pytest.fixture
def guarded(server: str, address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    with door(server) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
        yield found


@pytest.fixture
def plain(plain_lane: Lane) -> Iterator[str]:
    with plain_lane.filled_database(fill) as url:
        yield url


def outcomes(report: ExportReport) -> list[str]:
    return [file.outcome for file in report.files]


# --- what is there ---


@pytest.mark.parametrize("style", ["parquet", "delta"])
@pytest.mark.parametrize("where", ["folder", "store"])
async def test_a_table_is_the_same_wherever_it_is(
    plain: str, address: str, tmp_path: Path, style: Any, where: str
) -> None:
    out = address if where == "store" else str(tmp_path / "out")
    report = await export(plain, out, intervals=[1, 60], style=style)
    assert outcomes(report) == ["written"] * (3 + 1 + 1 + 1)
    assert seen(out) == await stored(plain)
    frame = scan(out)
    kinds = frame.collect_schema()
    assert [kinds[name] for name in ("close", "vwap", "volume", "timestamp")] == [
        pl.Decimal(20, 10),
        pl.Decimal(20, 10),
        pl.Decimal(38, 10),
        pl.Datetime("us", "UTC"),
    ]
    assert [kinds[name] for name in ("symbol", "interval", "year")] == [pl.String, pl.String, pl.Int64]
    hours = frame.filter(pl.col("interval") == "1h", pl.col("pair") == "BTC/USD").sort("timestamp").collect()
    # Five minutes of 2.5 and seven trades in each of three hours.
    assert hours.select("timestamp", "volume", "trade_count", "symbol", "year").rows() == [
        (at(start), 12.5, 35, "BTC-USD", 2024) for start in MONTHS
    ]
    assert len(files(out)) == 6
    assert outcomes(await export(plain, out, intervals=[1, 60], style=style)) == ["unchanged"] * 6
    await change(plain, 1)
    # Hours are small: a year of them is one file.
    assert outcomes(await export(plain, out, intervals=[1, 60], style=style)) == ["written"] * 6
    assert seen(out) == await stored(plain)


async def test_trades_too(plain: str, address: str, tmp_path: Path) -> None:
    text = f"price,volume,time,buy/sell,market/limit,miscellaneous\n1E-8,98765432109.1,{NEW_YEAR}.5,b,l,,7\n"
    await import_file(plain, write(tmp_path, "SHIBUSD.csv", text))
    (done,) = (await export(plain, address, "SHIB/USD", what="trades")).files
    assert done.path == f"{address}/symbol=SHIB-USD/year=2024/trades-01.parquet"
    frame = scan(address).collect()
    assert "interval" not in frame.columns
    (row,) = frame.select(
        "pair", "id", pl.col("price").cast(pl.String), pl.col("volume").cast(pl.String)
    ).rows()
    assert row == ("SHIB/USD", 7, "0.0000000100", "98765432109.1000000000")
    with pytest.raises(ConfigurationError, match="holds trades"):
        await export(plain, address)


async def test_only_the_files_that_a_filter_leaves_are_fetched(
    plain: str, address: str, guarded: Door
) -> None:
    await export(plain, address, intervals=[1, 60])
    minutes_ = pl.col("interval") == "1m"
    for condition, count in (
        ([], 6),
        ([minutes_], 4),
        ([minutes_, pl.col("pair") == "BTC/USD"], 3),
        ([minutes_, pl.col("pair").is_in(["ETH/USD"])], 1),
        ([minutes_ & (pl.col("timestamp") >= at(MONTHS[1])) & (pl.col("timestamp") < at(MONTHS[2]))], 1),
        ([minutes_, pl.col("timestamp").is_between(at(MONTHS[1]), at(MONTHS[1] + 60))], 1),
        ([pl.col("year") == 2023], 0),
        # Neither side of an "or" rules anything out.
        ([(pl.col("pair") == "ETH/USD") | (pl.col("volume") > 0)], 6),
    ):
        guarded.seen.clear()
        every = scan(address).collect().filter(*condition)
        guarded.seen.clear()
        assert (
            scan(address).filter(*condition).collect().sort(every.columns).equals(every.sort(every.columns))
        )
        fetched = [path for method, path in guarded.seen if method == "GET" and "candles" in path]
        assert len(fetched) == count, (condition, fetched)


async def test_only_what_has_changed_is_written(plain: str, address: str, guarded: Door) -> None:
    await export(plain, address)
    await query(plain, "UPDATE candles SET volume = 9 WHERE timestamp = :at", at=at(MONTHS[1]))
    guarded.seen.clear()
    await export(plain, address)
    written = [path for method, path in guarded.seen if method == "PUT" and "lock.json" not in path]
    version, new, manifest = written
    assert "/replaced/" in version and new.endswith("year%3D2024/candles-02.parquet")
    assert manifest.endswith(MANIFEST)
    # Nothing at all: nothing is made known.
    guarded.seen.clear()
    await export(plain, address)
    assert [path for method, path in guarded.seen if method == "PUT" and "lock.json" not in path] == []


async def test_what_retention_drops_stays(plain: str, address: str) -> None:
    for style in ("parquet", "delta"):
        await export(plain, f"{address}/{style}", style=style)
    before = await stored(plain)
    await query(plain, "DELETE FROM candles WHERE timestamp < :at", at=at(NEW_YEAR + 120))
    for style in ("parquet", "delta"):
        report = await export(plain, f"{address}/{style}", style=style)
        assert sum(file.kept_rows for file in report.files) == 4
        assert seen(f"{address}/{style}") == before


# --- while it changes ---


@contextmanager
def held_back(found: Door, part: str) -> Iterator[threading.Event]:
    """Writes of a path wait until the event is set."""
    reached, go_on = threading.Event(), threading.Event()

    def answer(method: str, path: str) -> None:
        if method == "PUT" and part in path:
            reached.set()
            go_on.wait(30)

    found.answer = answer
    try:
        yield reached
    finally:
        go_on.set()
        found.answer = lambda _method, _path: None


@pytest.mark.parametrize("style", ["parquet", "delta"])
async def test_a_reader_sees_the_old_state_until_the_new_one_is_whole(
    plain: str, address: str, guarded: Door, style: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await export(plain, address, style=style)
    old = await stored(plain)
    await change(plain, 1)
    # Polars resolves a Delta table when it is scanned, a table of ours when it is collected.
    lazy = scan(address).select("pair", *COLUMNS).sort("pair", "timestamp")
    with held_back(guarded, "ETH-USD" if style == "delta" else MANIFEST) as reached:
        running = asyncio.create_task(export(plain, address, style=style))
        assert await asyncio.to_thread(reached.wait, 30)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        assert await asyncio.to_thread(seen, address) == old
        assert (await asyncio.to_thread(lazy.collect)).rows() == old
        # No pattern of names finds a row twice.
        names = [name for name in Bucket(address).below("") if name.endswith(".parquet")]
        if style == "parquet":
            assert sorted(f"{address}/{name}" for name in names) == files(address)
        monkeypatch.setenv("AWS_ENDPOINT_URL", guarded.endpoint)
    await running
    assert seen(address) == await stored(plain) != old


async def test_versions_that_were_replaced_are_kept_for_an_hour(
    plain: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, now = Bucket(address), datetime.now(at(0).tzinfo)

    async def at_time(moment: datetime, step: int) -> int:
        monkeypatch.setattr("kraken_db.exporting.lake.utc_now", lambda: moment)
        await change(plain, step)
        await export(plain, address, "ETH/USD")
        return len(bucket.below(f"{HIDDEN}/replaced"))

    kept = [await at_time(now + KEPT * hours, step) for step, hours in enumerate((0, 0.1, 0.2, 1.05, 3))]
    # One more with each; after an hour and a bit none is old enough, then all but the one of that run.
    assert kept == [0, 1, 2, 3, 1]


async def test_two_exports_at_once(plain: str, address: str, guarded: Door) -> None:
    with held_back(guarded, "candles-01") as reached:
        first = asyncio.create_task(export(plain, address))
        assert await asyncio.to_thread(reached.wait, 30)
        with pytest.raises(ConfigurationError, match="another export writes into"):
            await export(plain, address)
    assert set(outcomes(await first)) == {"written"}
    assert seen(address) == await stored(plain)


@pytest.mark.parametrize("style", ["parquet", "delta"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_two_exports_that_do_not_know_of_each_other(
    plain: str, address: str, guarded: Door, style: Any, is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was halted for so long that its lock was taken for that of a killed run, and does not know it."""
    monkeypatch.setattr("kraken_db.exporting.states.Lease._renew", lambda _self: None)
    old = None
    if not is_first:
        await export(plain, address, "BTC/USD", style=style)
        old = await stored(plain)
    await change(plain, 1)
    with held_back(guarded, "ETH-USD") as reached:
        halted = asyncio.create_task(export(plain, address, style=style))
        assert await asyncio.to_thread(reached.wait, 30)
        found = Bucket(address).get(f"{HIDDEN}/lock.json")
        assert found is not None
        Bucket(address).put(f"{HIDDEN}/lock.json", b'{"writer": null}', found[1])
        await change(plain, 2)
        guarded.answer = lambda _method, _path: None
        await export(plain, address, style=style)
        assert seen(address) == await stored(plain) != old
    with pytest.raises(PlaceFailedError, match="another export has written into"):
        await halted
    assert seen(address) == await stored(plain)


@pytest.mark.parametrize("style", ["parquet", "delta"])
async def test_two_that_add_the_same_file(
    plain: str, address: str, guarded: Door, style: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither replaces anything, so that nothing but the version that it began with tells them apart."""
    monkeypatch.setattr("kraken_db.exporting.states.Lease._renew", lambda _self: None)
    await export(plain, address, "BTC/USD", style=style)
    with held_back(guarded, "ETH-USD") as reached:
        halted = asyncio.create_task(export(plain, address, style=style))
        assert await asyncio.to_thread(reached.wait, 30)
        found = Bucket(address).get(f"{HIDDEN}/lock.json")
        assert found is not None
        Bucket(address).put(f"{HIDDEN}/lock.json", b'{"writer": null}', found[1])
        guarded.answer = lambda _method, _path: None
        await export(plain, address, style=style)
    with suppress(PlaceFailedError):
        await halted
    assert seen(address) == await stored(plain)


async def test_what_a_killed_run_has_written_is_not_written_again(
    plain: str, address: str, guarded: Door
) -> None:
    def full(method: str, path: str) -> tuple[int, str] | None:
        return (403, error_body("QuotaExceeded")) if method == "PUT" and "ETH-USD" in path else None

    guarded.answer = full
    with pytest.raises(PlaceFailedError):
        await export(plain, address)
    with pytest.raises(ConfigurationError, match="holds no Parquet export that was ended"):
        scan(address)
    guarded.answer = lambda _method, _path: None
    assert outcomes(await export(plain, address)) == ["unchanged"] * 3 + ["written"]
    assert seen(address) == await stored(plain)


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "ExpiredToken", "the credentials are not accepted (ExpiredToken)"),
        (403, "InvalidAccessKeyId", "the credentials are not accepted (InvalidAccessKeyId)"),
        (403, "SignatureDoesNotMatch", "the credentials are not accepted (SignatureDoesNotMatch)"),
        (403, "AccessDenied", "access is denied (AccessDenied)"),
        (403, "QuotaExceeded", "access is denied (QuotaExceeded)"),
        (507, "XMinioStorageFull", "the store refuses: 507 XMinioStorageFull"),
        (501, "NotImplemented", "the store does not know conditional writes"),
    ],
)
async def test_a_store_that_refuses(
    plain: str, address: str, guarded: Door, status: int, code: str, told: str
) -> None:
    """In the middle of a run: what was known stays known, and the next run does what is left."""
    await export(plain, address)
    old = await stored(plain)
    await change(plain, 1)

    def refuse(method: str, path: str) -> tuple[int, str] | None:
        is_late = method == "PUT" and ("candles-03" in path or "ETH-USD" in path)
        return (status, error_body(code)) if is_late else None

    guarded.answer = refuse
    with pytest.raises(PlaceFailedError) as failed:
        await export(plain, address)
    assert told in str(failed.value)
    assert SECRET not in str(failed.value)
    guarded.answer = lambda _method, _path: None
    assert seen(address) == old
    await export(plain, address)
    assert seen(address) == await stored(plain)


async def test_an_answer_that_is_lost_is_no_other_export(
    plain: str, address: str, guarded: Door, server: str
) -> None:
    """The store has written the object, and its answer does not arrive: the second try meets the first."""
    lost: list[str] = []

    def lose(method: str, path: str) -> tuple[int, str] | None:
        if method == "PUT" and "candles-02" in path and not lost:
            lost.append(path)
            return PASS_ON_BUT_SAY, error_body("InternalError")
        return None

    guarded.answer = lose
    await export(plain, address)
    assert len(lost) == 1
    assert seen(address) == await stored(plain)


async def test_a_slow_store(plain: str, address: str, guarded: Door) -> None:
    guarded.delay = 0.2
    await export(plain, address)
    assert seen(address) == await stored(plain)


async def test_a_wrong_endpoint(plain: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kraken_db.exporting.stores._RETRIES", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(PlaceFailedError, match="AWS_ENDPOINT_URL") as failed:
        await export(plain, address)
    assert SECRET not in str(failed.value)


async def test_wrong_usage(plain: str, address: str, tmp_path: Path) -> None:
    with pytest.raises(PlaceFailedError, match="there is no such bucket"):
        await export(plain, "s3://no-such-bucket/history")
    with pytest.raises(ConfigurationError, match="csv files go into a folder only"):
        await export(plain, address, style="csv")
    for more in (f"s3://AKIA:{SECRET}@bucket/history", f"az://container/history?sig={SECRET}"):
        with pytest.raises(ConfigurationError, match="credentials belong into the environment") as told:
            await export(plain, more)
        assert SECRET not in str(told.value)
    with pytest.raises(ConfigurationError, match="names no bucket"):
        await export(plain, "s3:///history")
    with pytest.raises(ConfigurationError, match="ftp:// is not known"):
        await export(plain, "ftp://host/path")
    await export(plain, address)
    with pytest.raises(ConfigurationError, match="another format"):
        await export(plain, address, style="delta")
    with pytest.raises(ConfigurationError, match="holds candles"):
        await export(plain, address, what="trades")
    mine = f"{address}/mine"
    Bucket(mine).put("symbol=BTC-USD/interval=1m/year=2024/candles-01.parquet", b"mine", None)
    with pytest.raises(ConfigurationError, match="is not of an export"):
        await export(plain, mine, "BTC/USD")
    with pytest.raises(ConfigurationError, match="holds no Parquet export"):
        scan(tmp_path)


# --- what others see ---


async def test_nothing_secret_is_written(plain: str, address: str) -> None:
    await export(plain, address)
    bucket = Bucket(address)
    for name in bucket.below(""):
        found = bucket.get(name)
        assert found is not None and SECRET.encode() not in found[0] and b"AKIATEST" not in found[0]


async def test_the_command(plain: str, address: str) -> None:
    done = run(plain, address)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{address}/symbol=BTC-USD/interval=1m" in done.stdout
    state = read_state(Bucket(address))
    assert state is not None and len(state.files) == 4


async def test_a_delta_table_keeps_its_versions(plain: str, address: str) -> None:
    """One a run, however many files it has."""
    from deltalake import DeltaTable

    from kraken_db.exporting.delta import storage_options

    await export(plain, address, style="delta")
    old = await stored(plain)
    await change(plain, 1)
    await export(plain, address, style="delta")
    await export(plain, address, style="delta")
    table = DeltaTable(address, storage_options=storage_options())
    assert [entry["version"] for entry in table.history()] == [1, 0]
    before = pl.scan_delta(address, version=0, storage_options=storage_options())
    assert before.select("pair", *COLUMNS).sort("pair", "timestamp").collect().rows() == old
    # Bounds in the log leave out no row.
    for moment in (MONTHS[0], MONTHS[1] + 240, MONTHS[2] + 240):
        assert scan(address).filter(pl.col("timestamp") == at(moment)).collect().height >= 1


async def test_duckdb_reads_the_names(plain: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await export(plain, out)
    rows = duckdb.sql("SELECT count(*), sum(volume) FROM read_parquet($names)", params={"names": files(out)})
    assert rows is not None
    assert rows.fetchall() == [(18, 45)]


def test_a_json_report_has_addresses(plain: str, address: str) -> None:
    process = subprocess.run(
        [*forked(), "-c", MAIN, "export", "ETH/USD", "--out", address, "--json"],
        env={**os.environ, "DATABASE_URL": plain},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (file,) = json.loads(process.stdout)["files"]
    assert file["path"] == f"{address}/symbol=ETH-USD/interval=1m/year=2024/candles-01.parquet"
