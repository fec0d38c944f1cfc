"""A pair that Kraken has delisted, as a user meets it: found, downloaded, and known to its end."""

from __future__ import annotations

import json
from pathlib import Path

from kraken_db.simulator import SimulatedExchange, feed_url
from tests.support.archive_making import archived_markets
from tests.support.processes import Ended, run_backfill
from tests.support.shell import forked

POL = "its successor is POL/USD, with a history of its own: kraken-db backfill --symbols POL/USD"


def environment(url: str, base_url: str, archives: Path | str) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "KRAKEN_BASE_URL": base_url,
        "KRAKEN_WS_URL": feed_url(base_url),
        "KRAKEN_ARCHIVE_URL": str(archives),
    }


async def run(where: dict[str, str], *arguments: str) -> Ended:
    done = await run_backfill(*arguments, environment=where, program=forked())
    assert "Traceback" not in done.err
    return done


async def test_from_the_archive_to_a_store_without_a_gap(plain_url: str, tmp_path: Path) -> None:
    """Its last trade is of May 2024; the archives end with June."""
    made = archived_markets()
    made.write(tmp_path)
    async with made.exchange().serve() as base_url:
        where = environment(plain_url, base_url, tmp_path)
        done = await run(where, "backfill", "--symbols", "MATIC/USD")
        assert done.code == 0, done.err
        assert done.out.splitlines()[1].split()[:2] == ["MATIC/USD", "delisted"]
        assert f"Note: MATIC/USD: {POL}" in done.err
        filled = await run(where, "gaps", "fill", "--stored")
        assert filled.code == 0, filled.err
        known = "Note: delisted, and known to the end: MATIC/USD (to 2024-07-01 00:00 UTC)"
        assert known in filled.err
        listed = await run(where, "gaps", "list", "--stored", "--json")
        (pair,) = json.loads(listed.out)["symbols"]
        assert (pair["gaps"], pair["ended_at"]) == ([], "2024-07-01T00:00:00Z")
        checked = await run(where, "status", "--check")
        assert checked.code == 0, checked.err
        rows = [line for line in checked.out.splitlines() if line.startswith("MATIC/USD") and "2024" in line]
        assert ["delisted" in row for row in rows] == [True, True]
        assert "MATIC/USD is delisted: all of it is known, up to 2024-07-01 00:00 UTC" in checked.out
        verified = await run(where, "verify")
        assert verified.code == 0, verified.out
        recorded = await run(where, "record", "--symbols", "MATIC/USD", "--journal-dir", str(tmp_path / "j"))
        assert recorded.code == 1
        assert (
            "MATIC/USD is delisted: its trades up to 2024-07-01 00:00 UTC are known, and there are no others"
            in recorded.err
        )


async def test_pairs_that_are_not_listed(tmp_path: Path) -> None:
    made = archived_markets()
    made.write(tmp_path)
    async with made.exchange().serve() as base_url:
        where = environment("", base_url, tmp_path)
        named = await run(where, "pairs", "MATIC/USD")
        assert (named.code, named.err) == (0, "")
        assert named.out.splitlines()[1].split() == ["MATIC/USD", "-", "-", "delisted", "-", "-", "POL/USD"]
        document = json.loads((await run(where, "pairs", "maticusd", "--json")).out)
        assert document == [
            {
                "symbol": "MATIC/USD",
                "class": "currency",
                "rest_name": None,
                "ws_name": None,
                "status": "delisted",
                "price_decimals": None,
                "volume_decimals": None,
                "successor": "POL/USD",
            }
        ]
        # Of what is listed nobody asks the archives, unless they are to be shown.
        usual = json.loads((await run(where, "pairs", "*/USD", "--json")).out)
        both = json.loads((await run(where, "pairs", "*/USD", "--delisted", "--json")).out)
        assert [one for one in both if one not in usual] == document
        assert {one["status"] for one in usual} == {"online"}
        unknown = await run(where, "pairs", "ZZZ/USD")
        assert unknown.code == 1
        assert "Kraken does not list ZZZ/USD" in unknown.err


async def test_pairs_without_archives(tmp_path: Path) -> None:
    """The listed ones are shown all the same; one line says why no others are."""
    async with SimulatedExchange([]).serve() as base_url:
        nowhere = environment("", base_url, tmp_path / "nothing")
        shown = await run(nowhere, "pairs", "POL/*", "--delisted")
        assert shown.code == 0
        assert shown.out.splitlines()[1].split()[0] == "POL/USD"
        assert len(shown.err.splitlines()) == 1
        assert "Delisted pairs are not shown" in shown.err
        del nowhere["KRAKEN_ARCHIVE_URL"]
        unknown = await run(nowhere, "pairs", "MATIC/USD", "--delisted")
        assert unknown.code == 1
        assert "no archives are known of this exchange" in unknown.err
        assert "Kraken does not list MATIC/USD" in unknown.err


async def test_who_has_a_pair_that_rest_does_not_know(plain_url: str, tmp_path: Path) -> None:
    made = archived_markets()
    made.write(tmp_path)
    async with made.exchange().serve() as base_url:
        where = environment(plain_url, base_url, tmp_path)
        how = "kraken-db backfill --symbols MATIC/USD --source archive"
        for command in (("gaps", "fill", "--window", "1200d"), ("backfill", "--source", "rest")):
            done = await run(where, *command, "--symbols", "MATIC/USD")
            assert done.code == 1
            (failed,) = [line for line in done.err.splitlines() if line.startswith("Failed: ")]
            assert how in failed
