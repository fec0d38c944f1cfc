"""Where tests lie: in folders named as the packages, and sharing nothing but ``tests/support``.

And that what the pages say of the code is there: modules, paths, names.
"""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kraken_db"
TESTS = ROOT / "tests"
SHARED = TESTS / "support"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEVELOPMENT = (ROOT / "docs/development.md").read_text()
_SPAN = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*(?:\.py|/)")
_MODULE = re.compile(r"(?<![\w./])kraken_db(?:\.[A-Za-z_]\w*)+")
_MADE_UP = {"alembic/versions/1042_what_it_does.py"}


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
    kinds = [TESTS / kind for kind in ("unit", "integration", "e2e", "browser")]
    strays = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if not any(path.is_relative_to(kind) for kind in kinds)
    ]
    assert strays == []


# --- what the pages say ---


def spans(text: str) -> list[str]:
    """The code between backticks, outside of blocks."""
    return _SPAN.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def paths(line: str) -> list[str]:
    return [span for span in spans(line) if _PATH.fullmatch(span) and span not in _MADE_UP]


def found(path: str, *folders: Path) -> Path | None:
    """A path of a page lies in the project or, shortened, in the package or in one of these folders."""
    return next((place / path for place in (ROOT, PACKAGE, *folders) if (place / path).exists()), None)


def lost(text: str) -> Iterator[str]:
    """The paths that lead nowhere. Below a folder that a line begins with, they may be shortened."""
    for line in text.splitlines():
        named = paths(line)
        for path in named:
            if found(path, PACKAGE / named[0]) is None:
                yield path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    missing = [path for path in lost(text) if path.endswith(".py")]
    for name in sorted(set(_MODULE.findall(text))):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []


def test_folders_that_the_page_on_development_names_exist() -> None:
    assert list(lost(DEVELOPMENT)) == []


def test_the_map_has_every_module() -> None:
    modules = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in PACKAGE.iterdir()
        if (path.is_dir() and (path / "__init__.py").exists())
        or (path.suffix == ".py" and path.name != "__init__.py")
    }
    mapped = re.findall(r"^\| `([^`]+)` \|", DEVELOPMENT.partition("## The way in")[0], re.MULTILINE)
    assert sorted(mapped) == sorted(modules)


def test_a_decision_is_where_the_page_says() -> None:
    """Each name of a row of the table stands in one of the files of that row."""
    table = DEVELOPMENT.partition("## Where is it decided")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    missing = []
    for row in rows:
        places = [place for path in paths(row) if (place := found(path)) is not None]
        assert places, row
        code = "\n".join(place.read_text() for place in places if place.is_file())
        names = [
            span for span in spans(row) if re.fullmatch(r"[A-Za-z_][\w.]*", span) and span not in paths(row)
        ]
        words = [word for name in names for word in name.split(".")]
        missing += [f"{word}: {row}" for word in words if not re.search(rf"\b{word}\b", code)]
    assert missing == []
