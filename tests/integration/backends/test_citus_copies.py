"""A store copied to a cluster and back: the same rows everywhere, killed on the way or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_db.backends import CitusBackend
from tests.support.archives import query
from tests.support.copies import (
    OF_ROWS,
    copied,
    drop_old,
    everything_of,
    fill,
    fill_four,
    killed_on_the_way,
)
from tests.support.lanes import Lane
from tests.support.stores import opened


@pytest.fixture
def citus_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["citus"].migrated_database() as url:
        yield url


@pytest.fixture
def other_citus_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["citus"].migrated_database() as url:
        yield url


@pytest.fixture
def one_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["postgres"].migrated_database() as url:
        yield url


@pytest.fixture
def back_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["postgres"].empty_database() as url:
        yield url


async def test_to_a_cluster_and_back(one_url: str, citus_url: str, back_url: str, tmp_path: Path) -> None:
    await fill(one_url, tmp_path)
    await drop_old(one_url)
    before = await everything_of(one_url)
    assert all(before.values()), [name for name, rows in before.items() if not rows]
    report = await copied(one_url, citus_url)
    assert (list(report.copied), report.failed) == (["ADA/USD", "BTC/USD", "ETH/USD"], [])
    assert report.copied["BTC/USD"].kept > 0
    async with opened(citus_url) as store:
        assert type(store.backend) is CitusBackend
    there = await everything_of(citus_url)
    assert there == before
    assert (await copied(one_url, citus_url)).equal == ["ADA/USD", "BTC/USD", "ETH/USD"]
    assert (await copied(citus_url, back_url)).failed == []
    assert await everything_of(back_url) == before


async def test_to_another_cluster(citus_url: str, other_citus_url: str, tmp_path: Path) -> None:
    await fill(citus_url, tmp_path)
    await drop_old(citus_url)
    before = await everything_of(citus_url)
    assert (await copied(citus_url, other_citus_url)).failed == []
    assert await everything_of(other_citus_url) == before
    assert await query(other_citus_url, "SELECT count(*) FROM pending_refresh") == [(0,)]


async def test_what_a_cluster_has_is_replaced(
    one_url: str, citus_url: str, other_citus_url: str, tmp_path: Path
) -> None:
    await fill(one_url, tmp_path)
    await drop_old(one_url)
    await copied(one_url, citus_url)
    before = await everything_of(citus_url)
    await query(citus_url, "UPDATE trades SET misc = 'x' WHERE symbol = 'BTC/USD' AND id = 50")
    report = await copied(one_url, citus_url)
    assert [symbol for symbol, _ in report.failed] == ["BTC/USD"]
    report = await copied(one_url, citus_url, replaces=True)
    assert (list(report.copied), report.equal) == (["BTC/USD"], ["ADA/USD", "ETH/USD"])
    assert await everything_of(citus_url) == before


async def test_what_timescale_has_dropped_by_chunks(
    timescale_url: str, citus_url: str, timescale_empty_url: str, tmp_path: Path
) -> None:
    await fill(timescale_url, tmp_path)
    for table, day in (("candles", "10"), ("trades", "04")):
        older = f"older_than => TIMESTAMPTZ '2023-01-{day} 00:00+00'"
        await query(timescale_url, f"SELECT drop_chunks('{table}', {older})")
    before = await everything_of(timescale_url, *OF_ROWS)
    await copied(timescale_url, citus_url)
    after = await everything_of(citus_url, *OF_ROWS)
    dropped = after.pop("dropped_ranges")
    assert after == {name: before[name] for name in after}
    assert len(dropped) == 3
    await copied(citus_url, timescale_empty_url)
    back = await everything_of(timescale_empty_url, *OF_ROWS)
    assert back.pop("dropped_ranges") == dropped
    assert back == after


async def test_killed_on_the_way_to_a_cluster(one_url: str, citus_url: str, tmp_path: Path) -> None:
    before = await fill_four(one_url, tmp_path)
    await killed_on_the_way(one_url, citus_url, tmp_path, kills=6)
    assert await everything_of(citus_url) == before


async def test_killed_on_the_way_from_a_cluster(citus_url: str, back_url: str, tmp_path: Path) -> None:
    before = await fill_four(citus_url, tmp_path)
    await killed_on_the_way(citus_url, back_url, tmp_path, kills=6)
    assert await everything_of(back_url) == before
