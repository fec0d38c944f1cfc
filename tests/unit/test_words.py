"""Pages, help and docstrings in words that people use: docs/style.md says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import kraken_db
from kraken_db.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES.remove(ROOT / "docs" / "style.md")  # it shows them
PUBLIC = sorted(Path(kraken_db.__file__).parent.glob("*.py"))

# Beside each: what to write.
WORDS = {
    r"anew": "again, rebuilt, over",
    r"told": "printed, reported, recognized",
    r"(is|are|was|were) looked for": "kraken-db looks up ...",
    r"(how|where) (it|they) stands?": "how far it is, its state",
    r"stands (for|beside|above|in|at)": "means, is",
    r"(?<=[.;:] )(wanted|missing|over) (is|are)": "... is wanted",
    r"(?<=[.;:] )of a pair that": "for a pair that, where a pair",
    r"simply|easily": "leave it out",
}
_WORDS = {
    re.compile(rf"(?<![\w`-])({pattern})(?![\w`])", re.IGNORECASE): say for pattern, say in WORDS.items()
}
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def odd(text: str) -> list[str]:
    plain = " ".join(_CODE.sub("``", text).split())
    return [f"{found[0]!r}: {say}" for word, say in _WORDS.items() if (found := word.search(plain))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page: Path) -> None:
    assert odd(page.read_text()) == []


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(f"{name} {below}", found)


@pytest.mark.parametrize(("name", "command"), list(commands("kraken-db", cli)), ids=lambda value: str(value))
def test_help(name: str, command: click.Command) -> None:
    assert odd(command.get_help(click.Context(command, info_name=name))) == []


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.name)
def test_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    assert [found for text in texts for found in odd(text)] == []


def test_an_odd_word_is_found() -> None:
    assert odd("The candle is built\nanew.") == ["'anew': again, rebuilt, over"]
    assert odd("`anew` and manew") == []
