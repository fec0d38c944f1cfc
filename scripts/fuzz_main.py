"""Made-up input for every parser of what others send: anything but an error of the package's tree is a find.

Each parser runs in a process of its own, guided by what of the package its input has reached (by atheris,
which is installed by hand: .venv/bin/pip install atheris). A find is written into --finds, once for each
place that it is raised at, and the parser goes on; one that takes longer than ten seconds or 2 GiB ends it,
which is a find, too. Keep each as a case of tests/unit/test_fuzz_finds.py.

Usage: scripts/fuzz --minutes 5 rest-trades zip
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _fuzz_targets import TARGETS

_FOUND_AT_MOST = 20
_COUNT = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


def place_of(error: BaseException) -> str:
    """The kind of an error, and the innermost line of the package that it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "kraken_db" in frame.filename]
    inner = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} {Path(inner.filename).name}:{inner.lineno}"


def one_input(work: Callable[[bytes], object], finds: Path, name: str) -> Callable[[bytes], None]:
    """What the fuzzer calls: ``work``, and each new kind of failure written down."""
    from click import UsageError

    from kraken_db.errors import KrakenDBError

    seen: set[str] = set()

    def run(data: bytes) -> None:
        try:
            work(data)
        except (KrakenDBError, UsageError):
            pass
        except Exception as error:
            place = place_of(error)
            if place in seen or len(seen) >= _FOUND_AT_MOST:
                return
            seen.add(place)
            (finds / f"{name}-{len(seen)}").write_bytes(data)
            print(f"FIND {name}-{len(seen)}: {place}: {error!s:.200}", flush=True)

    return run


def fuzz(name: str, seconds: float, finds: Path) -> None:
    """In a process of its own: libFuzzer ends it."""
    atheris: Any = import_module("atheris")
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["kraken_db"]):
        target = TARGETS[name]()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={int(seconds)}",
            "-timeout=10",
            "-rss_limit_mb=2048",
            f"-max_len={target.longest}",
            "-print_final_stats=1",
            "-verbosity=0",
            f"-artifact_prefix={finds / name}-",
        ]
        asyncio.set_event_loop(asyncio.new_event_loop())
        atheris.Setup([sys.argv[0], *options, corpus], one_input(target.work, finds, name))
        atheris.Fuzz()


def run_target(name: str, seconds: float, finds: Path) -> dict[str, object]:
    """Its figures, from what its process has printed."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--one", name, "--seconds", str(seconds), "--finds", str(finds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("FIND ")]
    count = _COUNT.search(done.stderr)
    if done.returncode:
        found.append(f"FIND {name}: its process ended with {done.returncode}: {done.stderr[-600:]}")
    minutes = (time.monotonic() - began) / 60
    executions = int(count[1]) if count else None
    return {"parser": name, "minutes": round(minutes, 1), "executions": executions, "finds": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--minutes", type=float, default=3.0, help="for each parser")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="a folder for what was found")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if find_spec("atheris") is None:
        parser.exit(1, "atheris is not here: .venv/bin/pip install atheris\n")
    if unknown := set(arguments.parsers) - set(TARGETS):
        parser.error(f"there is no parser {', '.join(sorted(unknown))}")
    arguments.finds.mkdir(parents=True, exist_ok=True)
    finds = arguments.finds.resolve()
    if arguments.one:
        fuzz(arguments.one, arguments.seconds, finds)
        return
    failed = False
    for name in arguments.parsers or TARGETS:
        figures = run_target(name, arguments.minutes * 60, finds)
        failed = failed or bool(figures["finds"])
        print(json.dumps(figures), flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
