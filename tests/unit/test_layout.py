"""Where tests lie: in folders named as the packages, and sharing nothing but ``tests/support``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kraken_db"
TESTS = ROOT / "tests"
SHARED = TESTS / "support"


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it; ``from a import b`` may mean ``a.b``."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{name.name}" for name in node.names)


def is_of_tests(module: str) -> bool:
    return module.startswith((".", "tests."))


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_of_the_tests_only_the_helpers_are_imported(path: Path) -> None:
    foreign = [name for name in imported(path) if is_of_tests(name) and not name.startswith("tests.support.")]
    assert foreign == []


@pytest.mark.parametrize("kind", ["unit", "integration"])
def test_folders_are_named_as_the_packages(kind: str) -> None:
    folders = {path.parent.relative_to(TESTS / kind) for path in (TESTS / kind).rglob("*.py")}
    unknown = {
        str(folder)
        for folder in folders
        if not ((PACKAGE / folder).is_dir() or (PACKAGE / folder).with_suffix(".py").is_file())
    }
    assert unknown == set()


def test_every_test_lies_where_pytest_and_readers_look() -> None:
    kinds = [TESTS / kind for kind in ("unit", "integration", "e2e")]
    strays = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if not any(path.is_relative_to(kind) for kind in kinds)
    ]
    assert strays == []
