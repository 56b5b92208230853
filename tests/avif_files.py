"""AVIF files for tests: Pillow codes the images, the boxes around them are written here (ISO/IEC 23008-12)."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

ALPHA = b"\0\0\0\0urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
# Type, the item that refers, and the items that it refers to.
Reference = tuple[bytes, int, tuple[int, ...]]


@dataclass(frozen=True)
class Item:
    """`properties` are types and contents; those in `ESSENTIAL` are written as essential."""

    content: bytes
    properties: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = b"av01"
    hidden: bool = False

    def having(self, kind: bytes, *content: bytes) -> "Item":
        """With a property; without content, the property is removed."""
        others = tuple(one for one in self.properties if one[0] != kind)
        return replace(self, properties=others + tuple((kind, one) for one in content))


ESSENTIAL = frozenset({b"av1C", b"irot", b"imir", b"clap", b"lsel", b"a1op"})


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *content)


def inside(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes in `data`."""
    found, at = [], 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + length]))
        at += length
    return found


def coded(image: Image.Image, **options: Any) -> Item:
    """One image, nearly without loss, with the properties that its encoder writes."""
    file = io.BytesIO()
    image.save(file, "AVIF", **{"quality": 95, "subsampling": "4:4:4"} | options)
    body = file.getvalue()
    meta = dict(inside(dict(inside(body))[b"meta"][4:]))
    offset, length = struct.unpack(">II", meta[b"iloc"][-8:])
    return Item(body[offset : offset + length], tuple(inside(dict(inside(meta[b"iprp"]))[b"ipco"])))


def alpha(image: Image.Image, **options: Any) -> Item:
    """An alpha channel of gray levels."""
    return coded(image, **options).having(b"auxC", ALPHA)


def container(items: Sequence[Item], *references: Reference, primary: int = 1, brand: bytes = b"avif") -> bytes:
    """A file of these items, which are numbered from 1; `mdat` comes last."""
    ftyp = box(b"ftyp", brand, bytes(4), b"avifmif1miaf")
    offset = len(ftyp) + len(_meta(items, references, primary, 0)) + 8
    return ftyp + _meta(items, references, primary, offset) + box(b"mdat", *(item.content for item in items))


def _meta(items: Sequence[Item], references: Sequence[Reference], primary: int, offset: int) -> bytes:
    places, infes, associations, properties = [], [], [], b""
    count = 0
    for number, item in enumerate(items, start=1):
        places.append(struct.pack(">HHHII", number, 0, 1, offset, len(item.content)))
        offset += len(item.content)
        infes.append(full(b"infe", struct.pack(">HH4sB", number, 0, item.kind, 0), version=2, flags=item.hidden))
        indexes = bytes(count + 1 + at | 0x80 * (kind in ESSENTIAL) for at, (kind, _) in enumerate(item.properties))
        associations.append(struct.pack(">HB", number, len(indexes)) + indexes)
        properties += b"".join(box(*one) for one in item.properties)
        count += len(item.properties)
    entries = (box(kind, struct.pack(f">HH{len(to)}H", source, len(to), *to)) for kind, source, to in references)
    return full(
        b"meta",
        full(b"hdlr", bytes(4), b"pict", bytes(13)),
        full(b"pitm", struct.pack(">H", primary)),
        full(b"iloc", b"\x44\0", struct.pack(">H", len(items)), *places),
        full(b"iinf", struct.pack(">H", len(items)), *infes),
        full(b"iref", *entries) if references else b"",
        box(b"iprp", box(b"ipco", properties), full(b"ipma", struct.pack(">I", len(items)), *associations)),
    )


def grid(tiles: Sequence[Item], columns: int, rows: int, size: tuple[int, int]) -> bytes:
    """One picture of hidden tiles; the picture is item 1."""
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    whole = Item(layout, ((b"ispe", struct.pack(">III", 0, *size)), (b"pixi", b"\0\0\0\0\3\x08\x08\x08")), b"grid")
    hidden = [replace(tile, hidden=True) for tile in tiles]
    return container([whole, *hidden], (b"dimg", 1, tuple(range(2, len(tiles) + 2))))
