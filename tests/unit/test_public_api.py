"""What ``import kraken_db`` offers: the names of the specification, nothing by accident."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import kraken_db

SPECIFIED = {
    "HistoricalTrade",
    "HistoricalCandle",
    "DataGap",
    "TradeRecord",
    "CandleRecord",
    "Candle",
    "PAIR_MAP",
    "REVERSE_PAIR_MAP",
    "CSV_SYMBOL_MAP",
    "DEFAULT_SYMBOLS",
    "HistoricalDataProvider",
    "BulkCSVImporter",
    "DatabaseWriter",
    "WebSocketDBIntegration",
    "integrate_db_writer",
}
"""Of the exports of SPEC.md those that exist."""


def test_all_is_what_is_specified() -> None:
    assert set(kraken_db.__all__) >= SPECIFIED


def test_all_is_sorted() -> None:
    constants = [name for name in kraken_db.__all__ if name.isupper()]
    others = [name for name in kraken_db.__all__ if not name.isupper() and name[0].isupper()]
    functions = [name for name in kraken_db.__all__ if name.islower()]
    assert kraken_db.__all__ == sorted(constants) + sorted(others) + sorted(functions)


@pytest.mark.parametrize("name", kraken_db.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(kraken_db, name) is not None
    assert name in dir(kraken_db)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        kraken_db.Nothing  # noqa: B018


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_star_import_brings_the_services_too() -> None:
    code = "from kraken_db import *; print(BulkCSVImporter.__name__, HistoricalDataProvider.__name__)"
    assert run_python(code) == "BulkCSVImporter HistoricalDataProvider"


def test_the_types_come_without_the_database_drivers() -> None:
    code = "import sys, kraken_db; print({'asyncpg', 'sqlalchemy', 'alembic'} & set(sys.modules))"
    assert run_python(code) == "set()"


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, kraken_db; print(sorted(name for name in sys.modules if 'kraken_db.' in name))"
    assert run_python(code) == "[]"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert kraken_db.__version__ == importlib.metadata.version("kraken-historical-data")
    assert "__version__" in dir(kraken_db)
