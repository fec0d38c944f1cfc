"""What is missing in a store, found from its coverage and filled from Kraken's REST."""

from kraken_db.gap_filler.filler import GapFiller, run_gap_filler
from kraken_db.gap_filler.gaps import Filled, FillReport, FoundGap, GapKind, SymbolGaps

__all__ = ["FillReport", "Filled", "FoundGap", "GapFiller", "GapKind", "SymbolGaps", "run_gap_filler"]
