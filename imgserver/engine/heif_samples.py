"""What the decoders of AVIF and HEIC do not do: refuse incomplete files, and finish the conversion of the samples.

libheif shows gray and alpha of limited range as stored, so black is dark gray and transparent pixels are not quite
transparent. libvips ignores that colors are premultiplied.
"""

from typing import BinaryIO

from imgserver.engine import av1
from imgserver.engine.heif_items import Item, Items, read_items
from imgserver.engine.isobmff import BoxReader
from imgserver.engine.vips import Image
from imgserver.errors import BrokenImage, UnsupportedImage

CODECS = {"avif": b"av01", "heic": b"hvc1"}
# The property that selects one layer of an image that is coded in several qualities; the decoders ignore it or fail.
LAYER = b"lsel"
HEADER_BYTES = 256
# The chroma format in the configuration of HEVC (ISO/IEC 14496-15, 8.3.2.1): 0 is monochrome.
CHROMA_AT = 16
# Black and white of the limited range, of 255.
BLACK, WHITE = 16, 235


def refuse_unreadable(file: BinaryIO, name: str, size: int, page: int | None) -> None:
    """Checks the image at `page` (from 0; None for the primary one) of an AVIF or HEIC of `size` bytes.

    Raises UnsupportedImage for a sequence without a still picture, another codec or a selected layer, and BrokenImage
    if pixels lie beyond the end of the file. A file whose tables cannot be read is left to the decoder.
    """
    items = read_items(file)
    if items is None:
        reader = BoxReader(file)
        kinds = {box.kind for box in reader.inside(reader.root)}
        if b"moov" in kinds and b"meta" not in kinds:
            raise UnsupportedImage(f"{name}: a sequence without a still picture cannot be read here", format=name)
        return
    shown = _shown(items, page)
    if shown is None:
        return
    for part in [*items.parts(shown), *_alpha_parts(items, shown)]:
        if part.kind != CODECS[name] and part.kind not in CODECS.values():
            kind = part.kind.decode() if part.kind.isalnum() else "an unknown codec"
            raise UnsupportedImage(f"{name} coded as {kind} cannot be read here", format=name)
        if part.values(LAYER):
            raise UnsupportedImage(f"{name} with a selected layer cannot be read here", format=name)
        if any(offset + length > size for offset, length in part.extents):
            raise BrokenImage("the source is truncated")


def shown(image: Image, file: BinaryIO, page: int | None) -> Image:
    """The decoded image at `page` with full range and plain colors."""
    items = read_items(file)
    item = _shown(items, page) if items else None
    if items is None or item is None:
        return image
    coded = next(items.parts(item), None)
    if coded is not None and _is_limited_gray(file, coded):
        image = _widened(image, range(image.bands - image.hasalpha()))
    alpha = items.alpha_of(item) if image.hasalpha() else None
    if alpha is None:
        return image
    if any(_is_limited_gray(file, part) for part in items.parts(alpha)):
        image = _widened(image, range(image.bands - 1, image.bands))
    is_premultiplied = (alpha.number,) in items.referred(b"prem", item.number)
    return image.unpremultiply().rint().cast(image.format) if is_premultiplied else image


def _shown(items: Items, page: int | None) -> Item | None:
    if page is None:
        return items.items.get(items.primary)
    images = items.images()
    return images[page] if page < len(images) else None


def _alpha_parts(items: Items, item: Item) -> list[Item]:
    alpha = items.alpha_of(item)
    return list(items.parts(alpha)) if alpha else []


def _is_limited_gray(file: BinaryIO, item: Item) -> bool:
    """Whether a coded image has one plane, of limited range. Its `colr` property counts before its stream."""
    stream = _samples(file, item)
    if not (stream.is_monochrome if stream else _is_monochrome_hevc(item)):
        return False
    for content in item.values(b"colr"):
        if content[:4] == b"nclx" and len(content) >= 11:
            return not content[10] & 0x80
    return stream is not None and not stream.is_full_range


def _samples(file: BinaryIO, item: Item) -> av1.Samples | None:
    if item.kind != CODECS["avif"] or not item.extents:
        return None
    file.seek(item.extents[0][0])
    return av1.samples_of(file.read(min(HEADER_BYTES, item.extents[0][1])))


def _is_monochrome_hevc(item: Item) -> bool:
    return any(len(content) > CHROMA_AT and content[CHROMA_AT] & 3 == 0 for content in item.values(b"hvcC"))


def _widened(image: Image, bands: range) -> Image:
    """The image with these bands stretched from the limited range to the full one."""
    scale = 257 if image.format == "ushort" else 1
    # Samples of more than 8 bits are stored in the upper bits, so black is 16 * 256.
    black, white = (level * (256 if scale > 1 else 1) for level in (BLACK, WHITE))
    factor = 255 * scale / (white - black)
    factors = [factor if band in bands else 1 for band in range(image.bands)]
    offsets = [-black * factor if band in bands else 0 for band in range(image.bands)]
    return image.linear(factors, offsets).rint().cast(image.format).copy(interpretation=image.interpretation)
