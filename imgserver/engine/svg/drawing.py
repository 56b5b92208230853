"""An SVG that can be drawn at any size within the limits, lazily."""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from imgserver.engine.job import Limits
from imgserver.engine.svg.embedded import PIXEL_BYTES, Budget
from imgserver.engine.svg.natural_size import STYLE_SIDE
from imgserver.engine.svg.parser import Document, parse
from imgserver.engine.vips import Image
from imgserver.plan.fitting import Size, at_least_one

# Cairo draws no larger surface.
MAX_SIDE = 32_767
__all__ = ["Drawing", "open_drawing"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """`size` is its natural size in whole pixels, shrunk to the limits. `max_scale` is how many times larger it may be
    drawn, at least 1."""

    document: Document
    size: Size
    max_scale: Fraction

    def outline(self) -> Image:
        """The image at its natural size. Nothing is drawn yet. Raises vips.Error."""
        return self.at_scale(Fraction(1))

    def at_scale(self, scale: Fraction, **options: Any) -> Image:
        """The image drawn at `scale` times its size, at most at `max_scale`. `options` are the loader's. Raises
        vips.Error."""
        scale = min(scale, self.max_scale)
        size = at_least_one(self.size[0] * scale), at_least_one(self.size[1] * scale)
        # From memory it has no base URL, so that no reference to a file can be resolved.
        image = Image.svgload_buffer(_markup(self.document, size).encode(), **options)
        if (image.width, image.height) == size:
            return image
        # A style sheet may set the size of the root.
        return image.resize(size[0] / image.width, vscale=size[1] / image.height)


def open_drawing(path: str, limits: Limits) -> Drawing:
    """The parsed SVG. Raises BrokenImage, UnsupportedImage and ImageOverLimit."""
    document = parse(Path(path).read_bytes(), Budget(limits))
    width, height = document.size.width, document.size.height
    scale = min(Fraction(1), _largest_scale(width, height, limits))
    size = at_least_one(width * scale), at_least_one(height * scale)
    return Drawing(document, size, max(Fraction(1), _largest_scale(Fraction(size[0]), Fraction(size[1]), limits)))


def _largest_scale(width: Fraction, height: Fraction, limits: Limits) -> Fraction:
    """The scale at which an image of this size reaches a limit."""
    side = min(limits.source_side, MAX_SIDE)
    pixels = min(limits.source_pixels, limits.decoded_bytes // PIXEL_BYTES)
    by_pixels = Fraction(math.sqrt(pixels / (width * height)) * 0.999)
    return min(side / max(width, height), by_pixels)


def _markup(document: Document, size: Size) -> str:
    """The document at this size. The side that is a fraction of a pixel off its proportion is stretched by it."""
    natural, attributes = document.size, dict(document.attributes)
    width, height = map(str, size)
    if natural.view_box is None:
        attributes["viewBox"] = f"0 0 {float(natural.width):.9g} {float(natural.height):.9g}"
    if natural.fills:
        attributes["preserveAspectRatio"] = "none"
    sides = f"width:{width}px!important;height:{height}px!important;"
    attributes |= {"width": width, "height": height, "style": sides + STYLE_SIDE.sub("", attributes.get("style", ""))}
    return document.markup(attributes)
