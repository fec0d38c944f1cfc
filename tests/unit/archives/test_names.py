"""All names of an archive at once, one to one with their symbols."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.archives.names import archive_symbols
from kraken_db.errors import PairError
from kraken_db.exporting.manifest import Series, parts
from kraken_db.pairs import (
    QUOTES,
    from_archive_name,
    from_rest_pair,
    from_result_key,
    from_ws_symbol,
    from_wsname,
    known_pairs,
    parse_symbol,
    to_archive_name,
    to_rest_pair,
    to_ws_symbol,
)
from kraken_db.simulator.listing import LISTED
from tests.support.archives import EVER

# File names of Kraken's archives, and Kraken's wsname of each.
ARCHIVE = {
    "XBTUSD": "XBT/USD", "XBTEUR": "XBT/EUR", "ETHXBT": "ETH/XBT", "XDGXBT": "XDG/XBT", "XDGUSD": "XDG/USD",
    "DOGUSD": "DOG/USD", "DOGEUR": "DOG/EUR", "AIXBTUSD": "AIXBT/USD", "AIXBTEUR": "AIXBT/EUR",
    "AUSD": "A/USD", "AEUR": "A/EUR", "0GUSD": "0G/USD", "0GEUR": "0G/EUR", "1INCHEUR": "1INCH/EUR",
    "1INCHUSD": "1INCH/USD", "2ZUSD": "2Z/USD", "2ZEUR": "2Z/EUR",
    "PARAUSD": "PARA/USD", "PARAEUR": "PARA/EUR", "PLAUSD": "PLA/USD", "PLAEUR": "PLA/EUR",
    "ETH2.SETH": "ETH2.S/ETH", "ETHUSD": "ETH/USD",
    "MONAUSD": "MON/AUSD", "MONUSD": "MON/USD", "XBTAUSD": "XBT/AUSD", "XBTPYUSD": "XBT/PYUSD",
    "XRPRLUSD": "XRP/RLUSD", "BOBAUSD": "BOBA/USD", "ALPHAUSD": "ALPHA/USD", "LUNAUSD": "LUNA/USD",
    "USDTUSD": "USDT/USD", "USDCHF": "USD/CHF", "USDCAUD": "USDC/AUD", "USDCUSD": "USDC/USD",
    "DAIUSD": "DAI/USD", "EURUSD": "EUR/USD", "GBPUSD": "GBP/USD", "AUDUSD": "AUD/USD", "EURAUD": "EUR/AUD",
    "KSMDOT": "KSM/DOT", "XBTDAI": "XBT/DAI", "TBTCXBT": "TBTC/XBT", "WBTCXBT": "WBTC/XBT",
    "XTZUSD": "XTZ/USD", "ZRXUSD": "ZRX/USD", "XCNUSD": "XCN/USD", "CHZUSD": "CHZ/USD",
    # Delisted.
    "MATICUSD": "MATIC/USD", "EOSUSD": "EOS/USD", "EOSXBT": "EOS/XBT", "RNDRUSD": "RNDR/USD",
    "FTMUSD": "FTM/USD", "REPV2USD": "REPV2/USD", "REPUSD": "REP/USD", "LUNA2USD": "LUNA2/USD",
    "GNOXBT": "GNO/XBT", "STORJETH": "STORJ/ETH", "BSVUSD": "BSV/USD", "TUSD": "T/USD", "TUSDUSD": "TUSD/USD",
}  # fmt: skip


def reason(found: str | PairError) -> str:
    assert isinstance(found, PairError), found
    return str(found)


def test_every_name_of_the_archive_is_one_symbol_and_comes_back() -> None:
    found = archive_symbols(ARCHIVE)
    assert found == {name: from_wsname(wsname) for name, wsname in ARCHIVE.items()}
    assert len(set(map(str, found.values()))) == len(ARCHIVE)
    for name in ARCHIVE:
        assert to_archive_name(from_archive_name(name)) == name


def test_the_names_of_the_simulated_exchange() -> None:
    pairs = {pair.altname: pair.symbol for pair in LISTED if pair.symbol}
    assert archive_symbols(pairs) == pairs
    assert {to_archive_name(symbol): symbol for symbol in pairs.values()} == pairs


def test_an_asset_with_a_dot() -> None:
    """The only one that ever had a market: ETH that is staked."""
    for convert in (from_archive_name, from_rest_pair, from_result_key, parse_symbol):
        assert convert("ETH2.SETH") == "ETH2.S/ETH"
    assert from_wsname("ETH2.S/ETH") == from_ws_symbol("ETH2.S/ETH") == "ETH2.S/ETH"
    assert (
        parse_symbol("eth2.s/eth")
        == parse_symbol("ETH2.S-ETH")
        == parse_symbol(" eth2.s_eth")
        == "ETH2.S/ETH"
    )
    assert to_archive_name("ETH2.S/ETH") == to_rest_pair("ETH2.S/ETH") == "ETH2.SETH"
    assert to_ws_symbol("ETH2.S/ETH") == "ETH2.S/ETH"
    assert known_pairs({"ETH2.SETH": {"altname": "ETH2.SETH", "wsname": "ETH2.S/ETH"}}) == {
        "ETH2.SETH": "ETH2.S/ETH"
    }


@pytest.mark.parametrize(
    "name",
    ["BTC.SUSD", "XBT.MUSD", ".USD", "..USD", "ETH2.S", "ETH2.SXXX", "ETH.SETH", "XBTUSD.", "XBTUSD.D"],
)
def test_other_names_with_a_dot_are_none(name: str) -> None:
    with pytest.raises(PairError):
        from_archive_name(name)


def test_files_of_an_export_of_an_asset_with_a_dot() -> None:
    (candles,) = parts(Series("ETH2.S/ETH", 60), "csv", None, None, EVER)
    (trades,) = parts(Series("ETH2.S/ETH", None), "csv", None, None, EVER)
    assert (candles.path, trades.path) == ("ETH2.SETH_60.csv", "ETH2.SETH.csv")


def test_siblings_settle_what_a_name_does_not() -> None:
    assert reason(archive_symbols(["XYZAUSD"])["XYZAUSD"]).startswith(
        "'XYZAUSD' cannot be told apart without Kraken's list of pairs: it may be XYZ/AUSD or XYZA/USD"
    )
    assert archive_symbols(["XYZAUSD", "XYZAEUR"])["XYZAUSD"] == "XYZA/USD"
    assert archive_symbols(["XYZEUR", "XYZAUSD"])["XYZAUSD"] == "XYZ/AUSD"
    assert archive_symbols(["XYZAUSD", "XYZAXBT", "XBTUSD"])["XYZAUSD"] == "XYZA/USD"
    assert archive_symbols(["XYZPYUSD", "XYZEUR"])["XYZPYUSD"] == "XYZ/PYUSD"


@pytest.mark.parametrize(
    "siblings",
    [
        ["XYZAEUR", "XYZEUR"],  # both assets are there
        ["XYZAXBT", "XYZXBT", "XBTUSD"],
        ["XYZARLUSD"],  # is unclear itself
        ["WXYZAEUR", "XYZABEUR", "YZAEUR"],  # other assets
        [],
    ],
)
def test_what_siblings_do_not_settle_is_never_guessed(siblings: list[str]) -> None:
    for names in itertools.permutations(["XYZAUSD", *siblings]):
        assert "may be XYZ/AUSD or XYZA/USD" in reason(archive_symbols(names)["XYZAUSD"])


def test_a_quote_is_an_asset_too() -> None:
    """DOTA may be new; that DOT is there, if only as a quote, tells against it."""
    assert "cannot be told apart" in reason(archive_symbols(["DOTAUSD", "DOTAEUR", "KSMDOT"])["DOTAUSD"])
    assert "cannot be told apart" in reason(archive_symbols(["DOTAUSD", "KSMDOT"])["DOTAUSD"])
    assert archive_symbols(["DOTAUSD", "DOTEUR", "KSMDOT"])["DOTAUSD"] == "DOT/AUSD"


def test_krakens_list_goes_before_siblings() -> None:
    known = {"XYZAUSD": "XYZ/AUSD"}
    assert archive_symbols(["XYZAUSD", "XYZAEUR"], known)["XYZAUSD"] == "XYZ/AUSD"
    assert archive_symbols(["XYZAUSD"], known) == {"XYZAUSD": "XYZ/AUSD"}


def test_two_names_of_one_symbol_are_both_refused() -> None:
    found = archive_symbols(["XBTUSD", "XXBTZUSD", "BTCUSD", "ETHUSD", "ETHUSD"])
    assert reason(found["XBTUSD"]) == (
        "'XBTUSD' is BTC/USD, and so is 'XXBTZUSD' and 'BTCUSD' (import one of the files alone)"
    )
    assert "'XXBTZUSD' is BTC/USD" in reason(found["XXBTZUSD"])
    assert "'BTCUSD' is BTC/USD" in reason(found["BTCUSD"])
    assert found["ETHUSD"] == "ETH/USD"


def test_what_is_no_name_is_told_and_the_others_go_on() -> None:
    found = archive_symbols(["MASTER", "xbtusd", "XBTUSD.d", "XBTUSD"])
    assert "is not a pair" in reason(found["MASTER"])
    assert "capital letters" in reason(found["xbtusd"])
    assert "dark pool" in reason(found["XBTUSD.d"])
    assert found["XBTUSD"] == "BTC/USD"


@pytest.mark.parametrize("symbol", ["MATIC/USD", "EOS/USD", "RNDR/USD", "FTM/EUR", "LUNA2/USD", "REPV2/XBT"])
def test_delisted_pairs_have_names(symbol: str) -> None:
    ours = from_wsname(symbol)
    assert to_archive_name(ours) == symbol.replace("/", "")
    assert from_archive_name(to_archive_name(ours)) == ours


assets = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=6)
symbols = st.builds(lambda base, quote: f"{base}/{quote}", assets, st.sampled_from(sorted(QUOTES)))


@given(st.lists(symbols, max_size=12))
def test_a_name_is_read_as_its_symbol_or_refused_unless_siblings_mislead(markets: list[str]) -> None:
    names: dict[str, set[str]] = {}
    for symbol in markets:
        try:
            names.setdefault(to_archive_name(symbol), set()).add(symbol)
        except PairError:
            continue
    found = archive_symbols(names)
    assert set(found) == set(names)
    told = [symbol for symbol in found.values() if isinstance(symbol, str)]
    assert len(set(told)) == len(told)
    for name, read in found.items():
        if isinstance(read, str):
            assert to_archive_name(read) == name or from_archive_name(name) == read


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my-trades", "is not a name of a pair"),
        ("prices-eur", "is not a name of a pair"),
        ("btc-usd", "is not a name of a pair"),
        ("aaplx-usd", "is not a name of a pair"),
        ("export-2026", "is not a name of a pair"),
        ("EXPORT-2026", "is not a name of a pair"),
        ("2026-11", "is not a name of a pair"),
        ("trades", "is not a name of a pair"),
        ("TRADES", "does not end in a currency such as USD, EUR or BTC"),
    ],
)
def test_a_name_of_ones_own_is_nobodys_pair(name: str, why: str) -> None:
    assert why in reason(archive_symbols([name])[name])


def test_names_with_a_dash_are_those_of_an_export() -> None:
    names = {"XYZA-USD": "XYZA/USD", "BTC-EUR": "BTC/EUR", "XBT-USD": "BTC/USD", "AAPLx-USD": "AAPLx/USD"}
    assert archive_symbols([*names, "BRK.Bx-USD"]) | {"XBT-USD": "BTC/USD"} == names | {
        "BRK.Bx-USD": "BRK.Bx/USD"
    }
    # An export can always be imported again, whatever currency it was of.
    assert archive_symbols(["XYZA-NEWC"]) == {"XYZA-NEWC": "XYZA/NEWC"}
