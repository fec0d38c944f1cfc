"""The page "Backtesting": what it tells to type is run, each framework in an environment of its own.

The environments are made in a temporary folder, from the package index: they take minutes, and up to a
gigabyte each. History is made up. Usage, in the virtual environment that scripts/test makes:

    .venv/bin/python scripts/check_frameworks.py                    # all of them
    .venv/bin/python scripts/check_frameworks.py vectorbt           # one
    .venv/bin/python scripts/check_frameworks.py vectorbt --python other/bin/python
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/backtesting.md"
FRAMEWORKS = ("backtesting.py", "vectorbt", "freqtrade", "nautilus_trader")
"""Headings of the page."""
START = 1672531200  # 2023-01-01
DAYS = 3
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_KRAKEN_DB = "from kraken_db.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", help=", ".join(FRAMEWORKS))
    parser.add_argument("--python", type=Path, help="of an environment that has the framework already")
    options = parser.parse_args()
    if unknown := set(options.frameworks) - set(FRAMEWORKS):
        parser.error(f"the page has no {', '.join(sorted(unknown))}")
    for name in options.frameworks or FRAMEWORKS:
        # As root the server's user must get through, so it is not below a private folder.
        with tempfile.TemporaryDirectory(prefix="kraken-db-frameworks-") as folder:
            Path(folder).chmod(0o755)
            check(name, Path(folder), options.python)


def check(name: str, folder: Path, python: Path | None) -> None:
    """Run the blocks of a framework's section. Raises CalledProcessError for one that fails."""
    python = python or install(name, folder / "venv")
    programs = folder / "bin"
    programs.mkdir()
    command = programs / "kraken-db"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{_KRAKEN_DB}' \"$@\"\n")
    command.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    path = os.pathsep.join((str(programs), os.environ["PATH"]))
    environment = inherited | {"PATH": path, "KRAKEN_DB_DATA_DIR": str(folder / "data")}

    def run(*words: str | Path) -> None:
        subprocess.run(words, cwd=folder, env=environment, check=True)

    for pair in ("XBTUSD", "ETHUSD"):
        (folder / f"{pair}_1.csv").write_text(minutes())
    run("kraken-db", "import-csv", ".")
    for language, code in blocks(name):
        print(f"--- {name}: {code.splitlines()[0]} ...", flush=True)
        if language == "bash":
            run("bash", "-euo", "pipefail", "-c", code)
        else:
            run(python, "-c", code)


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and code of each block below the heading of a framework."""
    section = PAGE.read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    found = [(match["language"], match["code"]) for match in _BLOCK.finditer(section)]
    assert found, f"nothing is told of {name}"
    return [block for block in found if not block[1].startswith("pip ")]


def install(name: str, folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    package = name.removesuffix(".py")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    subprocess.run([*pip, f"{ROOT}[embedded,frames]", package], check=True)
    return python


def minutes() -> str:
    """Days of waves, with trades in every minute but each seventh."""
    prices = [1000 + 40 * math.sin(n / 60) + 5 * math.sin(n / 7) for n in range(DAYS * 1440 + 1)]
    return "".join(
        f"{START + 60 * n},{a:.1f},{max(a, b) + 0.5:.1f},{min(a, b) - 0.5:.1f},{b:.1f},1.5,3\n"
        for n, (a, b) in enumerate(itertools.pairwise(prices))
        if n % 7
    )


if __name__ == "__main__":
    main()
