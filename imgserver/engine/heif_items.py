"""The items of an AVIF or HEIC: images, their properties, and how they belong together (ISO/IEC 23008-12; 14496-12,
8.11)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from imgserver.engine.isobmff import BoxReader, FileBox
from imgserver.runtime.resources import MIB

# No real file has more items than a grid has tiles.
MAX_ITEMS = 5_000
MAX_PROPERTY_BYTES = 64
# The table of places, and the parts of all items together: a part can take no bytes in the table.
MAX_LOCATION_BYTES, MAX_EXTENTS = MIB // 4, 20_000
# Images that are made of other ones: a grid of tiles, one image with other properties, overlaid ones.
DERIVED = frozenset({b"grid", b"iden", b"iovl"})
# The primary image with a gain map, for bright screens; the decoders do not read it.
TONE_MAPPED = b"tmap"
# Items that are no images.
OTHER = frozenset({b"Exif", b"mime", b"uri ", b"none", TONE_MAPPED})
ALPHA_KINDS = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")

# Offset in the file and length of each part of an item.
Extents = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Item:
    """`kind` is its codec or derivation; `properties` are the types and contents, in the order of the file.
    `is_hidden`: it is no image of its own, such as a tile."""

    number: int
    kind: bytes
    is_hidden: bool = False
    properties: tuple[tuple[bytes, bytes], ...] = ()
    extents: tuple[tuple[int, int], ...] = ()

    def values(self, kind: bytes) -> list[bytes]:
        return [content for name, content in self.properties if name == kind]


@dataclass(frozen=True, slots=True)
class Items:
    """`references` are types, the item that refers, and the items that it refers to."""

    primary: int
    items: dict[int, Item]
    references: tuple[tuple[bytes, int, tuple[int, ...]], ...] = ()

    def images(self) -> list[Item]:
        """The images in the order of their pages: neither hidden, nor thumbnails, nor auxiliary."""
        subordinate = {source for kind, source, _ in self.references if kind in (b"thmb", b"auxl")}
        return [
            item
            for number, item in sorted(self.items.items())
            if not item.is_hidden and number not in subordinate and item.kind not in OTHER
        ]

    def parts(self, item: Item) -> Iterator[Item]:
        """The coded images of which an image is made, itself included if it is coded."""
        todo, seen = [item.number], set[int]()
        while todo:
            number = todo.pop()
            if number in seen or number not in self.items:
                continue
            seen.add(number)
            found = self.items[number]
            if found.kind in DERIVED:
                todo += [target for targets in self.referred(b"dimg", number) for target in targets]
            else:
                yield found

    def alpha_of(self, item: Item) -> Item | None:
        """The auxiliary image with the alpha channel of an image."""
        for kind, source, targets in self.references:
            if kind == b"auxl" and item.number in targets and source in self.items:
                auxiliary = self.items[source]
                if any(value[4:].startswith(ALPHA_KINDS) for value in auxiliary.values(b"auxC")):
                    return auxiliary
        return None

    def referred(self, kind: bytes, source: int) -> list[tuple[int, ...]]:
        return [targets for name, number, targets in self.references if (name, number) == (kind, source)]


@dataclass(slots=True)
class _Numbers:
    """Reads numbers of a box one after the other. Raises IndexError after its end."""

    data: bytes
    at: int = 0

    def read(self, size: int) -> int:
        if self.at + size > len(self.data):
            raise IndexError
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def read_items(file: BinaryIO) -> Items | None:
    """The items of the file; None if it has no primary image, or if its tables cannot be read."""
    reader = BoxReader(file)
    meta = next(reader.find(reader.root, b"meta"), None)
    if meta is None:
        return None
    boxes = list(reader.inside(meta, skip=4))
    try:
        return _items(reader, boxes)
    except (IndexError, StopIteration, struct.error):
        return None


def _items(reader: BoxReader, boxes: list[FileBox]) -> Items:
    by_kind = {box.kind: box for box in reversed(boxes)}
    if b"pitm" not in by_kind or b"iinf" not in by_kind:
        raise IndexError
    head = _Numbers(reader.content(by_kind[b"pitm"], 8))
    primary = head.read(4 if head.read(4) >> 24 else 2)
    properties = _properties(reader, by_kind[b"iprp"]) if b"iprp" in by_kind else {}
    extents = locations(reader, boxes)
    items = {
        number: Item(number, kind, is_hidden, tuple(properties.get(number, ())), tuple(extents.get(number, ())))
        for number, kind, is_hidden in _entries(reader, by_kind[b"iinf"])
    }
    references = tuple(_references(reader, by_kind[b"iref"])) if b"iref" in by_kind else ()
    return Items(primary, items, references)


def _entries(reader: BoxReader, box: FileBox) -> Iterator[tuple[int, bytes, bool]]:
    """Number, type and hidden flag of each item (`infe`, version 2 and later)."""
    version = reader.content(box, 1)
    for entry in reader.inside(box, skip=8 if version != b"\0" else 6):
        head = _Numbers(reader.content(entry, 16))
        flags = head.read(4)
        if entry.kind == b"infe" and flags >> 24 >= 2:
            number = head.read(2 if flags >> 24 == 2 else 4)
            head.read(2)
            yield number, head.read(4).to_bytes(4, "big"), bool(flags & 1)


def _properties(reader: BoxReader, box: FileBox) -> dict[int, list[tuple[bytes, bytes]]]:
    """The properties of each item (`ipco`, `ipma`)."""
    known = [
        (one.kind, reader.content(one, MAX_PROPERTY_BYTES))
        for container in reader.find(box, b"ipco")
        for one in reader.inside(container)
    ]
    found: dict[int, list[tuple[bytes, bytes]]] = {}
    for association in reader.find(box, b"ipma"):
        numbers = _Numbers(reader.content(association, MIB))
        flags = numbers.read(4)
        for _ in range(min(numbers.read(4), MAX_ITEMS)):
            item = found.setdefault(numbers.read(4 if flags >> 24 else 2), [])
            for _ in range(numbers.read(1)):
                index = numbers.read(2) & 0x7FFF if flags & 1 else numbers.read(1) & 0x7F
                item += known[index - 1 : index] if index else []
    return found


def _references(reader: BoxReader, box: FileBox) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    width = 4 if reader.content(box, 1) == b"\1" else 2
    for one in reader.inside(box, skip=4):
        numbers = _Numbers(reader.content(one, 4 * MAX_ITEMS))
        source = numbers.read(width)
        yield one.kind, source, tuple(numbers.read(width) for _ in range(numbers.read(2)))


def locations(reader: BoxReader, boxes: list[FileBox]) -> dict[int, Extents]:
    """The extents of the items that are stored in the file or in `idat` (`iloc`, ISO/IEC 14496-12, 8.11.3)."""
    location = next((box for box in boxes if box.kind == b"iloc"), None)
    if location is None:
        return {}
    inside = next((box.start for box in boxes if box.kind == b"idat"), None)
    try:
        return _locations(reader.content(location, MAX_LOCATION_BYTES), inside)
    except (struct.error, IndexError):
        return {}


def _locations(data: bytes, inside: int | None) -> dict[int, Extents]:
    version, sizes = data[0], [data[4] >> 4, data[4] & 15, data[5] >> 4, data[5] & 15 if data[0] else 0]
    at, left, places = 6, MAX_EXTENTS, dict[int, Extents]()

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(data):
            raise IndexError
        at += size
        return int.from_bytes(data[at - size : at], "big")

    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        at += 2
        base = number(sizes[2])
        origin = {0: 0, 1: inside}.get(method)
        extents = number(2)
        left -= extents
        if left < 0:
            raise IndexError
        for _ in range(extents):
            number(sizes[3])
            offset, length = number(sizes[0]), number(sizes[1])
            if origin is not None:
                places.setdefault(item, []).append((origin + base + offset, length))
    return places
