"""Records on disk: whole ones are read, torn and damaged ones are told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kraken_db.database_writer.journal import frame, scan

payloads = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def file_of(contents: list[bytes]) -> bytes:
    return b"".join(frame(number, content) for number, content in enumerate(contents, 1))


@given(payloads)
def test_what_is_written_is_read(contents: list[bytes]) -> None:
    found = scan(file_of(contents), is_end=True, most=100)
    assert found.records == list(enumerate(contents, 1))
    assert (found.damaged, found.used) == (0, len(file_of(contents)))


@given(payloads, st.data())
def test_a_torn_end_costs_the_torn_record_alone(contents: list[bytes], data: st.DataObject) -> None:
    whole = file_of(contents)
    length = data.draw(st.integers(0, len(whole) - 1))
    borders = [len(file_of(contents[:count])) for count in range(len(contents) + 1)]
    complete = max(count for count, border in enumerate(borders) if border <= length)
    found = scan(whole[:length], is_end=True, most=100)
    assert found.records == list(enumerate(contents, 1))[:complete]
    assert (found.whole, found.damaged) == (borders[complete], length - borders[complete])
    growing = scan(whole[:length], is_end=False, most=100)
    assert growing.records == found.records
    assert (growing.used, growing.damaged) == (borders[complete], 0)


@given(payloads, st.data())
def test_a_changed_byte_costs_its_own_record_alone(contents: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(file_of(contents))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    borders = [len(file_of(contents[:count])) for count in range(len(contents) + 1)]
    hit = max(count for count, border in enumerate(borders) if border <= place)
    expected = [item for item in enumerate(contents, 1) if item[0] != hit + 1]
    found = scan(bytes(whole), is_end=True, most=100)
    assert found.records == expected
    assert found.damaged == borders[hit + 1] - borders[hit]


def test_reading_in_pieces() -> None:
    whole = file_of([b"one", b"two", b"three"])
    first = scan(whole, is_end=False, most=2)
    assert [payload for _, payload in first.records] == [b"one", b"two"]
    assert scan(whole[first.used :], is_end=True, most=2).records == [(3, b"three")]
