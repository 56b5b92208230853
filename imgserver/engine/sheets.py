"""Whether a TIFF holds all the pixels it speaks of.

libtiff repairs an uncompressed strip that ends behind the file by believing the file, and shows what is missing in
black, whatever `fail_on` says. So the first directory's offsets and counts are held against the file's size here.
"""

import struct
from typing import Any, BinaryIO

STRIPS = (273, 279)
TILES = (324, 325)
# Bytes of one value by TIFF field type: SHORT, LONG, LONG8.
SIZES = {3: 2, 4: 4, 16: 8}
CODES = {3: "H", 4: "I", 16: "Q"}
# More parts than any picture within the limits has; the rest is libtiff's to judge.
MAX_PARTS = 100_000


def is_whole(file: BinaryIO, size: int) -> bool:
    """False if a strip or tile of the first page ends behind the file. What cannot be read counts as whole: libtiff
    will say what is wrong with it."""
    try:
        fields = _directory(file)
    except struct.error:
        return True
    for offsets, counts in (STRIPS, TILES):
        ends = (at + count for at, count in zip(fields.get(offsets, ()), fields.get(counts, ()), strict=False))
        if any(end > size for end in ends):
            return False
    return True


def _directory(file: BinaryIO) -> dict[int, tuple[int, ...]]:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    file.seek(at)
    (entries,) = _read(file, order + ("Q" if big else "H"))
    rows = [_read(file, order + ("HHQ8s" if big else "HHI4s")) for _ in range(min(entries, 256))]
    wanted = (*STRIPS, *TILES)
    return {tag: _values(file, order, kind, count, data) for tag, kind, count, data in rows if tag in wanted}


def _values(file: BinaryIO, order: str, kind: int, count: int, data: bytes) -> tuple[int, ...]:
    """A field's values, which stand in the entry itself if they fit."""
    if kind not in SIZES or count > MAX_PARTS:
        return ()
    layout = f"{order}{count}{CODES[kind]}"
    if count * SIZES[kind] <= len(data):
        return struct.unpack_from(layout, data)
    file.seek(int.from_bytes(data, "little" if order == "<" else "big"))
    return _read(file, layout)


def _read(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
