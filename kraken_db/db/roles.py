"""A role that may read a store, and nothing else."""

from __future__ import annotations

import secrets

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.errors import ConfigurationError, PermissionDeniedError

_EXISTS = text("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :role)")
# Tables and views of ours alone: in a schema that others share, theirs are not ours to give.
_STATEMENTS = text(
    """
    WITH said AS (SELECT CAST(:verb AS text) AS verb, CAST(:whom AS text) || quote_ident(:role) AS whom)
    SELECT format('%s USAGE ON SCHEMA %I %s', verb, current_schema(), whom) FROM said
    UNION ALL
    SELECT format('%s SELECT ON %s %s', verb, CAST(pg_class.oid AS regclass), whom) FROM said, pg_class
    WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm')
      AND pg_has_role(relowner, 'USAGE')
    UNION ALL
    SELECT format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I', current_schema())
           || format(' %s SELECT ON TABLES %s', verb, whom) FROM said
    """
)
_CREATE = text(
    "SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', CAST(:role AS text), CAST(:password AS text))"
)


_MAY_CREATE = text(
    "SELECT current_user, rolsuper OR rolcreaterole, quote_ident(CAST(:role AS text))"
    " FROM pg_roles WHERE rolname = current_user"
)


async def grant_read(connection: AsyncConnection, role: str) -> None:
    """Let a role read all tables and views of the store, those of later revisions too.

    Raises ConfigurationError if there is no such role, and PermissionDeniedError.
    """
    await _require(connection, role)
    await _execute(connection, "GRANT", "TO ", role)


async def revoke_read(connection: AsyncConnection, role: str) -> None:
    """Take away what ``grant_read`` has given; the role stays. Raises as that does."""
    await _require(connection, role)
    await _execute(connection, "REVOKE", "FROM ", role)


async def create_role(connection: AsyncConnection, role: str) -> str:
    """Make a role that may connect; returns its password, which nobody else knows.

    Raises ConfigurationError if it is there already, and PermissionDeniedError.
    """
    if await connection.scalar(_EXISTS, {"role": role}):
        raise ConfigurationError(f"the role {role} is there already", hint="leave out --create")
    user, may_create, quoted = (await connection.execute(_MAY_CREATE, {"role": role})).one()
    if not may_create:
        raise PermissionDeniedError(
            f"{user} may not make roles",
            hint=f"an administrator runs CREATE ROLE {quoted} LOGIN PASSWORD '...' in psql; then run"
            f" kraken-db db grant-read {role}, without --create",
        )
    password = secrets.token_urlsafe(24)
    statement = await connection.scalar(_CREATE, {"role": role, "password": password})
    await connection.exec_driver_sql(str(statement))
    return password


async def _require(connection: AsyncConnection, role: str) -> None:
    if not await connection.scalar(_EXISTS, {"role": role}):
        raise ConfigurationError(f"there is no role {role}", hint="--create makes it, with a password")


async def _execute(connection: AsyncConnection, verb: str, whom: str, role: str) -> None:
    values = {"verb": verb, "whom": whom, "role": role}
    for statement in (await connection.scalars(_STATEMENTS, values)).all():
        await connection.exec_driver_sql(statement)
