"""The list of pairs: its names agree with what the package makes of them."""

from __future__ import annotations

import json
from pathlib import Path

from kraken_db.pairs import from_result_key, known_pairs, to_rest_pair
from kraken_db.simulator import LISTED, asset_pairs


def test_names_are_those_that_the_package_knows() -> None:
    known = known_pairs(asset_pairs())
    for pair in LISTED:
        if pair.symbol is None:
            assert (pair.key.endswith(".d") and pair.wsname is None) or pair.key.endswith(":BTNL")
            continue
        assert to_rest_pair(pair.symbol) == pair.altname
        for key in pair.keys:
            assert from_result_key(key, known) == pair.symbol


def test_what_the_list_is_for() -> None:
    keys = {pair.key for pair in LISTED}
    assert len(keys) == len(LISTED) >= 36
    assert {"XXBTZUSD", "XETHXXBT", "XXDGXXBT", "XXBTZUSD.d", "MONAUSD", "AUSD", "AIXBTUSD"} <= keys


def test_shape_of_the_recording(real_data: Path) -> None:
    recorded = json.loads((real_data / "rest" / "asset_pairs_XBTUSDT.json").read_text())["result"]["XBTUSDT"]
    ours = asset_pairs()["XBTUSDT"]
    for name in (
        "altname",
        "wsname",
        "base",
        "quote",
        "pair_decimals",
        "lot_decimals",
        "tick_size",
        "status",
    ):
        assert ours[name] == recorded[name]
    # Limits of margin positions are left out.
    assert set(recorded) - set(ours) == {"long_position_limit", "short_position_limit"}
    assert {name: type(value) for name, value in ours.items()}.items() <= {
        name: type(value) for name, value in recorded.items()
    }.items()
