"""The OpenAPI document, written out of the table of routes."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

from kraken_db.web.routes import Route

ERROR: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "hint"],
            "properties": {"message": {"type": "string"}, "hint": {"type": ["string", "null"]}},
        }
    },
}
_REFUSALS = {
    "400": "A parameter cannot be.",
    "401": "A token is needed, or it is wrong.",
    "403": "A page of another site has asked.",
    "404": "Nothing is stored of this pair, or there is no such thing.",
    "503": "The database does not answer, or too many ask at once.",
}


def openapi(routes: Sequence[Route], *, has_token: bool) -> dict[str, Any]:
    """The document of these routes. ``has_token``: whether this server asks for one."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, has_token=has_token)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kraken-db",
            "version": _version(),
            "summary": "Kraken's history, as it is stored here.",
            "description": "Times are ISO 8601 in UTC. Ranges include their start and exclude their end."
            " Prices and amounts are exact: texts, unless `numbers=float` asks for the nearest floats.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, *, has_token: bool) -> dict[str, Any]:
    names = [part[1:-1].partition(":")[0] for part in route.path.split("/") if part.startswith("{")]
    content = {
        media: {"schema": route.schema or {}} if media == "application/json" else {} for media in route.media
    }
    words = "_".join(part.strip("{}") for part in route.path.split("/"))
    operation: dict[str, Any] = {
        "operationId": route.method.lower() + words,
        "summary": route.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            *(
                {
                    "name": one.name,
                    "in": "query",
                    "required": one.is_required,
                    "description": one.description,
                    "schema": {
                        **one.kind.schema,
                        **({} if one.default is None else {"default": one.default}),
                    },
                }
                for one in route.parameters
            ),
        ],
        "responses": {
            str(route.status): {"description": "The answer.", "content": content},
            **{
                code: {
                    "description": text,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                }
                for code, text in _REFUSALS.items()
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": route.body}},
        }
    if has_token and not route.is_public:
        operation["security"] = [{"token": []}]
    return operation


def _version() -> str:
    try:
        return importlib.metadata.version("kraken-historical-data")
    except importlib.metadata.PackageNotFoundError:
        return "0"
