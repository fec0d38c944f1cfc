"""The name of an exported file, as the importer reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.archives.names import archive_symbols, export_name
from kraken_db.errors import PairError
from kraken_db.pairs import QUOTES, parse_symbol

ASSETS = st.from_regex(r"[A-Z0-9]{1,8}x?", fullmatch=True) | st.sampled_from(sorted(QUOTES))


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC/USD", "XBTUSD"),
        ("XYZA/USD", "XYZA-USD"),
        ("XYZ/AUSD", "XYZ-AUSD"),
        ("MON/AUSD", "MONAUSD"),
        ("MONA/USD", "MONA-USD"),  # Kraken's MONAUSD is MON/AUSD
        ("ADA/USD", "ADAUSD"),
        ("AAPLx/USD", "AAPLxUSD"),
        ("BRK.Bx/USD", "BRK.BxUSD"),
        ("BTC/XYZ", "BTC-XYZ"),
    ],
)
def test_it_means_the_pair(symbol: str, name: str) -> None:
    assert export_name(symbol) == name
    assert archive_symbols([name]) == {name: symbol}


@given(st.tuples(ASSETS, ASSETS.filter(lambda quote: not quote.isdigit())).map("/".join))
def test_whatever_the_pair(text: str) -> None:
    try:
        symbol = parse_symbol(text)
    except PairError:
        return
    assert archive_symbols([export_name(symbol)]) == {export_name(symbol): symbol}
