"""BMP and ICO: the only importer of Pillow, whose plug-ins for these two are used directly.

`PIL.Image.open` would load further plug-ins and choose among them by the bytes. Pillow decodes the bitmaps, libvips
decodes a PNG inside an ICO. Pillow is imported when the first such file is read.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

from imgserver.engine.job import Limits, over
from imgserver.engine.sanitize import png
from imgserver.engine.vips import Image, loaded
from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.bitmap_header import (
    BITFIELDS,
    ICO_ENTRY,
    ICO_MAGIC,
    PNG_MAGIC,
    DibHeader,
    largest,
    read_bmp,
    read_dib,
    read_ico,
)

BANDS = {"L": 1, "RGB": 3, "RGBA": 4}
# Bit fields are unpacked here for these sizes of a pixel: Pillow knows only the usual masks.
FIELD_KINDS = {16: "ushort", 32: "uint"}


@dataclass(frozen=True, slots=True)
class Bitmap:
    """A BMP, or the largest image of an ICO, not yet decoded.

    `data` are the bytes of a BMP, of a PNG, or of a bitmap without file header. `header` is None for a PNG.
    """

    data: bytes
    header: DibHeader | None
    is_icon: bool

    @property
    def size(self) -> tuple[int, int]:
        """Of a bitmap, in pixels. An icon has a mask below its colors."""
        assert self.header is not None
        return self.header.width, self.header.height // 2 if self.is_icon else self.header.height

    @property
    def has_alpha(self) -> bool:
        return self.header is not None and (self.is_icon or (_has_fields(self.header) and self.header.masks[3] > 0))

    def outline(self) -> Image:
        """An image with the size and the bands of this one. Raises vips.Error and BrokenImage."""
        if self.header is None:
            return self._png()
        return Image.black(*self.size, bands=4 if self.has_alpha else 3).copy(interpretation="srgb")

    @property
    def max_scale(self) -> Fraction:
        return Fraction(1)

    def at_scale(self, scale: Fraction, **options: Any) -> Image:  # noqa: ARG002
        """The pixels, always at their whole size. `options` are those of a loader of libvips. Raises vips.Error,
        BrokenImage and UnsupportedImage."""
        if self.header is None:
            return self._png(**options)
        with _decoding():
            if self.is_icon:
                return _visible(_from_pillow(_icon(self.data, self.header, self.size)))
            if _has_fields(self.header):
                return _visible(_unpacked(self.data, self.header))
            return _from_pillow(_plugins()[0].BmpImageFile(BytesIO(self.data)))

    def _png(self, **options: Any) -> Image:
        return loaded("png", png.whole(BytesIO(self.data)) or self.data, fail_on="truncated", **options)


def open_bitmap(path: str, name: str, limits: Limits) -> Bitmap:
    """The bitmap in a file of the format `name`: bmp or ico. Raises BrokenImage, UnsupportedImage, ImageOverLimit."""
    data = Path(path).read_bytes()
    with _decoding():
        bitmap = Bitmap(data, read_bmp(data), is_icon=False) if name == "bmp" else _largest_icon(data)
    if bitmap.header is not None:
        if min(bitmap.size) < 1:
            raise BrokenImage("a side of the bitmap is not above 0")
        # libvips has no image of such a side, not even an outline.
        if max(bitmap.size) > limits.source_side:
            raise over("source side", max(bitmap.size), limits.source_side)
    return bitmap


def _largest_icon(data: bytes) -> Bitmap:
    entry = largest(read_ico(data))
    image = data[entry.offset : entry.offset + entry.length]
    if not image:
        raise BrokenImage("the source is truncated")
    return Bitmap(image, None if image.startswith(PNG_MAGIC) else read_dib(image, 0), is_icon=True)


def _icon(data: bytes, header: DibHeader, size: tuple[int, int]) -> Any:
    """The Pillow image of a bitmap in an ICO.

    Its transparency is in the fourth byte of 32-bit pixels; otherwise, and if all these bytes are 0, in the mask that
    follows the colors.
    """
    width, height = size
    masks = 12 if header.bytes == 40 and header.compression in BITFIELDS else 0
    colors = header.bytes + masks + header.palette_bytes + header.stride * height
    whole = colors + (width + 31) // 32 * 4 * height
    if len(data) < (colors if header.bits == 32 else whole):
        raise BrokenImage("the source is truncated")
    image = _icon_frame(data[:whole], header.bits)
    if header.bits == 32 and image.getchannel("A").getextrema() == (0, 0) and len(data) >= whole:
        return _icon_frame(data[:whole], 24)
    return image


def _icon_frame(data: bytes, bits: int) -> Any:
    """Decoded by Pillow from an ICO that contains this bitmap alone."""
    start = len(ICO_MAGIC) + 2 + ICO_ENTRY.size
    directory = ICO_MAGIC + struct.pack("<H", 1) + ICO_ENTRY.pack(0, 0, 0, 0, 1, bits, len(data), start)
    return _plugins()[1].IcoFile(BytesIO(directory + data)).frame(0)


def _has_fields(header: DibHeader) -> bool:
    return header.compression in BITFIELDS and header.bits in FIELD_KINDS and header.bytes != 64


def _unpacked(data: bytes, header: DibHeader) -> Image:
    """The image of bit fields: each band is the part of the pixel under its mask, scaled to 8 bits."""
    (start,) = struct.unpack_from("<I", data, 10)
    rows = data[start : start + header.stride * header.height]
    if len(rows) < header.stride * header.height:
        raise BrokenImage("the source is truncated")
    packed = Image.new_from_memory(rows, header.stride * 8 // header.bits, header.height, 1, FIELD_KINDS[header.bits])
    packed = packed.crop(0, 0, header.width, header.height)
    red, *others = [_field(packed, mask) for mask in (header.masks if header.masks[3] else header.masks[:3])]
    image = red.bandjoin(others).copy(interpretation="srgb")
    return image if header.top_down else image.flipver()


def _field(packed: Image, mask: int) -> Image:
    if mask == 0:
        return Image.black(packed.width, packed.height)
    shift = (mask & -mask).bit_length() - 1
    highest = mask >> shift
    return ((packed >> shift) & highest).linear(255 / highest, 0.5).cast("uchar")


def _from_pillow(image: Any) -> Image:
    image.load()
    if image.mode not in BANDS:
        image = image.convert("RGB" if image.mode == "P" else "L")
    bands = BANDS[image.mode]
    decoded = Image.new_from_memory(image.tobytes(), image.width, image.height, bands, "uchar")
    return decoded.copy(interpretation="srgb" if bands >= 3 else "b-w")


def _visible(image: Image) -> Image:
    """The image; opaque if its alpha is 0 everywhere. Browsers show it so: many programs leave the alpha byte empty."""
    if not image.hasalpha() or image.extract_band(image.bands - 1).max() > 0:
        return image
    return image.extract_band(0, n=image.bands - 1).bandjoin(255)


def _has_end_code(bmp: bytes, *, four_bits: bool) -> bool:
    """Whether the run-length codes of a BMP reach the one for the end of the bitmap."""
    (at,) = struct.unpack_from("<I", bmp, 10)
    while at + 1 < len(bmp):
        count, code = bmp[at], bmp[at + 1]
        if count or code == 0:
            at += 2
        elif code == 1:
            return True
        elif code == 2:
            at += 4
        else:
            pixels = (code + 1) // 2 if four_bits else code
            at += 2 + pixels + pixels % 2
    return False


@cache
def _plugins() -> tuple[ModuleType, ModuleType]:
    """Pillow's plug-ins for BMP and ICO."""
    from PIL import BmpImagePlugin, IcoImagePlugin
    from PIL import Image as PillowImage

    class RleDecoder(BmpImagePlugin.BmpRleDecoder):
        """Accepts a bitmap that ends early by the code for its end: the rest has the first color."""

        def set_as_raw(self, data: bytes | bytearray, rawmode: str | None = None, extra: tuple[Any, ...] = ()) -> None:
            missing = self.state.xsize * self.state.ysize - len(data)
            assert self.fd is not None
            self.fd.seek(0)
            if missing > 0 and _has_end_code(self.fd.read(), four_bits=self.args[1]):
                data = bytes(data) + bytes(missing)
            super().set_as_raw(data, rawmode, extra)

    PillowImage.register_decoder("bmp_rle", RleDecoder)
    return BmpImagePlugin, IcoImagePlugin


@contextmanager
def _decoding() -> Iterator[None]:
    """Translates the errors of Pillow and of the header: they have many classes for a broken file."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, struct.error) as error:
        if str(error).startswith("Unsupported"):
            raise UnsupportedImage("a bitmap of this kind cannot be read here") from error
        raise BrokenImage("the source is truncated or corrupt") from error
