"""Zips in Kraken's shapes, whole and in parts, and zips that lie."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import zipfile
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

from kraken_db.archives.byte_source import ByteSource
from kraken_db.archives.zip_reading import ZipMember, read_directory, unpack

END = struct.Struct("<4s4H2LH")
"""Signature, disk, disk of the directory, entries here, entries, bytes, place, comment's length."""


def rows(count: int, seed: int = 1) -> bytes:
    """Text that packs as trades do."""
    draw = random.Random(seed)
    return b"".join(
        b"%d.%07d,%d.%05d,0.%08d,b,l,,%d\n"
        % (1_700_000_000 + n, draw.randrange(10**7), draw.randrange(10**5), draw.randrange(10**5), n, n + 1)
        for n in range(count)
    )


def zip_bytes(
    members: Mapping[str, bytes],
    *,
    kind: int = zipfile.ZIP_DEFLATED,
    zip64: bool = False,
    comment: bytes = b"",
) -> bytes:
    """A zip. ``zip64``: with ZIP64's records at its end, as one that is too large for others has them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = kind
            with archive.open(entry, "w", force_zip64=zip64) as member:
                member.write(content)
        archive.comment = comment
    return with_end_64(packed.getvalue()) if zip64 else packed.getvalue()


def with_end_64(data: bytes, **changes: int) -> bytes:
    """The same zip, its end told by ZIP64's records. ``changes``: numbers of these that become others."""
    at = data.rindex(b"PK\x05\x06")
    _, _, _, _, count, size, start, _ = END.unpack_from(data, at)
    numbers = {
        "length": 44, "disk": 0, "first_disk": 0, "here": count, "count": count, "size": size, "start": start,
        "locator_disk": 0, "place": at, "disks": 1,
    } | changes  # fmt: skip
    record = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        numbers["length"],
        45,
        45,
        *(numbers[name] for name in ("disk", "first_disk", "here", "count", "size", "start")),
    )
    locator = struct.pack(
        "<4sLQL", b"PK\x06\x07", numbers["locator_disk"], numbers["place"], numbers["disks"]
    )
    end = END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:at] + record + locator + end


def with_end(data: bytes, **changes: int) -> bytes:
    """The same zip, with other numbers at its end."""
    at = data.rindex(b"PK\x05\x06")
    names = ("disk", "first_disk", "here", "count", "size", "start", "comment")
    signature, *values = END.unpack_from(data, at)
    numbers = dict(zip(names, values, strict=True)) | changes
    return data[:at] + END.pack(signature, *numbers.values()) + data[at + END.size :]


ENTRY_FIELDS = {
    "flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed_size": (20, "<L"),
    "size": (24, "<L"), "name_length": (28, "<H"), "disk": (34, "<H"), "offset": (42, "<L"),
}  # fmt: skip


def with_entry(data: bytes, number: int = 0, **changes: int) -> bytes:
    """The same zip, with other numbers in one entry of its directory."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    changed = bytearray(data)
    for name, value in changes.items():
        place, form = ENTRY_FIELDS[name]
        struct.pack_into(form, changed, at + place, value)
    return bytes(changed)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def write_parts(folder: Path, name: str, pieces: list[bytes], *, width: int = 2) -> list[Path]:
    paths = [folder / f"{name}.part{number:0{width}}" for number in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


def sums_of(files: Mapping[str, bytes]) -> str:
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())


async def unpacked(source: ByteSource, member: ZipMember) -> bytes:
    async with aclosing(unpack(source, member)) as blocks:
        return b"".join([block async for block in blocks])


async def contents(source: ByteSource) -> dict[str, bytes]:
    """All members of a zip by their names."""
    return {member.name: await unpacked(source, member) for member in await read_directory(source)}
