"""Live recording: trades as they happen, stored without a hole, and their 1m candles."""

from kraken_db.recorder.recorder import PairStatus, Recorder, RecorderStatus

__all__ = ["PairStatus", "Recorder", "RecorderStatus"]
