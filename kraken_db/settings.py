"""The environment, read in one place.

Nothing is read at import; ``Settings.from_environment()`` is called where a program starts or a client
is made without explicit values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kraken_db.errors import ConfigurationError

EMBEDDED_URL = "embedded:"
"""The URL that means: PostgreSQL of our own, in the user's data directory."""

KRAKEN_BASE_URL = "https://api.kraken.com"
"""Where Kraken's REST is."""
KRAKEN_WS_URL = "wss://ws.kraken.com/v2"
"""Where Kraken's WebSocket v2 is."""

KRAKEN_ARCHIVE_URL = "https://assets.kraken.com/marketing/institutions/"
"""Where Kraken's archives are."""


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
    """

    database_url: str = EMBEDDED_URL
    data_dir: Path | None = None
    kraken_base_url: str = KRAKEN_BASE_URL
    kraken_ws_url: str = KRAKEN_WS_URL
    kraken_archive_url: str | None = KRAKEN_ARCHIVE_URL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        env = os.environ if environment is None else environment
        data_dir = env.get("KRAKEN_DB_DATA_DIR")
        base_url = env.get("KRAKEN_BASE_URL") or KRAKEN_BASE_URL
        archives = KRAKEN_ARCHIVE_URL if base_url.rstrip("/") == KRAKEN_BASE_URL else None
        return cls(
            database_url=env.get("DATABASE_URL") or EMBEDDED_URL,
            data_dir=expanded(data_dir) if data_dir else None,
            kraken_base_url=base_url,
            kraken_ws_url=env.get("KRAKEN_WS_URL") or KRAKEN_WS_URL,
            kraken_archive_url=env.get("KRAKEN_ARCHIVE_URL") or archives,
        )


def expanded(path: str | Path) -> Path:
    """``path`` with a home directory for ``~`` or ``~user``. Raises ConfigurationError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"{str(path)!r} names a home directory that does not exist", hint="write the whole path"
        ) from None


def archive_place(base_url: str) -> str | None:
    """Where the archives of the exchange are whose REST is at ``base_url``; None where that is not known."""
    place = Settings.from_environment().kraken_archive_url
    is_krakens = base_url.rstrip("/") == KRAKEN_BASE_URL
    return place if is_krakens or place != KRAKEN_ARCHIVE_URL else None
