"""Candles without trades, archives to compare with, and what was dropped: what is proven and what is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import Market, Scenario
from tests.support.archives import import_file, import_paths, kraken_rows, minutes, query, write
from tests.support.downloading import MINUTE, assert_is_truth, download_one
from tests.support.verifying import kinds, verify, wrong

SYMBOL = "BTC/USD"
DAY = timedelta(days=1)


async def test_krakens_own_files(plain_url: str, real_data: Path, tmp_path: Path) -> None:
    """A quarter of BTC/USDC: what is stored are its minutes, what it is compared with are all six files."""
    archive = real_data / "ohlcvt"
    await import_paths(plain_url, archive)
    found = await verify(plain_url, against=archive)
    assert found.is_clean, found.findings
    compared = {
        Path(part.name).name: part.compared for part in found.parts if part.name.startswith("archive")
    }
    assert compared == {
        "XBTUSDC_1.csv": 56_717,
        "XBTUSDC_5.csv": 22_893,
        "XBTUSDC_15.csv": 8_569,
        "XBTUSDC_60.csv": 2_160,
        "XBTUSDC_720.csv": 180,
        "XBTUSDC_1440.csv": 90,
    }
    assert found.candles is not None
    assert (found.candles.stored, found.candles.unproven, found.candles.compared) == (56_717, 56_717, 0)
    assert found.candles.sources.keys() == {"csv"}

    lines = (archive / "XBTUSDC_1440.csv").read_text().splitlines(keepends=True)
    faulty = [line for number, line in enumerate(lines) if number not in (10, 11)]
    seconds, *prices, volume, trades = faulty[20].strip().split(",")
    faulty[20] = ",".join([seconds, *prices, volume, str(int(trades) + 1)]) + "\n"
    seconds, *prices, volume, trades = faulty[30].strip().split(",")
    faulty[30] = ",".join([seconds, *prices, f"{float(volume) + 3e-9:.14f}", trades]) + "\n"
    found = await verify(plain_url, against=write(tmp_path, "XBTUSDC_1440.csv", "".join(faulty)))
    part = found.parts[-1]
    assert kinds(found, part.name) == {"candle differs": 1}
    (finding,) = part.findings
    day = kraken_rows(archive / "XBTUSDC_1440.csv")[22]
    assert finding.start == datetime.fromtimestamp(day[0], UTC)
    assert f"trade_count {day[6]}, not {day[6] + 1}" in finding.text
    assert part.notes == [
        "the file lacks 2 1d candles in which there were trades: a known fault of Kraken's coarse files"
    ]


async def test_files_that_cannot_be_compared(plain_url: str, tmp_path: Path) -> None:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(10)))
    other = write(tmp_path, "other/ETHUSD_60.csv", minutes(1))
    with pytest.raises(ConfigurationError, match="no OHLCVT file"):
        await verify(plain_url, against=other)
    broken = write(tmp_path, "broken/XBTUSD_5.csv", "1672531200,1,2,3\n")
    found = await verify(plain_url, against=broken)
    assert wrong(found) == {f"archive {broken}": {"file refused": 1}}
    # Of these ten minutes no hour is known as a whole.
    hour = write(tmp_path, "hour/XBTUSD_60.csv", minutes(1))
    found = await verify(plain_url, against=hour)
    assert found.is_clean
    assert "nothing that is stored is complete" in (found.parts[-1].not_checked or "")


async def test_volumes_with_the_float_noise_of_an_archive(plain_url: str, tmp_path: Path) -> None:
    """No difference, and none is left when the trades' own candle comes."""
    market = Market(SYMBOL, seed=74, trades=300, trades_per_minute=30, scenario=Scenario.CALM)
    rows = [
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume}0{noise},{c.trade_count}\n"
        for noise, c in zip("0123456789" * 9, market.truth_candles(), strict=False)
    ]
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", "".join(rows)))
    await download_one(plain_url, market, build_candles=False)
    found = await verify(plain_url)
    assert found.is_clean and found.candles is not None, found.findings
    assert found.candles.compared == len(rows)
    await query(plain_url, "DELETE FROM data_coverage WHERE data_type = 'candles_1m'")
    await download_one(plain_url, market)
    await assert_is_truth(plain_url, market)


async def test_trades_without_ids(plain_url: str, tmp_path: Path) -> None:
    """Their number proves nothing, and Kraken's own trades account for them one by one."""
    market = Market(SYMBOL, seed=71, trades=1_200, trades_per_minute=600, scenario=Scenario.CALM)
    rows = [f"{row.time.partition('.')[0]},{row.price},{row.volume}\n" for row in market.texts(0, 1_200)]
    await import_file(plain_url, write(tmp_path, "XBTUSD.csv", "".join(rows)))
    found = await verify(plain_url, market, all_trades=True)
    assert found.is_clean, found.findings
    assert found.trades is not None and found.candles is not None
    assert (found.trades.first_id, found.trades.with_ids, found.trades.without_ids) == (None, 0, 1_200)
    official = found.part("Kraken's trades")
    assert official is not None
    # All but those of the last second, which a file cannot show to be complete.
    last = max(trade.timestamp for trade in market.truth_trades()).replace(microsecond=0)
    known = sum(trade.timestamp < last for trade in market.truth_trades())
    assert official.notes == [f"{known:,} trades are stored without the ids that Kraken has for them"]
    victim = (
        await query(plain_url, "SELECT id, timestamp FROM trades ORDER BY timestamp OFFSET 300 LIMIT 1")
    )[0]
    await query(plain_url, "DELETE FROM trades WHERE id = :id", id=victim[0])
    found = await verify(plain_url, market, all_trades=True)
    assert wrong(found) == {
        "trades": {"count differs": 1},
        "candles": {"candle differs": 1},
        "Kraken's trades": {"trade missing": 1},
    }
    assert (await verify(plain_url, market, all_trades=True, repair=True)).is_clean


@pytest.mark.parametrize("scenario", [Scenario.ZERO_IDS, Scenario.ZERO_IDS_COUNTED])
async def test_runs_without_ids_in_krakens_past(plain_url: str, scenario: Scenario) -> None:
    """Where they use up numbers, the ids of the others have holes of their size: nothing is missing."""
    market = Market(SYMBOL, seed=72, trades=1_500, scenario=scenario)
    await download_one(plain_url, market)
    found = await verify(plain_url, market, all_trades=True)
    assert found.is_clean, found.findings
    assert found.trades is not None and found.trades.without_ids == 40
    zero = await query(plain_url, "DELETE FROM trades WHERE id = (SELECT min(id) FROM trades) RETURNING id")
    assert len(zero) == 1
    found = await verify(plain_url, market, all_trades=True)
    assert kinds(found, "Kraken's trades") == {"trade missing": 1}
    assert bool(found.trades and found.trades.missing_ids) is (scenario is Scenario.ZERO_IDS_COUNTED)
    repaired = await verify(plain_url, market, all_trades=True, repair=True)
    assert repaired.is_clean, repaired.findings
    await assert_is_truth(plain_url, market)


async def test_what_was_dropped_is_not_missing(timescale_url: str) -> None:
    """Four days, of which the chunks of the trades of the second one go, and the minutes of none."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    market = Market(
        SYMBOL, seed=73, start=start, until=start + 4 * DAY, trades_per_minute=0.1, scenario=Scenario.CALM
    )
    await download_one(timescale_url, market)
    gone = [t for t in market.truth_trades() if start + DAY <= t.timestamp < start + 2 * DAY]
    await query(
        timescale_url,
        "SELECT drop_chunks('trades', older_than => CAST(:end AS timestamptz),"
        " newer_than => CAST(:start AS timestamptz))",
        start=start + DAY,
        end=start + 2 * DAY,
    )
    found = await verify(timescale_url)
    assert found.is_clean, found.findings
    assert found.trades is not None and found.candles is not None
    assert found.trades.dropped_ids == len(gone) > 50
    assert found.dropped == {"trades": [(start + DAY, start + 2 * DAY)]}
    day = [c for c in market.truth_candles() if start + DAY <= c.timestamp < start + 2 * DAY]
    assert found.candles.unproven == len(day)
    assert found.candles.compared == len(list(market.truth_candles())) - len(day)

    # A trade beside it is missing all the same, and so is one of a time that was asked for alone.
    lost = next(t for t in market.truth_trades() if t.timestamp >= start + 3 * DAY + timedelta(hours=1))
    await query(timescale_url, "DELETE FROM trades WHERE id = :id", id=lost.id)
    found = await verify(timescale_url, since=start + 3 * DAY, until=lost.timestamp + 60 * MINUTE)
    assert kinds(found, "trades") == {"missing ids": 1}
    assert (await verify(timescale_url, since=lost.timestamp + 60 * MINUTE)).is_clean
