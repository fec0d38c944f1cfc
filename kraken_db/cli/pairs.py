"""``kraken-db pairs``: the markets that Kraken lists, or had once, by the names used here and at Kraken."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import click

from kraken_db.cli.completing import remember_pairs
from kraken_db.cli.options import AssetsType, MultiValueCommand, json_option, pair_options
from kraken_db.cli.output import Column, note, print_json, print_table
from kraken_db.errors import ImportFileError, UnknownPairError
from kraken_db.patterns import PairClass, classes_of, matching, pair_class

if TYPE_CHECKING:
    from kraken_db.kraken.directory import ListedPair, PairDirectory

_Document = dict[str, str | int | None]

_KINDS: dict[str, Sequence[PairClass]] = {
    "currency": ("currency",),
    "tokenized": ("tokenized",),
    "all": ("currency", "tokenized"),
}


@click.command(
    cls=MultiValueCommand,
    short_help="List the pairs of Kraken, by all their names.",
    epilog="Example: kraken-db pairs 'XRP/*'",
)
@pair_options("Default: all.", kind=AssetsType())
@click.option(
    "--class",
    "kind",
    type=click.Choice(list(_KINDS)),
    help="Of currencies, of tokenized assets (xStocks), or of both. Default: what SYMBOL means, or both.",
)
@click.option(
    "--delisted", is_flag=True, help="Also the pairs that Kraken's archives have, and it lists no more."
)
@click.option(
    "--archive",
    metavar="PLACE",
    help="A folder or an address with Kraken's archives. Default: KRAKEN_ARCHIVE_URL, or Kraken's own.",
)
@json_option
def pairs(
    symbols: tuple[str, ...] | None, kind: str | None, delisted: bool, archive: str | None, as_json: bool
) -> None:
    """List the pairs that Kraken trades now, with its names for them.

    SYMBOL is a pair, an asset (BTC is 'BTC/*'), or has * or ? in it and is put in quotes: 'XRP/*', '*/USD'.
    It means currencies; if its base ends in a small x, as in '*x/USD', tokenized assets alone. That holds for
    all commands: what is shown here is what a pattern means there.

    A pair that Kraken does not list may be in its archives; only their directories are downloaded. If it is
    there alone, it is delisted. Where it got a new name, the successor is named as well: a market of its own,
    with its own history.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL and KRAKEN_ARCHIVE_URL name.
    """
    if symbols is None:
        symbols, kind = ("*",), kind or "all"
    kinds = _KINDS[kind] if kind else ()
    found = asyncio.run(_found(symbols, kinds, archive, delisted=delisted or archive is not None))
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: Sequence[_Document]) -> None:
    columns = {
        "symbol": Column("symbol"),
        "class": Column("class", rank=4),
        "rest_name": Column("REST", rank=1),
        "ws_name": Column("WebSocket", rank=3),
        "status": Column("status"),
        "price_decimals": Column("price decimals", right=True, rank=5),
        "volume_decimals": Column("volume decimals", right=True, rank=6),
        "successor": Column("successor", rank=2),
    }
    if all(one["class"] == "currency" for one in found):
        del columns["class"]
    if not any(one["successor"] for one in found):
        del columns["successor"]
    rows = [["-" if one[name] is None else str(one[name]) for name in columns] for one in found]
    print_table(list(columns.values()), rows)


async def _found(
    patterns: Sequence[str], kinds: Collection[PairClass], place: str | None, *, delisted: bool
) -> list[_Document]:
    """The listed pairs of some patterns, and then those that are in the archives alone.

    Raises UnknownPairError for a pattern that has none of them.
    """
    from kraken_db.kraken.directory import pair_directory
    from kraken_db.kraken.rest import KrakenRestClient

    wanted = kinds or sorted(set().union(*map(classes_of, patterns)))
    async with KrakenRestClient() as client:
        directory = await pair_directory(client, kinds=wanted)
        base_url = client.base_url
    if set(wanted) == set(_KINDS["all"]):
        remember_pairs(pair.symbol for pair in directory)
    listed: dict[str, ListedPair] = {}
    unknown: dict[str, UnknownPairError] = {}
    for pattern in patterns:
        try:
            listed |= {pair.symbol: pair for pair in directory.match(pattern, kinds)}
        except UnknownPairError as error:
            unknown[pattern] = error
    gone: dict[str, None] = {}
    if delisted or unknown:
        archived = await _archived(place, base_url, are_wanted=delisted)
        left = sorted(symbol for symbol in archived if symbol not in directory)
        for pattern in patterns if delisted else unknown:
            found = matching(pattern, left, kinds)
            if pattern in unknown and not found:
                raise unknown[pattern]
            gone |= dict.fromkeys(found)
    return [*map(_listed, listed.values()), *(_delisted(symbol, directory) for symbol in gone)]


async def _archived(place: str | None, base_url: str, *, are_wanted: bool) -> Collection[str]:
    """The pairs that the archives have; none, and one line that says why, where they cannot be read."""
    from kraken_db.archives.pairs import archived_pairs
    from kraken_db.settings import archive_place

    place = place or archive_place(base_url)
    if place is None and not are_wanted:
        return ()
    if place is None:
        note("Note: no archives are known of this exchange (--archive PLACE): delisted pairs are not shown.")
        return ()
    try:
        return await archived_pairs(place)
    except ImportFileError as error:
        note(f"Note: {error}. Delisted pairs are not shown.")
        return ()


def _listed(pair: ListedPair) -> _Document:
    return {
        "symbol": pair.symbol,
        "class": pair.kind,
        "rest_name": pair.rest_name,
        "ws_name": pair.ws_name,
        "status": pair.status,
        "price_decimals": pair.price_decimals,
        "volume_decimals": pair.volume_decimals,
        "successor": None,
    }


def _delisted(symbol: str, directory: PairDirectory) -> _Document:
    """Neither REST nor the WebSocket has a name for it any more."""
    return {
        "symbol": symbol,
        "class": pair_class(symbol),
        "rest_name": None,
        "ws_name": None,
        "status": "delisted",
        "price_decimals": None,
        "volume_decimals": None,
        "successor": directory.successor(symbol),
    }
