"""Columns as data frames and files have them, written by the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, Select, case, cast, func, literal_column, select
from sqlalchemy.types import Text


@dataclass(frozen=True, slots=True)
class Checksum:
    """What tells one content of a range from another."""

    rows: int
    first: datetime | None
    last: datetime | None
    digest: int
    """Changes with any value of a row: a sum of 64-bit hashes, so that rows can be read in any order."""

    @classmethod
    def of(cls, row: Sequence[Any]) -> Checksum:
        rows, first, last, digest = row
        return cls(rows, first, last, int(digest))


def epoch_microseconds(moment: ColumnElement[Any]) -> ColumnElement[int]:
    """Microseconds since 1970. By way of a float, which is exact to the microsecond until the year 2106."""
    return cast(func.date_part("epoch", moment) * _literal("1000000"), BigInteger)


def epoch_seconds(moment: ColumnElement[Any]) -> ColumnElement[int]:
    """Seconds since 1970, of whole ones."""
    return cast(func.date_part("epoch", moment), BigInteger)


def epoch_seconds_text(moment: ColumnElement[Any]) -> ColumnElement[str]:
    """Seconds since 1970 with the decimals that they have: ``1647771524.902529``."""
    return _text(func.trim_scale(cast(epoch_microseconds(moment), Numeric) / _literal("1000000")))


def kraken_price(price: ColumnElement[Any]) -> ColumnElement[str]:
    """As Kraken's OHLCVT archive writes prices: at least one decimal, ``16520.0``."""
    trimmed = func.trim_scale(price)
    return _text(trimmed).concat(case((func.scale(trimmed) == _literal("0"), ".0"), else_=""))


def kraken_volume(volume: ColumnElement[Any]) -> ColumnElement[str]:
    """As Kraken's OHLCVT archive writes volumes: ``0.5``, ``12``, and ``1E+1`` for ten."""
    plain = _text(func.trim_scale(volume))
    whole = func.length(_text(func.trunc(volume)))
    return case(
        (volume == _literal("0"), "0"),
        (volume % _literal("10") == _literal("0"), _scientific(plain, whole - 1, "E+")),
        (volume >= _literal("0.000001"), plain),
        else_=_scientific(plain, _leading_zeros(plain) + 1, "E-"),
    )


def kraken_number(number: ColumnElement[Any]) -> ColumnElement[str]:
    """As Kraken's trades have prices and volumes, without zeros at the end."""
    return _text(func.trim_scale(number))


def checksum(moment: ColumnElement[Any], columns: Sequence[ColumnElement[Any]]) -> Select[*tuple[Any, ...]]:
    """One row: the fields of ``Checksum``."""
    hashed = func.hash_record_extended(func.row(*columns), cast(_literal("0"), BigInteger))
    return select(
        func.count(), func.min(moment), func.max(moment), func.coalesce(func.sum(hashed), _literal("0"))
    )


def _scientific(plain: ColumnElement[str], exponent: ColumnElement[int], sign: str) -> ColumnElement[str]:
    digits = func.regexp_replace(func.replace(plain, ".", ""), "^0+|0+$", "", "g")
    more = func.substr(digits, 2)
    fraction = case((more == "", ""), else_=literal_column("'.'", Text).concat(more))
    return func.left(digits, 1).concat(fraction).concat(sign).concat(_text(exponent))


def _leading_zeros(plain: ColumnElement[str]) -> ColumnElement[int]:
    """Of the decimals of a number below one."""
    return func.length(func.substring(plain, r"^0\.(0*)"))


def _text(value: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(value, Text)


def _literal(number: str) -> ColumnElement[Any]:
    return literal_column(number)
