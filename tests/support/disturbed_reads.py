"""Reads that fail at first, for the reasons that pass by themselves."""

from __future__ import annotations

from tests.support.archives import query

DEADLOCK = "RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'"
UPDATED = "RAISE EXCEPTION 'could not open relation with OID 17042' USING ERRCODE = 'XX000'"
LOST = "PERFORM pg_terminate_backend(pg_backend_pid())"


async def disturb_reads(url: str, table: str, times: int, what: str) -> None:
    """The first reads of a table end in an error. A sequence counts them, also where they are undone."""
    await query(url, f"ALTER TABLE {table} RENAME TO the_{table}")
    await query(url, "CREATE SEQUENCE disturbed")
    await query(
        url,
        "CREATE FUNCTION disturb() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('disturbed') <= {times} THEN {what}; END IF; RETURN true; END $$",
    )
    await query(url, f"CREATE VIEW {table} AS SELECT * FROM the_{table} WHERE (SELECT disturb())")
