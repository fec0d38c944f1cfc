"""``kraken-db simulate``: an exchange to try everything on, without a network."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.options import TimeType
from kraken_db.cli.output import count_text, note, plural
from kraken_db.errors import ConfigurationError
from kraken_db.pairs import DEFAULT_SYMBOLS, parse_symbol
from kraken_db.times import parse_time

if TYPE_CHECKING:
    from kraken_db.simulator import Faults, Market, SimulatedExchange
    from kraken_db.simulator.feed import FeedCounts


@click.command()
@click.argument("more_pairs", nargs=-1, metavar="[PAIR]...")
@click.option(
    "--pairs",
    multiple=True,
    metavar="PAIR...",
    help="Pairs to trade, e.g. BTC/USD ETH/USD. Default: " + " ".join(DEFAULT_SYMBOLS) + ".",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8710, show_default=True, help="0 takes a free one."
)
@click.option(
    "--trades",
    type=click.IntRange(0),
    default=20_000,
    show_default=True,
    help="How many trades each pair has.",
)
@click.option(
    "--live", is_flag=True, help="No end: new trades happen as time goes by; --trades has no effect."
)
@click.option(
    "--pace",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="N",
    help="About how many trades a second each pair has.",
)
@click.option("--seed", default="0", show_default=True, help="Another seed is another market.")
@click.option(
    "--start",
    type=TimeType(),
    help="Time of the first trade. Default: 2024-01-01, with --live now less 2 hours.",
)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    metavar="NAME",
    help="calm, quiet, bursts, same-stamps, zero-ids, zero-ids-counted, or lively: quiet, bursts and"
    " same-stamps, which is the default (with --live same-stamps alone). May be repeated.",
)
@click.option(
    "--delay", type=click.FloatRange(0), default=0.0, metavar="MS", help="Milliseconds that an answer takes."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=SHARE]",
    help="What goes wrong, at which share of the requests (0.1 if not said): transient, for all errors that"
    " pass; or one by its name, e.g. reset, hang, http-429, missing-last, unknown-pair. May be repeated;"
    " a wrong name lists them all.",
)
@click.option(
    "--feed-fault",
    "feed_faults",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="What goes wrong on the WebSocket: cut=TRADES, duplicates=TRADES; lost, silence, mute and burst, the"
    " share of the frames with trades; refused, the share of the subscriptions. May be repeated.",
)
@click.option("--since-exclusive", is_flag=True, help="`since` leaves out trades at its very stamp.")
@click.option(
    "--rate-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Refuse more than N calls a second, by client and pair.",
)
@click.option("--maintenance", is_flag=True, help="Be down: status maintenance, no trades, no candles.")
def simulate(more_pairs: Sequence[str], **options: Any) -> None:
    """Serve a simulated Kraken on this machine until Ctrl-C: REST and WebSocket v2.

    Its markets are made up, from a seed: the same ones every time. It prints the lines that lead the other
    commands to it.

    \b
    Example:
      kraken-db simulate --pairs BTC/USD ETH/USD --trades 100000 --fault transient=0.2
      export KRAKEN_BASE_URL=http://127.0.0.1:8710    (in another terminal)
      export KRAKEN_WS_URL=ws://127.0.0.1:8710/v2
    """
    exchange = _exchange([*options.pop("pairs"), *more_pairs], options)
    asyncio.run(_serve(exchange, options["host"], options["port"]))


def _exchange(names: Sequence[str], options: dict[str, Any]) -> SimulatedExchange:
    from kraken_db.simulator import FeedFaults, SimulatedExchange

    parts = [part for name in names for part in name.split(",") if part]
    symbols = dict.fromkeys(map(parse_symbol, parts)) or DEFAULT_SYMBOLS
    markets = [_market(symbol, options) for symbol in symbols]
    faults = FeedFaults.parse(
        {name: value for name, _, value in (text.partition("=") for text in options["feed_faults"])},
        options["seed"],
    )
    return SimulatedExchange(markets, _faults(options), delay=options["delay"] / 1000, feed_faults=faults)


def _market(symbol: str, options: dict[str, Any]) -> Market:

    from kraken_db.simulator import DEFAULT_START, Market, Scenario

    live = options["live"]
    # Nobody waits for hours, nor for the trades that a burst has taken together.
    usual = Scenario.SAME_STAMPS if live else Scenario.LIVELY
    scenario = Scenario.CALM if options["scenarios"] else usual
    for name in options["scenarios"]:
        try:
            scenario |= Scenario[name.upper().replace("-", "_")]
        except KeyError:
            known = ", ".join(key.lower().replace("_", "-") for key in Scenario.__members__)
            raise ConfigurationError(f"there is no scenario {name!r}", hint=f"one of {known}") from None
    start: datetime | None = options["start"]
    if start is None:
        start = parse_time("2 hours ago", datetime.now(DEFAULT_START.tzinfo)) if live else DEFAULT_START
    trades = None if live else options["trades"]
    return Market(
        symbol,
        seed=options["seed"],
        start=start,
        trades=trades,
        scenario=scenario,
        trades_per_minute=60 * options["pace"],
    )


def _faults(options: dict[str, Any]) -> Faults:
    from kraken_db.simulator import TRANSIENT, Fault, Faults, RateLimit

    rates: dict[Fault, float] = {}
    for text in options["faults"]:
        name, _, share = text.partition("=")
        try:
            wanted = sorted(TRANSIENT) if name == "transient" else [Fault(name)]
        except ValueError:
            known = ", ".join(["transient", *Fault])
            raise ConfigurationError(f"there is no fault {name!r}", hint=f"one of {known}") from None
        try:
            rate = float(share or 0.1)
        except ValueError:
            raise ConfigurationError(f"{text!r}: the share is a number from 0 to 1") from None
        for fault in wanted:
            rates[fault] = rates.get(fault, 0.0) + rate / len(wanted)
    limit = options["rate_limit"]
    return Faults(
        rates,
        options["seed"],
        since_exclusive=options["since_exclusive"],
        rate_limit=RateLimit(limit) if limit else None,
        state="maintenance" if options["maintenance"] else "online",
        hang_seconds=60.0,
    )


async def _serve(exchange: SimulatedExchange, host: str, port: int) -> None:
    from kraken_db.simulator import feed_url

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with exchange.serve(port, host) as base_url:
        click.echo(f"export KRAKEN_BASE_URL={base_url}\nexport KRAKEN_WS_URL={feed_url(base_url)}")
        for market in exchange.markets.values():
            size = "without end" if market.size is None else f"{count_text(market.size)} trades"
            note(f"{market.symbol}: {size}")
        note("Ctrl-C ends it")
        await stopped.wait()
    failed = sum(request.answer != "ok" for request in exchange.requests)
    note(
        f"stopped after {plural(len(exchange.requests), 'request')}"
        + (f", {count_text(failed)} of them without a good answer" if failed else "")
        + _feed_text(exchange.feed.counts)
    )


def _feed_text(counts: FeedCounts) -> str:
    if not counts.connections:
        return ""
    faults = {
        "cut": counts.cuts,
        "lost frame": counts.lost,
        "silence": counts.silences + counts.mutes,
        "burst": counts.bursts,
        "refusal": counts.refusals,
    }
    happened = [plural(number, what) for what, number in faults.items() if number]
    done = f"{plural(counts.connections, 'connection')} and {plural(counts.frames, 'frame')} with trades"
    return f"; on the WebSocket {done}" + (f", {', '.join(happened)}" if happened else "")
