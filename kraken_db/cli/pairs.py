"""``kraken-db pairs``: the markets that Kraken lists, or had once, by the names used here and at Kraken."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import json_option
from kraken_db.cli.output import Column, note, print_json, print_table
from kraken_db.errors import ImportFileError, UnknownPairError

if TYPE_CHECKING:
    from kraken_db.kraken.directory import ListedPair, PairDirectory

_Document = dict[str, str | int | None]


@click.command(
    short_help="List the pairs of Kraken, by all their names.", epilog="Example: kraken-db pairs 'XRP/*'"
)
@click.argument("pattern", default="*")
@click.option(
    "--delisted", is_flag=True, help="Also the pairs that Kraken's archives have, and it lists no more."
)
@click.option(
    "--archive",
    metavar="PLACE",
    help="A folder or an address with Kraken's archives. Default: KRAKEN_ARCHIVE_URL, or Kraken's own.",
)
@json_option
def pairs(pattern: str, delisted: bool, archive: str | None, as_json: bool) -> None:
    """List the pairs that Kraken trades now, with its names for them.

    PATTERN is a pair or has * in it: 'XRP/*', '*/USD'. Put it in quotes. What is not listed is looked for in
    Kraken's archives, of which only the directories travel: a pair that is there alone is delisted. Where it
    got a new name, the successor is named as well: a market of its own, with its own history.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL and KRAKEN_ARCHIVE_URL name.
    """
    found = asyncio.run(_found(pattern, archive, delisted=delisted or archive is not None))
    if as_json:
        print_json(found)
        return
    columns = [
        Column("symbol"),
        Column("REST"),
        Column("WebSocket"),
        Column("status"),
        Column("price decimals", right=True),
        Column("volume decimals", right=True),
        Column("successor"),
    ]
    has_successor = any(document["successor"] for document in found)
    shown = len(columns) if has_successor else len(columns) - 1
    rows = [["-" if value is None else str(value) for value in one.values()][:shown] for one in found]
    print_table(columns[:shown], rows)


async def _found(pattern: str, place: str | None, *, delisted: bool) -> list[_Document]:
    """The listed pairs of a pattern, and then those that are in the archives alone.

    Raises UnknownPairError where there is none of them.
    """
    from kraken_db.kraken.directory import matching, pair_directory
    from kraken_db.kraken.rest import KrakenRestClient

    async with KrakenRestClient() as client:
        directory = await pair_directory(client)
        base_url = client.base_url
    listed: Sequence[ListedPair] = []
    unknown: UnknownPairError | None = None
    try:
        listed = directory.match(pattern)
    except UnknownPairError as error:
        unknown = error
    gone: list[str] = []
    if delisted or unknown is not None:
        archived = await _archived(place, base_url)
        gone = matching(pattern, sorted(symbol for symbol in archived if symbol not in directory))
    if unknown is not None and not gone:
        raise unknown
    return [*map(_listed, listed), *(_delisted(symbol, directory) for symbol in gone)]


async def _archived(place: str | None, base_url: str) -> Collection[str]:
    """The pairs that the archives have; none, and one line that says why, where they cannot be read."""
    from kraken_db.archives.pairs import archived_pairs
    from kraken_db.settings import archive_place

    place = place or archive_place(base_url)
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
        "rest_name": None,
        "ws_name": None,
        "status": "delisted",
        "price_decimals": None,
        "volume_decimals": None,
        "successor": directory.successor(symbol),
    }
