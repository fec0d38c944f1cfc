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


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says.

    ``database_url``: ``DATABASE_URL``, or ``embedded:`` when it is not set or empty.
    ``data_dir``: ``KRAKEN_DB_DATA_DIR``, where the embedded server keeps its files; None for the
    platform's user-data directory.
    """

    database_url: str = EMBEDDED_URL
    data_dir: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        env = os.environ if environment is None else environment
        data_dir = env.get("KRAKEN_DB_DATA_DIR")
        return cls(
            database_url=env.get("DATABASE_URL") or EMBEDDED_URL,
            data_dir=Path(data_dir).expanduser() if data_dir else None,
        )
