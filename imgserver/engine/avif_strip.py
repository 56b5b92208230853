"""A still AVIF without anything but its image: the coded image, its tiles and its alpha, in a new container.

The container is the item structure of ISO/IEC 14496-12 (8.11) with the properties of ISO/IEC 23008-12. Dropped are
EXIF, XMP, profiles, thumbnails, depth maps, descriptions, and bytes before, between or after the boxes. Colors that
need more than sRGB, layers and sequences cannot be stripped here.
"""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_BOXES = 10_000
MAX_BYTES = 0xFFFF_FFFF
# The brands of a still AVIF (AV1 Image File Format, 5 and 8).
BRANDS = frozenset({b"avif", b"mif1", b"miaf", b"MA1A", b"MA1B"})
IMAGE_TYPES = frozenset({b"av01", b"grid"})
ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
# All that changes the shown pixels of an image without layers.
PROPERTIES = frozenset({b"ispe", b"pixi", b"av1C", b"colr", b"pasp", b"irot", b"imir", b"clap", b"auxC"})
# ITU-T H.273: primaries and transfer curves that are shown as sRGB, or that are unspecified.
SRGB_PRIMARIES, SRGB_TRANSFERS = frozenset({1, 2}), frozenset({1, 2, 6, 13})

Box = tuple[bytes, bytes]


def strip_avif(body: bytes) -> bytes | None:
    """The stripped file; None if that is impossible. May raise struct.error, IndexError and ValueError."""
    boxes = list(_whole_boxes(body))
    top = dict(reversed(boxes))
    if not boxes or boxes[0][0] != b"ftyp" or b"moov" in top or b"meta" not in top:
        return None
    meta = _Meta.of(top[b"meta"], body)
    if meta is None:
        return None
    ids = meta.image_items()
    return None if ids is None else _written(top[b"ftyp"], meta, ids)


@dataclass(slots=True)
class _Meta:
    """The parts of a `meta` box. `references`: type, from, to. `associations`: the indexes of the properties of each
    item, from 1, with the bit for "essential" in 0x8000."""

    primary: int
    types: dict[int, bytes]
    data: dict[int, bytes]
    properties: list[Box]
    associations: dict[int, list[int]]
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)

    @classmethod
    def of(cls, content: bytes, body: bytes) -> "_Meta | None":
        inner = dict(_boxes(content[4:]))
        if not {b"pitm", b"iloc", b"iinf", b"iprp"} <= inner.keys():
            return None
        iprp = dict(_boxes(inner[b"iprp"]))
        if not {b"ipco", b"ipma"} <= iprp.keys():
            return None
        return cls(
            _number(inner[b"pitm"], 4, 2 if inner[b"pitm"][0] == 0 else 4),
            _item_types(inner[b"iinf"]),
            dict(_item_data(inner[b"iloc"], body, inner.get(b"idat", b""))),
            list(_boxes(iprp[b"ipco"])),
            _associations(iprp[b"ipma"]),
            list(_references(inner.get(b"iref", bytes(4)))),
        )

    def image_items(self) -> list[int] | None:
        """The primary image, its tiles, and the alpha of either; None if anything of them cannot be written again."""
        ids = [self.primary]
        for item in ids:  # grows while it is read
            if len(ids) > MAX_BOXES or self.types.get(item) not in IMAGE_TYPES or item not in self.data:
                return None
            if not all(map(_is_plain, self.properties_of(item))):
                return None
            tiles = [to for kind, start, ends in self.references if kind == b"dimg" and start == item for to in ends]
            alphas = [start for kind, start, ends in self.references if kind == b"auxl" and item in ends]
            ids += [one for one in (*tiles, *filter(self.is_alpha, alphas)) if one not in ids]
        return ids if max(ids) <= 0xFFFF else None

    def is_alpha(self, item: int) -> bool:
        return any(name == b"auxC" and content[4:] in ALPHA for name, content in self.properties_of(item))

    def properties_of(self, item: int) -> list[Box]:
        return [self.properties[index - 1] for index in self.indexes_of(item)]

    def indexes_of(self, item: int) -> list[int]:
        return [entry & 0x7FFF for entry in self.associations.get(item, []) if entry & 0x7FFF]


def _is_plain(box: Box) -> bool:
    """Whether a property is known, and its colors are sRGB. A profile is not judged here: the caller knows it."""
    name, content = box
    if name in (b"a1op", b"lsel"):
        return False
    if name != b"colr" or content[:4] != b"nclx":
        return True
    primaries, transfer = struct.unpack_from(">HH", content, 4)
    return primaries in SRGB_PRIMARIES and transfer in SRGB_TRANSFERS


def _is_kept(box: Box) -> bool:
    return box[0] in PROPERTIES and (box[0] != b"colr" or box[1][:4] == b"nclx")


# Reading


def _whole_boxes(body: bytes) -> Iterator[Box]:
    """The boxes of a file up to the first bytes that are no box: whatever is appended to the image."""
    with contextlib.suppress(ValueError):
        yield from _boxes(body)


def _boxes(body: bytes) -> Iterator[Box]:
    """Name and content of each box. Raises ValueError."""
    at = 0
    for _ in range(MAX_BOXES):
        if len(body) - at < 8:
            return
        size, name = struct.unpack_from(">I4s", body, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", body, at + 8)[0], 16
        elif size == 0:
            size = len(body) - at
        if size < head or at + size > len(body):
            raise ValueError("a box is truncated")
        yield name, body[at + head : at + size]
        at += size
    raise ValueError("too many boxes")


def _number(body: bytes, at: int, size: int) -> int:
    """An unsigned number of `size` bytes; 0 bytes are a 0. Raises ValueError."""
    if at + size > len(body):
        raise ValueError("a number is truncated")
    return int.from_bytes(body[at : at + size], "big")


def _item_types(iinf: bytes) -> dict[int, bytes]:
    types = {}
    for name, content in _boxes(iinf[6 if iinf[0] == 0 else 8 :]):
        if name == b"infe" and content[0] in (2, 3):
            size = 2 if content[0] == 2 else 4
            types[_number(content, 4, size)] = content[6 + size : 10 + size]
    return types


def _item_data(iloc: bytes, body: bytes, idat: bytes) -> Iterator[tuple[int, bytes]]:
    """Identifier and bytes of each item that lies in this file. Raises ValueError."""
    version = iloc[0]
    offset_size, length_size = iloc[4] >> 4, iloc[4] & 15
    base_size, index_size = iloc[5] >> 4, iloc[5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    count, at = _number(iloc, 6, wide), 6 + wide
    for _ in range(min(count, MAX_BOXES)):
        item = _number(iloc, at, wide)
        at += wide
        method = _number(iloc, at, 2) & 15 if version else 0
        at += 2 if version else 0
        outside, base = _number(iloc, at, 2), _number(iloc, at + 2, base_size)
        extents, at = _number(iloc, at + 2 + base_size, 2), at + 4 + base_size
        data = b""
        for _ in range(extents):
            start = base + _number(iloc, at + index_size, offset_size)
            length = _number(iloc, at + index_size + offset_size, length_size)
            at += index_size + offset_size + length_size
            whole = idat if method == 1 else body
            if start + length > len(whole) or len(data) + length > len(body):
                raise ValueError("an item is truncated")
            data += whole[start : start + length or None]
        if method in (0, 1) and not outside:
            yield item, data


def _associations(ipma: bytes) -> dict[int, list[int]]:
    version, wide = ipma[0], 2 if ipma[3] & 1 else 1
    size = 4 if version else 2
    found, at = {}, 8
    for _ in range(min(_number(ipma, 4, 4), MAX_BOXES)):
        item, count = _number(ipma, at, size), _number(ipma, at + size, 1)
        at += size + 1
        entries = [_number(ipma, at + wide * index, wide) for index in range(count)]
        found[item] = entries if wide == 2 else [(entry & 0x80) << 8 | entry & 0x7F for entry in entries]
        at += wide * count
    return found


def _references(iref: bytes) -> Iterator[tuple[bytes, int, list[int]]]:
    size = 4 if iref[0] else 2
    for kind, content in _boxes(iref[4:]):
        count = _number(content, size, 2)
        yield (
            kind,
            _number(content, 0, size),
            [_number(content, size + 2 + size * index, size) for index in range(count)],
        )


# Writing


def _written(ftyp: bytes, meta: _Meta, ids: list[int]) -> bytes | None:
    brands = [ftyp[at : at + 4] for at in range(8, len(ftyp), 4)]
    head = _box(b"ftyp", b"avif\0\0\0\0", *(brand for brand in dict.fromkeys(brands) if brand in BRANDS))
    # The size of `iloc` does not depend on the offsets in it.
    start = len(head) + len(_meta_box(meta, ids, 0)) + 8
    body = head + _meta_box(meta, ids, start) + _box(b"mdat", *(meta.data[item] for item in ids))
    return body if len(body) <= MAX_BYTES else None


def _meta_box(meta: _Meta, ids: list[int], start: int) -> bytes:
    """The box for items whose data begins at the offset `start` of the file."""
    return _box(
        b"meta",
        bytes(4),
        _box(b"hdlr", bytes(8), b"pict", bytes(13)),
        _box(b"pitm", bytes(4), struct.pack(">H", meta.primary)),
        _iloc(meta, ids, start),
        _box(b"iinf", bytes(4), struct.pack(">H", len(ids)), *(_infe(item, meta.types[item]) for item in ids)),
        _iref(meta, ids),
        _iprp(meta, ids),
    )


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def _infe(item: int, kind: bytes) -> bytes:
    return _box(b"infe", b"\2\0\0\0", struct.pack(">HH", item, 0), kind, b"\0")


def _iloc(meta: _Meta, ids: list[int], start: int) -> bytes:
    rows = []
    for item in ids:
        rows.append(struct.pack(">HHHII", item, 0, 1, start, len(meta.data[item])))
        start += len(meta.data[item])
    return _box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", len(ids)), *rows)


def _iref(meta: _Meta, ids: list[int]) -> bytes:
    rows = []
    for kind, item, ends in meta.references:
        targets = [end for end in ends if end in ids]
        if kind in (b"dimg", b"auxl", b"prem") and item in ids and targets:
            rows.append(_box(kind, struct.pack(f">HH{len(targets)}H", item, len(targets), *targets)))
    return _box(b"iref", bytes(4), *rows) if rows else b""


def _iprp(meta: _Meta, ids: list[int]) -> bytes:
    used = sorted({index for item in ids for index in meta.indexes_of(item) if _is_kept(meta.properties[index - 1])})
    numbers = {index: number for number, index in enumerate(used, 1)}
    rows = []
    for item in ids:
        entries = [
            entry & 0x8000 | numbers[entry & 0x7FFF]
            for entry in meta.associations.get(item, [])
            if entry & 0x7FFF in numbers
        ]
        rows.append(struct.pack(f">HB{len(entries)}H", item, len(entries), *entries))
    ipco = _box(b"ipco", *(_box(*meta.properties[index - 1]) for index in used))
    return _box(b"iprp", ipco, _box(b"ipma", b"\0\0\0\1", struct.pack(">I", len(ids)), *rows))
