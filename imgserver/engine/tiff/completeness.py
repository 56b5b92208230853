"""Whether a TIFF holds all the pixels that it declares.

libtiff accepts an uncompressed strip that ends beyond the file and shows the missing pixels in black, whatever
`fail_on` says. This module compares the directory of the page with the file.
"""

from imgserver.engine.tiff.fields import (
    BITS,
    COMPRESSION,
    HEIGHT,
    PHOTOMETRIC,
    PLANAR,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    Fields,
    first,
)

UNCOMPRESSED, YCBCR, SEPARATE = 1, 6, 2


def is_complete(fields: Fields, size: int) -> bool:
    """False if a strip or tile ends beyond a file of `size` bytes, or if it is too short for its rows."""
    parts = _part_count(fields)
    # Some writers describe tiles by the tags of strips.
    offsets = (fields.get(TILE_OFFSETS) or fields.get(STRIP_OFFSETS, ()))[:parts]
    counts = (fields.get(TILE_COUNTS) or fields.get(STRIP_COUNTS, ()))[:parts]
    if len(offsets) < parts:
        # A file with more parts than MAX_VALUES, or without this field, is left to libtiff.
        return not offsets
    lengths = _uncompressed_lengths(fields)
    if lengths is None:
        # A size of 0 is unknown: libtiff reads to the next strip.
        known = zip(offsets, counts, strict=False)
        return all(at + max(count, 1) <= size for at, count in known)
    if len(counts) < parts or not all(counts):
        # libtiff computes sizes that the file does not give.
        counts = tuple(lengths)
    whole = all(count >= length for count, length in zip(counts, lengths, strict=False))
    # Only the bytes that pixels need must be there.
    return whole and all(a + n <= size for a, n in zip(offsets, lengths, strict=False))


def missing_counts(fields: Fields) -> list[int] | None:
    """The sizes of the strips, if the file gives 0 for some of several; else None.

    libtiff computes the size of a single strip only.
    """
    counts = fields.get(STRIP_COUNTS, ())
    if len(counts) < 2 or len(counts) != _part_count(fields) or all(counts):
        return None
    return _uncompressed_lengths(fields)


def _part_count(fields: Fields) -> int:
    """The number of strips or tiles that libtiff reads; a file may list more."""
    planes = first(fields, SAMPLES, 1) if first(fields, PLANAR, 1) == SEPARATE else 1
    return _across(fields) * _down(fields) * planes


def _across(fields: Fields) -> int:
    tile = first(fields, TILE_WIDTH, 0)
    return -(-first(fields, WIDTH, 0) // tile) if tile else 1


def _down(fields: Fields) -> int:
    return -(-first(fields, HEIGHT, 0) // _part_height(fields))


def _part_height(fields: Fields) -> int:
    height = first(fields, HEIGHT, 0)
    if first(fields, TILE_WIDTH, 0):
        return max(1, first(fields, TILE_HEIGHT, 1))
    return max(1, min(first(fields, ROWS_PER_STRIP, height), height))


def _uncompressed_lengths(fields: Fields) -> list[int] | None:
    """The bytes that each strip or tile needs; None if they are unknown (compressed, subsampled colors)."""
    raw = first(fields, COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED
    if not raw or first(fields, PHOTOMETRIC, 0) == YCBCR:
        return None
    height, rows = first(fields, HEIGHT, 0), _part_height(fields)
    tiled = bool(first(fields, TILE_WIDTH, 0))
    width = first(fields, TILE_WIDTH, 0) or first(fields, WIDTH, 0)
    separate = first(fields, PLANAR, 1) == SEPARATE
    samples = first(fields, SAMPLES, 1)
    row_bytes = -(-width * first(fields, BITS, 1) * (1 if separate else samples) // 8)
    heights = [rows if tiled else min(rows, height - top) for top in range(0, height, rows)]
    plane = [row_bytes * part for part in heights for _ in range(_across(fields))]
    return plane * (samples if separate else 1)
