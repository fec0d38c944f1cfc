"""``kraken-db simulate``: an exchange to try everything on, without a network."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kraken_db.cli.moments import TimeType
from kraken_db.cli.options import PairNamesType, listen_address
from kraken_db.cli.output import count_text, moment_text, note, plural, size_text
from kraken_db.errors import WrongValueError
from kraken_db.pairs import DEFAULT_SYMBOLS
from kraken_db.times import parse_time, utc_now

if TYPE_CHECKING:
    from kraken_db.simulator import ArchiveFaults, Faults, Market, SimulatedExchange
    from kraken_db.simulator.feed import FeedCounts

_Kind = TypeVar("_Kind", bound=StrEnum)


@click.command()
@click.argument("more_pairs", nargs=-1, metavar="[SYMBOL]...", type=PairNamesType())
@click.option(
    "--symbols",
    "--pairs",
    "pairs",
    multiple=True,
    type=PairNamesType(),
    metavar="SYMBOL...",
    help="Pairs to trade, e.g. BTC/USD ETH/USD. Default: " + " ".join(DEFAULT_SYMBOLS) + ".",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    callback=listen_address,
    help="The address to listen on.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8710, show_default=True, help="0 takes a free one."
)
@click.option(
    "--trades",
    type=click.IntRange(0),
    default=20_000,
    show_default=True,
    help="How many trades each pair has; divided by --pace, that is how long its history is.",
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
@click.option(
    "--pace-before",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="With --live: trades a second before the start of this command; after that, --pace applies.",
)
@click.option("--seed", default="0", show_default=True, help="Another seed is another market.")
@click.option(
    "--since",
    "--start",
    "start",
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
    " share of the frames with trades; refused and no_snapshot, the share of the subscriptions; answers_only"
    " and no_heartbeats, the share of the connections; msg_rate=FRAMES, a second. May be repeated.",
)
@click.option("--since-exclusive", is_flag=True, help="`since` leaves out trades at its very stamp.")
@click.option(
    "--rate-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Refuse more than N calls a second, by client and pair.",
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write Kraken's quarterly archives of the pairs into this folder, and serve them too.",
)
@click.option(
    "--archive-until",
    metavar="QUARTER",
    help="The full archives end with this quarter, e.g. 2024Q1; each later one has archives of its own."
    " Default: the last quarter that is over.",
)
@click.option(
    "--archive-part-size",
    type=click.IntRange(1),
    default=1_048_576,
    show_default=True,
    metavar="BYTES",
    help="The size of a part of a full archive. Kraken's parts have 2097152000.",
)
@click.option(
    "--archive-only",
    multiple=True,
    type=PairNamesType(),
    metavar="PAIR",
    help="A pair that has been delisted: it is in the archives alone. May be repeated.",
)
@click.option(
    "--archive-fault",
    "archive_faults",
    multiple=True,
    metavar="NAME[=SHARE]",
    help="What goes wrong with downloads of archives, as with --fault: transient, or e.g. cut, slow, stall,"
    " http-503, wrong-bytes, range-ignored. May be repeated.",
)
@click.option("--maintenance", is_flag=True, help="Be down: status maintenance, no trades, no candles.")
def simulate(more_pairs: Sequence[str], **options: Any) -> None:
    """Serve a simulated Kraken on this machine until Ctrl-C: REST, WebSocket v2 and archives.

    Its markets are made up, from a seed: the same ones every time. It prints the lines that lead the other
    commands to it.

    \b
    Example:
      kraken-db simulate --symbols BTC/USD ETH/USD --trades 100000 --fault transient=0.2
      export KRAKEN_BASE_URL=http://127.0.0.1:8710    (in another terminal)
      export KRAKEN_WS_URL=ws://127.0.0.1:8710/v2
    With --archive DIR also:
      export KRAKEN_ARCHIVE_URL=http://127.0.0.1:8710/marketing/institutions/
    """
    if options["pace_before"] and not options["live"]:
        raise click.UsageError("--pace-before goes with --live")
    exchange = _exchange(_symbols([*options.pop("pairs"), *more_pairs]) or DEFAULT_SYMBOLS, options)
    asyncio.run(_serve(exchange, options["host"], options["port"]))


def _symbols(groups: Iterable[Sequence[str]]) -> Sequence[str]:
    return tuple(dict.fromkeys(symbol for group in groups for symbol in group))


def _exchange(symbols: Sequence[str], options: dict[str, Any]) -> SimulatedExchange:
    from kraken_db.simulator import FeedFaults, SimulatedExchange

    delisted = _symbols(options["archive_only"])
    options["start"] = options["start"] or _usual_start(live=options["live"])
    if not 1970 <= options["start"].year < _NANOSECONDS_END:
        raise WrongValueError(f"--since is from 1970 to {_NANOSECONDS_END - 1}, not {options['start']:%Y}")
    options["pace_since"] = utc_now() if options["pace_before"] else None
    markets = [_market(symbol, options) for symbol in symbols if symbol not in delisted]
    faults = FeedFaults.parse(
        {name: value for name, _, value in (text.partition("=") for text in options["feed_faults"])},
        options["seed"],
    )
    archives = options["archive"]
    if archives is not None:
        _write_archives(archives, [*markets, *(_market(symbol, options) for symbol in delisted)], options)
    return SimulatedExchange(
        markets,
        _faults(options, delisted),
        delay=options["delay"] / 1000,
        feed_faults=faults,
        archives=archives,
        archive_faults=_archive_faults(options),
    )


def _write_archives(folder: Path, markets: Sequence[Market], options: dict[str, Any]) -> None:
    from kraken_db.simulator import Packing, Quarter
    from kraken_db.simulator.archive_folder import fill_archive_folder

    last = Quarter.of(utc_now()).previous
    full = Quarter.parse(options["archive_until"]) if options["archive_until"] else last
    if full > last:
        raise WrongValueError(f"{full} is not over yet", hint=f"the last whole quarter is {last}")
    note(f"writing the archives until {full} into {folder}")
    what_counts = ["seed", "start", "live", "trades", "pace", "scenarios", "archive_part_size"]
    what_counts += ["pace_before", "pace_since"]  # the moment: what happens just before it depends on it
    made_from = {name: str(options[name]) for name in what_counts}
    made_from |= {"pairs": ",".join(market.symbol for market in markets), "until": f"{full}, {last}"}
    names = fill_archive_folder(
        folder,
        markets,
        full,
        last,
        made_from=json.dumps(made_from),
        packing=Packing(part_size=options["archive_part_size"]),
    )
    note(f"{folder}: {plural(len(names), 'file')} of archives" if names else "no trade is in a whole quarter")


_NANOSECONDS_END = 2200
"""Nanoseconds of this year fit into 64 bits, with all trades that a market can have."""


def _usual_start(*, live: bool) -> datetime:
    from kraken_db.simulator import DEFAULT_START

    return parse_time("2 hours ago", utc_now()) if live else DEFAULT_START


def _market(symbol: str, options: dict[str, Any]) -> Market:

    from kraken_db.simulator import Market, Scenario

    live = options["live"]
    # Nobody waits for hours, nor for the trades that a burst has taken together.
    usual = Scenario.SAME_STAMPS if live else Scenario.LIVELY
    scenario = Scenario.CALM if options["scenarios"] else usual
    for name in options["scenarios"]:
        try:
            scenario |= Scenario[name.upper().replace("-", "_")]
        except KeyError:
            known = ", ".join(key.lower().replace("_", "-") for key in Scenario.__members__)
            raise WrongValueError(f"there is no scenario {name!r}", hint=f"one of {known}") from None
    trades = None if live else options["trades"]
    return Market(
        symbol,
        seed=options["seed"],
        start=options["start"],
        trades=trades,
        scenario=scenario,
        trades_per_minute=60 * options["pace"],
        earlier_trades_per_minute=options["pace_before"] and 60 * options["pace_before"],
        pace_since=options["pace_since"],
    )


def _rates(texts: Iterable[str], kinds: type[_Kind], transient: Iterable[_Kind]) -> dict[_Kind, float]:
    rates: dict[_Kind, float] = {}
    for text in texts:
        name, _, share = text.partition("=")
        try:
            wanted = sorted(transient) if name == "transient" else [kinds(name)]
        except ValueError:
            known = ", ".join(["transient", *kinds])
            raise WrongValueError(f"there is no fault {name!r}", hint=f"one of {known}") from None
        try:
            rate = float(share or 0.1)
        except ValueError:
            raise WrongValueError(f"{text!r}: the share is a number from 0 to 1") from None
        for fault in wanted:
            rates[fault] = rates.get(fault, 0.0) + rate / len(wanted)
    return rates


def _archive_faults(options: dict[str, Any]) -> ArchiveFaults:
    from kraken_db.simulator import PASSING_ARCHIVE_FAULTS, ArchiveFault, ArchiveFaults

    rates = _rates(options["archive_faults"], ArchiveFault, PASSING_ARCHIVE_FAULTS)
    return ArchiveFaults(rates=rates, seed=options["seed"], stall_seconds=60.0)


def _faults(options: dict[str, Any], unknown: Sequence[str]) -> Faults:
    from kraken_db.simulator import TRANSIENT, Fault, Faults, RateLimit

    limit = options["rate_limit"]
    return Faults(
        _rates(options["faults"], Fault, TRANSIENT),
        options["seed"],
        since_exclusive=options["since_exclusive"],
        rate_limit=RateLimit(limit) if limit else None,
        state="maintenance" if options["maintenance"] else "online",
        unknown=unknown,
        hang_seconds=60.0,
    )


async def _serve(exchange: SimulatedExchange, host: str, port: int) -> None:
    from kraken_db.simulator import archive_url, feed_url

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with exchange.serve(port, host) as base_url:
        click.echo(f"export KRAKEN_BASE_URL={base_url}\nexport KRAKEN_WS_URL={feed_url(base_url)}")
        if exchange.archive is not None:
            click.echo(f"export KRAKEN_ARCHIVE_URL={archive_url(base_url)}")
        endless = [market.symbol for market in exchange.markets.values() if market.size is None]
        if endless:
            note(f"without end: {', '.join(endless)}")
        for market in exchange.markets.values():
            if market.size is not None:
                note(f"{market.symbol}: {_extent(market)}")
        note("Ctrl-C ends it")
        await stopped.wait()
    failed = sum(request.answer != "ok" for request in exchange.requests)
    note(
        f"stopped after {plural(len(exchange.requests), 'request')}"
        + (f", {count_text(failed)} of them without a good answer" if failed else "")
        + _archive_text(exchange)
        + _feed_text(exchange.feed.counts)
    )


def _extent(market: Market) -> str:
    """``20,000 trades, from 2024-01-01 00:00 to 2024-01-02 13:58 UTC``."""
    if not market.size:
        return "0 trades"
    first, last = (
        moment_text(datetime.fromtimestamp(market.stamp(at) // 10**9, UTC)) for at in (0, market.size - 1)
    )
    return f"{plural(market.size, 'trade')}, from {first} to {last} UTC"


def _archive_text(exchange: SimulatedExchange) -> str:
    asked = exchange.archive.requests if exchange.archive is not None else ()
    if not asked:
        return ""
    failed = sum(request.answer != "ok" for request in asked)
    sent = size_text(sum(request.sent for request in asked))
    return f"; of archives {plural(len(asked), 'request')} and {sent}" + (
        f", {count_text(failed)} without a good answer" if failed else ""
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
