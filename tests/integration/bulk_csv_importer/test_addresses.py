"""``import-csv`` of an archive on a web server: by the address of a zip, a part, or Kraken's archives."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from click.testing import CliRunner, Result

from kraken_db.bulk_csv_importer.discovery import Discovery
from kraken_db.cli import cli
from kraken_db.simulator import archive_url
from tests.support.archive_making import FULL_CANDLES, FULL_TRADES, LATER_TRADES, NOW, archived_markets
from tests.support.archives import minutes, query
from tests.support.file_server import FileServer, serving
from tests.support.zips import cut, zip_bytes

BIG = minutes(30_000).encode()
ZIP = zip_bytes(
    {"XBTUSD_1.csv": minutes(3).encode(), "ETHUSD_1.csv": BIG, "SOLUSD_1.csv": minutes(2).encode()}
)
PARTS = {f"a/X.zip.part{number:02}": piece for number, piece in enumerate(cut(ZIP, len(ZIP) // 3 + 1))}
MADE = archived_markets()


async def run(*arguments: object, url: str | None = None) -> Result:
    database = ["--db-url", url] if url else []
    command = ["import-csv", *map(str, arguments), *database]
    return await asyncio.to_thread(CliRunner().invoke, cli, command)


async def names(*places: str) -> list[str]:
    plan = await Discovery(only_1m=True, symbols=None, skip_empty=False).plan(places)
    await plan.close()
    assert plan.refused == []
    return [file.name for file in plan.files]


def plain(server: FileServer) -> str:
    return server.url.removesuffix("/")


async def test_only_what_is_wanted_is_downloaded(plain_url: str) -> None:
    incompressible = zip_bytes({"XBTUSD_1.csv": minutes(3).encode(), "ETHUSD_1.csv": BIG}, kind=0)
    assert len(incompressible) > 900_000
    async with serving({"a/X.zip": incompressible}) as server:
        done = await run(f"{server.url}a/X.zip", "--symbols", "BTC/USD", "--json", url=plain_url)
        assert done.exit_code == 0, done.stderr
        assert server.sent < 500_000  # the tail with the directory, and one member
        (file,) = json.loads(done.stdout)["files"]
    assert (file["file"], file["new"]) == (f"{plain(server)}/a/X.zip:XBTUSD_1.csv", 3)
    assert await query(plain_url, "SELECT symbol, count(*) FROM candles GROUP BY 1") == [("BTC/USD", 3)]


async def test_a_part_stands_for_all(plain_url: str) -> None:
    async with serving(PARTS) as server:
        base = f"{plain(server)}/a/X.zip"
        expected = [f"{base} (3 parts):{name}_1.csv" for name in ("XBTUSD", "ETHUSD", "SOLUSD")]
        for part in ("", ".part00", ".part02"):
            assert await names(base + part) == expected
        # Named twice, it is read once.
        plan = await Discovery(only_1m=True, symbols=None, skip_empty=False).plan(
            [f"{base}.part00", f"{base}.part01"]
        )
        await plan.close()
        assert (len(plan.files), [file.reason for file in plan.skipped]) == (3, ["named twice"])
        done = await run(f"{base}.part01", url=plain_url)
    assert done.exit_code == 0, done.stderr
    stored = dict(await query(plain_url, "SELECT symbol, count(*) FROM candles GROUP BY 1"))
    assert stored == {"BTC/USD": 3, "ETH/USD": 30_000, "SOL/USD": 2}


async def test_a_part_that_is_not_there() -> None:
    async with serving({name: piece for name, piece in PARTS.items() if "01" not in name}) as server:
        base = f"{plain(server)}/a/X.zip"
        done = await run(f"{base}.part02", "--dry-run")
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-2] == (
            f"Failed: {base}.part01: this part is missing: HTTP 404: the server does not have it."
            " Check the address"
        )
        # The first part alone is no zip.
        done = await run(f"{base}.part00", "--dry-run")
        assert done.exit_code == 1
        assert f"Failed: {base}.part00: not a readable zip archive: it has no end" in done.stderr


async def test_a_server_that_is_not_there_or_has_nothing() -> None:
    async with serving({}) as server:
        with_secret = server.url.replace("http://", "http://me:s3cr3t@")
        done = await run(f"{with_secret}X.zip?token=t0k3n", "--dry-run")
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-2] == (
            f"Failed: {plain(server)}/X.zip: HTTP 404: the server does not have it. Check the address"
        )
        assert "s3cr3t" not in done.output
        assert "t0k3n" not in done.output
        done = await run(with_secret, "--dry-run")
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-2] == (
            f"Failed: {server.url}: there is no archive of Kraken's"
            " (HTTP 404: the server does not have it). Check the address"
        )
        assert "s3cr3t" not in done.output
        done = await run(f"{server.url}XBTUSD.csv", "--dry-run")
        assert (
            "of a server only zips are read, whole or in parts. Download the file, and name it" in done.stderr
        )


async def test_a_dry_run_downloads_nothing_but_directories() -> None:
    stored = zip_bytes({"XBTUSD_1.csv": BIG, "ETHUSD_1.csv": BIG}, kind=0)
    async with serving({"X.zip": stored}) as server:
        done = await run(f"{server.url}X.zip", "--dry-run")
        assert done.exit_code == 0
        assert server.sent < 300_000
    assert done.stderr.splitlines() == [
        "Would import 2 files, 2.2 MB, 2.2 MB to download (rows on a server are not counted)."
        " Nothing was changed."
    ]
    assert [line.split()[:5] for line in done.stdout.splitlines()[1:]] == [
        ["BTC/USD", "1m", "-", "1.1", "MB"],
        ["ETH/USD", "1m", "-", "1.1", "MB"],
    ]


async def test_the_archives_of_kraken(plain_url: str, tmp_path: Path) -> None:
    """Those of a server as the simulator has it: trades or candles have to be said."""
    MADE.write(tmp_path)
    async with MADE.exchange(tmp_path).serve() as base_url:
        place = archive_url(base_url)
        done = await run(place, "--dry-run")
        assert done.exit_code == 2
        assert done.stderr == (
            f"Error: {place} has trades and candles."
            " Say which: --product trades, which bring their candles, or --product ohlcvt\n"
        )
        done = await run(place, "--product", "trades", "--symbols", "MATIC/USD", "--json", url=plain_url)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert [
        re.sub(r" \(\d+ parts\)|:.*", "", file["file"].rpartition("/")[2]) for file in document["files"]
    ] == [
        FULL_TRADES.name,
        LATER_TRADES.name,
    ]
    truth = MADE.truth("MATIC/USD")
    ((count, first, last),) = await query(plain_url, "SELECT count(*), min(id), max(id) FROM trades")
    assert (count, first, last) == (len(truth), 1, len(truth))


async def test_where_there_is_one_product_it_need_not_be_said(tmp_path: Path) -> None:
    MADE.write(tmp_path, [FULL_CANDLES])
    async with MADE.exchange(tmp_path).serve() as base_url:
        plan = await Discovery(only_1m=True, symbols=["BTC/USD"], skip_empty=True, clock=lambda: NOW).plan(
            [archive_url(base_url)]
        )
        await plan.close()
    (file,) = plan.files
    assert (file.symbol, file.interval, file.covers) == ("BTC/USD", 1, (None, FULL_CANDLES.quarter.end))
