"""From header to pixels: the decoder's own reduction, frames, and the order pixels are read in."""

from fractions import Fraction
from typing import Any

from imgserver.engine import heif
from imgserver.engine.frames import Picture
from imgserver.engine.header import Header, opened
from imgserver.engine.vips import Image, names_of, reading, text_of
from imgserver.errors import BrokenImage

# Factors of the JPEG decoder's scaled inverse DCT, largest first.
JPEG_SHRINKS = (8, 4, 2)
# Below this gain a scaled WebP decode costs as much as a whole one.
WEBP_WORTH_IT = Fraction(3, 4)
# What belongs to a header's pixels, or may travel with them (engine/metadata.py decides).
BLOCKS = ("icc-profile-data", "exif-data", "xmp-data", "iptc-data")


def reduction(header: Header, share: Fraction, headroom: int) -> Fraction:
    """How large, of 1, the decoder is asked to deliver the picture: at least `share` × `headroom`.

    Headroom is a matter of quality: the decoder's reduction is a plain box filter (see benchmarks/quality.py).
    """
    wanted = share * max(headroom, 1)
    if header.format == "jpg":
        return next((Fraction(1, by) for by in JPEG_SHRINKS if Fraction(1, by) >= wanted), Fraction(1))
    if header.format == "webp" and not header.animated and wanted <= WEBP_WORTH_IT:
        return wanted
    return Fraction(1)


def load(header: Header, *, frames: int, scale: Fraction) -> Picture:
    """The picture at `scale`, lazily: a still streams from the decoder, top to bottom, once.

    Raises BrokenImage, and for what only the decoder of HEIC finds out UnsupportedImage and ImageOverLimit.
    """
    if header.format == "heic":
        with reading():
            return Picture((_heic(header),))
    options: dict[str, Any] = {"access": "sequential" if frames == 1 else "random"}
    if header.format == "jpg" and scale < 1:
        options["shrink"] = int(1 / scale)
    elif header.format == "webp" and scale < 1:
        options["scale"] = float(scale)
    elif header.format == "svg":
        options["scale"] = header.svg_scale
    if header.page:
        options["page"] = header.page
    if frames > 1:
        options["n"] = frames
    with reading():
        image = opened(header.path, header.format, **options)
        return Picture((image,)) if frames == 1 else _animation(image, frames)


def _heic(header: Header) -> Image:
    """Decoded at once, with the profile and the metadata that libvips read from its header."""
    pixels = heif.decoded(header.path, header.page, (header.dims.width, header.dims.height))
    image = Image.new_from_memory(pixels.data, pixels.width, pixels.height, pixels.bands, "uchar")
    image = image.copy(interpretation="srgb" if pixels.bands >= 3 else "b-w")
    if image.hasalpha() != header.alpha:
        raise BrokenImage("the source is truncated or corrupt")
    image = image.unpremultiply().cast("uchar") if pixels.premultiplied else image.copy()
    described = opened(header.path, "heic", page=header.page)
    for name in BLOCKS:
        if kind := described.get_typeof(name):
            image.set_type(kind, name, described.get(name))
    # libvips writes of EXIF what stands in single fields, too.
    for name in names_of(described):
        if name.startswith("exif-ifd") and (value := text_of(described, name)):
            image.set_type(described.get_typeof(name), name, value)
    return image


def _animation(image: Image, frames: int) -> Picture:
    """Frames are cut from libvips' one tall strip; each then goes through the steps on its own."""
    strip = image.copy_memory()
    height = strip.height // frames
    cut = tuple(strip.crop(0, top, strip.width, height) for top in range(0, frames * height, height))
    delays = tuple(strip.get("delay")[:frames]) if strip.get_typeof("delay") else (100,) * frames
    return Picture(cut, delays=delays, loop=strip.get("loop") if strip.get_typeof("loop") else 0)
