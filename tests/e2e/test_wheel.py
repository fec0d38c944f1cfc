"""The package as users get it: built as a wheel, installed alone, and used far from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import minutes, write
from tests.support.sandbox import Sandbox, new_sandbox

ROOT = Path(__file__).parents[2]
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (found,) = folder.glob("kraken_historical_data-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[tuple[Sandbox, Path]]:
    """A place to work in, and the folder of the installed programs."""
    with new_sandbox() as sandbox:
        venv = sandbox.root / "venv"
        run(sys.executable, "-m", "venv", venv)
        run(venv / "bin" / "python", *PIP, "install", "--quiet", f"{wheel}[embedded]")
        yield sandbox, venv / "bin"


def run(*command: str | Path) -> None:
    """With the environment as it is: pip finds its cache and its index there."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_wheel_holds_the_package_the_revisions_the_man_page_and_the_units_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    data, info = sorted({name.split("/")[0] for name in names} - {"kraken_db"})
    assert info.endswith(".dist-info")
    page = f"{data}/data/share/man/man1/kraken-db.1"
    units = {f"{data}/data/share/kraken-db/systemd/{p.name}" for p in (ROOT / "deploy/systemd").iterdir()}
    assert {name for name in names if name.startswith(f"{data}/")} == {page, *units}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kraken_db").rglob("*.py")}
    web = ROOT / "kraken_db" / "web"
    package |= {p.relative_to(ROOT).as_posix() for n in ("static", "templates") for p in (web / n).iterdir()}
    revisions = {
        f"kraken_db/_alembic/versions/{path.name}" for path in (ROOT / "alembic/versions").glob("*.py")
    }
    others = {"kraken_db/py.typed", "kraken_db/_alembic/env.py", "kraken_db/_alembic/script.py.mako"}
    assert {name for name in names if name.startswith("kraken_db/")} == package | revisions | others
    assert f"{info}/licenses/LICENSE" in names


def test_it_works_without_the_checkout(installed: tuple[Sandbox, Path]) -> None:
    sandbox, programs = installed
    kraken_db = programs / "kraken-db"
    where = sandbox.run(programs / "python", "-c", "import kraken_db; print(kraken_db.__file__)")
    assert where.stdout.startswith(str(sandbox.root))

    upgraded = sandbox.run(kraken_db, "db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stdout
    newest = max(path.name[:4] for path in (ROOT / "alembic/versions").glob("[0-9]*.py"))
    *notices, outcome = upgraded.stdout.splitlines()
    assert [notice.partition(" in ")[0] for notice in notices] == ["making the embedded database"]
    assert outcome == f"schema upgraded from nothing to revision {newest}"

    write(sandbox.root, "XBTUSD_1.csv", minutes(120))
    imported = sandbox.run(kraken_db, "import-csv", "XBTUSD_1.csv")
    assert imported.returncode == 0, imported.stdout

    candles = sandbox.run(kraken_db, "candles", "BTC/USD", "--interval", "1h", "--format", "csv")
    assert candles.stdout.splitlines() == [
        "timestamp,open,high,low,close,volume,trades,vwap",
        "2023-01-01T00:00:00Z,100.5,102,99.5,101,150,420,",
        "2023-01-01T01:00:00Z,100.5,102,99.5,101,150,420,",
    ]
