"""EXIF within bounds: each directory is read once, and holds each tag once.

libexif follows every pointer to a directory, however many there are, and searches the directory for each new entry: the
time grows with the square of the entries. So libvips gets a new block (TIFF 6.0, section 2; EXIF 2.32, 4.6) with the
first directory, the Exif directory and the GPS directory. The thumbnail and the maker note are dropped: no result keeps
them.
"""

import struct
from dataclasses import dataclass

PREFIX = b"Exif\0\0"
EXIF_POINTER, GPS_POINTER = 0x8769, 0x8825
# The maker note contains offsets that change with its place. The interoperability directory says nothing about pixels.
MAKER_NOTE, INTEROP_POINTER, SUB_POINTERS = 0x927C, 0xA005, 0x014A
POINTERS = frozenset((EXIF_POINTER, GPS_POINTER, INTEROP_POINTER))
ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
DROPPED = frozenset((EXIF_POINTER, GPS_POINTER, MAKER_NOTE, INTEROP_POINTER, SUB_POINTERS))
# Bytes of one value by TIFF field type, from BYTE (1) to DOUBLE (12).
SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)
LONG = 4
# Cameras write fewer than 80 entries into one directory.
MAX_ENTRIES = 128
# The largest block that a JPEG segment can hold.
MAX_BYTES = 65_527


@dataclass(frozen=True, slots=True)
class _Entry:
    """`value` is in the byte order of the block."""

    tag: int
    kind: int
    count: int
    value: bytes

    @property
    def size(self) -> int:
        """Bytes in the directory and after it."""
        return 12 + (len(self.value) + 1 & ~1 if len(self.value) > 4 else 0)


def bounded(block: bytes) -> bytes:
    """A block with the same values, at most MAX_BYTES long; with the prefix "Exif" if `block` has it.

    Returns b"" if the block cannot be read.
    """
    prefix = PREFIX if block[:4] == PREFIX[:4] else b""
    order = ORDERS.get(block[len(prefix) : len(prefix) + 4])
    if order is None:
        return b""
    try:
        return prefix + _rebuilt(memoryview(block)[len(prefix) :], order)
    except struct.error:
        return b""


def is_plain(block: bytes) -> bool:
    """Whether libexif reads the block in linear time: no directory has more than MAX_ENTRIES entries, and each pointer
    to a directory occurs once, where it belongs. False for a block that cannot be read."""
    start = len(PREFIX) if block[:4] == PREFIX[:4] else 0
    order = ORDERS.get(block[start : start + 4])
    data = memoryview(block)[start:]
    if order is None or len(data) < 8:
        return False
    (at,) = struct.unpack_from(order + "I", data, 4)
    root = _directory(data, at, order)
    allowed = [(at, {EXIF_POINTER, GPS_POINTER})]
    allowed += [(place, {INTEROP_POINTER}) for place in _targets(root, EXIF_POINTER, order)]
    allowed += [(place, set()) for place in _targets(root, GPS_POINTER, order)]
    return all(_has_only(data, place, tags, order) for place, tags in allowed)


def _targets(entries: dict[int, _Entry], tag: int, order: str) -> list[int]:
    entry = entries.get(tag)
    return [struct.unpack(order + "I", entry.value)[0]] if entry and len(entry.value) == 4 else []


def _has_only(block: memoryview, at: int, pointers: set[int], order: str) -> bool:
    """Whether the directory is within bounds, and has no other pointers than these, each once."""
    if at + 2 > len(block):
        return True
    (count,) = struct.unpack_from(order + "H", block, at)
    places = range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12)
    if count > MAX_ENTRIES:
        return False
    found = [tag for place in places if (tag := struct.unpack_from(order + "H", block, place)[0]) in POINTERS]
    return len(found) == len(set(found)) and set(found) <= pointers


def _rebuilt(block: memoryview, order: str) -> bytes:
    (first,) = struct.unpack_from(order + "I", block, 4)
    root = _directory(block, first, order)
    budget = MAX_BYTES - 64
    tables = []
    for found in (root, _pointed(block, root, EXIF_POINTER, order), _pointed(block, root, GPS_POINTER, order)):
        entries = _kept(found, budget)
        budget -= sum(entry.size for entry in entries)
        tables.append(entries)
    return _written(tables, order)


def _directory(block: memoryview, at: int, order: str) -> dict[int, _Entry]:
    """The first MAX_ENTRIES entries at the offset `at` by their tags; of a tag that occurs twice, the first."""
    found: dict[int, _Entry] = {}
    if at + 2 > len(block):
        return found
    count = min(MAX_ENTRIES, struct.unpack_from(order + "H", block, at)[0])
    for place in range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, values = struct.unpack_from(order + "HHI", block, place)
        length = values * SIZES[kind] if kind < len(SIZES) else 0
        start = place + 8 if length <= 4 else struct.unpack_from(order + "I", block, place + 8)[0]
        if 0 < length <= MAX_BYTES and start + length <= len(block):
            found.setdefault(tag, _Entry(tag, kind, values, bytes(block[start : start + length])))
    return found


def _pointed(block: memoryview, root: dict[int, _Entry], tag: int, order: str) -> dict[int, _Entry]:
    """The entries of the directory that the entry `tag` of `root` points to."""
    return next((_directory(block, at, order) for at in _targets(root, tag, order)), {})


def _kept(entries: dict[int, _Entry], budget: int) -> list[_Entry]:
    """The entries to write, in the order of their tags, with small values first if not all of them fit."""
    kept = []
    for entry in sorted(entries.values(), key=lambda entry: entry.size):
        if entry.tag not in DROPPED and entry.size <= budget:
            kept.append(entry)
            budget -= entry.size
    return sorted(kept, key=lambda entry: entry.tag)


def _written(tables: list[list[_Entry]], order: str) -> bytes:
    root, exif, gps = tables
    pointers = [tag for tag, entries in ((EXIF_POINTER, exif), (GPS_POINTER, gps)) if entries]
    at = 8 + _length(root) + 12 * len(pointers)
    for tag, entries in ((EXIF_POINTER, exif), (GPS_POINTER, gps)):
        if entries:
            root.append(_Entry(tag, LONG, 1, struct.pack(order + "I", at)))
            at += _length(entries)
    root.sort(key=lambda entry: entry.tag)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    written = head + _table(root, 8, order)
    for entries in (exif, gps):
        written += _table(entries, len(written), order) if entries else b""
    return written


def _length(entries: list[_Entry]) -> int:
    return 6 + sum(entry.size for entry in entries)


def _table(entries: list[_Entry], at: int, order: str) -> bytes:
    """The directory for the offset `at`, followed by its values."""
    rows, values = [], b""
    values_at = at + 6 + 12 * len(entries)
    for entry in entries:
        field = entry.value.ljust(4, b"\0")
        if len(entry.value) > 4:
            field = struct.pack(order + "I", values_at + len(values))
            values += entry.value + b"\0" * (len(entry.value) & 1)
        rows.append(struct.pack(order + "HHI", entry.tag, entry.kind, entry.count) + field)
    return struct.pack(order + "H", len(entries)) + b"".join(rows) + bytes(4) + values
