"""The databases that the tests run on: plain PostgreSQL and TimescaleDB, and by hand Citus.

A lane starts one server for a test process and hands out fresh databases of it. How: ``CREATE DATABASE``,
for a migrated one with a migrated database as its template; every server here understands that, the WASM
server included. The fixtures are in ``tests/conftest.py``.
"""

from tests.support.lanes.base import Lane, Server
from tests.support.lanes.citus import CitusLane, citus_url, start_citus
from tests.support.lanes.postgres import start_postgres
from tests.support.lanes.timescale import rung, start_timescale

__all__ = [
    "CitusLane",
    "Lane",
    "Server",
    "citus_url",
    "rung",
    "start_citus",
    "start_postgres",
    "start_timescale",
]
