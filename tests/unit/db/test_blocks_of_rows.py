"""Where blocks of CSV are cut, and the garbage collector that waits for readers."""

from __future__ import annotations

import gc

import pytest

from kraken_db.db.copy import _end_of_rows
from kraken_db.db.driver import collector_paused


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (b"", b""),
        (b"1,2", b""),
        (b"1,2\n", b"1,2\n"),
        (b"1,2\n3,4\n5", b"1,2\n3,4\n"),
        (b'1,"a\nb"\n2,"c\nd', b'1,"a\nb"\n'),
        (b'1,"a\nb', b""),
        (b'1,"say ""x""\n"\n2', b'1,"say ""x""\n"\n'),
    ],
)
def test_a_block_ends_behind_its_last_whole_row(text: bytes, whole: bytes) -> None:
    assert text[: _end_of_rows(bytearray(text))] == whole


def test_the_collector_waits_for_the_last_reader_and_for_nobody_else() -> None:
    assert gc.isenabled()
    first, second = collector_paused(), collector_paused()
    first.__enter__()
    second.__enter__()
    assert not gc.isenabled()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()  # Its owner has switched it off.
    finally:
        gc.enable()
