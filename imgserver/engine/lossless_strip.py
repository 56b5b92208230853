"""Strips a file without decoding it: writes the segments that hold the image, and nothing else.

Each walker returns the stripped file, or None if the file does not have the expected structure; the image is then
encoded again. Nothing is repaired. The walkers list what they keep. Everything else is dropped: comments, EXIF, XMP,
IPTC, profiles, thumbnails, private chunks, and bytes before, between or after the segments.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator

from imgserver.engine.avif_strip import strip_avif
from imgserver.runtime.resources import MIB

# No camera or tool writes more segments or chunks.
MAX_SEGMENTS = 200_000
# Signs of another type of file. Bytes that no walker examines may hold one, such as those after the last block of a
# scan. Compressed pixels hardly ever contain one by chance, and then the image is only encoded again.
OTHER_FILES = (b"PK\x03\x04", b"PK\x05\x06", b"%PDF-", b"\x7fELF", b"Rar!\x1a", b"<?php")
# In upper or lower case.
OTHER_TEXTS = (b"<script", b"<!doctype", b"<html", b"<svg", b"javascript:")


def strip(name: str, body: bytes, *, below: int | None = None) -> bytes | None:
    """The file `body` of the format `name` without anything but its image; None if that is impossible, or if the
    stripped file does not have fewer than `below` bytes. Never raises."""
    walker = WALKERS.get(name)
    if walker is None:
        return None
    try:
        stripped = walker(body)
    except (struct.error, IndexError, ValueError, zlib.error):
        return None
    if stripped is None or (below is not None and len(stripped) >= below) or _is_other_file(stripped):
        return None
    return stripped


def _is_other_file(body: bytes) -> bool:
    # Searches for single words take a tenth of the time of one pattern for all of them.
    lower = body.lower()
    return any(sign in body for sign in OTHER_FILES) or any(text in lower for text in OTHER_TEXTS)


# JPEG (ITU-T T.81, annex B)

SOI, EOI, SOS, APP0, APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE
# Tables, frame headers, restart intervals: all that a decoder needs. Browsers do not show arithmetic coding.
JPEG_KEPT = frozenset({0xDB, 0xC4, 0xDD, 0xC0, 0xC1, 0xC2})
# In a scan, 0xFF is followed by 0 (a byte of data) or by a restart marker.
IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpg(body: bytes) -> bytes | None:
    if body[:2] != b"\xff\xd8":
        return None
    kept, at = [b"\xff\xd8"], 2
    for _ in range(MAX_SEGMENTS):
        while body[at] == 0xFF and body[at + 1] == 0xFF:  # fill bytes (B.1.1.2)
            at += 1
        if body[at] != 0xFF:
            return None
        marker = body[at + 1]
        if marker == EOI:
            return b"".join((*kept, b"\xff\xd9"))
        end = at + 2 + struct.unpack_from(">H", body, at + 2)[0]
        if end < at + 4 or end > len(body):
            return None
        segment = body[at:end]
        if marker == SOS:
            found = IN_SCAN.search(body, end)
            if found is None:
                return None
            kept += (segment, body[end : found.start()])
            at = found.start()
            continue
        if marker in JPEG_KEPT:
            kept.append(segment)
        elif marker in (APP0, APP14):
            kept.append(_color_segment(segment))
        elif not (0xE1 <= marker <= 0xEF or marker == 0xFE):
            return None
        at = end
    return None


def _color_segment(segment: bytes) -> bytes:
    """JFIF and Adobe segments say how colors are coded. They are kept without their thumbnails and trailing bytes."""
    if segment[4:9] == b"JFIF\0":
        return b"\xff\xe0\x00\x10JFIF\0" + segment[9:16] + b"\0\0"
    if segment[1] == APP14 and segment[4:9] == b"Adobe" and len(segment) >= 16:
        return b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + segment[15:16]
    return b""


# PNG (ISO/IEC 15948, 5 and 11)

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS"})
# Samples per pixel by color type.
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
INDEXED = 3
# Adam7's passes: offsets and steps.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
INFLATE_BYTES = MIB


def _png(body: bytes) -> bytes | None:
    if not body.startswith(PNG_MAGIC):
        return None
    head, data = [], []
    for name, content in _chunks(body, len(PNG_MAGIC), order=">", name_first=False):
        if name == b"IEND":
            break
        if name == b"IDAT":
            data.append(content)
        elif name in PNG_KEPT and len(content) <= 768:
            # In an image with full colors the palette is only a hint for quantization, and is dropped.
            head += [_png_chunk(name, content)] if name != b"PLTE" or body[25] == INDEXED else []
        elif not name[0] & 0x20:  # a critical chunk that is unknown
            return None
    else:
        return None
    stream = _png_stream(b"".join(data), body)
    if stream is None:
        return None
    return b"".join((PNG_MAGIC, *head, _png_chunk(b"IDAT", stream), _png_chunk(b"IEND", b"")))


def _png_stream(data: bytes, body: bytes) -> bytes | None:
    """The zlib stream without trailing bytes; None unless it holds exactly the rows of the image."""
    inflate, length, rest = zlib.decompressobj(), 0, data
    expected = _png_length(body)
    while rest and not inflate.eof:
        length += len(inflate.decompress(rest, INFLATE_BYTES))
        rest = inflate.unconsumed_tail
        if length > expected:
            return None
    if not inflate.eof:
        length += len(inflate.flush())
    if not inflate.eof or length != expected:
        return None
    return data[: len(data) - len(inflate.unused_data)]


def _png_length(body: bytes) -> int:
    """The size of all filtered rows, in bytes."""
    width, height, bits, kind, _, _, interlaced = struct.unpack_from(">IIBBBBB", body, 16)
    per_pixel = bits * PNG_SAMPLES.get(kind, 0)

    def rows(across: int, down: int) -> int:
        return down * (1 + (across * per_pixel + 7) // 8) if across > 0 and down > 0 else 0

    if not interlaced:
        return rows(width, height)
    return sum(rows((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in PASSES)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _chunks(body: bytes, at: int, *, order: str, name_first: bool) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk of PNG (length, name, content, checksum) or RIFF (name, length, padded content).

    Raises ValueError and struct.error.
    """
    for _ in range(MAX_SEGMENTS):
        if at >= len(body):
            return
        name, length = (
            struct.unpack_from(order + "4sI", body, at)
            if name_first
            else struct.unpack_from(order + "I4s", body, at)[::-1]
        )
        content = body[at + 8 : at + 8 + length]
        if len(content) != length:
            raise ValueError("a chunk is truncated")
        yield name, content
        at += 8 + length + (length & 1 if name_first else 4)
    raise ValueError("too many chunks")


# WebP (RFC 9649)

WEBP_FRAME = frozenset({b"ALPH", b"VP8 ", b"VP8L"})
ALPHA_AND_ANIMATION = 0x12


def _webp(body: bytes) -> bytes | None:
    length = struct.unpack_from("<I", body, 4)[0]
    if body[:4] != b"RIFF" or body[8:12] != b"WEBP" or 8 + length > len(body):
        return None
    kept = []
    for name, content in _chunks(body[: 8 + length], 12, order="<", name_first=True):
        if name == b"VP8X" and len(content) >= 10:
            # The flags for profile, EXIF and XMP are cleared, because their chunks are dropped.
            kept.append(_riff_chunk(name, bytes([content[0] & ALPHA_AND_ANIMATION, 0, 0, 0]) + content[4:10]))
        elif name == b"ANIM" and len(content) >= 6:
            kept.append(_riff_chunk(name, content[:6]))
        elif name == b"ANMF":
            inside = _chunks(content, 16, order="<", name_first=True)
            frame = b"".join(_riff_chunk(*chunk) for chunk in inside if chunk[0] in WEBP_FRAME)
            kept.append(_riff_chunk(name, content[:16] + frame))
        elif name in WEBP_FRAME:
            kept.append(_riff_chunk(name, content))
    inside_riff = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(inside_riff)) + inside_riff if kept else None


def _riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)


# GIF (version 89a)

EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
CONTROL, APPLICATION = 0xF9, 0xFF
LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")


def _gif(body: bytes) -> bytes | None:
    if body[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    at = 13 + _colors(body[10])
    kept, control = [body[:at]], b""
    for _ in range(MAX_SEGMENTS):
        kind = body[at]
        if kind == TRAILER:
            return b"".join((*kept, b";"))
        if kind == EXTENSION:
            end = _blocks_end(body, at + 2)
            if body[at + 1] == CONTROL and end - at == 8:
                control = body[at:end]
            elif body[at + 1] == APPLICATION and body[at + 3 : at + 14] in LOOPS and body[at + 14 : at + 16] == b"\3\1":
                kept.append(body[at : at + 18] + b"\0")
            at = end
        elif kind == IMAGE:
            data = at + 10 + _colors(body[at + 9])
            end = _blocks_end(body, data + 1)
            kept += (control, body[at:end])
            control, at = b"", end
        else:
            return None
    return None


def _colors(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(body: bytes, at: int) -> int:
    """The offset after the empty block that ends a sequence of sub-blocks."""
    while body[at]:
        at += 1 + body[at]
    return at + 1


WALKERS: dict[str, Callable[[bytes], bytes | None]] = {
    "jpg": _jpg,
    "png": _png,
    "webp": _webp,
    "gif": _gif,
    "avif": strip_avif,
}
