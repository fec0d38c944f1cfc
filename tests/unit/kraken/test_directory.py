"""Names of listed pairs, patterns, and what is told about those that are not listed."""

from __future__ import annotations

import pytest

from kraken_db.errors import PairError, UnknownPairError
from kraken_db.kraken.directory import PairDirectory
from kraken_db.kraken.messages import AssetPair
from kraken_db.patterns import matching


def listed(altname: str, wsname: str | None, status: str = "online") -> AssetPair:
    return AssetPair(altname, "base", "quote", 1, 8, wsname, status)


def tokenized(altname: str, wsname: str) -> AssetPair:
    return AssetPair(altname, "base", "quote", 2, 8, wsname, aclass_base="tokenized_asset")


DIRECTORY = PairDirectory(
    {
        "XXBTZUSD": listed("XBTUSD", "XBT/USD"),
        "XXBTZUSD.d": listed("XBTUSD.d", None),
        "XETHXXBT": listed("ETHXBT", "ETH/XBT"),
        "XXDGXXBT": listed("XDGXBT", "XDG/XBT"),
        "XXRPZUSD": listed("XRPUSD", "XRP/USD"),
        "XXRPZEUR": listed("XRPEUR", "XRP/EUR"),
        "XRPRLUSD": listed("XRPRLUSD", "XRP/RLUSD", "cancel_only"),
        "AIXBTUSD": listed("AIXBTUSD", "AIXBT/USD"),
        "NEWAUSD": listed("NEWAUSD", "NEWA/USD"),
        "AAPLxUSD": tokenized("AAPLxUSD", "AAPLx/USD"),
        "AAPLSPVUSD": tokenized("AAPLxUSD", "AAPLx/USD"),
        "XBTUSD:BTNL": listed("XBTUSD:BTNL", "XBT/USD:BTNL"),
    }
)


def test_what_has_no_symbol_is_left_out() -> None:
    assert [pair.symbol for pair in DIRECTORY] == [
        "AAPLx/USD",
        "AIXBT/USD",
        "BTC/USD",
        "DOGE/BTC",
        "ETH/BTC",
        "NEWA/USD",
        "XRP/EUR",
        "XRP/RLUSD",
        "XRP/USD",
    ]
    assert len(DIRECTORY) == 9


@pytest.mark.parametrize("text", ["BTC/USD", "xbt-usd", "XBTUSD", "XXBTZUSD", "btc_usd"])
def test_a_pair_by_any_of_its_names(text: str) -> None:
    pair = DIRECTORY.resolve(text)
    assert (pair.symbol, pair.ws_name, pair.rest_name, pair.key) == (
        "BTC/USD",
        "BTC/USD",
        "XBTUSD",
        "XXBTZUSD",
    )
    assert (pair.status, pair.price_decimals, pair.volume_decimals) == ("online", 1, 8)


def test_the_listing_settles_what_a_name_alone_does_not() -> None:
    with pytest.raises(PairError):
        PairDirectory({}).resolve("NEWAUSD")
    assert DIRECTORY.resolve("NEWAUSD").symbol == "NEWA/USD"


@pytest.mark.parametrize(
    ("pattern", "symbols"),
    [
        ("XRP/*", ["XRP/EUR", "XRP/RLUSD", "XRP/USD"]),
        ("xrp/*", ["XRP/EUR", "XRP/RLUSD", "XRP/USD"]),
        ("*/BTC", ["DOGE/BTC", "ETH/BTC"]),
        ("*/xbt", ["DOGE/BTC", "ETH/BTC"]),
        ("XBT/*", ["BTC/USD"]),
        ("XDG/*", ["DOGE/BTC"]),
        ("*XBT/*", ["AIXBT/USD"]),
        ("XRP/?UR", ["XRP/EUR"]),
        ("XRP/[EU]*", ["XRP/EUR", "XRP/USD"]),
        ("xbtusd", ["BTC/USD"]),
        ("*/USD", ["AIXBT/USD", "BTC/USD", "NEWA/USD", "XRP/USD"]),
        ("*x/USD", ["AAPLx/USD"]),
        ("aaplx/*", ["AAPLx/USD"]),
        ("aaplx/usd", ["AAPLx/USD"]),
    ],
)
def test_patterns(pattern: str, symbols: list[str]) -> None:
    assert [pair.symbol for pair in DIRECTORY.match(pattern)] == symbols


def test_two_keys_of_one_pair_are_one_pair() -> None:
    for text in ("AAPLx/USD", "AAPLxUSD", "AAPLSPVUSD", "aaplx/usd", "AAPLXUSD"):
        pair = DIRECTORY.resolve(text)
        assert (pair.symbol, pair.ws_name, pair.rest_name, pair.key, pair.kind) == (
            "AAPLx/USD",
            "AAPLx/USD",
            "AAPLxUSD",
            "AAPLxUSD",
            "tokenized",
        )
    assert DIRECTORY.resolve("BTC/USD").kind == "currency"


def test_a_symbol_is_taken_as_it_is_written() -> None:
    with pytest.raises(UnknownPairError, match="Kraken does not list AAPLX/USD"):
        DIRECTORY.named("AAPLX/USD")
    assert DIRECTORY.named("AAPLx/USD").rest_name == "AAPLxUSD"


def test_a_class_says_more_than_the_pattern() -> None:
    assert [pair.symbol for pair in DIRECTORY.match("*", ["tokenized"])] == ["AAPLx/USD"]
    assert [pair.symbol for pair in DIRECTORY.match("A*", ["currency", "tokenized"])] == [
        "AAPLx/USD",
        "AIXBT/USD",
    ]
    assert [pair.symbol for pair in DIRECTORY.match("*A/*", ["currency"])] == ["NEWA/USD"]
    with pytest.raises(UnknownPairError, match="of this class"):
        DIRECTORY.match("XRP/*", ["tokenized"])
    with pytest.raises(UnknownPairError, match="its class is currency"):
        DIRECTORY.match("BTC/USD", ["tokenized"])


def test_an_asset_with_a_dot() -> None:
    directory = PairDirectory({"ETH2.SETH": listed("ETH2.SETH", "ETH2.S/ETH")})
    for text in ("ETH2.S/ETH", "eth2.seth", "ETH2.*/ETH", "eth2.s/*", "*/ETH"):
        (pair,) = directory.match(text)
        assert (pair.symbol, pair.ws_name, pair.rest_name) == ("ETH2.S/ETH", "ETH2.S/ETH", "ETH2.SETH")


def test_several_patterns_give_each_pair_once() -> None:
    found = DIRECTORY.expand(["XRP/USD", "XRP/*", "BTC/USD"])
    assert [pair.symbol for pair in found] == ["XRP/USD", "XRP/EUR", "XRP/RLUSD", "BTC/USD"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("XRP/USDT", "Kraken does not list XRP/USDT (near it: XRP/USD, XRP/RLUSD, XRP/EUR)"),
        ("BTCC/USD", "Kraken does not list BTCC/USD (near it: BTC/USD"),
        ("QQQQQ/JPY", "Kraken does not list QQQQQ/JPY (kraken-db pairs lists what there is)"),
        ("QQQ/*", "no pair that Kraken lists matches 'QQQ/*' (write it as BASE/QUOTE"),
    ],
)
def test_a_pair_that_is_not_listed(text: str, told: str) -> None:
    with pytest.raises(UnknownPairError) as error:
        DIRECTORY.match(text)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize(
    ("delisted", "successor"),
    [
        ("MATIC/USD", "POL/USD"),
        ("MATIC/EUR", None),  # POL/EUR is not listed
        ("EOS/USD", "A/USD"),
        ("FTM/USD", "S/USD"),
        ("LUNA/USD", None),  # it is listed itself
        ("XLM/USD", None),
    ],
)
def test_successors_are_named_where_they_are_listed(delisted: str, successor: str | None) -> None:
    names = ("POL/USD", "A/USD", "S/USD", "LUNA/USD", "LUNA2/USD")
    directory = PairDirectory({name: listed(name.replace("/", ""), name) for name in names})
    assert directory.successor(delisted) == successor


def test_names_and_patterns_among_any_symbols() -> None:
    symbols = ["BTC/USD", "EOS/EUR", "EOS/USD", "MATIC/USD"]
    assert matching("EOS/*", symbols) == ["EOS/EUR", "EOS/USD"]
    assert matching("*/usd", symbols) == ["BTC/USD", "EOS/USD", "MATIC/USD"]
    assert matching("maticusd", symbols) == ["MATIC/USD"]
    assert matching("XLM/USD", symbols) == []
