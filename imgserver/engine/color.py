"""Color: from whatever the file holds to 8-bit sRGB, and resampling that respects alpha and, if asked, light."""

from array import array
from functools import cache, lru_cache
from itertools import product

from imgserver.engine.vips import Blob, Error, Image
from imgserver.errors import UnsupportedImage
from imgserver.plan.plan import Color

# Bicubic-like with sharpening: against lanczos3 +0.7 SSIMULACRA2 at the same cost, and less ringing. In linear light
# lanczos3 leads by 0.5. Light in 16 bits costs about twice a whole thumbnail, hence a setting. A cheaper way was tried
# and left: an 8-bit curve half way to light (+2 at 1.08 times the CPU on bright pictures) loses up to 3 points on dark
# ones, where its levels are too few.
KERNEL = "mks2013"
LINEAR_KERNEL = "lanczos3"
GRAY = ("b-w", "grey16")
UNCOLORED = (*GRAY, "rgb16", "srgb", "rgb")


def normal(image: Image, *, keep_profile: bool) -> Image:
    """8-bit sRGB or gray, with or without alpha; with `keep_profile` the file's own RGB or gray values, to be saved
    with its profile. Raises UnsupportedImage."""
    try:
        image = _interpreted(image)
        if image.interpretation not in UNCOLORED or not (keep_profile or is_srgb_already(image)):
            image = _converted(image)
        if image.interpretation not in ("srgb", "b-w"):
            image = image.colourspace("b-w" if image.interpretation in GRAY else "srgb")
    except Error as error:
        raise UnsupportedImage("the source's colors cannot be converted to sRGB") from error
    return image if image.format == "uchar" else image.cast("uchar")


def _interpreted(image: Image) -> Image:
    """Bands without a meaning are read as what a viewer would show."""
    if image.interpretation not in ("multiband", "matrix", "histogram", "fourier", "error"):
        return image
    return image.copy(interpretation="srgb" if image.bands >= 3 else "b-w")


def is_srgb_already(image: Image) -> bool:
    """No profile, or one that says sRGB: most pictures, which need no transform."""
    if not image.get_typeof("icc-profile-data"):
        return True
    return image.interpretation in ("srgb", "rgb16") and _means_srgb(bytes(image.get("icc-profile-data")))


@lru_cache(maxsize=32)
def _means_srgb(profile: bytes) -> bool:
    """Whether a grid of colors comes out as it went in. Names are no proof: `P3-sRGB` is another space."""
    levels = (0, 51, 102, 153, 204, 255)
    grid = bytes(level for color in product(levels, repeat=3) for level in color)
    image = Image.new_from_memory(grid, len(grid) // 3, 1, 3, "uchar").copy(interpretation="srgb")
    image.set_type(Blob, "icc-profile-data", profile)
    try:
        seen = bytes(image.icc_transform("srgb", embedded=True, intent="perceptual", depth=8).write_to_memory())
    except Error:
        return False
    return max(abs(a - b) for a, b in zip(grid, seen, strict=True)) <= 1


def _converted(image: Image) -> Image:
    """Through the color management system: the embedded profile, or libvips' own for CMYK."""
    cmyk = image.interpretation == "cmyk"
    if image.get_typeof("icc-profile-data") or cmyk:
        try:
            fallback = "cmyk" if cmyk else "srgb"
            return image.icc_transform("srgb", embedded=True, input_profile=fallback, intent="perceptual", depth=8)
        except Error:
            # A profile that cannot be used is no reason to refuse a picture that can be shown without it.
            if image.get_typeof("icc-profile-data"):
                image = image.copy()
                image.remove("icc-profile-data")
    return image.colourspace("srgb")


def colored(image: Image) -> Image:
    """Three color bands, for steps that draw or mix color."""
    return image.colourspace("srgb") if image.interpretation in GRAY else image


def with_alpha(image: Image) -> Image:
    return image if image.hasalpha() else image.addalpha()


def background(image: Image, color: Color) -> list[int]:
    """A color as the image's bands spell it."""
    if image.bands <= 2:
        gray = round(0.2126 * color.red + 0.7152 * color.green + 0.0722 * color.blue)
        values = [gray]
    else:
        values = [color.red, color.green, color.blue]
    return [*values, color.alpha] if image.hasalpha() else values


def premultiplied(image: Image) -> Image:
    """Neighbors may be mixed in this; `straight` undoes it. Transparent pixels have no say in a mixed color."""
    return image.premultiply().cast(image.format) if image.hasalpha() else image


def straight(image: Image, like: Image) -> Image:
    return image.unpremultiply().cast(like.format) if like.hasalpha() else image


def resized(image: Image, width: int, height: int, *, linear: bool = False) -> Image:
    """Scaled to exactly this size; alpha is weighed in, and `linear` mixes light instead of its 8-bit code."""
    if (width, height) == (image.width, image.height):
        return image
    if linear and image.format == "uchar" and image.interpretation in ("srgb", "b-w"):
        return _resized_in_light(image, width, height)
    return straight(_scaled(premultiplied(image), width, height, KERNEL), image)


def _scaled(image: Image, width: int, height: int, kernel: str) -> Image:
    return image.resize(width / image.width, vscale=height / image.height, kernel=kernel)


def _resized_in_light(image: Image, width: int, height: int) -> Image:
    """By tables: 8-bit code to 16-bit light, and back by one of 65,536 entries. Half the cost of floats.

    All bands go through in one pipeline: a streamed picture can be read only once.
    """
    into, out = light_tables(image.bands, image.hasalpha())
    light = image.maplut(into).copy(interpretation="grey16" if image.interpretation == "b-w" else "rgb16")
    small = straight(_scaled(premultiplied(light), width, height, LINEAR_KERNEL), light)
    return small.maplut(out).copy(interpretation=image.interpretation)


@cache
def light_tables(bands: int, alpha: bool) -> tuple[Image, Image]:
    """IEC 61966-2-1: sRGB code to light in 16 bits, and light to code. Alpha only changes its depth."""
    codes, lights = range(256), range(65536)
    into = [array("H", (round(65535 * _light(code / 255)) for code in codes)).tobytes()] * bands
    out = [bytes(round(255 * _code(light / 65535)) for light in lights)] * bands
    if alpha:
        into[-1] = array("H", (code * 257 for code in codes)).tobytes()
        out[-1] = bytes((light + 128) // 257 for light in lights)
    return _table(into, 256, "ushort"), _table(out, 65536, "uchar")


def _table(columns: list[bytes], length: int, kind: str) -> Image:
    first, *rest = (Image.new_from_memory(column, length, 1, 1, kind) for column in columns)
    return first.bandjoin(rest).copy_memory() if rest else first


def _light(code: float) -> float:
    return code / 12.92 if code <= 0.04045 else float(((code + 0.055) / 1.055) ** 2.4)


def _code(light: float) -> float:
    return light * 12.92 if light <= 0.0031308 else float(1.055 * light ** (1 / 2.4) - 0.055)
