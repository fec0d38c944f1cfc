"""The names of an archive's pairs, all at once: what one name does not tell, the others may."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from kraken_db.errors import PairError
from kraken_db.pairs import from_archive_name, parse_symbol, readings, to_archive_name

_EXPORTED = re.compile(r"[A-Z0-9.]+x?-(?!\d+$)[A-Z0-9]+")


def archive_symbols(
    names: Iterable[str], known: Mapping[str, str] | None = None
) -> dict[str, str | PairError]:
    """Each name of an archive's files and the symbol that it means, or why it means none.

    A name that can be read in two ways is settled by its siblings: ``XYZAUSD`` is XYZA/USD where the archive
    has ``XYZAEUR`` too and no asset XYZ. Two names of one symbol are both refused: nobody can tell which
    file is the right one.

    Args:
        names: what stands before ``.csv`` or ``_<minutes>.csv``.
        known: further names and their symbols, such as ``known_pairs`` makes from Kraken's list of pairs.
    """
    fitting: dict[str, list[str]] = {}
    found: dict[str, str | PairError] = {}
    for name in dict.fromkeys(names):
        try:
            fitting[name] = _of_export(name) or readings(name, known)
        except PairError as error:
            found[name] = error
    clear = {symbols[0] for symbols in fitting.values() if len(symbols) == 1}
    bases = {symbol.partition("/")[0] for symbol in clear}
    assets = bases | {symbol.partition("/")[2] for symbol in clear}
    for name, symbols in fitting.items():
        found[name] = _settled(name, symbols, bases, assets, known)
    return _without_doubles(found)


def export_name(symbol: str) -> str:
    """What an export calls the file of a pair: as an archive does, where that name means no other one.

    Else ``'XYZA-USD'``, for XYZAUSD may be XYZ/AUSD: a file can always be imported again as the same pair.
    """
    try:
        name = to_archive_name(symbol)
        if from_archive_name(name) == symbol:
            return name
    except PairError:
        pass
    return symbol.replace("/", "-")


def _of_export(name: str) -> list[str]:
    """The one pair of a name with a dash, ``'XYZA-USD'``; nothing for one of an archive.

    Raises PairError for what only looks like one: ``my-trades.csv`` is nobody's pair, nor is ``2026-11.csv``.
    """
    if name.count("-") != 1:
        return []
    if not _EXPORTED.fullmatch(name):
        raise PairError(f"{name!r} is not a name of a pair", hint="capital letters and digits, e.g. XYZA-USD")
    return [parse_symbol(name)]


def _settled(
    name: str, symbols: list[str], bases: set[str], assets: set[str], known: Mapping[str, str] | None
) -> str | PairError:
    """One of the symbols, where its base has other markets and those of the rest have none."""
    if len(symbols) == 1:
        return symbols[0]
    occurring = [symbol for symbol in symbols if symbol.partition("/")[0] in assets]
    if len(occurring) == 1 and occurring[0].partition("/")[0] in bases:
        return occurring[0]
    try:
        return from_archive_name(name, known)
    except PairError as error:
        return error


def _without_doubles(found: dict[str, str | PairError]) -> dict[str, str | PairError]:
    same: defaultdict[str, list[str]] = defaultdict(list)
    for name, symbol in found.items():
        if isinstance(symbol, str):
            same[symbol].append(name)
    for symbol, names in same.items():
        if len(names) > 1:
            for name in names:
                others = " and ".join(repr(other) for other in names if other != name)
                found[name] = PairError(
                    f"{name!r} is {symbol}, and so is {others}", hint="import one of the files alone"
                )
    return found
