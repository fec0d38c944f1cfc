"""Recording a tokenized asset: by its own name on the feed, by its class where REST fills what is missing."""

from __future__ import annotations

from pathlib import Path

from tests.support.downloading import download_one
from tests.support.recording import (
    MINUTE,
    ROUGH,
    START,
    assert_recorded,
    exchange_of,
    market,
    record_all,
)


async def test_through_cuts_and_lost_frames(plain_url: str, tmp_path: Path) -> None:
    wanted = market("BRK.Bx/USD", trades=2_200)
    exchange, clock = exchange_of(wanted, faults=ROUGH)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    status = await record_all(plain_url, exchange, clock, tmp_path)
    assert [pair.symbol for pair in status.pairs] == ["BRK.Bx/USD"]
    assert status.repaired > 0
    await assert_recorded(plain_url, wanted, wanted.first_id)
    asked = [request for request in exchange.requests if request.path.endswith("Trades")]
    assert {request.params.get("asset_class") for request in asked} == {"tokenized_asset"}
