"""The man page, made of the same words as ``--help``.

``scripts/man_page.py`` writes it to ``docs/kraken-db.1``, which the wheel installs; a test holds them equal.
It is not made when the wheel is built: a build would need everything that the command line imports.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.options import PairListType

_ENVIRONMENT = {
    "DATABASE_URL": "The database: postgresql://user@host:port/name, or embedded: for the embedded one.",
    "KRAKEN_DB_CONFIG": "The config file, instead of the usual one.",
    "KRAKEN_DB_DATA_DIR": "Where the embedded database keeps its files.",
    "KRAKEN_DB_CACHE_DIR, KRAKEN_DB_CACHE_LIMIT": "Where the cache of repeated reads is, and how large.",
    "KRAKEN_BASE_URL, KRAKEN_WS_URL, KRAKEN_ARCHIVE_URL": "Another exchange: a simulator, a proxy, a mirror.",
    "NO_COLOR": "Print without colours.",
}
_FILES = {
    "~/.config/kraken-db/config.toml": "The config file; kraken-db config path says where it is.",
}
_EXIT_STATUS = {
    "0": "Done.",
    "1": "An error that is explained in one line, or something that was looked for and found wrong.",
    "2": "Wrong usage: of options, arguments or the config file.",
    "70": "A bug in kraken-db.",
    "130": "Interrupted by Ctrl-C.",
    "143": "Ended by SIGTERM.",
}


def our_page() -> str:
    """That of kraken-db."""
    from kraken_db.cli import PROGRAM, cli, version

    return man_page(cli, PROGRAM, version())


def man_page(program: click.Command, name: str, version: str) -> str:
    """The page of a program in roff, with a section for each of its commands."""
    context = click.Context(program, info_name=name)
    lines = [
        '.\\" Written by scripts/man_page.py: change the help texts, not this file.',
        f'.TH {name.upper()} 1 "" "{name} {version}" "User Commands"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(_paragraphs(program)[0].rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_text(name)}",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]...",
        ".SH DESCRIPTION",
        *_described(_paragraphs(program)[1:]),
        ".SH COMMON OPTIONS",
        "All commands take these, before and after their names.",
        *_options(program),
        ".SH COMMANDS",
    ]
    common = [option.name for option in program.params]
    for inner in _commands(context):
        lines += _command(inner, common)
    lines += [*_table("ENVIRONMENT", _ENVIRONMENT), *_table("FILES", _FILES)]
    return "\n".join([*lines, *_table("EXIT STATUS", _EXIT_STATUS)]) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Every command below a group, in the order of the names; groups before what is in them."""
    group = context.command
    assert isinstance(group, LazyGroup)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        yield inner
        if isinstance(command, LazyGroup):
            yield from _commands(inner)


def _command(context: click.Context, common: Collection[str | None]) -> Iterator[str]:
    command = context.command
    words = context.command_path.split(maxsplit=1)[1]
    arguments = [one.metavar or one.name or "" for one in command.params if isinstance(one, click.Argument)]
    if isinstance(command, click.Group):
        arguments = ["COMMAND"]
    yield f".SS {_text(words)}"
    yield f"\\fB{_text(context.command_path)}\\fR [\\fIOPTIONS\\fR] {_text(' '.join(arguments))}".rstrip()
    yield ".PP"
    yield from _described(_paragraphs(command))
    yield from _options(command, without=[name for name in common if name != "db_url"])
    if command.epilog:
        yield ".PP"
        yield _text(command.epilog)


def _paragraphs(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").split("\n\n")


def _described(paragraphs: Sequence[str]) -> Iterator[str]:
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".nf", *map(_text, paragraph.splitlines()[1:]), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _options(command: click.Command, without: Collection[str | None] = ()) -> Iterator[str]:
    for option in command.params:
        if not isinstance(option, click.Option) or option.name in without or option.hidden:
            continue
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.opts)
        yield ".TP"
        yield names if option.is_flag else f"{names} {_text(_value(option))}"
        told = _text(option.help or "")
        yield f"{told} [default: {_text(str(option.default))}]" if option.show_default else told


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return f"[{'|'.join(map(str, option.type.choices))}]"
    if isinstance(option.type, PairListType):
        return option.type.get_metavar(option)
    return _NUMBERS.get(option.type.name, option.type.name.upper())


_NUMBERS = {"integer range": "INTEGER", "float range": "FLOAT"}


def _table(title: str, rows: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for name, told in rows.items():
        yield from (".TP", f"\\fB{_text(name)}\\fR", _text(told))


def _text(text: str) -> str:
    """As roff shows it: no line is taken for a request, and hyphens can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
