"""What kinds of rows there are, and which table they lie in: the names that counters and coverage have."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias, get_args

from kraken_db.errors import ConfigurationError
from kraken_db.intervals import INTERVAL_NAMES, interval_name

TableName: TypeAlias = Literal["trades", "candles"]
TABLES: tuple[TableName, ...] = get_args(TableName)
"""The tables whose old rows can be dropped and compressed."""


class DataType(StrEnum):
    """One kind of row of a symbol: ``data_type`` in ``data_sync_status``, ``data_coverage`` and their like.

    Candles of 1m are what is recorded and built from trades. Those of other intervals are rows of their own
    only where they were imported from a file; else they are computed.
    """

    TRADES = "trades"
    CANDLES_1M = "candles_1m"
    CANDLES_5M = "candles_5m"
    CANDLES_15M = "candles_15m"
    CANDLES_30M = "candles_30m"
    CANDLES_1H = "candles_1h"
    CANDLES_4H = "candles_4h"
    CANDLES_12H = "candles_12h"
    CANDLES_1D = "candles_1d"
    CANDLES_1W = "candles_1w"

    @classmethod
    def candles(cls, interval: int) -> DataType:
        """Of candles of so many minutes. Raises ConfigurationError for an interval that is not kept."""
        return cls(f"candles_{interval_name(interval)}")

    @classmethod
    def parse(cls, text: str) -> DataType:
        """The type of this name. Raises ConfigurationError."""
        try:
            return cls(text)
        except ValueError:
            raise ConfigurationError(
                f"there is no data type {text!r}", hint=f"known: {', '.join(cls)}"
            ) from None

    @property
    def interval(self) -> int | None:
        """Minutes of its candles; None for trades."""
        return _INTERVALS.get(self)

    @property
    def table(self) -> TableName:
        """The table that its rows lie in."""
        return "trades" if self is DataType.TRADES else "candles"


_INTERVALS = {DataType(f"candles_{name}"): minutes for minutes, name in INTERVAL_NAMES.items()}

OLD_ROWS: dict[TableName, DataType] = {"trades": DataType.TRADES, "candles": DataType.CANDLES_1M}
"""Table to the rows of it that retention drops."""
