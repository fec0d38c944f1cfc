"""What was probably meant: commands, options and pairs that are not there as they were typed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from kraken_db.cli.completing import known_pairs
from kraken_db.pairs import is_tokenized_asset

_COMMANDS = {
    "backfill": "download fetch get sync history pull load update",
    "candles": "ohlc ohlcv ohlcvt klines bars show print read",
    "chart": "plot draw graph",
    "completion": "complete completions autocomplete",
    "config": "configure settings set setup init",
    "db upgrade": "migrate migrations create-tables initdb",
    "db start": "start server serve",
    "db stop": "stop",
    "export": "dump save parquet csv write",
    "gaps fill": "fill repair-gaps gap-fill fill-gaps",
    "gaps list": "missing holes",
    "import-csv": "import ingest load-csv csv-import archive",
    "jobs": "ps running processes",
    "pairs": "symbols markets instruments list ls tickers assets",
    "policies": "policy retention compression",
    "record": "live stream watch listen subscribe ws websocket recorder",
    "simulate": "simulator fake mock demo",
    "status": "info state stats health summary",
    "verify": "check validate audit prove test",
    "sql": "query psql select",
    "help": "man usage",
    "version": "about",
}
"""Commands, and what people type for them: names of other programs, and what it does in a word."""

_OPTIONS = {
    "--symbols": "--symbol --pair --pairs --market --markets --ticker --instrument -s",
    "--since": "--from --begin --from-date --start-date --start-time --after",
    "--until": "--to --end-date --to-date --end-time --before",
    "--tz": "--timezone --time-zone --zone",
    "--interval": "--timeframe --tf --resolution --period --granularity --freq",
    "--last": "--limit --count --tail --head -n",
    "--out": "--output --output-dir --file --dest --folder -o",
    "--db-url": "--database --db --url --dsn --database-url --uri --conn",
    "--jobs": "--workers --threads --parallel --concurrency -j",
    "--format": "--style --fmt -f",
    "--stored": "--everything --all-stored --known",
    "--max-concurrent": "--workers --threads --parallel --jobs -j",
    "--exclude": "--except --without --skip --ignore",
    "--dry-run": "--dryrun --simulate --what-if -n",
    "--rate-limit": "--rate --delay --throttle --sleep",
    "--notify": "--webhook --alert --slack --alarm",
    "--json": "--as-json --output-json",
    "--verbose": "--verbosity --info",
    "--quiet": "--silent -q",
    "--log-file": "--logfile --log --log-to",
    "--force": "--overwrite --yes -y",
}


OPTIONS_OF_COMMANDS = [name for name in _OPTIONS if name not in ("--verbose", "--quiet", "--log-file")]


def _names(told: dict[str, str], typed: str) -> list[str]:
    return [ours for ours, others in told.items() if typed in others.split()]


def command_advice(typed: str, known: Sequence[str]) -> list[str]:
    """Of the commands ``known``, with their groups before them, those that were probably meant.

    At most three. ``typed`` is one word; a command of a group is found by its last word alone.
    """
    word = typed.lower().replace("_", "-")
    last = {name.rpartition(" ")[2]: name for name in reversed(known)}
    found = [name for name in _names(_COMMANDS, word) if name in known]
    found += [name for name in known if len(word) > 2 and name.startswith(word)]
    found += [last[word]] if word in last else []
    if not found:
        alone = [name for name in known if " " not in name]
        found += difflib.get_close_matches(word, alone, n=2, cutoff=0.65)
        found += [last[near] for near in difflib.get_close_matches(word, last, n=2, cutoff=0.75)]
    return list(dict.fromkeys(found))[:3]


def removal_advice(typed: str) -> str:
    """The command that removes a pair belongs to a group, and people look for it elsewhere."""
    if typed.lower() not in ["delete", "remove", "rm", "drop", "forget", "purge"]:
        return ""
    return "to remove a pair: kraken-db db remove-pair"


def option_advice(typed: str, known: Iterable[str]) -> list[str]:
    """Of the options ``known`` those that were probably meant, at most two."""
    names = [name for name in known if name.startswith("--")]
    word = typed.lower().replace("_", "-")
    found = [name for name in _names(_OPTIONS, word) if name in names]
    found += [word] if word in names else []
    found += [name for name in names if len(word) > 3 and name.startswith(word)]
    found = found or difflib.get_close_matches(word, names, n=2, cutoff=0.7)
    return list(dict.fromkeys(found))[:2]


_FORMATS = ["csv", "json", "table", "parquet", "feather"]
_OUTPUT = ["--out", "--output", "--file", "-o"]


def way_of(typed: str, known: Sequence[str]) -> str:
    """How else to get what an option that is not there would do; empty where nobody knows."""
    name = typed.lower().removeprefix("--")
    if name in _FORMATS and "--format" in known:
        return f"--format {name}"
    if typed.lower() in _OUTPUT and "--format" in known:
        return "--format csv > FILE"
    return ""


_ASSET = re.compile(r"[A-Za-z0-9]{2,10}")
_OURS = {"XBT": "BTC", "XDG": "DOGE"}


def asset_pattern(text: str) -> str | None:
    """``'BTC/*'`` for ``btc`` and ``XBT``, ``'AAPLx/*'`` for ``AAPLx``; None for what is no asset's name."""
    if not _ASSET.fullmatch(text):
        return None
    if is_tokenized_asset(text):
        return f"{text}/*"
    return f"{_OURS.get(text.upper(), text.upper())}/*"


def pair_advice(text: str, *, or_pattern: bool = False) -> str | None:
    """What to write instead of a name that is none of a pair; None where nobody knows."""
    name = text.strip().upper()
    if not _ASSET.fullmatch(name):
        return None
    asset = _OURS.get(name, name)
    known = known_pairs()
    of_asset = [symbol for symbol in known if symbol.startswith(f"{asset}/")]
    if of_asset:
        best = next((symbol for symbol in of_asset if symbol.endswith("/USD")), of_asset[0])
        every = f"'{asset}/*' for all its pairs"
        return f"write {best}, or {every}" if or_pattern else f"write {best}, or see: kraken-db pairs {asset}"
    near = difflib.get_close_matches(name, [symbol.replace("/", "") for symbol in known], n=3, cutoff=0.75)
    meant = [symbol for symbol in known if symbol.replace("/", "") in near]
    return f"did you mean {' or '.join(sorted(meant))}?" if meant else None


_INTERVALS = {
    "1m": "minute minutely m1 1minute",
    "5m": "m5",
    "15m": "m15",
    "30m": "m30",
    "1h": "h1 hour hourly 1hour",
    "4h": "h4",
    "1d": "d d1 day daily 1day",
    "1w": "w w1 week weekly 1week",
    "1M": "mn mn1 month monthly 1month mo 1mo",
    "3M": "quarter quarterly q",
    "1Y": "year yearly",
}
"""Intervals, and what other programs call them."""


def interval_advice(text: str) -> str | None:
    found = _names(_INTERVALS, text.strip().lower())
    return f"{meant(found)}?" if found else None


def meant(found: Sequence[str]) -> str:
    """``did you mean a, b or c``; nothing for nothing."""
    if not found:
        return ""
    *others, last = found
    return f"did you mean {', '.join(others)} or {last}" if others else f"did you mean {last}"
