"""``kraken-db verify``: is what is stored complete, and is it right?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import sentence
from kraken_db.cli.moments import range_options
from kraken_db.cli.options import (
    MultiValueCommand,
    SourcePath,
    db_url_option,
    exclude_option,
    json_option,
    pair_options,
    rate_limit_option,
)
from kraken_db.cli.output import (
    count_text,
    folded,
    is_terminal,
    moment_text,
    note,
    plural,
    print_folded,
    print_json,
    print_styled,
    styled,
)
from kraken_db.cli.summaries import details_option, print_totals
from kraken_db.progress import MANY

if TYPE_CHECKING:
    from kraken_db.verification import CandlesPart, Certificate, Part, TradesPart

_SHOWN = 5
"""Findings of a kind that are shown; --json has more."""
_WIDTH = 18


def show_certificates(
    certificates: Sequence[Certificate], *, as_json: bool, details: bool = False, repaired: bool = False
) -> None:
    """Results on stdout; why something ended early on stderr. Of many pairs the totals, then what is wrong.

    ``repaired``: a repair was asked for, and has done what it could.
    """
    is_short = len(certificates) > MANY and not details
    shown = [found for found in certificates if not is_short or not found.is_clean]
    if as_json:
        print_json({"symbols": [_document(found) for found in certificates]})
    elif is_short:
        _print_totals(certificates)
    if not as_json:
        for number, found in enumerate(shown[:MANY] if is_short else shown):
            if number or is_short:
                click.echo()
            for line in _lines(found):
                _print_line(line)
        if is_short and len(shown) > MANY:
            click.echo()
            print_folded(f"... and {plural(len(shown) - MANY, 'other pair')}; --details or --json has all")
    for found in certificates:
        if found.error is not None:
            note(f"Failed: {found.symbol}: {sentence(found.error).removeprefix(f'{found.symbol}: ')}")
    wrong = [found.symbol for found in certificates if found.problems()]
    if wrong and not as_json and not repaired:
        which = " ".join(wrong) if len(wrong) <= _SHOWN else f"{wrong[0]} ..."
        note(f"To put it right: kraken-db verify {which} --repair")


def _print_totals(certificates: Sequence[Certificate]) -> None:
    wrong = sum(found.problems() > 0 for found in certificates)
    clean = sum(found.is_clean for found in certificates)
    print_totals(
        [
            ("pairs", count_text(len(certificates))),
            ("nothing wrong", count_text(clean)),
            ("wrong", count_text(wrong)),
            ("not verified", count_text(len(certificates) - clean - wrong)),
        ]
    )


_BELOW_TITLES = " " * (_WIDTH + 4)


def _print_line(line: str) -> None:
    """In colour where something is wrong or right; on a terminal folded below the text, not the title."""
    colour = "red" if line.lstrip().startswith("! ") or "  WRONG" in line else None
    if colour is None and not line.startswith(" "):
        colour = "green" if "nothing is wrong" in line else "yellow"
    width = get_terminal_size().columns
    indent = _BELOW_TITLES if line.startswith(" ") and width > 2 * len(_BELOW_TITLES) else "    "
    for one in folded(line, width, indent) if is_terminal() else [line]:
        print_styled(styled(one, fg=colour))


def _lines(found: Certificate) -> Iterator[str]:
    yield f"{found.symbol}  {_verdict(found)}"
    for done in found.repaired:
        yield _line("repaired", done)
    for data_type, ranges in found.dropped.items():
        what = "minutes" if data_type.startswith("candles") else data_type
        stretches = "" if len(ranges) == 1 else f", in {count_text(len(ranges))} stretches"
        yield _line("dropped", f"{what} from before {moment_text(ranges[-1][1])}{stretches}: not missing")
    for part in found.parts:
        yield _line(part.name, _summary(part))
        yield from (_line("", text) for text in part.notes)
        yield from (_line("", text) for text in _wrong(part))


def _line(title: str, text: str) -> str:
    return f"  {title:<{_WIDTH}}  {text}" if len(title) <= _WIDTH else f"  {title}\n  {'':<{_WIDTH}}  {text}"


def _verdict(found: Certificate) -> str:
    if found.is_clean:
        left_out = [part.name for part in found.parts if part.not_checked]
        return "nothing is wrong" + (f"; not compared: {', '.join(left_out)}" if left_out else "")
    if not found.problems():
        return "not verified" if found.error is not None else "NOT VERIFIED: nothing could be compared"
    return f"WRONG: {found.reason}"


def _summary(part: Part) -> str:
    """What was compared, and over which time."""
    from kraken_db.verification import CandlesPart, TradesPart

    if part.not_checked and not part.compared:
        text = f"not compared: {part.not_checked}"
        return text if not isinstance(part, CandlesPart) else text + _unproven(part)
    text = plural(part.compared, part.unit.removesuffix("s"))
    if isinstance(part, TradesPart):
        text += f", {_ids(part)}"
    else:
        text += " compared with the trades" if isinstance(part, CandlesPart) else " compared"
    if part.oldest is not None and part.newest is not None:
        text += f", {moment_text(part.oldest)} to {moment_text(part.newest)} UTC"
    if isinstance(part, CandlesPart):
        text += _unproven(part)
    return text + (f"; from there on not compared: {part.not_checked}" if part.not_checked else "")


def _ids(part: TradesPart) -> str:
    """What the ids prove."""
    if part.first_id is None:
        return "none with an id: nothing here can show whether one is missing"
    holes = f", {count_text(part.missing_ids)} missing" if part.missing_ids else " without a hole"
    text = f"ids {part.first_id} to {part.last_id}{holes}"
    if part.dropped_ids:
        text += f" but for {count_text(part.dropped_ids)} that were dropped"
    return text + (f", {count_text(part.without_ids)} without an id" if part.without_ids else "")


def _unproven(part: CandlesPart) -> str:
    """The minutes that are taken at the word of their source."""
    if not part.unproven:
        return ""
    text = f"; {count_text(part.unproven)} stored without their trades, "
    sources = " and ".join(sorted(part.sources))
    return text + (f"complete as {sources} says" if sources else "and no source says that they are complete")


def _wrong(part: Part) -> Iterator[str]:
    for kind, count in part.problems.items():
        found = [finding for finding in part.findings if finding.kind == kind]
        yield from (f"! {finding.text}" for finding in found[:_SHOWN])
        if len(found) > _SHOWN or (count > len(found) and kind != "missing ids"):
            yield f"! {kind}: {count_text(count)} in all (--json names more)"


def _document(found: Certificate) -> dict[str, Any]:
    return {
        "symbol": found.symbol,
        "clean": found.is_clean,
        "since": found.since,
        "until": found.until,
        "repaired": found.repaired,
        "dropped": found.dropped,
        "parts": [_part(part) for part in found.parts],
        "error": found.error and {"reason": found.error.message, "hint": found.error.hint},
    }


def _part(part: Part) -> dict[str, Any]:
    document = asdict(part)
    document["problems"] = {kind: count for kind, count in part.problems.items() if count}
    document["findings"] = [
        {key: value for key, value in finding.items() if key != "moments"} for finding in document["findings"]
    ]
    return document


@click.command(
    cls=MultiValueCommand,
    short_help="Prove that what is stored is complete and right.",
    epilog="Example: kraken-db verify BTC/USD ETH/USD --since '30 days ago' --repair",
)
@pair_options("Default: all that are stored.")
@exclude_option
@range_options(
    "Only what is from this time on. Default: everything.",
    "Only what is before this time. Default: everything.",
)
@click.option("--offline", "--no-exchange", "offline", is_flag=True, help="Do not ask Kraken.")
@click.option(
    "--trades",
    "all_trades",
    is_flag=True,
    help="Ask Kraken for every trade again, 1,000 a request, and compare one by one.",
)
@click.option(
    "--against",
    type=SourcePath(),
    metavar="DIR",
    help="Compare candles with the OHLCVT files in this folder or zip, of all intervals.",
)
@click.option("--repair", is_flag=True, help="Put right what is wrong, and verify again.")
@rate_limit_option
@details_option("every certificate")
@json_option
@db_url_option
@click.pass_context
def verify(
    context: click.Context,
    symbols: tuple[str, ...] | None,
    exclude: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    offline: bool,
    all_trades: bool,
    against: Path | None,
    repair: bool,
    rate_limit: float,
    details: bool,
    as_json: bool,
    db_url: str,
) -> None:
    """Verify what is stored of each SYMBOL; of all of them by default.

    SYMBOL is a pair, or a pattern in quotes: 'XRP/*', '*/USD', '*x/USD' (tokenized).

    Trade ids without a hole, candles that are what the trades say, higher intervals that are what the minutes
    say, and the newest 720 minutes as Kraken has them. Whatever cannot be compared is named and not claimed.
    The exit code is 1 if something is missing or differs. Changes nothing without --repair.

    Asks Kraken over the network, or whatever KRAKEN_BASE_URL names.
    """
    if offline and all_trades:
        raise click.UsageError("--trades asks Kraken: it cannot be combined with --offline")
    from kraken_db.cli.base import Signals
    from kraken_db.cli.progress import show_progress
    from kraken_db.verification import StoreVerifier

    signals = Signals()

    async def run() -> list[Certificate]:
        async with StoreVerifier(db_url, rate_limit, progress=progress) as verifier:
            names = await verifier.select_stored(symbols, exclude)
            with signals.stopping(verifier):
                return await verifier.verify(
                    names or None,
                    since=since,
                    until=until,
                    ask_exchange=not offline,
                    all_trades=all_trades,
                    against=against,
                    repair=repair,
                )

    with show_progress() as progress:
        certificates = asyncio.run(run())
    if certificates or not signals.came:
        show_certificates(certificates, as_json=as_json, details=details, repaired=repair)
    if signals.came:
        note("interrupted; what was not shown was not verified")
    context.exit(signals.exit_code(is_flawed=not all(found.is_clean for found in certificates)))
