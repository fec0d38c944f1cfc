"""Fixtures for all tests. Databases:

=====================  ========================================================================
``lane``               runs the test once per lane: ids ``postgres`` and ``timescale``
``empty_url``          URL of a fresh, empty database on the lane
``db_url``             URL of a fresh database on the lane, migrated to head
``plain_empty_url``    the same two on plain PostgreSQL only: for locks, races, cancelling,
``plain_url``          passwords and much data, which the WASM server does not do
``timescale_empty_url``  the same two on TimescaleDB only: for what plain PostgreSQL has not
``timescale_url``
=====================  ========================================================================

The URLs begin with ``postgresql://``. A database is dropped after its test. A lane that cannot start fails
the tests that ask for it; it never skips them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kraken_db.db.embedded import EmbeddedServer
from tests.support.lanes import (
    CitusLane,
    Lane,
    citus_url,
    rung,
    start_citus,
    start_postgres,
    start_timescale,
)
from tests.support.scratch import use_memory

# A busy machine is no fault of what is tested.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

_ROOT = Path(__file__).parents[1]
_LANES = {"postgres": start_postgres, "timescale": start_timescale}
# Tests that speak of plain PostgreSQL run on Citus too, where one is named.
_PLAIN = ["postgres", "citus"] if citus_url() else ["postgres"]
_OF_CITUS = ["integration/backends/test_citus.py", "integration/backends/test_citus_copies.py"]
collect_ignore = [] if citus_url() else _OF_CITUS


def pytest_configure() -> None:
    # CI and `timeout` end us with SIGTERM: clean up then as after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    # What the user of this machine has configured is no part of the tests.
    os.environ["KRAKEN_DB_CONFIG"] = os.devnull
    use_memory()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def pytest_report_header() -> str:
    where = {"url": "KRAKEN_DB_TEST_URL", "docker": "Docker", "wasm": "WASM (no Docker engine here)"}
    citus = (
        "KRAKEN_DB_TEST_CITUS_URL" if citus_url() else "not collected (KRAKEN_DB_TEST_CITUS_URL is not set)"
    )
    return f"TimescaleDB lane: {where[rung()]}; Citus lane: {citus}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is only of one server (roles, dumps, its processes) says so: ``one_server`` with the reason."""
    alone = metafunc.definition.get_closest_marker("one_server") is not None
    also = [] if alone else _PLAIN[1:]
    for fixture, servers in (("lane", sorted(_LANES)), ("plain_lane", _PLAIN[:1])):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, [*servers, *also], indirect=True)


@pytest.fixture(scope="session")
def lanes() -> Iterator[dict[str, Lane]]:
    """All lanes of this test process; a server starts when a test first asks for a database of it."""
    found = {name: Lane(name, start) for name, start in _LANES.items()}
    found["citus"] = CitusLane("citus", start_citus)
    yield found
    for one in found.values():
        one.stop()


@pytest.fixture
def lane(request: pytest.FixtureRequest, lanes: dict[str, Lane]) -> Lane:
    return lanes[request.param]


@pytest.fixture
def empty_url(lane: Lane) -> Iterator[str]:
    with lane.empty_database() as url:
        yield url


@pytest.fixture
def db_url(lane: Lane) -> Iterator[str]:
    with lane.migrated_database() as url:
        yield url


@pytest.fixture
def plain_lane(request: pytest.FixtureRequest, lanes: dict[str, Lane]) -> Lane:
    return lanes[request.param]


@pytest.fixture
def plain_empty_url(plain_lane: Lane) -> Iterator[str]:
    with plain_lane.empty_database() as url:
        yield url


@pytest.fixture
def plain_url(plain_lane: Lane) -> Iterator[str]:
    with plain_lane.migrated_database() as url:
        yield url


@pytest.fixture
def timescale_empty_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["timescale"].empty_database() as url:
        yield url


@pytest.fixture
def timescale_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["timescale"].migrated_database() as url:
        yield url


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Recorded Kraken data, which the project may not ship: ``KRAKEN_DB_REAL_DATA``, or beside us."""
    path = Path(os.environ.get("KRAKEN_DB_REAL_DATA") or _ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no recorded Kraken data in {path}: set KRAKEN_DB_REAL_DATA")
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter: as root, an embedded server in ``k`` runs as another one."""
    folder = Path(tempfile.mkdtemp(prefix="kdb-"))
    folder.chmod(0o755)
    yield folder
    EmbeddedServer(folder / "k").stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def open_checkout() -> None:
    """What is tested can be read by every user: not so where root has checked it out at home."""
    if os.geteuid() == 0 and subprocess.run(["/usr/bin/test", "-r", __file__], user="nobody").returncode:
        pytest.skip("other users cannot read this checkout: it lies in a closed home")
