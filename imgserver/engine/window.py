"""Windows whose edges are between pixels: what a decoder delivers at a reduced size ends inside a pixel.

A JPEG of 2047 pixels that is decoded at 1/4 is 511.75 pixels wide, and libvips delivers 511. To scale these to the
width of the result would stretch the image, and `vips_reduce` centers what remains. So the image gets a few more
columns, and the result a few more pixels that are cut off again, in numbers for which the sampling grid falls on the
edges of the window.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import ceil, floor

from imgserver.engine.vips import Image
from imgserver.plan.geometry import Box, whole

# Pixels of the result that may be cut off at its start and at its end. They are not computed.
MAX_CUT, MAX_MORE = 16, 64
# The error of the grid, in pixels of the result, that is good enough to stop the search.
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image, in its pixels."""

    left: Fraction
    top: Fraction
    width: Fraction
    height: Fraction

    @property
    def is_on_pixels(self) -> bool:
        sides = (self.left, self.top, self.width, self.height)
        return all(side.denominator == 1 for side in sides)

    def rounded(self, width: int, height: int) -> Box:
        """The nearest window of whole pixels in an image of this size; never empty."""
        left, top = min(whole(self.left), width - 1), min(whole(self.top), height - 1)
        right, bottom = min(whole(self.left + self.width), width), min(whole(self.top + self.height), height)
        return Box(left, top, max(right - left, 1), max(bottom - top, 1))


@dataclass(frozen=True, slots=True)
class _Grid:
    """One axis: `size` pixels from `start`, which may be outside the image, are scaled to `scaled` pixels, of which the
    first `cut` are cut off."""

    start: int
    size: int
    scaled: int
    cut: int


def resize_window(image: Image, window: Window, width: int, height: int, kernel: str) -> Image:
    """The window scaled to exactly this size, which is at most its own.

    Pixels outside the image are those of its edge.
    """
    across, down = _grid(window.left, window.width, width), _grid(window.top, window.height, height)
    wider = image.embed(-across.start, -down.start, across.size, down.size, extend="copy")
    scales = float(width / window.width), float(height / window.height)
    larger = wider.resize(scales[0], vscale=scales[1], kernel=kernel)
    return larger.crop(across.cut, down.cut, width, height)


def _grid(start: Fraction, length: Fraction, target: int) -> _Grid:
    """The grid with the smallest error.

    libvips scales `size` pixels by the factor `step` to round(size / step) pixels and centers the remainder: the result
    begins at (size - scaled × step) / 2. That plus `cut` pixels of the result must be the start of the window.
    """
    step = float(length / target)
    # libvips rounds half up, and the quotient is exact for whole steps only.
    lowest = -0.5 if step.is_integer() else -0.499
    best, error = _Grid(round(start), max(1, round(length)), target, 0), float("inf")
    for cut in range(MAX_CUT if start.denominator > 1 else 1):
        exact = float(start) - cut * step
        for first, more in product({floor(exact), ceil(exact)}, range(MAX_MORE)):
            scaled = cut + target + more
            ideal = scaled * step + 2 * (exact - first)
            size = round(ideal)
            if lowest <= size / step - scaled < 0.499 and abs(size - ideal) / 2 / step < error:
                best, error = _Grid(first, size, scaled, cut), abs(size - ideal) / 2 / step
            if error < TOLERANCE:
                return best
    return best
