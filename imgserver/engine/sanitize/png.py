"""A PNG as the decoder gets it (PNG, third edition): bounded metadata, and one description of its colors.

Only the chunks before the image data are read; libvips reads no others. libvips knows one description of colors, the
profile in iCCP. So the description that counts becomes that profile (see `describe_colors`).
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

from imgserver.engine.sanitize import exif, icc
from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.runtime.resources import MIB

SIGNATURE = b"\x89PNG\r\n\x1a\n"
IMAGE_DATA, EXIF, PROFILE = b"IDAT", b"eXIf", b"iCCP"
# What the decoder needs, and what libvips reads besides.
KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS", b"bKGD", b"pHYs", b"sBIT", b"acTL", b"fcTL"))
COLORS = frozenset((b"cICP", PROFILE, b"sRGB", b"gAMA", b"cHRM"))
TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
MAX_CHUNKS, MAX_TEXTS = 4_096, 64
MAX_TEXT_BYTES, MAX_EXIF_BYTES, MAX_PROFILE_BYTES = MIB, MIB, 4 * MIB
# The bit of the color type that stands for color.
COLOR = 2
# From this difference on, a gamma is not that of sRGB, and a chromaticity not that of BT.709.
GAMMA_TOLERANCE, CHROMATICITY_TOLERANCE = 0.01, 0.002
SRGB_GAMMA = 1 / 2.2


@dataclass(slots=True)
class Head:
    """The chunks before the image data, which begins at the offset `data_at` of the file.

    `changed`: whether they differ from those in the file. `colors` are the chunks that describe colors, by name.
    """

    chunks: list[bytes] = field(default_factory=list)
    data_at: int = 0
    changed: bool = False
    colors: dict[bytes, bytes] = field(default_factory=dict)
    has_exif: bool = False
    texts: int = 0
    text_bytes: int = 0


def header(file: BinaryIO) -> bytes | None:
    """A PNG that ends where its image data begins; None if the file needs no change.

    Raises BrokenImage and UnsupportedImage.
    """
    head = _read_head(file)
    return b"".join((SIGNATURE, *head.chunks, _chunk(IMAGE_DATA, b""))) if head.changed else None


def whole(file: BinaryIO) -> bytes | None:
    """The PNG of a file; None if the file needs no change. Raises BrokenImage and UnsupportedImage."""
    head = _read_head(file)
    if not head.changed:
        return None
    file.seek(head.data_at)
    return b"".join((SIGNATURE, *head.chunks, file.read()))


def describe_colors(colors: dict[bytes, bytes], *, gray: bool) -> bytes | None:
    """The profile that says what the chunks `colors` say; b"" for sRGB, None if the profile in iCCP says it.

    cICP wins over iCCP, sRGB, and gAMA with cHRM, in this order (section 4.3). A cICP chunk counts only for RGB in full
    range with known numbers. gAMA without cHRM has the primaries of sRGB; cHRM without gAMA is ignored.
    """
    code = colors.get(b"cICP", b"")
    if (
        len(code) == 4
        and code[2:] == b"\0\1"
        and (profile := icc.from_code_points(code[0], code[1], gray=gray)) is not None
    ):
        return profile
    if PROFILE in colors:
        return None
    if b"sRGB" in colors or len(colors.get(b"gAMA", b"")) != 4:
        return b""
    return _from_gamma(int.from_bytes(colors[b"gAMA"], "big") / 100_000, colors.get(b"cHRM", b""), gray=gray)


def _from_gamma(gamma: float, chromaticities: bytes, *, gray: bool) -> bytes:
    points = icc.BT709
    if len(chromaticities) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", chromaticities)]
        white, red, green, blue = zip(values[::2], values[1::2], strict=True)
        points = icc.Chromaticities(red, green, blue, white)
    if icc.is_near(points, icc.BT709, CHROMATICITY_TOLERANCE) and abs(gamma - SRGB_GAMMA) < GAMMA_TOLERANCE:
        return b""
    return icc.from_gamma(gamma, points, gray=gray)


def _read_head(file: BinaryIO) -> Head:
    head = Head()
    file.seek(len(SIGNATURE))
    for _ in range(MAX_CHUNKS):
        start = file.read(8)
        if len(start) < 8:
            raise BrokenImage("the source is truncated")
        length, name = int.from_bytes(start[:4], "big"), start[4:]
        if name == IMAGE_DATA:
            head.data_at = file.tell() - 8
            _replace_colors(head)
            return head
        next_at = file.tell() + length + 4
        _add(head, name, length, file)
        file.seek(next_at)
    raise BrokenImage("the source has too many chunks")


def _add(head: Head, name: bytes, length: int, file: BinaryIO) -> None:
    """Keeps the chunk, whose content is next in the file, or drops it."""
    if name in KEPT or (name in COLORS and length <= MAX_PROFILE_BYTES and name not in head.colors):
        chunk = _read(file, name, length)
        head.chunks.append(chunk)
        if name in COLORS:
            head.colors[name] = chunk[8:-4]
    elif name in TEXTS and head.texts < MAX_TEXTS and head.text_bytes + length <= MAX_TEXT_BYTES:
        head.texts, head.text_bytes = head.texts + 1, head.text_bytes + length
        head.chunks.append(_read(file, name, length))
    elif name[0] & 0x20 == 0:
        raise UnsupportedImage("a PNG with an unknown critical chunk cannot be read here", format="png")
    else:
        head.changed = True
        if name == EXIF and not head.has_exif and length <= MAX_EXIF_BYTES:
            head.has_exif = True
            block = exif.bounded(_read(file, name, length)[8:-4])
            head.chunks += [_chunk(name, block)] if block else []


def _read(file: BinaryIO, name: bytes, length: int) -> bytes:
    """The chunk with its length, name and checksum. Raises BrokenImage."""
    if length > MAX_PROFILE_BYTES:
        raise BrokenImage("the source has too large a chunk")
    content = file.read(length + 4)
    if len(content) < length + 4:
        raise BrokenImage("the source is truncated")
    return struct.pack(">I4s", length, name) + content


def _replace_colors(head: Head) -> None:
    """Leaves one description of the colors: a profile, or none."""
    if not head.colors or head.colors.keys() == {PROFILE}:
        return
    first = head.chunks[0]
    profile = describe_colors(head.colors, gray=len(first) > 17 and not first[17] & COLOR)
    keeps = profile is None
    head.changed = head.changed or bool(profile) or (not keeps and PROFILE in head.colors)
    if not head.changed:
        return
    head.chunks = [chunk for chunk in head.chunks if chunk[4:8] not in COLORS or (keeps and chunk[4:8] == PROFILE)]
    if profile:
        head.chunks.insert(1, _chunk(PROFILE, b"profile\0\0" + zlib.compress(profile, 1)))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
