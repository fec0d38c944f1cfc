"""What a shell offers for a value: pairs, intervals, times, periods. Reads one small file at most.

A shell waits for it at every Tab: nothing in here asks a database or the network, or imports what takes long.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from click.shell_completion import CompletionItem

from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.pairs import PAIR_MAP
from kraken_db.times import utc_now

_USUAL = (
    *("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD", "ADA/USD", "DOGE/USD", "LTC/USD", "LINK/USD", "DOT/USD"),
    *("BTC/EUR", "ETH/EUR", "SOL/EUR", "XRP/EUR", "ADA/EUR", "DOGE/EUR", "USDT/USD", "USDC/USD", "EUR/USD"),
    *PAIR_MAP,
)
"""Offered as long as no list of Kraken's is on this machine."""
_OTHER_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


def pairs(incomplete: str) -> list[CompletionItem]:
    """The pairs that begin so, in the case of what was typed; behind a comma the next one."""
    before, comma, last = incomplete.rpartition(",")
    shown = [before + comma + name for name in matching_pairs(last)]
    return [CompletionItem(name) for name in shown]


def matching_pairs(begun: str) -> list[str]:
    names = known_pairs() if begun else _USUAL
    found = [name for name in dict.fromkeys(names) if _in_case(name, begun).startswith(begun)]
    for theirs, ours in _OTHER_NAMES.items():
        if not found and begun.upper().startswith(theirs):
            rest = begun[len(theirs) :]
            spelled = (name for name in names if name.startswith(f"{ours}/"))
            found = [theirs + name[len(ours) :] for name in spelled]
            found = [name for name in found if _in_case(name, begun).startswith(begun[: len(theirs)] + rest)]
    return [_in_case(name, begun) for name in found]


def _in_case(name: str, begun: str) -> str:
    return name.lower() if begun.islower() else name


_OTHER_INTERVALS = ("2m", "3m", "10m", "2h", "3h", "6h", "8h", "2d", "3d", "2w", "1M")


def intervals(incomplete: str, *, any_length: bool = False) -> list[CompletionItem]:
    """The stored ones; with ``any_length`` some of those that are computed, too."""
    names = (*INTERVAL_NAMES.values(), *(_OTHER_INTERVALS if any_length else ()))
    return _beginning(incomplete, dict.fromkeys(names, "").items())


def times(incomplete: str) -> list[CompletionItem]:
    now = utc_now()
    offered = {
        "today": "midnight UTC",
        "yesterday": "midnight UTC",
        "now": "this moment",
        "24h": "24 hours ago",
        "7d": "7 days ago",
        "30d": "30 days ago",
        "1y": "a year ago",
        f"{now:%Y}": "the beginning of this year",
        f"{now:%Y-%m}": "the beginning of this month",
        f"{now:%Y-%m-%d}": "today",
    }
    return _beginning(incomplete, offered.items())


def periods(incomplete: str) -> list[CompletionItem]:
    return _beginning(
        incomplete, ((text, "") for text in ["15min", "1h", "1d", "7d", "30d", "90d", "1y", "never"])
    )


def _beginning(incomplete: str, offered: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(text, help=said or None) for text, said in offered if text.startswith(incomplete)]


def known_pairs() -> Sequence[str]:
    """The pairs of the exchange as ``kraken-db pairs`` saw them last, else the most used ones."""
    try:
        return _cache().read_text(encoding="ascii").split() or _USUAL
    except (OSError, ValueError):
        return _USUAL


def remember_pairs(symbols: Iterable[str]) -> None:
    """Keep the list for completion. It is a convenience: where it cannot be written nothing is said."""
    path = _cache()
    beside = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text("\n".join(symbols), encoding="ascii")
        beside.replace(path)
    except (OSError, ValueError):
        return


def _cache() -> Path:
    """One file for each exchange: the pairs of a simulated one are no pairs of Kraken."""
    import platformdirs

    from kraken_db.settings import Settings

    place = urlsplit(Settings.from_environment().kraken_base_url).netloc.replace(":", "_") or "kraken"
    return Path(platformdirs.user_cache_dir("kraken-db", False), f"pairs-{place}.txt")
