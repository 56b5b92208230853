"""Changes of values: tones by tables and matrices on 8-bit sRGB, kernels over neighbors. Alpha stays aside."""

import math
from collections.abc import Callable

from imgserver.engine.color import colored, premultiplied, straight, with_alpha
from imgserver.engine.vips import Image
from imgserver.plan.plan import Kernel, Mask, Tone

Matrix = list[list[float]]
IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
# The values of CSS filter effects (W3C Filter Effects 1), so that browsers and we mean the same.
SEPIA: Matrix = [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]
HUE_COS: Matrix = [[0.787, -0.715, -0.072], [-0.213, 0.285, -0.072], [-0.213, -0.715, 0.928]]
HUE_SIN: Matrix = [[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]]
LUMA_MATRIX: Matrix = [[0.213, 0.715, 0.072]] * 3


def toned(image: Image, step: Tone) -> Image:
    amount = float(step.amount)
    if step.name == "opacity":
        image = with_alpha(image)
        return _apart(image, lambda colors: colors, alpha=amount)
    if step.name in CURVES:
        curve = CURVES[step.name]
        table = Image.new_from_memory(
            bytes(min(255, max(0, round(255 * curve(code / 255, amount)))) for code in range(256)), 256, 1, 1, "uchar"
        )
        return _apart(image, lambda colors: colors.maplut(table))
    matrix = Image.new_from_array(_matrix(step.name, amount))
    return _apart(colored(image), lambda colors: colors.recomb(matrix).rint().cast("uchar"))


# What becomes of a code 0-1; gamma over 1 brightens, as in most tools.
CURVES: dict[str, Callable[[float, float], float]] = {
    "brightness": lambda code, factor: code * factor,
    "contrast": lambda code, factor: (code - 0.5) * factor + 0.5,
    "gamma": lambda code, exponent: code ** (1 / exponent),
    "negate": lambda code, share: code + share * (1 - 2 * code),
}


def _matrix(name: str, amount: float) -> Matrix:
    match name:
        case "saturation":
            return _mixed(LUMA_MATRIX, IDENTITY, amount)
        case "grayscale":
            return _mixed(IDENTITY, LUMA_MATRIX, amount)
        case "sepia":
            return _mixed(IDENTITY, SEPIA, amount)
        case _:
            return _hue(amount)


def _mixed(start: Matrix, end: Matrix, share: float) -> Matrix:
    rows = zip(start, end, strict=True)
    return [[a + (b - a) * share for a, b in zip(row, other, strict=True)] for row, other in rows]


def _hue(degrees: float) -> Matrix:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = zip(LUMA_MATRIX, HUE_COS, HUE_SIN, strict=True)
    return [[m + c * cos + s * sin for m, c, s in zip(*row, strict=True)] for row in rows]


def _apart(image: Image, change: Callable[[Image], Image], *, alpha: float = 1.0) -> Image:
    """`change` on the color bands, a factor on the alpha."""
    if not image.hasalpha():
        return change(image).copy(interpretation=image.interpretation)
    bands = image.bands - 1
    veil = image.extract_band(bands)
    veil = veil if alpha == 1.0 else (veil * alpha).rint().cast("uchar")
    joined = change(image.extract_band(0, n=bands)).bandjoin(veil)
    return joined.copy(interpretation=image.interpretation)


def kernelled(image: Image, step: Kernel) -> Image:
    amount = float(step.amount)
    match step.name:
        case "blur":
            return straight(premultiplied(image).gaussblur(amount, precision="integer"), image)
        case "sharpen":
            return _apart(image, lambda colors: _sharpened(colors, amount))
        case "pixelate":
            return _pixelated(image, max(1, round(amount)))


def _sharpened(colors: Image, strength: float) -> Image:
    """Lightness only, flat areas untouched: 1 is a mild unsharp mask of half a pixel's radius."""
    sharp = colors.sharpen(sigma=0.5, x1=2, m1=0, m2=3 * strength, y2=min(99, 10 * strength), y3=min(99, 20 * strength))
    return sharp.colourspace(colors.interpretation).cast("uchar")


def _pixelated(image: Image, side: int) -> Image:
    across, down = min(side, image.width), min(side, image.height)
    blocks = straight(premultiplied(image).shrink(across, down, ceil=True), image)
    return blocks.zoom(across, down).crop(0, 0, image.width, image.height)


# Rounded corners and ellipses: coverage drawn by arithmetic, multiplied into the alpha.


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
