"""``kraken-db sql``: a statement of one's own on the database that the other commands use."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

import click

from kraken_db.cli.options import db_url_option, style_options
from kraken_db.cli.output import Column, count_text, note, plural, print_table, to_json
from kraken_db.errors import ConfigurationError

if TYPE_CHECKING:
    from kraken_db.db.typed_statements import ResultColumn, Row

_MOST_ROWS = 10_000
"""Of a table: its columns are as wide as the widest value, so it is in memory as a whole."""
_WHOLE_NUMBERS = {"int2", "int4", "int8", "oid"}
_NUMBERS = _WHOLE_NUMBERS | {"numeric", "float4", "float8", "money"}
_FLOATS = {"float4", "float8"}
_DOCUMENTS = {"json", "jsonb"}
_MOMENT = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?\+00")


@click.command(
    short_help="Run a statement of your own.",
    epilog='Example: kraken-db sql "SELECT symbol, count(*) FROM candles GROUP BY symbol"',
)
@click.argument("statement", metavar="SQL")
@style_options(
    f"A table has up to {count_text(_MOST_ROWS)} rows; the others have all, and need little memory."
)
@click.option("--write", "may_write", is_flag=True, help="Let the statement change something.")
@db_url_option
def sql(statement: str, style: str, as_json: bool, may_write: bool, db_url: str) -> None:
    """Run one SQL statement on the database that the other commands use, and print its rows.

    SQL is a statement in quotes, or - to read it from standard input. It only reads, unless --write is
    given: then it is one transaction. Numbers are exact, and times are in UTC. The tables and views are
    those of the page "Schema" of the documentation.
    """
    if statement == "-":
        with click.open_file("-", encoding="utf-8", errors="replace") as stdin:
            statement = stdin.read()
    if not statement.strip():
        raise click.BadParameter("it is empty", param_hint="SQL")
    if "\0" in statement:
        raise click.BadParameter("it holds a zero byte", param_hint="SQL")
    asyncio.run(_run(db_url, statement, "json" if as_json else style, may_write))


async def _run(db_url: str, sql: str, style: str, may_write: bool) -> None:
    from kraken_db.db.typed_statements import TypedStatement
    from kraken_db.store import Store

    store = await Store.open(db_url, pool_min_size=1, pool_max_size=1, creates=False)
    try:
        async with store.database.begin() as connection:
            statement = await TypedStatement.prepare(connection, sql, may_write=may_write)
            if not statement.columns:
                note(await statement.run())
                return
            writer: _Writer = _WRITERS[style](statement.columns)
            async with aclosing(statement.rows()) as blocks:
                await _write(writer, blocks)
    finally:
        await store.close()


async def _write(writer: _Writer, blocks: AsyncIterator[Sequence[Row]]) -> None:
    async for rows in blocks:
        if not writer.write(rows):
            break
    writer.end()


class _Writer(Protocol):
    def write(self, rows: Sequence[Row]) -> bool:
        """Whether it takes more."""
        ...

    def end(self) -> None: ...


class _Table:
    def __init__(self, columns: Sequence[ResultColumn]) -> None:
        self._columns = [Column(column.name, right=column.type in _NUMBERS) for column in columns]
        self._types = [column.type for column in columns]
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> bool:
        self._rows += rows
        return len(self._rows) <= _MOST_ROWS

    def end(self) -> None:
        shown = self._rows[:_MOST_ROWS]
        print_table(self._columns, [list(map(_cell, row, self._types)) for row in shown])
        if len(self._rows) > _MOST_ROWS:
            note(f"the first {count_text(_MOST_ROWS)} rows; --format csv and json give all of them")
        elif not shown:
            note(plural(0, "row"))


def _cell(value: str | None, kind: str) -> str:
    """``41249.9`` for 41249.9000000000: a table has no room for zeros that say nothing."""
    if value is None:
        return "-"
    return value.rstrip("0").removesuffix(".") if kind == "numeric" and "." in value else value


class _Csv:
    """NULL is an empty field, an empty text is ``""``: as PostgreSQL writes and reads it."""

    def __init__(self, columns: Sequence[ResultColumn]) -> None:
        click.echo(",".join(_quoted(column.name) for column in columns))

    def write(self, rows: Sequence[Row]) -> bool:
        if rows:
            click.echo("\n".join(",".join(map(_quoted, row)) for row in rows))
        return True

    def end(self) -> None: ...


def _quoted(value: str | None) -> str:
    if value is None:
        return ""
    if value and not any(character in value for character in ',"\n\r'):
        return value
    return '"' + value.replace('"', '""') + '"'


class _Json:
    """A list of objects. Numbers with decimals are texts, so that they stay exact."""

    def __init__(self, columns: Sequence[ResultColumn]) -> None:
        names = [column.name for column in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"JSON has one value for a name, and {twice[0]!r} is the name of several columns",
                hint="name them apart with AS",
            )
        self._columns = columns
        self._separator = "[\n"

    def write(self, rows: Sequence[Row]) -> bool:
        for row in rows:
            values = {
                column.name: _json_value(column.type, value)
                for column, value in zip(self._columns, row, strict=True)
            }
            click.echo(self._separator + "  " + to_json(values, indent=None), nl=False)
            self._separator = ",\n"
        return True

    def end(self) -> None:
        click.echo("[]" if self._separator == "[\n" else "\n]")


def _json_value(kind: str, value: str | None) -> Any:
    if value is None:
        return None
    if kind in _WHOLE_NUMBERS:
        return int(value)
    if kind == "bool":
        return value in ("t", "True")
    if kind in _FLOATS:
        number = float(value)
        return number if isfinite(number) else value  # JSON has no NaN
    if kind in _DOCUMENTS:
        return json.loads(value, parse_float=Decimal)
    if kind == "timestamptz" and (found := _MOMENT.fullmatch(value)):
        fraction = found[3].ljust(7, "0") if found[3] else ""
        return f"{found[1]}T{found[2]}{fraction}Z"
    return value


_WRITERS: dict[str, Callable[[Sequence[ResultColumn]], _Writer]] = {
    "table": _Table,
    "csv": _Csv,
    "json": _Json,
}
