"""From the header to pixels: the decoder's reduction (shrink-on-load), frames, and the order of reading."""

from fractions import Fraction
from typing import Any

from imgserver.engine import gif, heif, heif_samples
from imgserver.engine.frames import Frames
from imgserver.engine.header import Header, opened
from imgserver.engine.vips import Image, names_of, reading, text_of
from imgserver.errors import BrokenImage

# Factors of the scaled inverse DCT of the JPEG decoder, largest first.
JPEG_SHRINKS = (8, 4, 2)
# Above this scale, decoding a WebP at a reduced size costs as much as decoding all of it.
WEBP_MAX_SCALE = Fraction(3, 4)
# Metadata that the pixels of a HEIC need, or that may be kept with them (engine/metadata.py decides).
BLOCKS = ("icc-profile-data", "exif-data", "xmp-data", "iptc-data")


def reduction(header: Header, share: Fraction, headroom: int, *, in_full: bool = False) -> Fraction:
    """The scale at which the decoder delivers the image: at least `share` × `headroom`, and at most 1. An SVG is drawn
    at `share`, also above 1, as far as the limits allow.

    `in_full`: whether the decoder must deliver whole pixels of the reduced image up to its edges. libvips cuts off the
    last pixel of a JPEG whose side is no multiple of the reduction.
    The headroom keeps the quality: the reduction of the decoder is a plain box filter (see benchmarks/quality.py).
    """
    if header.content is not None:
        return min(share, header.content.max_scale)
    wanted = share * max(headroom, 1)
    if header.format == "jpg":
        sides = (header.dims.width, header.dims.height)
        fits = (by for by in JPEG_SHRINKS if not (in_full and any(side % by for side in sides)))
        return next((Fraction(1, by) for by in fits if Fraction(1, by) >= wanted), Fraction(1))
    if header.format == "webp" and not header.animated and wanted <= WEBP_MAX_SCALE:
        return wanted
    return Fraction(1)


def load(header: Header, *, frame_count: int, scale: Fraction) -> Frames:
    """The image at `scale`, lazily: a still image streams from the decoder once, top to bottom.

    Raises BrokenImage; for a HEIC, whose decoder runs here, also UnsupportedImage and ImageOverLimit.
    """
    if header.format == "heic":
        with reading():
            return Frames((_heic(header),))
    options: dict[str, Any] = {"access": "sequential" if frame_count == 1 else "random"}
    if header.format == "jpg" and scale < 1:
        options["shrink"] = int(1 / scale)
    elif header.format == "webp" and scale < 1:
        options["scale"] = float(scale)
    if header.page or header.format == "avif":
        # Without it, the loader of AVIF takes the primary image.
        options["page"] = header.page
    if frame_count > 1:
        options["n"] = frame_count
    with reading():
        if header.content is not None:
            return Frames((header.content.at_scale(scale, **options),))
        if header.format == "gif" and frame_count == 1 and not header.page:
            return Frames((gif.opened_still(header.path),))
        image = opened(header.path, header.format, **options)
        return Frames((image,)) if frame_count == 1 else _animation(image, frame_count)


def _heic(header: Header) -> Image:
    """The decoded pixels, with the profile and the metadata that libvips reads from the header."""
    pixels = heif.decoded(header.path, header.page, (header.dims.width, header.dims.height))
    image = Image.new_from_memory(pixels.data, pixels.width, pixels.height, pixels.bands, "uchar")
    image = image.copy(interpretation="srgb" if pixels.bands >= 3 else "b-w")
    if image.hasalpha() != header.alpha:
        raise BrokenImage("the source is truncated or corrupt")
    image = image.unpremultiply().cast("uchar") if pixels.premultiplied else image.copy()
    if pixels.bands <= 2:
        with open(header.path, "rb") as file:  # noqa: PTH123
            image = heif_samples.shown(image, file, header.page)
    described = opened(header.path, "heic", page=header.page)
    for name in BLOCKS:
        if kind := described.get_typeof(name):
            image.set_type(kind, name, described.get(name))
    # libvips also writes the EXIF values that are in single fields.
    for name in names_of(described):
        if name.startswith("exif-ifd") and (value := text_of(described, name)):
            image.set_type(described.get_typeof(name), name, value)
    return image


def _animation(image: Image, frame_count: int) -> Frames:
    """libvips loads an animation as one tall strip, which is cut into frames here: each goes through the steps
    alone."""
    strip = image.copy_memory()
    height = strip.height // frame_count
    images = tuple(strip.crop(0, top, strip.width, height) for top in range(0, frame_count * height, height))
    delays = tuple(strip.get("delay")[:frame_count]) if strip.get_typeof("delay") else (100,) * frame_count
    return Frames(images, delays=delays, loop=strip.get("loop") if strip.get_typeof("loop") else 0)
