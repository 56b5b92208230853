"""Whether a TIFF holds all the pixels it speaks of, and holds them in a way that this build can read.

libtiff repairs an uncompressed strip that ends behind the file by believing the file, and shows what is missing in
black, whatever `fail_on` says; so it does with all of a picture whose compression it was built without. So the page's
directory is read here (TIFF 6.0, section 2), and held against the file.
"""

import struct
from typing import Any, BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
SAMPLES, ROWS_PER_STRIP, PLANAR = 277, 278, 284
STRIPS = (273, 279)
TILES = (324, 325)
WANTED = frozenset((WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS_PER_STRIP, PLANAR, *STRIPS, *TILES))
# None, CCITT (three kinds), LZW, JPEG, deflate (two numbers), PackBits, WebP.
READABLE = frozenset((1, 2, 3, 4, 5, 7, 8, 32946, 32773, 50001))
UNCOMPRESSED, YCBCR, SEPARATE = 1, 6, 2
# Bytes of one value by TIFF field type: SHORT, LONG, LONG8.
SIZES = {3: 2, 4: 4, 16: 8}
CODES = {3: "H", 4: "I", 16: "Q"}
# More parts than any picture within the limits has; the rest is libtiff's to judge.
MAX_PARTS = 100_000

Fields = dict[int, tuple[int, ...]]


def fields_of(file: BinaryIO, page: int = 0) -> Fields:
    """The directory of a page (from 0), as far as it tells where its pixels are; empty where it cannot be read:
    libtiff will say what is wrong with it."""
    try:
        return _directory(file, page)
    except (struct.error, OverflowError, ValueError):
        return {}


def is_readable(fields: Fields) -> bool:
    return _first(fields, COMPRESSION, UNCOMPRESSED) in READABLE


def tiff_is_complete(fields: Fields, size: int) -> bool:
    """False if a strip or tile ends behind a file of `size` bytes, or if strips are too short for their rows."""
    for offsets, counts in (STRIPS, TILES):
        ends = (at + count for at, count in zip(fields.get(offsets, ()), fields.get(counts, ()), strict=False))
        if any(end > size for end in ends):
            return False
    return sum(fields.get(STRIPS[1], ())[: _strips(fields)]) >= _strip_bytes(fields)


def _strips(fields: Fields) -> int:
    """How many strips libtiff will read: a file may list more."""
    height = _first(fields, HEIGHT, 0)
    rows = max(1, min(_first(fields, ROWS_PER_STRIP, height), height))
    planes = _first(fields, SAMPLES, 1) if _first(fields, PLANAR, 1) == SEPARATE else 1
    return -(-height // rows) * planes


def _strip_bytes(fields: Fields) -> int:
    """What uncompressed strips hold at least; 0 where that cannot be told (tiles, subsampled colors)."""
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
    """Where the directory after the one at `at` begins."""
    file.seek(at)
    (entries,) = _read(file, order + ("Q" if big else "H"))
    file.seek(entries * (20 if big else 12), 1)
    (following,) = _read(file, order + ("Q" if big else "I"))
    return int(following)


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


# Whether a GIF holds all the frames it began.
#
# libvips shows the frames before a cut and reports success, whatever `fail_on` says. So the blocks of the file
# are walked here, by their lengths alone (GIF89a, appendix A).

HEADER_BYTES = 13
DESCRIPTOR_BYTES = 9
IMAGE, EXTENSION = b",", b"!"


class _Cut(Exception):
    """The file ends inside a block."""


def gif_is_complete(file: BinaryIO) -> bool:
    """False if the file ends inside a block. A missing trailer is forgiven, as browsers forgive it: nothing of the
    pictures is missing. What cannot be understood counts as whole: libvips will say what is wrong with it."""
    try:
        _skip_colors(file, _taken(file, HEADER_BYTES)[10])
        while _skip_block(file):
            pass
    except _Cut:
        return False
    return True


def _skip_block(file: BinaryIO) -> bool:
    """False behind the last block."""
    kind = file.read(1)
    if kind == IMAGE:
        _skip_colors(file, _taken(file, DESCRIPTOR_BYTES)[8])
    elif kind != EXTENSION:
        return False
    _taken(file, 1)  # the extension's label, or the size of the image's first code
    _skip_parts(file)
    return True


def _skip_parts(file: BinaryIO) -> None:
    while size := _taken(file, 1)[0]:
        _taken(file, size)


def _skip_colors(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        _taken(file, 3 << (flags & 7) + 1)


def _taken(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _Cut
    return data
