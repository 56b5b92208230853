"""Effects: tones (tables and matrices on 8-bit sRGB), kernels (blur, sharpen, pixelate) and masks.

No effect but opacity and masks changes the alpha channel.
"""

import math
from collections.abc import Callable

from imgserver.engine.color import colored, premultiplied, unpremultiplied, with_alpha
from imgserver.engine.vips import Image
from imgserver.plan.plan import Kernel, Mask, Tone

Matrix = list[list[float]]
IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
# The values of CSS filter effects (W3C Filter Effects 1): browsers and this server give the same result.
SEPIA: Matrix = [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]
HUE_COS: Matrix = [[0.787, -0.715, -0.072], [-0.213, 0.285, -0.072], [-0.213, -0.715, 0.928]]
HUE_SIN: Matrix = [[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]]
LUMA: Matrix = [[0.213, 0.715, 0.072]] * 3
# A new value for a value from 0 to 1. A gamma above 1 brightens, as in most tools.
CURVES: dict[str, Callable[[float, float], float]] = {
    "brightness": lambda value, factor: value * factor,
    "contrast": lambda value, factor: (value - 0.5) * factor + 0.5,
    "gamma": lambda value, exponent: value ** (1 / exponent),
    "negate": lambda value, share: value + share * (1 - 2 * value),
}


def apply_tone(image: Image, step: Tone) -> Image:
    """The image with other brightness, color or opacity."""
    amount = float(step.amount)
    if step.name == "opacity":
        return _on_colors(with_alpha(image), lambda colors: colors, opacity=amount)
    if step.name in CURVES:
        table = _table(CURVES[step.name], amount)
        return _on_colors(image, lambda colors: colors.maplut(table))
    matrix = Image.new_from_array(_matrix(step.name, amount))
    return _on_colors(colored(image), lambda colors: colors.recomb(matrix).rint().cast("uchar"))


def apply_kernel(image: Image, step: Kernel) -> Image:
    """The image blurred, sharpened or in blocks. Its pixels must be in memory."""
    amount = float(step.amount)
    match step.name:
        case "blur":
            return unpremultiplied(premultiplied(image).gaussblur(amount, precision="integer"), image)
        case "sharpen":
            return _on_colors(image, lambda colors: _sharpen(colors, amount))
        case "pixelate":
            return _pixelate(image, max(1, round(amount)))


def apply_mask(image: Image, step: Mask) -> Image:
    """The image with transparent corners, or as an ellipse; the edges are antialiased."""
    image = with_alpha(image)
    coverage = _ellipse(image.width, image.height) if step.ellipse else _corners(image.width, image.height, step)
    bands = image.bands - 1
    alpha = (image.extract_band(bands) * coverage / 255.0).rint().cast("uchar")
    return image.extract_band(0, n=bands).bandjoin(alpha).copy(interpretation=image.interpretation)


def _on_colors(image: Image, change: Callable[[Image], Image], *, opacity: float = 1.0) -> Image:
    """Applies `change` to the color bands, and multiplies the alpha band by `opacity`."""
    if not image.hasalpha():
        return change(image).copy(interpretation=image.interpretation)
    bands = image.bands - 1
    alpha = image.extract_band(bands)
    alpha = alpha if opacity == 1.0 else (alpha * opacity).rint().cast("uchar")
    joined = change(image.extract_band(0, n=bands)).bandjoin(alpha)
    return joined.copy(interpretation=image.interpretation)


def _table(curve: Callable[[float, float], float], amount: float) -> Image:
    values = bytes(min(255, max(0, round(255 * curve(code / 255, amount)))) for code in range(256))
    return Image.new_from_memory(values, 256, 1, 1, "uchar")


def _matrix(name: str, amount: float) -> Matrix:
    match name:
        case "saturation":
            return _mixed(LUMA, IDENTITY, amount)
        case "grayscale":
            return _mixed(IDENTITY, LUMA, amount)
        case "sepia":
            return _mixed(IDENTITY, SEPIA, amount)
        case _:
            return _hue(amount)


def _mixed(start: Matrix, end: Matrix, share: float) -> Matrix:
    rows = zip(start, end, strict=True)
    return [[a + (b - a) * share for a, b in zip(row, other, strict=True)] for row, other in rows]


def _hue(degrees: float) -> Matrix:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = zip(LUMA, HUE_COS, HUE_SIN, strict=True)
    return [[m + c * cos + s * sin for m, c, s in zip(*row, strict=True)] for row in rows]


def _sharpen(colors: Image, strength: float) -> Image:
    """Sharpens lightness only, and no flat areas. Strength 1 is a mild unsharp mask with a radius of half a pixel."""
    sharp = colors.sharpen(sigma=0.5, x1=2, m1=0, m2=3 * strength, y2=min(99, 10 * strength), y3=min(99, 20 * strength))
    return sharp.colourspace(colors.interpretation).cast("uchar")


def _pixelate(image: Image, side: int) -> Image:
    across, down = min(side, image.width), min(side, image.height)
    blocks = unpremultiplied(premultiplied(image).shrink(across, down, ceil=True), image)
    return blocks.zoom(across, down).crop(0, 0, image.width, image.height)


def _ellipse(width: int, height: int) -> Image:
    """A coverage of 255 inside and 0 outside, with a slope of one pixel between."""
    grid = Image.xyz(width, height) + 0.5
    x, y = (grid[axis] / (side / 2) - 1.0 for axis, side in enumerate((width, height)))
    distance = (x * x + y * y) ** 0.5
    return _coverage((1.0 - distance) * (min(width, height) / 2) + 0.5)


def _corners(width: int, height: int, step: Mask) -> Image:
    """The coverage with rounded corners. As in CSS, all radii shrink alike if two of them exceed their side."""
    top_left, top_right, bottom_right, bottom_left = (float(radius) for radius in step.radii)
    pairs = (
        (width, top_left + top_right),
        (width, bottom_left + bottom_right),
        (height, top_left + bottom_left),
        (height, top_right + bottom_right),
    )
    shrink = min(1.0, *(side / total for side, total in pairs if total > 0)) if any(step.radii) else 1.0
    coverage = Image.black(width, height) + 255
    for radius, right, bottom in (
        (top_left, False, False),
        (top_right, True, False),
        (bottom_right, True, True),
        (bottom_left, False, True),
    ):
        if radius * shrink >= 0.5:
            coverage = _round_corner(coverage, radius * shrink, right=right, bottom=bottom)
    return coverage.cast("uchar")


def _round_corner(coverage: Image, radius: float, *, right: bool, bottom: bool) -> Image:
    side = min(int(radius + 0.999), coverage.width, coverage.height)
    grid = Image.xyz(side, side) + (0.5 - radius)
    quarter = _coverage(radius - (grid[0] * grid[0] + grid[1] * grid[1]) ** 0.5 + 0.5)
    quarter = quarter.fliphor() if right else quarter
    quarter = quarter.flipver() if bottom else quarter
    return coverage.insert(quarter, coverage.width - side if right else 0, coverage.height - side if bottom else 0)


def _coverage(share: Image) -> Image:
    """A share from 0 to 1 as 0 to 255; the cast clips what is outside."""
    return (share * 255.0).rint().cast("uchar")
