"""Which pairs names and patterns mean."""

from __future__ import annotations

import pytest

from kraken_db.errors import PairError, UnknownPairError
from kraken_db.patterns import classes_of, matching, parse_pair, select, without

LISTED = [
    "AAPLx/USD",
    "AIXBT/USD",
    "AVAX/EUR",
    "AVAX/USD",
    "BRK.Bx/USD",
    "BTC/USD",
    "DOGE/BTC",
    "SPX/USD",
    "SPx/EUR",
    "SPx/USD",
    "TSLAx/EUR",
    "XRP/USD",
]


@pytest.mark.parametrize(
    ("pattern", "symbols"),
    [
        ("*", ["AIXBT/USD", "AVAX/EUR", "AVAX/USD", "BTC/USD", "DOGE/BTC", "SPX/USD", "XRP/USD"]),
        ("*/USD", ["AIXBT/USD", "AVAX/USD", "BTC/USD", "SPX/USD", "XRP/USD"]),
        ("A*/USD", ["AIXBT/USD", "AVAX/USD"]),
        ("*X/USD", ["AVAX/USD", "SPX/USD"]),
        ("*x/USD", ["AAPLx/USD", "BRK.Bx/USD", "SPx/USD"]),
        ("*x/usd", ["AAPLx/USD", "BRK.Bx/USD", "SPx/USD"]),
        ("*x/*", ["AAPLx/USD", "BRK.Bx/USD", "SPx/EUR", "SPx/USD", "TSLAx/EUR"]),
        ("brk.?x/*", ["BRK.Bx/USD"]),
        # Without * in it, a base is a name like any other.
        ("avax/*", ["AVAX/EUR", "AVAX/USD"]),
        ("aaplx/*", ["AAPLx/USD"]),
        ("AAPLX/*", ["AAPLx/USD"]),
        ("spx/*", ["SPX/USD"]),
        ("SPx/*", ["SPx/EUR", "SPx/USD"]),
        ("spx/eur", []),  # the currency is not traded in it, and nobody has asked for the share
        ("spx/EU?", []),
        ("AVAx/*", []),
        # Bitcoin and Dogecoin by both of their names, as whole words.
        ("xbt/*", ["BTC/USD"]),
        ("*/XBT", ["DOGE/BTC"]),
        ("xdg/?BT", []),
        ("XDG/*", ["DOGE/BTC"]),
        ("*XBT/*", ["AIXBT/USD"]),
        # Names.
        ("xbtusd", ["BTC/USD"]),
        ("aaplx/usd", ["AAPLx/USD"]),
        ("spx-usd", ["SPX/USD"]),
        ("SPxUSD", ["SPx/USD"]),
        ("ETH/USD", []),
    ],
)
def test_what_fits(pattern: str, symbols: list[str]) -> None:
    assert matching(pattern, LISTED) == symbols
    assert matching(parse_pair(pattern), LISTED) == symbols  # as an option has it


def test_a_class_that_is_named_wins() -> None:
    assert matching("*", LISTED, ["tokenized"]) == [
        "AAPLx/USD",
        "BRK.Bx/USD",
        "SPx/EUR",
        "SPx/USD",
        "TSLAx/EUR",
    ]
    assert matching("*x/USD", LISTED, ["currency"]) == ["AVAX/USD", "SPX/USD"]
    assert matching("AAPLx/USD", LISTED, ["currency"]) == []


def test_names_and_patterns_in_their_order() -> None:
    assert select(["XRP/USD", "avax/*", "X*/USD", "zzz/usd"], LISTED) == [
        "XRP/USD",
        "AVAX/EUR",
        "AVAX/USD",
        "ZZZ/USD",  # whoever asks for it is to hear that it is not there
    ]
    assert select(None, LISTED) == LISTED
    assert select(["aaplx/usd", "msftx/usd"], LISTED) == ["AAPLx/USD", "MSFTX/USD"]
    assert select(None, []) == []


def test_what_is_excluded() -> None:
    assert select(["*/USD"], LISTED, exclude=["A*/USD", "xbtusd", "NO/SUCH"]) == ["SPX/USD", "XRP/USD"]
    # A pattern of currencies leaves tokenized assets in.
    assert select(None, LISTED, exclude=["*/USD", "*/BTC"]) == [
        "AAPLx/USD",
        "AVAX/EUR",
        "BRK.Bx/USD",
        "SPx/EUR",
        "SPx/USD",
        "TSLAx/EUR",
    ]
    assert without(["AAPLx/USD", "SPX/USD"], ["aaplx/usd"]) == ["SPX/USD"]
    with pytest.raises(PairError, match="no pair is left"):
        select(["XRP/USD"], LISTED, exclude=["XRP/*"])


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("XPR/*", "no pair that is stored matches 'XPR/*' (near it: XRP/*)"),
        ("*/UDS", "no pair that is stored matches '*/UDS' (near it: */USD)"),
        ("DOGE/E*", "no pair that is stored matches 'DOGE/E*' (near it: DOGE/BTC)"),
        (
            "AAPL*/USD",
            "no pair that is stored matches 'AAPL*/USD' (a pattern for tokenized assets ends its base in a"
            " small x; with it: AAPLx/USD)",
        ),
        (
            "AVA*x/EUR",
            "no pair that is stored matches 'AVA*x/EUR' (a pattern for tokenized assets ends its base",
        ),
        ("QQQ/*", "no pair that is stored matches 'QQQ/*' (write it as BASE/QUOTE, with * for anything"),
    ],
)
def test_a_pattern_that_fits_nothing_names_the_nearest(pattern: str, told: str) -> None:
    with pytest.raises(PairError) as error:
        select(["XRP/USD", pattern], LISTED)
    assert str(error.value).startswith(told)
    with pytest.raises(UnknownPairError, match="no pair that Kraken lists"):
        select([pattern], LISTED, place="that Kraken lists", error=UnknownPairError)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("BTC/USD", {"currency"}),
        ("*/USD", {"currency"}),
        ("*X/USD", {"currency"}),
        ("*x/USD", {"tokenized"}),
        ("AAPLx/USD", {"tokenized"}),
        ("AAPLx/*", {"tokenized"}),
        ("avax/*", {"currency", "tokenized"}),
        ("AAPLXUSD", {"currency", "tokenized"}),
    ],
)
def test_whose_list_is_needed(text: str, classes: set[str]) -> None:
    assert classes_of(text) == classes


@pytest.mark.parametrize("text", ["a b/*", "*/U$D", "a/b/*", "../*", "ü*/USD"])
def test_patterns_that_can_fit_nothing(text: str) -> None:
    with pytest.raises(PairError, match="not a pattern"):
        parse_pair(text)
