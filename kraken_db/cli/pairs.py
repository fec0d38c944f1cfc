"""``kraken-db pairs``: the markets that Kraken lists, by the names used here and at Kraken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from kraken_db.cli.options import json_option
from kraken_db.cli.output import Column, print_json, print_table

if TYPE_CHECKING:
    from kraken_db.kraken.directory import ListedPair


@click.command(
    short_help="List the pairs of Kraken, by all their names.", epilog="Example: kraken-db pairs 'XRP/*'"
)
@click.argument("pattern", default="*")
@json_option
def pairs(pattern: str, as_json: bool) -> None:
    """List the pairs that Kraken trades now, with its names for them.

    PATTERN is a pair or has * in it: 'XRP/*', '*/USD'. Put it in quotes. Asks Kraken over the network, or
    whatever KRAKEN_BASE_URL names.
    """
    found = asyncio.run(_listed(pattern))
    if as_json:
        print_json([_document(pair) for pair in found])
        return
    columns = [
        Column("symbol"),
        Column("REST"),
        Column("WebSocket"),
        Column("status"),
        Column("price decimals", right=True),
        Column("volume decimals", right=True),
    ]
    print_table(columns, [tuple(map(str, _document(pair).values())) for pair in found])


async def _listed(pattern: str) -> list[ListedPair]:
    from kraken_db.kraken.directory import pair_directory
    from kraken_db.kraken.rest import KrakenRestClient

    async with KrakenRestClient() as client:
        return (await pair_directory(client)).match(pattern)


def _document(pair: ListedPair) -> dict[str, str | int]:
    return {
        "symbol": pair.symbol,
        "rest_name": pair.rest_name,
        "ws_name": pair.ws_name,
        "status": pair.status,
        "price_decimals": pair.price_decimals,
        "volume_decimals": pair.volume_decimals,
    }
