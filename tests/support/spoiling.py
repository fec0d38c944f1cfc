"""Simulated exchanges whose answers are spoiled on their way, or are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from aiohttp import web

from kraken_db.simulator import Fault, Market, SimulatedExchange

Spoil: TypeAlias = Callable[[dict[str, Any], Mapping[str, str]], Any]
"""Changes ``result`` of an answer, whose parameters it is given, or returns another one, or a text."""


class SpoilingExchange(SimulatedExchange):
    """``spoil``: what happens to the answers of Trades about the first market."""

    def __init__(self, *markets: Market, spoil: Spoil, **options: Any) -> None:
        super().__init__(markets, **options)
        self.spoil: Spoil | None = spoil
        self._spoiled = markets[0].symbol

    def _call(self, call: str, symbol: str, params: Mapping[str, str], odd: Fault | None) -> str:
        text = super()._call(call, symbol, params, odd)
        if call != "Trades" or symbol != self._spoiled or self.spoil is None:
            return text
        answer = json.loads(text)
        changed = self.spoil(answer["result"], params)
        if isinstance(changed, str):
            return changed
        return json.dumps(answer if changed is None else answer | {"result": changed})


class RefusingExchange(SimulatedExchange):
    """``answer``: what Trades says, instead of trades."""

    answer: Callable[[], web.Response] | None = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None and request.path.endswith("Trades"):
            return self.answer()
        return await super()._handle(request)


def rows_of(result: dict[str, Any]) -> list[list[Any]]:
    """The trades of an answer."""
    rows: list[list[Any]] = next(value for key, value in result.items() if key != "last")
    return rows
