"""The plans of the statements that a piece of code sends, and how many rows they touch."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from sqlalchemy import event

from kraken_db.backends import postgres
from kraken_db.db.driver import CompiledStatement, fetch
from kraken_db.repositories import candle_files, candles
from kraken_db.store import StoreService

Service = TypeVar("Service", bound=StoreService)


@asynccontextmanager
async def watched(
    url: str, make: Callable[[str], Service]
) -> AsyncIterator[tuple[Service, list[dict[str, Any]]]]:
    """A service, and the plan (with what was really touched) of every statement that it ran."""
    plans: list[dict[str, Any]] = []
    seen: list[tuple[str, Any]] = []
    async with make(url) as provider:
        engine = provider._connected().database.engine

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if statement.lstrip().startswith("SELECT"):
                seen.append((statement, parameters))

        async def watched_fetch(connection: Any, statement: CompiledStatement) -> Any:
            seen.append((statement.sql, statement.values))
            return await fetch(connection, statement)

        # Candles are read past SQLAlchemy, everything else through it.
        event.listen(engine.sync_engine, "before_cursor_execute", note)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(candles, "fetch", watched_fetch)
            patch.setattr(candle_files, "fetch", watched_fetch)
            patch.setattr(postgres, "fetch", watched_fetch)
            yield provider, plans
        event.remove(engine.sync_engine, "before_cursor_execute", note)
        async with engine.connect() as connection:
            for statement, parameters in seen:
                explained = await connection.exec_driver_sql(
                    f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters
                )
                found = explained.scalar_one()
                plans.append(
                    _where_it_runs((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])
                )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those of a plan, and of what workers do for a coordinator: a shard has the name of its table."""
    if "Relation Name" in plan:
        plan["Relation Name"] = re.sub(r"_\d{6,}$", "", plan["Relation Name"])
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)
    for remote in _of_workers(plan):
        yield from nodes(remote)


def _where_it_runs(plan: dict[str, Any]) -> dict[str, Any]:
    """What a coordinator leaves to one worker is the plan there."""
    remote = _of_workers(plan)
    return remote[0] if len(remote) == 1 else plan


def _of_workers(plan: dict[str, Any]) -> list[dict[str, Any]]:
    tasks = plan.get("Distributed Query", {}).get("Job", {}).get("Tasks", [])
    return [remote["Plan"] for task in tasks for (remote,) in task["Remote Plan"]]


def touched(plan: dict[str, Any]) -> float:
    """How many rows of tables a plan read, those included that a filter then threw away."""
    total = 0.0
    for node in nodes(plan):
        if "Scan" in node["Node Type"] and "Relation Name" in node:
            dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            total += node["Actual Loops"] * (node["Actual Rows"] + dropped)
    return total
