"""Live recording: trades as they happen, stored without a hole, and their 1m candles."""

from kraken_db.recorder.recorder import Recorder
from kraken_db.recorder.status import PairStatus, RecorderStatus

__all__ = ["PairStatus", "Recorder", "RecorderStatus"]
