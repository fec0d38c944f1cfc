"""Data frames from what the database sends; polars, pyarrow and pandas are imported when they are needed."""

from kraken_db.frames.builders import Backend, FrameBuilder, Numbers, frame_builder
from kraken_db.frames.columns import (
    CANDLE_COLUMNS,
    CANDLE_FILE_COLUMNS,
    TRADE_COLUMNS,
    FrameColumn,
    Kind,
)

__all__ = [
    "CANDLE_COLUMNS",
    "CANDLE_FILE_COLUMNS",
    "TRADE_COLUMNS",
    "Backend",
    "FrameBuilder",
    "FrameColumn",
    "Kind",
    "Numbers",
    "frame_builder",
]
