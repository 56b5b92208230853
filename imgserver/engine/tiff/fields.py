"""The fields of one directory of a TIFF (TIFF 6.0, section 2; BigTIFF)."""

import os
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
YCBCR_COEFFICIENTS, YCBCR_SUBSAMPLING, REFERENCE_BLACK_WHITE = 529, 530, 532
STRUCTURE = (WIDTH, HEIGHT, STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR)
TILES = (TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS)
MEANING = (BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES, SAMPLE_FORMAT)
YCBCR_TAGS = (YCBCR_COEFFICIENTS, YCBCR_SUBSAMPLING, REFERENCE_BLACK_WHITE)
WANTED = frozenset((*STRUCTURE, *TILES, *MEANING, *YCBCR_TAGS))
# Bytes of one value by field type: BYTE, SHORT, LONG, RATIONAL, LONG8.
SIZES = {1: 1, 3: 2, 4: 4, 5: 8, 16: 8}
CODES = {1: "B", 3: "H", 4: "I", 5: "II", 16: "Q"}
SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
# More strips or tiles than any image within the limits has. A file with more is left to libtiff.
MAX_VALUES = 100_000
# No directory of an image has more entries.
MAX_ENTRIES = 256

# Values by tag.
Fields = dict[int, tuple[float, ...]]


def read_fields(file: BinaryIO, page: int = 0) -> Fields:
    """The fields of a page (from 0) that say where its pixels are and what they mean.

    Returns an empty dictionary if the directory cannot be read: libtiff will report what is wrong with it.
    """
    try:
        return _directory(file, page)
    except (struct.error, OverflowError, ValueError, ZeroDivisionError):
        return {}


def first(fields: Fields, tag: int, default: int) -> int:
    return int(fields[tag][0]) if fields.get(tag) else default


def with_values(file: BinaryIO, page: int, tag: int, values: Sequence[int]) -> bytes | None:
    """The file with other values, as many as before, in a field of integers; None if they do not fit into it."""
    try:
        order, rows = _rows(file, page)
        kind, count, at, data = next((row[1:] for row in rows if row[0] == tag), (0, 0, 0, b""))
        if count != len(values) or kind not in (SHORT, LONG, LONG8):
            return None
        packed = struct.pack(f"{order}{count}{CODES[kind]}", *values)
    except (struct.error, OverflowError, ValueError):
        return None
    at = at if len(packed) <= len(data) else _offset(data, order)
    file.seek(0)
    whole = bytearray(file.read())
    whole[at : at + len(packed)] = packed
    return bytes(whole)


def _directory(file: BinaryIO, page: int) -> Fields:
    order, rows = _rows(file, page)
    return {tag: _values(file, order, kind, count, data) for tag, kind, count, _, data in rows if tag in WANTED}


def _rows(file: BinaryIO, page: int) -> tuple[str, list[tuple[int, int, int, int, bytes]]]:
    """The order of bytes, and the entries of the directory: tag, type, count, place and bytes of the value or of its
    offset."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    for _ in range(page):
        at = _next(file, at, order, big=big)
    _seek(file, at)
    (entries,) = _read(file, order + ("Q" if big else "H"))
    layout = order + ("HHQ8s" if big else "HHI4s")
    rows = []
    for _ in range(min(entries, MAX_ENTRIES)):
        tag, kind, count, data = _read(file, layout)
        rows.append((tag, kind, count, file.tell() - len(data), data))
    return order, rows


def _offset(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _next(file: BinaryIO, at: int, order: str, *, big: bool) -> int:
    """The offset of the directory that follows the one at `at`."""
    _seek(file, at)
    (entries,) = _read(file, order + ("Q" if big else "H"))
    _seek(file, file.tell() + entries * (20 if big else 12))
    (following,) = _read(file, order + ("Q" if big else "I"))
    return int(following)


def _values(file: BinaryIO, order: str, kind: int, count: int, data: bytes) -> tuple[float, ...]:
    """The values of a field. They are in the directory entry itself if they fit into it."""
    if kind not in SIZES or count > MAX_VALUES:
        return ()
    layout = order + (f"{2 * count}I" if kind == RATIONAL else f"{count}{CODES[kind]}")
    if count * SIZES[kind] <= len(data):
        values = struct.unpack_from(layout, data)
    else:
        _seek(file, _offset(data, order))
        values = _read(file, layout)
    if kind == RATIONAL:
        return tuple(above / below for above, below in zip(values[::2], values[1::2], strict=True))
    return values


def _seek(file: BinaryIO, at: int) -> None:
    """Raises ValueError for an offset beyond the file. The system refuses some of them as invalid."""
    if at > file.seek(0, os.SEEK_END):
        raise ValueError("the offset is beyond the file")
    file.seek(at)


def _read(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
