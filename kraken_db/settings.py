"""The environment and the config file, read in one place.

Nothing is read at import; ``Settings.from_environment()`` is called where a program starts or a client
is made without explicit values. A program that uses the package reads the config file of the command line
only if it asks for it: ``Settings.from_config()``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kraken_db.errors import ConfigurationError, WrongValueError

EMBEDDED_URL = "embedded:"
"""The URL that means: PostgreSQL of our own, in the user's data directory."""

KRAKEN_BASE_URL = "https://api.kraken.com"
"""Where Kraken's REST is."""
KRAKEN_WS_URL = "wss://ws.kraken.com/v2"
"""Where Kraken's WebSocket v2 is."""

KRAKEN_ARCHIVE_URL = "https://assets.kraken.com/marketing/institutions/"
"""Where Kraken's archives are."""


CACHE_LIMIT = 4 * 10**9
"""How large the cache of repeated reads becomes, in bytes."""

CONFIG_VARIABLE = "KRAKEN_DB_CONFIG"

VARIABLES = {
    "database": "DATABASE_URL",
    "data-dir": "KRAKEN_DB_DATA_DIR",
    "base-url": "KRAKEN_BASE_URL",
    "ws-url": "KRAKEN_WS_URL",
    "archive-url": "KRAKEN_ARCHIVE_URL",
    "cache-dir": "KRAKEN_DB_CACHE_DIR",
    "cache-limit": "KRAKEN_DB_CACHE_LIMIT",
}
"""Keys of the config file, and the variables of the environment that say the same, and count more."""

_below_environment: ContextVar[Mapping[str, str]] = ContextVar("below_environment", default={})  # noqa: B039


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A config file as it was read. ``values`` is its TOML; empty if there is no such file."""

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    def line(self, *keys: str) -> int:
        """The number of the line that sets a key of a table, or begins a table; 1 if that cannot be found."""
        table, wanted = keys[:-1], keys[-1]
        current: tuple[str, ...] = ()
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := _HEADER.match(line):
                current = _parts(header["name"])
                if current[: len(keys)] == keys:
                    return number
            elif (entry := _ENTRY.match(line)) and (*current, *_parts(entry["name"])) == (*table, wanted):
                return number
        return 1

    def where(self, *keys: str) -> str:
        if not self.path.exists():  # it would be made
            return "nothing was written"
        return f"{self.path}, line {self.line(*keys)}"

    def variables(self) -> dict[str, str]:
        """What its keys say in the place of variables of the environment.

        Raises ConfigurationError for one that is no text.
        """
        found = {}
        for key, variable in VARIABLES.items():
            value = self.values.get(key, "")
            if not isinstance(value, str):
                raise ConfigurationError(
                    f"{self.where(key)}: {key} is no text", hint='write it in quotes: "..."'
                )
            if value:
                found[variable] = value
        return found


_HEADER = re.compile(r"\s*\[\s*(?P<name>[^\[\]]+?)\s*\]")
_ENTRY = re.compile(r"""\s*(?P<name>[\w.'" -]+?)\s*=""")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def config_path(environment: Mapping[str, str] | None = None) -> Path:
    """Where the config file is: ``KRAKEN_DB_CONFIG``, else the user's place for such files (XDG on Linux)."""
    import platformdirs

    env = os.environ if environment is None else environment
    if named := env.get(CONFIG_VARIABLE):
        return expanded(named)
    return Path(platformdirs.user_config_dir("kraken-db", False), "config.toml")


def read_config(path: Path, *, must_exist: bool = False) -> ConfigFile:
    """The config file at a path. Raises ConfigurationError, with the line where it is no TOML."""
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise ConfigurationError(f"there is no config file {path}", hint="correct --config") from None
        return ConfigFile(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigurationError(f"the config file {path} cannot be read: {why}") from None
    try:
        return ConfigFile(path, tomllib.loads(text), text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(*_toml_error(path, str(error))) from None


def _toml_error(path: Path, said: str) -> tuple[str]:
    """``FILE, line 3: what is wrong``, from what the parser says, which has the place at its end."""
    found = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)$", said)
    what = said[: found.start()].rstrip() if found else said
    place = f"{path}, line {found[1]}" if found and found[1] else f"{path}, at its end"
    return (f"{place}: this is no TOML: {what}",)


@contextmanager
def configured(variables: Mapping[str, str]) -> Iterator[None]:
    """Within it ``Settings.from_environment`` takes these where the environment says nothing."""
    token = _below_environment.set(variables)
    try:
        yield
    finally:
        _below_environment.reset(token)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    ``database_url``: ``DATABASE_URL``, or ``embedded:`` when it is not set or empty.
    ``data_dir``: ``KRAKEN_DB_DATA_DIR``, where the embedded server keeps its files; None for the
    platform's user-data directory.
    ``kraken_base_url``, ``kraken_ws_url``: ``KRAKEN_BASE_URL`` and ``KRAKEN_WS_URL``, where REST and
    WebSocket clients connect to: Kraken itself unless they name a proxy or a simulated exchange.
    ``kraken_archive_url``: ``KRAKEN_ARCHIVE_URL``, an address or a folder with archives. Without it they are
    Kraken's; None where ``KRAKEN_BASE_URL`` names another exchange: markets are never mixed.
    ``cache_dir``, ``cache_limit``: ``KRAKEN_DB_CACHE_DIR`` and ``KRAKEN_DB_CACHE_LIMIT``, where the cache of
    repeated reads is (None: the user's directory for caches) and how many bytes it takes at most.
    """

    database_url: str = EMBEDDED_URL
    data_dir: Path | None = None
    kraken_base_url: str = KRAKEN_BASE_URL
    kraken_ws_url: str = KRAKEN_WS_URL
    kraken_archive_url: str | None = KRAKEN_ARCHIVE_URL
    cache_dir: Path | None = None
    cache_limit: int = CACHE_LIMIT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        given = os.environ if environment is None else environment
        env = {**_below_environment.get(), **{name: value for name, value in given.items() if value}}
        data_dir, cache_dir = env.get("KRAKEN_DB_DATA_DIR"), env.get("KRAKEN_DB_CACHE_DIR")
        limit = env.get("KRAKEN_DB_CACHE_LIMIT")
        base_url = env.get("KRAKEN_BASE_URL") or KRAKEN_BASE_URL
        archives = KRAKEN_ARCHIVE_URL if base_url.rstrip("/") == KRAKEN_BASE_URL else None
        return cls(
            database_url=env.get("DATABASE_URL") or EMBEDDED_URL,
            data_dir=expanded(data_dir) if data_dir else None,
            kraken_base_url=base_url,
            kraken_ws_url=env.get("KRAKEN_WS_URL") or KRAKEN_WS_URL,
            kraken_archive_url=env.get("KRAKEN_ARCHIVE_URL") or archives,
            cache_dir=expanded(cache_dir) if cache_dir else None,
            cache_limit=parse_size(limit, "KRAKEN_DB_CACHE_LIMIT") if limit else CACHE_LIMIT,
        )

    @classmethod
    def from_config(cls, path: Path | None = None) -> Settings:
        """What the environment says, and below it the config file of the command line.

        ``path``: another file, which has to exist. Nothing else in the package reads a config file: pass
        what is found on, for example ``HistoricalDataProvider(Settings.from_config().database_url)``.
        Raises ConfigurationError.
        """
        file = read_config(path or config_path(), must_exist=path is not None)
        with configured(file.variables()):
            return cls.from_environment()


def expanded(path: str | Path) -> Path:
    """``path`` with a home directory for ``~`` or ``~user``. Raises ConfigurationError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise WrongValueError(
            f"{str(path)!r} names a home directory that does not exist", hint="write the whole path"
        ) from None


_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kMGT]?)(?P<binary>i?)B?", re.IGNORECASE)


def parse_size(text: str, name: str) -> int:
    """``"4 GB"``, ``"500MB"``, ``"1.5 GiB"`` or a number of bytes. Raises ConfigurationError; ``name`` is
    what it names.
    """
    found = _SIZE.fullmatch(text.strip())
    size = 0
    if found is not None:
        base = 1024 if found["binary"] else 1000
        size = int(float(found["number"]) * base ** " KMGT".index(found["unit"].upper() or " "))
    if size <= 0:
        raise WrongValueError(f"{name} is no size: {text!r}", hint="write it like 4 GB")
    return size


def archive_place(base_url: str) -> str | None:
    """Where the archives of the exchange are whose REST is at ``base_url``; None where that is not known."""
    place = Settings.from_environment().kraken_archive_url
    is_krakens = base_url.rstrip("/") == KRAKEN_BASE_URL
    return place if is_krakens or place != KRAKEN_ARCHIVE_URL else None
