"""Which pairs are meant: names and patterns against a list of symbols.

A pattern has ``*`` for any letters, ``?`` for one, ``[AB]`` for one of some, in any case, and by any of the
names of an asset: ``'XRP/*'``, ``'*/xbt'``, ``'*'``. It means currencies or tokenized assets, never both:

- tokenized assets where its base ends in a small x, as their names do (``'*x/USD'``);
- else currencies: ``'*/USD'`` has no shares in it;
- a base without ``*`` is a name like any other: ``'aaplx/*'`` is ``AAPLx`` where no currency is called AAPLX.

The list is Kraken's, that of what is stored, or an archive's.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, TypeAlias

from kraken_db.errors import PairError
from kraken_db.pairs import QUOTES, is_tokenized, is_tokenized_asset, known_spelling, parse_symbol

PairClass: TypeAlias = Literal["currency", "tokenized"]
"""Of what a pair's base is."""

_WILD = re.compile(r"[*?\[]")
_PART = r"[A-Za-z0-9*?\[][A-Za-z0-9.*?\[\]!-]*"
_PATTERN = re.compile(rf"{_PART}(?:/{_PART})?")
_SHOWN = 4
_HOW = "write it as BASE/QUOTE, with * for anything, e.g. 'XRP/*'"


def pair_class(symbol: str) -> PairClass:
    return "tokenized" if is_tokenized(symbol) else "currency"


def is_pattern(text: str) -> bool:
    return _WILD.search(text) is not None


def parse_pattern(text: str) -> str:
    """In capitals, but for the small x of tokenized assets: ``'XRP/*'`` and ``'*x/USD'``.

    Raises PairError for what can fit no pair.
    """
    text = text.strip()
    if not _PATTERN.fullmatch(text):
        raise PairError(f"{text!r} is not a pattern of pairs", hint=_HOW)
    base, slash, quote = text.partition("/")
    tokenized = is_tokenized_asset(base) or (is_pattern(base) and _wild_class(base) == "tokenized")
    return f"{base[:-1].upper()}x{slash}{quote.upper()}" if tokenized else text.upper()


def parse_pair(text: str) -> str:
    """A pattern, see ``parse_pattern``, or the symbol of a name, see ``parse_symbol``. Raises PairError."""
    return parse_pattern(text) if is_pattern(text) else parse_symbol(text)


def has_known_quote(text: str) -> bool:
    """Whether a name or pattern is of pairs in a currency that Kraken quotes in: a path hardly ever is."""
    try:
        quote = parse_pair(text).rpartition("/")[2]
    except PairError:
        return False
    return bool(fnmatch.filter(QUOTES, _our_spelling(quote)))


def classes_of(text: str) -> set[PairClass]:
    """The kinds of pairs that a name or pattern may mean: their lists tell. Raises PairError."""
    text = text.strip()
    base = (text if is_pattern(text) else parse_symbol(text)).partition("/")[0]
    if is_tokenized_asset(base):
        return {"tokenized"}
    if is_pattern(base):
        return {_wild_class(base)}
    return {"currency", "tokenized"} if base.upper().endswith("X") else {"currency"}


def matching(pattern: str, symbols: Iterable[str], kinds: Collection[PairClass] = ()) -> list[str]:
    """The symbols of a pattern, or the one of a name, in their order; empty where there is none.

    ``kinds``: of these, whatever the pattern says. Raises PairError for what is neither name nor pattern.
    """
    listed = dict.fromkeys(symbols)
    if not is_pattern(pattern):
        name = known_spelling(parse_symbol(pattern), listed)
        return [name] if name in listed and (not kinds or pair_class(name) in kinds) else []
    fitting = _fitting(pattern, listed)
    wanted = kinds or [_class_of(pattern.strip().partition("/")[0], listed)]
    return [symbol for symbol in fitting if pair_class(symbol) in wanted]


def select(
    wanted: Sequence[str] | None,
    symbols: Iterable[str],
    *,
    exclude: Sequence[str] = (),
    place: str = "that is stored",
    error: type[PairError] = PairError,
) -> list[str]:
    """The pairs of several names and patterns, each once and in their order, without those of ``exclude``.

    ``wanted``: None for all of ``symbols``. A name that is not among them stays: whoever asked for it is to
    hear of it. ``place`` says in an error what the symbols are. Raises ``error`` for a pattern that fits
    nothing, and where ``exclude`` leaves nothing; a pattern of ``exclude`` may fit nothing.
    """
    listed = dict.fromkeys(symbols)
    found = dict(listed) if wanted is None else {}
    for text in wanted or ():
        if is_pattern(text):
            names = matching(text, listed)
            if not names:
                raise error(f"no pair {place} matches {text!r}", hint=_advice(text, listed))
        else:
            names = [known_spelling(parse_symbol(text), listed)]
        found.update(dict.fromkeys(names))
    left = without(found, exclude)
    if found and not left:
        raise error("no pair is left: --exclude takes all that were asked for")
    return left


def without(symbols: Iterable[str], exclude: Sequence[str]) -> list[str]:
    """The symbols that no name or pattern of ``exclude`` means."""
    listed = dict.fromkeys(symbols)
    out = {symbol for text in exclude for symbol in matching(text, listed)}
    return [symbol for symbol in listed if symbol not in out]


def _fitting(pattern: str, symbols: Iterable[str]) -> list[str]:
    """By the letters alone."""
    glob = "/".join(map(_our_spelling, pattern.strip().upper().split("/")))
    return [symbol for symbol in symbols if fnmatch.fnmatchcase(symbol.upper(), glob)]


def _class_of(base: str, symbols: Iterable[str]) -> PairClass:
    if is_pattern(base):
        return _wild_class(base)
    currency = f"{_our_spelling(base.upper())}/"
    is_currency = not is_tokenized_asset(base) and any(symbol.startswith(currency) for symbol in symbols)
    return "currency" if is_currency else "tokenized"


def _wild_class(base: str) -> PairClass:
    return "tokenized" if base.endswith("x") else "currency"


def _our_spelling(asset: str) -> str:
    """``'XBT'`` -> ``'BTC'``; a pattern stays as it is."""
    try:
        return parse_symbol(f"{asset}/{'EUR' if asset != 'EUR' else 'USD'}").partition("/")[0].upper()
    except PairError:
        return asset


def _advice(pattern: str, symbols: Collection[str]) -> str:
    """The nearest of what there is."""
    if others := _fitting(pattern, symbols):
        how = "with" if is_tokenized(others[0]) else "without"
        return f"a pattern for tokenized assets ends its base in a small x; {how} it: {_shown(others)}"
    base, _, quote = pattern.strip().upper().partition("/")
    bases = [symbol.partition("/")[0] for symbol in symbols]
    quotes = [symbol.partition("/")[2] for symbol in symbols]
    near = [f"{b}/{q}" for b in _similar(base, bases) for q in _similar(quote, quotes)]
    if near := [one for one in near if _fitting(one, symbols)]:
        return f"near it: {_shown(near)}"
    if same := [symbol for symbol in symbols if symbol.upper().startswith(f"{_our_spelling(base)}/")]:
        return f"near it: {_shown(same)}"
    return _HOW


def _similar(part: str, names: Collection[str]) -> list[str]:
    return [part] if is_pattern(part) else difflib.get_close_matches(part, set(names), n=2)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
