"""The README and docs/: what they tell to type works, and names commands and options that exist.

Every ```bash and ```python block is run, those of a page one after the other, unless a comment
``<!-- not run: why -->`` stands right before it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from kraken_db.cli import cli
from tests.support.archives import START, minutes, write
from tests.support.sandbox import Sandbox, new_sandbox
from tests.support.shell import forked

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# These begin with a store that holds something; the others show how it gets there.
FILLED = {
    "cache.md",
    "reading.md",
    "notebook.md",
    "indicators.md",
    "backtesting.md",
    "databases.md",
    "schema.md",
    "charts.md",
    "status.md",
    "exporting.md",
    "research.md",
}

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    why_not_run: str | None


def blocks(page: Path) -> list[Block]:
    return [Block(m["language"], m["code"], m["why"]) for m in _BLOCK.finditer(page.read_text())]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        found.add_commands()
        add_archives(found.root)
        yield found


@pytest.fixture(scope="session")
def filled_data() -> Iterator[Path]:
    """The data directory of a store that holds something; nothing runs in it."""
    with new_sandbox() as found:
        found.add_commands()
        add_archives(found.root)
        done = found.run("kraken-db", "import-csv", "Kraken_OHLCVT.zip", "downloads", "--skip-empty")
        assert done.returncode == 0, done.stdout
        found.stop()
        yield found.data


def add_archives(folder: Path) -> None:
    """The files that the pages speak of: three days of two pairs, and some trades."""
    quiet = "".join(line for line in minutes(4320).splitlines(keepends=True) if "80,100.5" not in line)
    with zipfile.ZipFile(folder / "Kraken_OHLCVT.zip", "w") as archive:
        for pair in ("XBTUSD", "ETHUSD"):
            archive.writestr(f"master_q1/{pair}_1.csv", quiet)
            archive.writestr(f"master_q1/{pair}_60.csv", minutes(1))
        archive.writestr("master_q1/AAVEUSD_1.csv", "")
    write(folder, "downloads/XBTUSD.csv", f"{START},100.5,0.1\n{START},100.5,0.1\n{START + 9},101,0.2\n")
    write(folder, "more/XBTUSD_1.csv", minutes(60, start=START + 4320 * 60))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_tells_to_type_works(
    page: Path, sandbox: Sandbox, request: pytest.FixtureRequest
) -> None:
    if page.name in FILLED:
        filled: Path = request.getfixturevalue("filled_data")
        copied = sandbox.run("cp", "-a", filled, sandbox.data)  # it keeps whose the files are
        assert copied.returncode == 0, copied.stdout
    programs = {"bash": ("bash", "-euo", "pipefail", "-c"), "python": (*forked(), "-c")}
    for block in blocks(page):
        assert block.language in programs, f"a block of {block.language!r} is neither run nor marked"
        if block.why_not_run is None:
            done = sandbox.run(*programs[block.language], block.code)
            assert done.returncode == 0, f"{block.code}\n{done.stdout}"
            assert "Traceback" not in done.stdout, f"{block.code}\n{done.stdout}"


def test_pages_have_blocks_that_are_run() -> None:
    """Or the pattern that finds them is wrong."""
    run = {page.name for page in PAGES for block in blocks(page) if block.why_not_run is None}
    assert run >= {
        "README.md",
        "getting-started.md",
        "importing.md",
        "reading.md",
        "notebook.md",
        "indicators.md",
        "backtesting.md",
        "databases.md",
        "schema.md",
        "simulator.md",
        "backfill.md",
        "live.md",
        "recording.md",
        "exporting.md",
        "research.md",
        "gaps.md",
        "charts.md",
        "status.md",
    }


# --- the command line ---


def all_commands() -> dict[str, click.Command]:
    """Every command by what is typed: ``kraken-db db start``; groups too."""
    found: dict[str, click.Command] = {}

    def walk(name: str, command: click.Command) -> None:
        found[name] = command
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=name)
            for child in command.list_commands(context):
                loaded = command.get_command(context, child)
                assert loaded is not None
                walk(f"{name} {child}", loaded)

    walk("kraken-db", cli)
    return found


def options(command: click.Command) -> set[str]:
    names = [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
    return {name for name in names if name.startswith("-")} | {
        "-h",
        "--help",
    }


def pieces_of_code(page: Path) -> list[str]:
    """Lines of blocks, and code between backticks in the text."""
    text = page.read_text()
    lines = [line for block in blocks(page) for line in block.code.splitlines()]
    return [line.split(" #")[0] for line in lines] + _SPAN.findall(_BLOCK.sub("", text))


def mentions() -> Iterator[tuple[str, str, list[str]]]:
    """Page, command and options, for everything that begins with ``kraken-db``."""
    commands = all_commands()
    for page in PAGES:
        for code in pieces_of_code(page):
            for typed in re.findall(r"(?<![\w/.-])kraken-db(?![\w/.-])([^`|;&>)]*)", code):
                # What comes behind -- is another program's.
                name, words = "kraken-db", typed.split(" -- ")[0].split()
                while words and f"{name} {words[0]}" in commands:
                    name += f" {words.pop(0)}"
                if isinstance(commands[name], click.Group) and words and not words[0].startswith("-"):
                    pytest.fail(f"{page.name}: there is no command {name} {words[0]}")
                yield page.name, name, [word for word in words if word.startswith("-")]


def test_every_command_and_option_that_is_named_exists() -> None:
    commands = all_commands()
    for where, name, named in mentions():
        assert set(named) <= options(commands[name]), f"{where}: {name}"
    known = set().union(*map(options, commands.values()))
    for page in PAGES:
        text = _BLOCK.sub("", page.read_text())
        alone = {span.split()[0] for span in _SPAN.findall(text) if span.startswith("--")}
        assert alone <= known, page.name


def test_every_command_and_option_is_documented() -> None:
    commands = all_commands()
    named = {name for _, name, _ in mentions()}
    assert {name for name, found in commands.items() if not isinstance(found, click.Group)} <= named
    words = {word for page in PAGES for code in pieces_of_code(page) for word in code.split()}
    long_options = {name for found in commands.values() for name in options(found) if name.startswith("--")}
    assert long_options - words == set()


# --- links ---


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"
