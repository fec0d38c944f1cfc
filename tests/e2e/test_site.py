"""The documentation site: every page, every link and every docstring of the public API can be shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kraken_db

ROOT = Path(__file__).parents[2]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.stem for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.stem for path in site.rglob("*.html")}
    inventory = (site / "genindex.html").read_text()
    assert [name for name in kraken_db.__all__ if name not in inventory] == []
