"""Rounded corners and ellipses: coverage drawn by arithmetic, multiplied into the alpha."""

from imgserver.engine.colour import with_alpha
from imgserver.engine.vips import Image
from imgserver.plan.plan import Mask


def masked(image: Image, step: Mask) -> Image:
    """The image with its corners transparent, edges antialiased."""
    image = with_alpha(image)
    cover = _ellipse(image.width, image.height) if step.ellipse else _corners(image.width, image.height, step)
    bands = image.bands - 1
    alpha = (image.extract_band(bands) * cover / 255.0).rint().cast("uchar")
    return image.extract_band(0, n=bands).bandjoin(alpha).copy(interpretation=image.interpretation)


def _ellipse(width: int, height: int) -> Image:
    """255 inside, 0 outside, one pixel of slope between."""
    grid = Image.xyz(width, height) + 0.5
    x, y = (grid[axis] / (side / 2) - 1.0 for axis, side in enumerate((width, height)))
    distance = (x * x + y * y) ** 0.5
    return _clamped((1.0 - distance) * (min(width, height) / 2) + 0.5)


def _corners(width: int, height: int, step: Mask) -> Image:
    """CSS's rule: where two radii are more than their side, all shrink alike."""
    top_left, top_right, bottom_right, bottom_left = (float(radius) for radius in step.radii)
    pairs = (
        (width, top_left + top_right),
        (width, bottom_left + bottom_right),
        (height, top_left + bottom_left),
        (height, top_right + bottom_right),
    )
    shrink = min(1.0, *(side / total for side, total in pairs if total > 0)) if any(step.radii) else 1.0
    cover = Image.black(width, height) + 255
    for radius, right, bottom in (
        (top_left, False, False),
        (top_right, True, False),
        (bottom_right, True, True),
        (bottom_left, False, True),
    ):
        if radius * shrink >= 0.5:
            cover = _rounded(cover, radius * shrink, right=right, bottom=bottom)
    return cover.cast("uchar")


def _rounded(cover: Image, radius: float, *, right: bool, bottom: bool) -> Image:
    side = min(int(radius + 0.999), cover.width, cover.height)
    grid = Image.xyz(side, side) + (0.5 - radius)
    quarter = _clamped(radius - (grid[0] * grid[0] + grid[1] * grid[1]) ** 0.5 + 0.5)
    quarter = quarter.fliphor() if right else quarter
    quarter = quarter.flipver() if bottom else quarter
    return cover.insert(quarter, cover.width - side if right else 0, cover.height - side if bottom else 0)


def _clamped(share: Image) -> Image:
    """A coverage 0-1 as 0-255; the cast cuts what lies outside."""
    return (share * 255.0).rint().cast("uchar")
