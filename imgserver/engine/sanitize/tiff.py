"""A TIFF as the decoder gets it: with the sizes of its strips."""

from typing import BinaryIO

from imgserver.engine.tiff.completeness import missing_counts
from imgserver.engine.tiff.fields import STRIP_COUNTS, read_fields, with_values


def whole(file: BinaryIO, page: int) -> bytes | None:
    """The file with the sizes of the strips of `page` (from 0); None if it gives them itself, or if they are
    unknown."""
    counts = missing_counts(read_fields(file, page))
    return None if counts is None else with_values(file, page, STRIP_COUNTS, counts)
