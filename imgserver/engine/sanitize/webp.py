"""A WebP as the decoder gets it (RFC 9649): bounded EXIF, XMP and profile."""

import struct
from typing import BinaryIO

from imgserver.engine.sanitize import exif
from imgserver.errors import BrokenImage
from imgserver.runtime.resources import MIB

# Flags of the extended header (section 2.7.1).
PROFILE, EXIF, XMP = 0x20, 0x08, 0x04
FLAGS = {b"ICCP": PROFILE, b"EXIF": EXIF, b"XMP ": XMP}
MAX_BYTES = {b"ICCP": 4 * MIB, b"EXIF": MIB, b"XMP ": MIB}
# The largest animation within the limits has fewer frames.
MAX_CHUNKS = 20_000


def whole(file: BinaryIO) -> bytes | None:
    """The WebP of a file; None if it has no metadata. Raises BrokenImage."""
    file.seek(0)
    head = file.read(30)
    if len(head) < 30 or head[12:16] != b"VP8X" or not head[20] & (PROFILE | EXIF | XMP):
        return None
    file.seek(0)
    return _rebuilt(file.read())


def _rebuilt(data: bytes) -> bytes:
    chunks, flags = [], data[20] & ~(PROFILE | EXIF | XMP)
    at, seen = 12, set[bytes]()
    size = 8 + struct.unpack_from("<I", data, 4)[0]
    for _ in range(MAX_CHUNKS):
        # What follows the container is no part of it.
        if at + 8 > min(size, len(data)):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + (length & 1)
        if name not in FLAGS:
            chunks.append(data[at:end])
        elif (
            name not in seen
            and length <= MAX_BYTES[name]
            and (chunk := _metadata(name, data[at + 8 : at + 8 + length]))
        ):
            seen.add(name)
            flags |= FLAGS[name]
            chunks.append(chunk)
        at = end
    else:
        raise BrokenImage("the source has too many chunks")
    body = b"".join(chunks)
    # The size counts what is there, plus what the file lacks, so that the decoder finds a truncated file.
    missing = max(0, size - len(data))
    body = body[:8] + bytes((flags,)) + body[9:] if body[:4] == b"VP8X" else body
    return b"RIFF" + struct.pack("<I", 4 + len(body) + missing) + b"WEBP" + body


def _metadata(name: bytes, content: bytes) -> bytes:
    """The chunk within bounds; b"" if it is dropped."""
    content = exif.bounded(content) if name == b"EXIF" else content
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) & 1) if content else b""
