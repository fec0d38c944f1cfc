"""Certificates, as people and as programs want to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.diagnostics import sentence
from kraken_db.cli.output import count_text, moment_text, note, plural, print_json

if TYPE_CHECKING:
    from kraken_db.verification import CandlesPart, Certificate, Part, TradesPart

_SHOWN = 5
"""Findings of a kind that are shown; --json has more."""
_WIDTH = 18


def show_certificates(certificates: Sequence[Certificate], *, as_json: bool) -> None:
    """Results on stdout; why something ended early on stderr."""
    if as_json:
        print_json({"symbols": [_document(found) for found in certificates]})
    else:
        for number, found in enumerate(certificates):
            if number:
                click.echo()
            for line in _lines(found):
                click.echo(line)
    for found in certificates:
        if found.error is not None:
            note(f"Failed: {found.symbol}: {sentence(found.error).removeprefix(f'{found.symbol}: ')}")


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
    kinds: dict[str, int] = {}
    for part in found.parts:
        for kind, count in part.problems.items():
            kinds[kind] = kinds.get(kind, 0) + count
    return "WRONG: " + ", ".join(f"{kind} ({count_text(count)})" for kind, count in kinds.items() if count)


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
    holes = f"{count_text(part.missing_ids)} missing" if part.missing_ids else "without a hole"
    text = f"ids {part.first_id} to {part.last_id} {holes}"
    if part.dropped_ids:
        text += f" but for {count_text(part.dropped_ids)} that were dropped"
    return text + (f", {count_text(part.without_ids)} without an id" if part.without_ids else "")


def _unproven(part: CandlesPart) -> str:
    """The minutes that are taken at the word of their source."""
    if not part.unproven:
        return ""
    sources = " and ".join(sorted(part.sources)) or "no source"
    return f"; {count_text(part.unproven)} stored without their trades, complete as {sources} says"


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
