"""What examples/ holds runs: the notebooks in a kernel, the script as it is, and the page of backtesting."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox, new_sandbox

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# Outputs go back into the file: what a reader would see.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

book = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(book)
NotebookClient(book, kernel_name="python3", timeout=120).execute()
nbformat.write(book, sys.argv[1])
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        for path in EXAMPLES.iterdir():
            shutil.copy(path, found.root)
        # A Jupyter of the user's own stays out of it; and pip, which finds all installed, asks nobody.
        found.environment |= {"PIP_NO_INDEX": "1", "IPYTHONDIR": str(found.root)}
        found.environment.pop(
            "PYTEST_CURRENT_TEST", None
        )  # with it a kernel does not show what programs print
        yield found


def code_of(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def shown(notebook: Path) -> list[str]:
    """What the cells printed, and their last values as text."""
    outputs = [out for cell in json.loads(notebook.read_text())["cells"] for out in cell.get("outputs", [])]
    return ["".join(out.get("text") or out.get("data", {}).get("text/plain", "")) for out in outputs]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_backtest", "indicators", "many_pairs"]
    for notebook in NOTEBOOKS:
        assert shown(notebook) == [], "a notebook is kept without what it printed once"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, sandbox: Sandbox) -> None:
    place = sandbox.root / notebook.name
    done = sandbox.run(sys.executable, "-c", EXECUTE, place)
    assert done.returncode == 0, done.stdout
    said = "\n".join(shown(place))
    expected = {
        "first_backtest": ("60,000", "Return [%]", "# Trades"),
        "indicators": ("rsi", "upper", "<Figure"),
        "many_pairs": ("['BTC/USD', 'ETH/USD', 'XRP/USD']", "ETH/USD", "<Figure", "decimal[38,10]"),
    }[notebook.stem]
    assert [text for text in expected if text not in said] == []
    assert "Traceback" not in said


def test_the_script_is_the_notebook(sandbox: Sandbox) -> None:
    script = EXAMPLES / "first_backtest.py"
    install, *cells = code_of(script.with_suffix(".ipynb"))
    assert install.startswith("%pip install")
    assert script.read_text().partition('"""\n\n')[2] == "\n\n".join(cells) + "\n"

    done = sandbox.run(sys.executable, script.name)
    assert done.returncode == 0, done.stdout
    assert "# Trades" in done.stdout
    assert "<html" in (sandbox.root / "first_backtest.html").read_text()


def test_the_page_of_backtesting(tmp_path: Path) -> None:
    """backtesting.py here; the other frameworks by hand, each in an environment of its own."""
    script = ROOT / "scripts/check_frameworks.py"
    with new_sandbox() as sandbox:
        done = sandbox.run(
            sys.executable, script, "backtesting.py", "--python", sys.executable, environment=os.environ
        )
    assert done.returncode == 0, done.stdout
    assert "# Trades" in done.stdout
