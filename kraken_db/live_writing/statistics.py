"""What a writer says of itself."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from kraken_db.live_writing.channel import Counts
from kraken_db.live_writing.pipeline import Pipeline


def statistics(pipeline: Pipeline) -> dict[str, Any]:
    """The keys of ``DatabaseWriter.get_stats``."""
    trades, candles = pipeline.trades, pipeline.candles
    return _statistics(trades.counts, candles.counts) | {
        "trade_buffer_size": trades.in_memory,
        "candle_buffer_size": candles.in_memory,
        "conflict_count": pipeline.flusher.conflicts,
        "journal_records": trades.in_journal + candles.in_journal,
        "journal_bytes": trades.journal_size + candles.journal_size,
        "last_error": trades.last_error or candles.last_error,
        "rejections": [*trades.rejections, *candles.rejections],
    }


def no_statistics() -> dict[str, Any]:
    """Those of a writer that was never started."""
    nothing = dict.fromkeys(
        ("trade_buffer_size", "candle_buffer_size", "conflict_count", "journal_records", "journal_bytes"), 0
    )
    return _statistics(Counts(), Counts()) | nothing | {"last_error": None, "rejections": []}


def _statistics(trades: Counts, candles: Counts) -> dict[str, Any]:
    both = {
        field.name: getattr(trades, field.name) + getattr(candles, field.name) for field in fields(Counts)
    }
    return {
        "trades_written": trades.written,
        "candles_written": candles.written,
        "flush_count": both["flushes"],
        "error_count": both["errors"],
        "overflow_count": both["overflowed"],
        "known_count": both["known"],
        "rejected_count": both["rejected"],
        "dropped_count": both["dropped"],
        "recovered_count": both["recovered"],
    }
