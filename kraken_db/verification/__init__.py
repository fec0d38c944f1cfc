"""Is what is stored complete, and is it right?"""

from kraken_db.verification.certificate import CandlesPart, Certificate, Finding, Part, TradesPart
from kraken_db.verification.verifier import StoreVerifier

__all__ = ["CandlesPart", "Certificate", "Finding", "Part", "StoreVerifier", "TradesPart"]
