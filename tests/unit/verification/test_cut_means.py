"""Kraken's mean prices are cut to some decimals, however many an answer has."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kraken_db.verification.official import _is_cut


@pytest.mark.parametrize(
    ("served", "is_cut"),
    [
        ("100.5", True),
        ("100", True),
        ("100.56", True),
        ("100.57", False),
        ("1E+2", True),
        ("100.5600000000", True),
        ("100.56" + "0" * 28, True),
        ("100.56" + "0" * 27 + "1", False),
        ("0E-99", False),
        ("1E+99", False),
    ],
)
def test_a_mean_that_is_cut(served: str, is_cut: bool) -> None:
    assert _is_cut(Decimal("100.56"), Decimal(served)) == is_cut
