"""``kraken-db cache``: how large the cache of repeated reads is, and how to be rid of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.options import MultiValueCommand, json_option, pair_options
from kraken_db.cli.output import (
    Column,
    count_text,
    moment_text,
    note,
    plural,
    print_json,
    print_table,
    size_text,
)
from kraken_db.errors import ConfigurationError

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


@click.group(cls=LazyGroup, epilog="Example: kraken-db cache status")
def cache() -> None:
    """Show and clear the cache of repeated reads.

    Programs fill it that read with cache=True. It is in the user's directory for caches, unless cache-dir of
    the config file or KRAKEN_DB_CACHE_DIR names another one, and takes 4 GB at most, unless cache-limit or
    KRAKEN_DB_CACHE_LIMIT says how much.
    """


def _folder_option(command: _Decorated) -> _Decorated:
    return click.option(
        "--cache-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="The directory that was given to the program: cache=DIRECTORY.",
    )(command)


@cache.command(short_help="Show how large it is.", epilog="Example: kraken-db cache status --json")
@_folder_option
@json_option
def status(cache_dir: Path | None, as_json: bool) -> None:
    """Show where the cache is, how large, how large it may become, and of which pairs."""
    folder = _opened(cache_dir)
    found = _told(folder.path, folder.usage)
    size = sum(one.size for one in found)
    if as_json:
        pairs = [
            {"symbol": one.symbol, "blocks": one.blocks, "bytes": one.size, "used_at": one.used_at}
            for one in found
        ]
        print_json({"path": folder.path, "bytes": size, "limit_bytes": folder.limit, "pairs": pairs})
        return
    if found:
        columns = [
            Column("pair"),
            Column("months", right=True, rank=1),
            Column("size", right=True),
            Column("last used (UTC)", rank=2),
        ]
        print_table(
            columns,
            [
                (one.symbol, count_text(one.blocks), size_text(one.size), moment_text(one.used_at))
                for one in found
            ],
        )
    note(f"{folder.path}: {size_text(size)} of {size_text(folder.limit)} at most")


@cache.command(
    cls=MultiValueCommand, short_help="Delete it.", epilog="Example: kraken-db cache clear BTC/USD"
)
@pair_options("By default all.")
@_folder_option
def clear(symbols: Sequence[str] | None, cache_dir: Path | None) -> None:
    """Delete what the cache holds of some pairs, or all of it.

    Nothing is lost: the next read asks the database again. Programs that are reading go on.
    """
    from kraken_db.patterns import select

    folder = _opened(cache_dir)
    stored = [one.symbol for one in _told(folder.path, folder.usage)]
    wanted = None if symbols is None else select(symbols, stored)
    freed = _told(folder.path, lambda: folder.clear(wanted))
    gone = len(stored) if wanted is None else len(set(wanted) & set(stored))
    note(f"{folder.path}: {size_text(freed)} of {plural(gone, 'pair')} deleted")


_T = TypeVar("_T")


def _opened(folder: Path | None) -> Any:
    from kraken_db.cache import BlockFolder, cache_folder
    from kraken_db.settings import Settings

    path = cache_folder(folder or True)
    assert path is not None
    return BlockFolder(path, Settings.from_environment().cache_limit)


def _told(path: Path, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except OSError as error:
        raise ConfigurationError(
            f"the cache {path} cannot be used: {error.strerror or error}", hint="choose another --cache-dir"
        ) from error
