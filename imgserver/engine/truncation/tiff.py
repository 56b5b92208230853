"""Whether a TIFF holds all the pixels that it declares, in a compression that this build can read.

libtiff accepts an uncompressed strip that ends beyond the file and shows the missing pixels in black, whatever
`fail_on` says. It also shows an image in black if it was built without its compression. This module reads the directory
of the page (TIFF 6.0, section 2) and compares it with the file.
"""

import struct
from typing import Any, BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES, ROWS_PER_STRIP, PLANAR = 277, 278, 284
STRIPS = (273, 279)
TILES = (324, 325)
WANTED = frozenset((WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, PLANAR, *STRIPS, *TILES))
# None, CCITT (three kinds), LZW, JPEG, Deflate (two numbers), PackBits, WebP.
READABLE = frozenset((1, 2, 3, 4, 5, 7, 8, 32946, 32773, 50001))
UNCOMPRESSED, YCBCR, SEPARATE = 1, 6, 2
# Bytes of one value by TIFF field type: SHORT, LONG, LONG8.
SIZES = {3: 2, 4: 4, 16: 8}
CODES = {3: "H", 4: "I", 16: "Q"}
# More strips or tiles than any image within the limits has. A file with more is left to libtiff.
MAX_PARTS = 100_000

# Values by TIFF tag.
Fields = dict[int, tuple[int, ...]]


def read_fields(file: BinaryIO, page: int = 0) -> Fields:
    """The fields of a page (from 0) that locate its pixels; empty if the directory cannot be read: libtiff will report
    what is wrong with it."""
    try:
        return _directory(file, page)
    except (struct.error, OverflowError, ValueError):
        return {}


def is_readable(fields: Fields) -> bool:
    """Whether this build can decompress the pixels."""
    return _first(fields, COMPRESSION, UNCOMPRESSED) in READABLE


def is_complete(fields: Fields, size: int) -> bool:
    """False if a strip or tile ends beyond a file of `size` bytes, or if the strips are too short for their rows."""
    for offsets, counts in (STRIPS, TILES):
        ends = (at + count for at, count in zip(fields.get(offsets, ()), fields.get(counts, ()), strict=False))
        if any(end > size for end in ends):
            return False
    return sum(fields.get(STRIPS[1], ())[: _strip_count(fields)]) >= _min_strip_bytes(fields)


def _strip_count(fields: Fields) -> int:
    """The number of strips that libtiff reads; a file may list more."""
    height = _first(fields, HEIGHT, 0)
    rows = max(1, min(_first(fields, ROWS_PER_STRIP, height), height))
    planes = _first(fields, SAMPLES, 1) if _first(fields, PLANAR, 1) == SEPARATE else 1
    return -(-height // rows) * planes


def _min_strip_bytes(fields: Fields) -> int:
    """The least size of all uncompressed strips together; 0 if it is unknown (tiles, subsampled colors)."""
    raw = _first(fields, COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED
    if not raw or STRIPS[1] not in fields or _first(fields, PHOTOMETRIC, 0) == YCBCR:
        return 0
    bits = _first(fields, WIDTH, 0) * _first(fields, SAMPLES, 1) * _first(fields, BITS, 1)
    return bits // 8 * _first(fields, HEIGHT, 0)


def _first(fields: Fields, tag: int, default: int) -> int:
    return fields.get(tag, ())[0] if fields.get(tag) else default


def _directory(file: BinaryIO, page: int) -> Fields:
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    for _ in range(page):
        at = _next(file, at, order, big=big)
    file.seek(at)
    (entries,) = _read(file, order + ("Q" if big else "H"))
    rows = [_read(file, order + ("HHQ8s" if big else "HHI4s")) for _ in range(min(entries, 256))]
    return {tag: _values(file, order, kind, count, data) for tag, kind, count, data in rows if tag in WANTED}


def _next(file: BinaryIO, at: int, order: str, *, big: bool) -> int:
    """The offset of the directory that follows the one at `at`."""
    file.seek(at)
    (entries,) = _read(file, order + ("Q" if big else "H"))
    file.seek(entries * (20 if big else 12), 1)
    (following,) = _read(file, order + ("Q" if big else "I"))
    return int(following)


def _values(file: BinaryIO, order: str, kind: int, count: int, data: bytes) -> tuple[int, ...]:
    """The values of a field. They are in the directory entry itself if they fit into it."""
    if kind not in SIZES or count > MAX_PARTS:
        return ()
    layout = f"{order}{count}{CODES[kind]}"
    if count * SIZES[kind] <= len(data):
        return struct.unpack_from(layout, data)
    file.seek(int.from_bytes(data, "little" if order == "<" else "big"))
    return _read(file, layout)


def _read(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
