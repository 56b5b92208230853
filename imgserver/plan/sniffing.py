"""Sniffing: the format of a file from its first bytes, and an estimate of its size.

The server uses this to estimate the cost of a render before it takes a worker. The worker trusts only the header that
libvips reads. Nothing here raises, whatever the bytes, and nothing costs more than a scan of the head.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from imgserver.plan.bitmap_header import is_bmp, is_ico, largest, read_bmp, read_ico
from imgserver.plan.svg_start import is_svg

# Enough for the size of nearly every photograph: EXIF with its thumbnail precedes the size and is at most 64 KiB.
HEAD_BYTES = 80 * 1024

AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
# Codec names in either container.
CODECS = ((b"av01", "avif"), (b"hvc1", "heic"))
# Start-of-frame markers. 0xC4, 0xC8 and 0xCC, which are in their range, have other meanings.
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE_SOF = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


@dataclass(frozen=True, slots=True)
class Sniffed:
    """`format` is a name of `plan.formats.FORMATS`, "" if it is unknown. Width and height are in pixels as stored, None
    if the head does not contain them. `animated`: the file seems to hold frames that are all read. `whole`: the
    decoder holds the whole image (interlaced, progressive) instead of a few lines."""

    format: str
    width: int | None = None
    height: int | None = None
    animated: bool = False
    whole: bool = False

    @property
    def pixels(self) -> int | None:
        return None if self.width is None or self.height is None else self.width * self.height


UNKNOWN = Sniffed("")


def sniff(head: bytes) -> Sniffed:
    """Format and estimated size from the first HEAD_BYTES bytes of a file. Never raises."""
    name = format_of(head)
    if not name:
        return UNKNOWN
    reader = READERS.get(name)
    try:
        return reader(head) if reader else Sniffed(name)
    except (struct.error, IndexError, ValueError, OverflowError):
        return Sniffed(name)


def format_of(head: bytes) -> str:
    """The name of the format by its magic number, "" if it is unknown."""
    for name, magic in MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _brand(head)
    if is_bmp(head):
        return "bmp"
    if is_ico(head):
        return "ico"
    return "svg" if is_svg(head, head_bytes=HEAD_BYTES) else ""


MAGIC = (
    ("jpg", b"\xff\xd8\xff"),
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("gif", b"GIF87a"),
    ("gif", b"GIF89a"),
    ("tiff", b"II*\0"),
    ("tiff", b"MM\0*"),
    ("tiff", b"II+\0"),
    ("tiff", b"MM\0+"),
)


def _brand(head: bytes) -> str:
    length = min(int.from_bytes(head[:4], "big"), 256)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}
    if not brands & (AVIF_BRANDS | HEIC_BRANDS):
        return ""
    # AVIF and HEIC share a container, and a brand only says what the file may contain. The name of the codec follows
    # further in.
    codecs = [name for code, name in CODECS if code in head]
    if len(codecs) == 1:
        return codecs[0]
    return "avif" if brands & AVIF_BRANDS else "heic"


def _jpg(head: bytes) -> Sniffed:
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in SOF:
            height, width = struct.unpack_from(">HH", head, at + 5)
            return Sniffed("jpg", width, height, whole=marker in PROGRESSIVE_SOF)
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return Sniffed("jpg")


def _png(head: bytes) -> Sniffed:
    width, height = struct.unpack_from(">II", head, 16)
    return Sniffed("png", width, height, whole=head[28] == 1)


def _gif(head: bytes) -> Sniffed:
    width, height = struct.unpack_from("<HH", head, 6)
    return Sniffed("gif", width, height, animated=b"NETSCAPE2.0" in head[:HEAD_BYTES], whole=True)


def _webp(head: bytes) -> Sniffed:
    kind = head[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return Sniffed("webp", width, height, animated=bool(head[20] & 2), whole=True)
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return Sniffed("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), whole=True)
    width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", head, 26))
    return Sniffed("webp", width, height, whole=True)


def _isobmff(head: bytes) -> Sniffed:
    """The largest `ispe` property (image spatial extents): tiles, thumbnails and alpha planes have smaller ones."""
    name, largest, at = format_of(head), (0, 0), 0
    while (at := head.find(b"ispe", at)) >= 0 and at + 16 <= len(head):
        width, height = struct.unpack_from(">II", head, at + 8)
        largest = max(largest, (width, height), key=lambda size: size[0] * size[1])
        at += 4
    return Sniffed(name, *largest, whole=True) if largest[0] else Sniffed(name)


def _tiff(head: bytes) -> Sniffed:
    order = "<" if head[:2] == b"II" else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        return Sniffed("tiff")
    (at,) = struct.unpack_from(order + "I", head, 4)
    (count,) = struct.unpack_from(order + "H", head, at)
    sides: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * min(count, 64), 12):
        tag, kind = struct.unpack_from(order + "HH", head, entry)
        if tag in (256, 257):
            (sides[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), head, entry + 8)
    return Sniffed("tiff", sides.get(256), sides.get(257))


def _bmp(head: bytes) -> Sniffed:
    dib = read_bmp(head)
    return Sniffed("bmp", max(dib.width, 0), dib.height, whole=True)


def _ico(head: bytes) -> Sniffed:
    entry = largest(read_ico(head))
    return Sniffed("ico", max(entry.width, 0), entry.height, whole=True)


def _svg(head: bytes) -> Sniffed:
    root = re.search(rb"<(?:[\w.-]{1,64}:)?svg[^>]{0,4096}", head)
    text = root.group() if root else b""
    width, height = (re.search(rb"\s" + name + rb"\s*=\s*[\"'](\d{1,7})(?:px)?[\"'.]", text) for name in SVG_SIDES)
    if width and height:
        return Sniffed("svg", int(width[1]), int(height[1]), whole=True)
    return Sniffed("svg", whole=True)


SVG_SIDES = (b"width", b"height")
READERS: dict[str, Callable[[bytes], Sniffed]] = {
    "jpg": _jpg,
    "png": _png,
    "gif": _gif,
    "webp": _webp,
    "avif": _isobmff,
    "heic": _isobmff,
    "tiff": _tiff,
    "bmp": _bmp,
    "ico": _ico,
    "svg": _svg,
}
