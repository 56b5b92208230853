"""An AVIF or HEIC as the decoder gets it (ISO/IEC 23008-12): without EXIF that would cost libexif too much time.

The turns of these formats are properties of the image, so EXIF says nothing about the pixels.
"""

from typing import BinaryIO

from imgserver.engine.heif_items import Extents, locations
from imgserver.engine.isobmff import BoxReader, FileBox
from imgserver.engine.sanitize import exif
from imgserver.errors import BrokenImage
from imgserver.runtime.resources import MIB

# libvips ignores the case of the type.
EXIF, HIDDEN = b"Exif", b"none"
MAX_EXIF_BYTES = MIB
# Items with metadata in one file; the EXIF of further ones is hidden.
MAX_EXIF_ITEMS = 8


def whole(file: BinaryIO) -> bytes | None:
    """The file with hostile EXIF items renamed, so that no reader finds them; None if there are none.

    Raises BrokenImage.
    """
    names = _names_to_hide(file)
    if not names:
        return None
    file.seek(0)
    data = bytearray(file.read())
    for at in names:
        data[at : at + 4] = HIDDEN
    return bytes(data)


def _names_to_hide(file: BinaryIO) -> list[int]:
    """The offsets of the item types of EXIF that is not plain."""
    reader = BoxReader(file)
    metas = list(reader.find(reader.root, b"meta"))
    boxes = [box for meta in metas[:1] for box in reader.inside(meta, skip=4)]
    items = [item for box in boxes if box.kind == b"iinf" for item in _exif_items(reader, box)]
    # ISO/IEC 14496-12, 8.11.1: a file has at most one of these boxes.
    if reader.exhausted or len(metas) > 1:
        raise BrokenImage("the source has too many boxes")
    places = locations(reader, boxes) if items else {}
    plain = {number for number, _ in items[:MAX_EXIF_ITEMS] if _is_plain(reader, places.get(number, []))}
    return [at for number, at in items if number not in plain]


def _exif_items(reader: BoxReader, box: FileBox) -> list[tuple[int, int]]:
    """Number of each EXIF item, and the offset of its type in the file."""
    version = reader.content(box, 1)
    found = []
    for entry in reader.inside(box, skip=8 if version != b"\0" else 6):
        head = reader.content(entry, 14)
        # Flags, the number in two or four bytes, the index of the protection, the type.
        wide = 2 if head[:1] == b"\2" else 4
        at = 4 + wide + 2
        if entry.kind == b"infe" and head[at : at + 4] == EXIF:
            found.append((int.from_bytes(head[4 : 4 + wide], "big"), entry.start + at))
    return found


def _is_plain(reader: BoxReader, extents: Extents) -> bool:
    """Whether the EXIF is in one known place and within bounds."""
    if len(extents) != 1:
        return False
    at, length = extents[0]
    if length > MAX_EXIF_BYTES or at + length > reader.root.end:
        return False
    reader.file.seek(at)
    content = reader.file.read(length)
    # The first four bytes are the offset of the block after them.
    start = 4 + int.from_bytes(content[:4], "big")
    return exif.is_plain(content[start:])
