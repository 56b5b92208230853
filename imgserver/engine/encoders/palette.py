"""Palettes: how many bits the colors of an image need."""

from typing import TYPE_CHECKING, Literal

from imgserver.engine.job import IN_MEMORY_PIXELS

if TYPE_CHECKING:
    from imgserver.engine.vips import Image

MAX_COLORS = 256
# An original with no more bits per pixel has few gray levels.
FEW_GRAY_BITS = 4
# Pixels that are examined at a time: a photograph has more than 256 colors in the first of these.
CHUNK_PIXELS = 16_384
# The type of one pixel for `memoryview`, by its bytes.
PIXEL_TYPES: dict[int, Literal["B", "H", "I"]] = {1: "B", 2: "H", 4: "I"}


def is_in_memory(image: "Image") -> bool:
    """Whether the pixels are computed already, so that they can be read more than once."""
    return bool(image.width * image.height <= IN_MEMORY_PIXELS)


def palette_bits(image: "Image") -> int | None:
    """The bits per pixel (1, 2, 4 or 8) of a palette that holds every color of the image, alpha included; None if it
    has more than 256 colors, or is so large that it may still stream from its decoder."""
    if not is_in_memory(image) or image.format != "uchar":
        return None
    pixels = image.addalpha() if image.bands == 3 else image
    colors: set[int] = set()
    rows = max(1, CHUNK_PIXELS // image.width)
    for top in range(0, image.height, rows):
        chunk = pixels.crop(0, top, image.width, min(rows, image.height - top)).write_to_memory()
        colors.update(memoryview(chunk).cast(PIXEL_TYPES[pixels.bands]))
        if len(colors) > MAX_COLORS:
            return None
    return next(bits for bits in (1, 2, 4, 8) if len(colors) <= 1 << bits)


def source_bits(image: "Image") -> int | None:
    """The bits per pixel of the palette, or of the few gray levels, that the original has; None if it has full colors
    or more than sixteen gray levels."""
    bits = int(image.get("bits-per-sample")) if image.get_typeof("bits-per-sample") else 8
    if image.get_typeof("palette"):
        return bits
    return bits if image.interpretation == "b-w" and bits <= FEW_GRAY_BITS else None
