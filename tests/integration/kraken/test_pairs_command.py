"""``kraken-db pairs`` as a process, against the scripted exchange."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from tests.support.fake_kraken import FakeKraken, ok, refused
from tests.support.shell import forked


def pair(altname: str, wsname: str, status: str = "online") -> dict[str, object]:
    return {
        "altname": altname,
        "wsname": wsname,
        "base": "B",
        "quote": "Q",
        "pair_decimals": 5,
        "lot_decimals": 8,
        "status": status,
    }


LISTING = ok(
    {
        "XXRPZUSD": pair("XRPUSD", "XRP/USD"),
        "XXRPXXBT": pair("XRPXBT", "XRP/XBT", "post_only"),
        "SOLUSD": pair("SOLUSD", "SOL/USD"),
    }
)


async def run(url: str, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *forked(),
        "pairs",
        *arguments,
        env=os.environ | {"KRAKEN_BASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def test_a_table(kraken: FakeKraken) -> None:
    kraken.script(LISTING)
    code, out, err = await run(kraken.url, "xrp/*")
    assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "symbol REST WebSocket status price decimals volume decimals",
        "XRP/BTC XRPXBT XRP/BTC post_only 5 8",
        "XRP/USD XRPUSD XRP/USD online 5 8",
    ]


async def test_json(kraken: FakeKraken) -> None:
    kraken.script(LISTING)
    code, out, _ = await run(kraken.url, "--json")
    assert code == 0
    assert [found["symbol"] for found in json.loads(out)] == ["SOL/USD", "XRP/BTC", "XRP/USD"]
    assert json.loads(out)[0] == {
        "symbol": "SOL/USD",
        "class": "currency",
        "rest_name": "SOLUSD",
        "ws_name": "SOL/USD",
        "status": "online",
        "price_decimals": 5,
        "volume_decimals": 8,
        "successor": None,
    }


SHARES = ok(
    {
        name: pair("AAPLxUSD", "AAPLx/USD") | {"aclass_base": "tokenized_asset"}
        for name in ("AAPLxUSD", "AAPLSPVUSD")
    }
)


@pytest.mark.parametrize(
    ("arguments", "lists", "shown"),
    [
        ([], "ct", ["AAPLx/USD tokenized", "SOL/USD currency", "XRP/BTC currency", "XRP/USD currency"]),
        (["--class", "tokenized"], "t", ["AAPLx/USD tokenized"]),
        (["*", "--class", "currency"], "c", ["SOL/USD SOLUSD", "XRP/BTC XRPXBT", "XRP/USD XRPUSD"]),
        (["*/USD"], "c", ["SOL/USD SOLUSD", "XRP/USD XRPUSD"]),
        (["*/USD", "--class", "all"], "ct", ["AAPLx/USD tokenized", "SOL/USD currency", "XRP/USD currency"]),
        (["*x/USD"], "t", ["AAPLx/USD tokenized"]),
        (["aaplx-usd"], "ct", ["AAPLx/USD tokenized"]),
    ],
)
async def test_classes(kraken: FakeKraken, arguments: list[str], lists: str, shown: list[str]) -> None:
    kraken.script(*({"c": LISTING, "t": SHARES}[one] for one in lists))
    code, out, err = await run(kraken.url, *arguments)
    assert (code, err) == (0, "")
    assert [" ".join(line.split()[:2]) for line in out.splitlines()[1:]] == shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ADA/*"], "Error: no pair that Kraken lists matches 'ADA/*'. "),
        (["SOL/USDT"], "Error: Kraken does not list SOL/USDT. Near it: SOL/USD\n"),
    ],
)
async def test_nothing_matches(kraken: FakeKraken, arguments: list[str], told: str) -> None:
    kraken.script(LISTING)
    code, out, err = await run(kraken.url, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(told)
    assert err.count("\n") == 1


async def test_kraken_refuses(kraken: FakeKraken) -> None:
    kraken.script(refused("EGeneral:Temporary lockout"))
    code, out, err = await run(kraken.url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: AssetPairs: Kraken says 'EGeneral:Temporary lockout'. ")


async def test_an_address_that_is_none() -> None:
    code, _, err = await run("kraken.example")
    assert code == 2
    assert err.startswith("Error: the address of Kraken's REST does not begin with https://HOST")
