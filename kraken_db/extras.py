"""Optional packages: imported when they are needed, and named where they are not installed."""

from __future__ import annotations

import importlib
from typing import Any

from kraken_db.errors import ConfigurationError


def require(package: str, purpose: str, extra: str = "frames") -> Any:
    """Import an optional package, of an extra. Raises ConfigurationError that says how to get it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigurationError(
            f"{purpose} need the Python package {package}, which is not installed",
            hint=f"pip install 'kraken-historical-data[{extra}]'",
        ) from error
