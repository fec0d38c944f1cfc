"""The environment, read in one place.

Nothing is read at import; ``Settings.from_environment()`` is called where a program starts or a client
is made without explicit values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

EMBEDDED_URL = "embedded:"
"""The URL that means: PostgreSQL of our own, in the user's data directory."""

KRAKEN_BASE_URL = "https://api.kraken.com"
"""Where Kraken's REST is."""
KRAKEN_WS_URL = "wss://ws.kraken.com/v2"
"""Where Kraken's WebSocket v2 is."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    ``database_url``: ``DATABASE_URL``, or ``embedded:`` when it is not set or empty.
    ``data_dir``: ``KRAKEN_DB_DATA_DIR``, where the embedded server keeps its files; None for the
    platform's user-data directory.
    ``kraken_base_url``, ``kraken_ws_url``: ``KRAKEN_BASE_URL`` and ``KRAKEN_WS_URL``, where REST and
    WebSocket clients connect to: Kraken itself unless they name a proxy or a simulated exchange.
    """

    database_url: str = EMBEDDED_URL
    data_dir: Path | None = None
    kraken_base_url: str = KRAKEN_BASE_URL
    kraken_ws_url: str = KRAKEN_WS_URL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        env = os.environ if environment is None else environment
        data_dir = env.get("KRAKEN_DB_DATA_DIR")
        return cls(
            database_url=env.get("DATABASE_URL") or EMBEDDED_URL,
            data_dir=Path(data_dir).expanduser() if data_dir else None,
            kraken_base_url=env.get("KRAKEN_BASE_URL") or KRAKEN_BASE_URL,
            kraken_ws_url=env.get("KRAKEN_WS_URL") or KRAKEN_WS_URL,
        )
