"""What a file holds besides its image, and a new encoding does not: in a JPEG, further pictures (CIPA DC-007,
Multi-Picture Format) or a video after it; in an AVIF, a gain map (ISO 21496-1).

Phones append a video or the gain map of a bright screen, cameras the second picture of a stereo pair. Decoders show the
first image only, and a file that is encoded again ends with it. Smaller previews of the same image do not count.
"""

import struct
from typing import BinaryIO

from imgserver.engine.heif_items import TONE_MAPPED, read_items
from imgserver.engine.sanitize import jpeg

PICTURE, VIDEO = b"\xff\xd8\xff", b"ftyp"
# The table of pictures in the index, and the bytes of one of its entries.
INDEX, ENTRIES, ENTRY_BYTES = b"MPF\0", 0xB002, 16
# Types of pictures that are previews of the first one, in the lower 24 bits of the attributes.
PREVIEWS = frozenset({0x010001, 0x010002})
MAX_FIELDS = 32


def left_out(path: str, name: str) -> str:
    """Names what a file of the format `name` holds besides its image: "a second picture", "a video", "a gain map", or
    "" for nothing. Raises BrokenImage."""
    if name not in ("jpg", "avif"):
        return ""
    with open(path, "rb") as file:  # noqa: PTH123
        return _behind_jpeg(file) if name == "jpg" else _gain_map(file)


def _gain_map(file: BinaryIO) -> str:
    items = read_items(file)
    return "a gain map" if items and any(item.kind == TONE_MAPPED for item in items.items.values()) else ""


def _behind_jpeg(file: BinaryIO) -> str:
    head, appended = jpeg.besides_image(file)
    if VIDEO in appended:
        return "a video"
    if PICTURE not in appended:
        return ""
    types = _types(head)
    return "" if types and all(kind in PREVIEWS for kind in types) else "a second picture"


def _types(head: bytes) -> list[int]:
    """The types of all pictures after the first; empty if there is no index that can be read."""
    start = head.find(INDEX)
    block = head[start + len(INDEX) :] if start >= 0 else b""
    order = "<" if block[:2] == b"II" else ">"
    try:
        length, at = _entries(block, order)
        return [
            struct.unpack_from(order + "I", block, at + skip)[0] & 0xFFFFFF
            for skip in range(ENTRY_BYTES, length, ENTRY_BYTES)
        ]
    except struct.error:
        return []


def _entries(block: bytes, order: str) -> tuple[int, int]:
    """Length and offset of the table of pictures; (0, 0) if there is none. Raises struct.error."""
    (directory,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, directory)
    for at in range(directory + 2, directory + 2 + 12 * min(count, MAX_FIELDS), 12):
        tag, _, length, offset = struct.unpack_from(order + "HHII", block, at)
        if tag == ENTRIES:
            return min(length, len(block)), offset
    return 0, 0
