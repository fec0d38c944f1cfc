"""Connections that end, or whose other end is gone without a word."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.db.driver import raw_connection
from kraken_db.db.engine import Database
from kraken_db.errors import DatabaseUnavailableError
from tests.support.archives import minutes, query, write
from tests.support.stores import opened_database


@pytest.mark.skipif(sys.platform != "linux", reason="the options' names are Linux's")
async def test_a_silent_end_is_noticed_by_the_system(timescale_url: str) -> None:
    async with opened_database(timescale_url, pool_max_size=0) as database, database.read() as connection:
        await connection.execute(text("SELECT 1"))
        used = (await raw_connection(connection))._transport.get_extra_info("socket")
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
        assert [used.getsockopt(socket.IPPROTO_TCP, one) for one in options] == [60, 10, 6, 300_000]


async def test_a_connection_that_ends_is_told_as_that(plain_url: str) -> None:
    database = await Database.open(plain_url, pool_max_size=0)
    with pytest.raises(
        DatabaseUnavailableError, match=r"the connection was lost: .*see that the server runs"
    ):
        async with database.begin() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    await database.close()


@pytest.mark.one_server("the fault is a trigger, and ends a worker's session, which is waited for")
async def test_one_lost_connection_does_not_stop_the_other_files(plain_url: str, tmp_path: Path) -> None:
    """An administrator ends the session of the first file; the server itself is well."""
    await query(
        plain_url,
        "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.symbol = 'BTC/USD' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
        " RETURN NEW; END $$",
    )
    await query(
        plain_url, "CREATE TRIGGER leave BEFORE INSERT ON candles FOR EACH ROW EXECUTE FUNCTION leave()"
    )
    first = write(tmp_path, "XBTUSD_1.csv", minutes(9))
    second = write(tmp_path, "ETHUSD_1.csv", minutes(3))
    async with BulkCSVImporter(plain_url, workers=1) as importer:
        report = await importer.run(importer.plan([first, second]))
    assert (report.stopped, report.not_tried, report.refresh_error) == (None, 0, None)
    ((name, error),) = report.failures
    assert "XBTUSD" in name
    assert isinstance(error, DatabaseUnavailableError)
    assert report.written == {"ETH/USD": {1: 3}}
