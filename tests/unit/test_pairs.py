"""Names of markets. The expected values are Kraken's own: AssetPairs, archive file names, WS v2 symbols."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kraken_db import pairs
from kraken_db.errors import PairError
from kraken_db.pairs import (
    CSV_SYMBOL_MAP,
    DEFAULT_SYMBOLS,
    PAIR_MAP,
    QUOTES,
    REVERSE_PAIR_MAP,
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

# altname, result key, wsname, WebSocket v2
KRAKEN = [
    ("XBTUSD", "XXBTZUSD", "XBT/USD", "BTC/USD"),
    ("XBTEUR", "XXBTZEUR", "XBT/EUR", "BTC/EUR"),
    ("XBTAUD", "XBTAUD", "XBT/AUD", "BTC/AUD"),
    ("XBTUSDT", "XBTUSDT", "XBT/USDT", "BTC/USDT"),
    ("XBTUSDC", "XBTUSDC", "XBT/USDC", "BTC/USDC"),
    ("XBTUSDQ", "XXBTUSDQ", "XBT/USDQ", "BTC/USDQ"),
    ("XRPEUR", "XXRPZEUR", "XRP/EUR", "XRP/EUR"),
    ("XRPXBT", "XXRPXXBT", "XRP/XBT", "XRP/BTC"),
    ("ETHXBT", "XETHXXBT", "ETH/XBT", "ETH/BTC"),
    ("ETCETH", "XETCXETH", "ETC/ETH", "ETC/ETH"),
    ("XDGXBT", "XXDGXXBT", "XDG/XBT", "DOGE/BTC"),
    ("XDGUSD", "XDGUSD", "XDG/USD", "DOGE/USD"),
    ("SOLUSD", "SOLUSD", "SOL/USD", "SOL/USD"),
    ("ZECUSD", "XZECZUSD", "ZEC/USD", "ZEC/USD"),
    ("EURUSD", "ZEURZUSD", "EUR/USD", "EUR/USD"),
    ("USDJPY", "ZUSDZJPY", "USD/JPY", "USD/JPY"),
    ("USDCHF", "USDCHF", "USD/CHF", "USD/CHF"),
    ("USDTUSD", "USDTZUSD", "USDT/USD", "USDT/USD"),
    ("USDCUSDT", "USDCUSDT", "USDC/USDT", "USDC/USDT"),
    ("PYUSDUSD", "PYUSDUSD", "PYUSD/USD", "PYUSD/USD"),
    ("RLUSDUSD", "RLUSDUSD", "RLUSD/USD", "RLUSD/USD"),
    ("USD1USD", "USD1USD", "USD1/USD", "USD1/USD"),
    ("TRXUSDD", "TRXUSDD", "TRX/USDD", "TRX/USDD"),
    ("JITOSOLSOL", "JITOSOLSOL", "JITOSOL/SOL", "JITOSOL/SOL"),
    ("XBTDAI", "XBTDAI", "XBT/DAI", "BTC/DAI"),
    # The letters of the old codes, in names that have none.
    ("XTZUSD", "XTZUSD", "XTZ/USD", "XTZ/USD"),
    ("CHZUSD", "CHZUSD", "CHZ/USD", "CHZ/USD"),
    ("2ZUSD", "2ZUSD", "2Z/USD", "2Z/USD"),
    ("ZRXUSD", "ZRXUSD", "ZRX/USD", "ZRX/USD"),
    ("ZRXXBT", "ZRXXBT", "ZRX/XBT", "ZRX/BTC"),
    ("SNXETH", "SNXETH", "SNX/ETH", "SNX/ETH"),
    ("XCNUSD", "XCNUSD", "XCN/USD", "XCN/USD"),
    # Whole words only; odd names.
    ("AIXBTUSD", "AIXBTUSD", "AIXBT/USD", "AIXBT/USD"),
    ("WBTCXBT", "WBTCXBT", "WBTC/XBT", "WBTC/BTC"),
    ("1INCHUSD", "1INCHUSD", "1INCH/USD", "1INCH/USD"),
    ("AUSD", "AUSD", "A/USD", "A/USD"),
    ("TUSD", "TUSD", "T/USD", "T/USD"),
    ("TEUR", "TEUR", "T/EUR", "T/EUR"),
    ("TUSDUSD", "TUSDUSD", "TUSD/USD", "TUSD/USD"),
    ("EURTUSDT", "EURTUSDT", "EURT/USDT", "EURT/USDT"),
    # Two quotes fit, and it is known which market Kraken means.
    ("XBTPYUSD", "XBTPYUSD", "XBT/PYUSD", "BTC/PYUSD"),
    ("ETHPYUSD", "ETHPYUSD", "ETH/PYUSD", "ETH/PYUSD"),
    ("XRPRLUSD", "XRPRLUSD", "XRP/RLUSD", "XRP/RLUSD"),
    ("MERLUSD", "MERLUSD", "MERL/USD", "MERL/USD"),
    ("XBTAUSD", "XBTAUSD", "XBT/AUSD", "BTC/AUSD"),
    ("MONAUSD", "MONAUSD", "MON/AUSD", "MON/AUSD"),
    ("ADAUSD", "ADAUSD", "ADA/USD", "ADA/USD"),
    ("LUNAUSD", "LUNAUSD", "LUNA/USD", "LUNA/USD"),
    # Tokenized assets: the small x belongs to the name.
    ("AAPLxUSD", "AAPLxUSD", "AAPLx/USD", "AAPLx/USD"),
    ("TSLAxEUR", "TSLAxEUR", "TSLAx/EUR", "TSLAx/EUR"),
    ("BRK.BxUSD", "BRK.BxUSD", "BRK.Bx/USD", "BRK.Bx/USD"),
    ("VxUSD", "VxUSD", "Vx/USD", "Vx/USD"),
    ("XBTxXBT", "XBTxXBT", "XBTx/XBT", "XBTx/BTC"),  # a share called XBT is not Bitcoin
]

assets = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=10)


def test_the_maps_of_the_specification() -> None:
    assert PAIR_MAP == {
        "XRP/USDT": "XRPUSDT",
        "BTC/USDT": "XBTUSDT",
        "XRP/BTC": "XRPXBT",
        "ETH/USDT": "ETHUSDT",
        "SOL/USDT": "SOLUSDT",
        "ETH/BTC": "ETHXBT",
        "LTC/USDT": "LTCUSDT",
        "DOT/USDT": "DOTUSDT",
        "ADA/USDT": "ADAUSDT",
        "LINK/USDT": "LINKUSDT",
    }
    assert {name: PAIR_MAP[symbol] for name, symbol in REVERSE_PAIR_MAP.items()} == {
        name: name for name in PAIR_MAP.values()
    }
    assert CSV_SYMBOL_MAP.items() > REVERSE_PAIR_MAP.items()
    assert set(CSV_SYMBOL_MAP) - set(REVERSE_PAIR_MAP) == {"BTCUSDT", "XRPBTC", "ETHBTC"}
    assert CSV_SYMBOL_MAP["BTCUSDT"] == "BTC/USDT"
    assert DEFAULT_SYMBOLS == ["XRP/USDT", "BTC/USDT", "XRP/BTC"]


def test_the_rules_agree_with_the_maps() -> None:
    assert {symbol: to_rest_pair(symbol) for symbol in PAIR_MAP} == PAIR_MAP
    rules_only = {name: pairs._readings(name) for name in CSV_SYMBOL_MAP}
    assert rules_only == {name: [symbol] for name, symbol in CSV_SYMBOL_MAP.items()}


@pytest.mark.parametrize(("altname", "key", "wsname", "symbol"), KRAKEN)
def test_every_name_of_a_market(altname: str, key: str, wsname: str, symbol: str) -> None:
    assert to_rest_pair(symbol) == to_archive_name(symbol) == altname
    assert to_ws_symbol(symbol) == symbol
    assert from_rest_pair(altname) == from_archive_name(altname) == symbol
    assert from_result_key(key) == symbol
    assert from_wsname(wsname) == from_ws_symbol(symbol) == symbol


@pytest.mark.parametrize(
    "text",
    ["BTC/USD", "btc/usd", " XBT/USD\n", "BTC-USD", "xbt_usd", "XBTUSD", "btcusd", "XXBTZUSD", "XXBT/ZUSD"],
)
def test_what_users_type(text: str) -> None:
    assert parse_symbol(text) == "BTC/USD"


def test_names_of_other_sites() -> None:
    assert from_archive_name("BTCUSDC") == "BTC/USDC"
    assert from_archive_name("DOGEBTC") == from_archive_name("XDGBTC") == "DOGE/BTC"
    assert from_archive_name("BTCPYUSD") == "BTC/PYUSD"


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("ABCPYUSD", "ABC/PYUSD or ABCPY/USD"),
        ("ABCRLUSD", "ABC/RLUSD or ABCRL/USD"),
        ("ABCAUSD", "ABC/AUSD or ABCA/USD"),
        ("XDGAUSD", "DOGE/AUSD or XDGA/USD"),
        ("XXBTRLUSD", "BTC/RLUSD or XXBTRL/USD"),
    ],
)
def test_what_two_quotes_fit_is_never_guessed(name: str, readings: str) -> None:
    for convert in (from_rest_pair, from_archive_name, from_result_key, parse_symbol):
        with pytest.raises(PairError, match=rf"'{name}' cannot be told apart .*list of pairs: .*{readings}"):
            convert(name)


def test_krakens_list_settles_what_the_name_does_not() -> None:
    listing: dict[str, dict[str, str | None]] = {
        "ABCAUSD": {"altname": "ABCAUSD", "wsname": "ABC/AUSD"},
        "XXDGAUSD": {"altname": "XDGAUSD", "wsname": "XDG/AUSD"},
        "XXBTZUSD.d": {"altname": "XBTUSD.d"},
        "XXBTZEUR.d": {"altname": "XBTEUR", "wsname": "XBT/EUR"},
        "XBTUSD:BTNL": {"altname": "XBTUSD:BTNL", "wsname": "XBT/USD:BTNL"},
        "XBTEUR:BTNL": {"altname": "XBTEUR", "wsname": "XBT/EUR"},
        "NULLUSD": {"altname": None, "wsname": None},
    }
    known = known_pairs(listing)
    assert known == {"ABCAUSD": "ABC/AUSD", "XXDGAUSD": "DOGE/AUSD", "XDGAUSD": "DOGE/AUSD"}
    assert from_rest_pair("ABCAUSD", known) == from_archive_name("ABCAUSD", known) == "ABC/AUSD"
    assert from_result_key("XXDGAUSD", known) == parse_symbol("xdgausd", known) == "DOGE/AUSD"
    assert from_rest_pair("XBTUSDT", {"XBTUSDT": "WRONG/USD"}) == "BTC/USDT"  # the maps always win
    assert from_rest_pair("MONAUSD", {"MONAUSD": "MONA/USD"}) == "MONA/USD"  # but Kraken may list anew


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "not a name"),
        ("USD", "not a pair"),
        ("USDT", "not a pair"),
        ("USDUSD", "not a pair"),
        ("XBTBTC", "no price in itself"),
        ("XBT", "not a pair"),
        ("XBTABC", "not a pair"),
        ("MASTER", "not a pair"),
        ("xbtusd", "capital letters"),
        ("AAPLxyz", "capital letters"),
        ("AAPLxABC", "not a pair"),
        ("AAPLx", "capital letters"),
        ("xUSD", "capital letters"),
        ("0xUSD", "capital letters"),
        ("aAPLxUSD", "capital letters"),
        ("BRK..BxUSD", "capital letters"),
        ("XBTUSD:BTNL", "a market of another venue"),
        ("XBT/USD", "not a name"),
        ("XBT USD", "not a name"),
        ("XBTUSD\n", "not a name"),
        ("XBTUSD\0", "not a name"),
        ("../XBTUSD", "not a name"),
        ("..\\XBTUSD", "not a name"),
        ("XBTUSD_1", "not a name"),
        ("ХВТUSD", "not a name"),  # Cyrillic
        ("XBTUSD.d", "dark pool"),
        ("XXBTZUSD.d", "dark pool"),
        ("ABCDEFGHIJKLMNOPQUSD", "too long"),
    ],
)
def test_names_that_are_none(name: str, reason: str) -> None:
    for convert in (from_rest_pair, from_archive_name, from_result_key):
        with pytest.raises(PairError, match=reason):
            convert(name)


@pytest.mark.parametrize(
    "text",
    ["", "/", "BTC/", "/USD", "BTC", "BTC/USD/EUR", "BTC//USD", "BTC/U D", "BTC.S/USD", "ßA/USD", "BTC/XBT"],
)
def test_users_errors_are_named(text: str) -> None:
    with pytest.raises(PairError) as caught:
        parse_symbol(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("convert", [to_rest_pair, to_archive_name, to_ws_symbol])
@pytest.mark.parametrize(
    ("symbol", "reason"),
    [
        ("XBT/USD", "here it is BTC/USD"),
        ("DOGE/XBT", "here it is DOGE/BTC"),
        ("XXBT/ZUSD", "here it is BTC/USD"),
        ("btc/usd", "not a pair"),
        ("BTCUSD", "not a pair"),
        ("BTC/USD/EUR", "not a pair"),
        ("BTC/USD ", "not a pair"),
    ],
)
def test_only_symbols_go_out(convert: Callable[[str], str], symbol: str, reason: str) -> None:
    with pytest.raises(PairError, match=reason):
        convert(symbol)


def test_another_markets_data_is_never_asked_for() -> None:
    with pytest.raises(PairError, match="Kraken has no MONA/USD: its MONAUSD is MON/AUSD"):
        to_rest_pair("MONA/USD")
    with pytest.raises(PairError, match="its ADAUSD is ADA/USD"):
        to_archive_name("AD/AUSD")


def test_symbols_fit_their_column() -> None:
    assert parse_symbol("ABCDEFGHIJKLMNOP/USD") == "ABCDEFGHIJKLMNOP/USD"  # 20 characters
    for function in (parse_symbol, from_wsname, to_ws_symbol, to_rest_pair):
        with pytest.raises(PairError, match="at most 20 characters"):
            function("ABCDEFGHIJKLMNOPQ/USD")


def test_no_two_listed_markets_share_a_name() -> None:
    names = [to_rest_pair(symbol) for symbol in pairs._LISTED]
    assert len(set(names)) == len(names)
    assert all(len(pairs._readings(name)) > 1 for name in names), "an entry that settles nothing"


def test_no_quote_that_others_end_in_is_missing_from_the_ambiguous_ones() -> None:
    spellings = pairs._QUOTE_SPELLINGS
    ending = {(a, b) for a, b in itertools.permutations(spellings, 2) if a.endswith(b)}
    assert ending == {("AUSD", "USD"), ("PYUSD", "USD"), ("RLUSD", "USD")}


@given(base=assets, quote=st.sampled_from(sorted(QUOTES)))
def test_a_symbol_comes_back_from_every_form_or_is_refused(base: str, quote: str) -> None:
    symbol = f"{base}/{quote}"
    try:
        name = to_rest_pair(symbol)
    except PairError:
        assume(False)
    assert from_ws_symbol(to_ws_symbol(symbol)) == parse_symbol(symbol.lower()) == symbol
    for convert in (from_rest_pair, from_archive_name, from_result_key):
        try:
            assert convert(name) == symbol
        except PairError as error:
            assert symbol in str(error)
    assert from_rest_pair(name, {name: symbol}) == symbol or name in CSV_SYMBOL_MAP


tokenized = st.from_regex(r"[A-Z]{1,5}(\.[A-Z])?x", fullmatch=True)


@given(base=tokenized, quote=st.sampled_from(sorted(QUOTES)))
def test_a_tokenized_pair_comes_back_from_every_form(base: str, quote: str) -> None:
    symbol = f"{base}/{quote}"
    name = to_rest_pair(symbol)
    assert pairs.is_tokenized(symbol) and name.startswith(base)
    assert to_archive_name(symbol) == name
    for convert in (from_rest_pair, from_archive_name, from_result_key, parse_symbol):
        assert convert(name) == symbol
    assert from_ws_symbol(to_ws_symbol(symbol)) == from_wsname(symbol) == parse_symbol(symbol) == symbol


markets = st.tuples(assets | tokenized, st.sampled_from(sorted(QUOTES))).map("/".join)


@given(st.sets(markets, max_size=8))
def test_no_two_pairs_have_one_name(symbols: set[str]) -> None:
    names: dict[str, str] = {}
    for symbol in symbols:
        try:
            name = to_rest_pair(symbol)
        except PairError:
            continue
        other = names.setdefault(name, symbol)
        if other != symbol:  # two quotes fit: neither is what the name alone means
            assert set(pairs.readings(name)) >= {other, symbol}
        elif pairs.is_tokenized(symbol):
            assert pairs.readings(name) == [symbol]


def test_a_tokenized_pair_as_users_type_it() -> None:
    for text in ("AAPLx/USD", " AAPLx-usd", "AAPLx_USD", "AAPLxUSD"):
        assert parse_symbol(text) == "AAPLx/USD"
    for text in ("BRK.Bx/USD", "brk.bx/usd", "BRK.BX-USD", "brk.bxusd", "BRK.BxUSD"):
        assert parse_symbol(text) == "BRK.Bx/USD"  # no currency has a dot there
    # Of all other names nobody knows without a list.
    assert parse_symbol("aaplx/usd") == parse_symbol("AAPLXUSD") == "AAPLX/USD"
    assert parse_symbol("avaxusd") == "AVAX/USD"
    assert parse_symbol("XRPxbt") == "XRP/BTC"


def test_a_small_x_that_is_typed_large_needs_a_list() -> None:
    listing = {
        "AAPLxUSD": {"altname": "AAPLxUSD", "wsname": "AAPLx/USD"},
        "AAPLSPVUSD": {"altname": "AAPLxUSD", "wsname": "AAPLx/USD"},
        "SPXUSD": {"altname": "SPXUSD", "wsname": "SPX/USD"},
        "SPxUSD": {"altname": "SPxUSD", "wsname": "SPx/USD"},
    }
    known = known_pairs(listing)
    assert known["AAPLSPVUSD"] == known["AAPLxUSD"] == "AAPLx/USD"
    assert from_result_key("AAPLSPVUSD", known) == "AAPLx/USD"
    for text in ("aaplx/usd", "AAPLXUSD", "aaplx-usd", "AAPLx/USD", "aaplspvusd"):
        assert parse_symbol(text, known) == "AAPLx/USD"
    assert parse_symbol("spx/usd", known) == parse_symbol("SPXUSD", known) == "SPX/USD"  # a currency
    assert parse_symbol("SPx/USD", known) == parse_symbol("SPxUSD", known) == "SPx/USD"
    assert parse_symbol("msftx/usd", known) == "MSFTX/USD"


@given(st.text(max_size=30) | st.from_regex(r"[A-Z0-9]{1,24}", fullmatch=True))
def test_any_text_is_a_valid_symbol_or_a_pair_error(text: str) -> None:
    for convert in (parse_symbol, from_rest_pair, from_result_key, from_wsname):
        try:
            symbol = convert(text)
        except PairError:
            continue
        assert to_ws_symbol(symbol) == symbol
        assert len(symbol) <= 20
