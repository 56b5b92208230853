"""A JPEG as the decoder gets it (ITU-T T.81, annex B): bounded metadata, no faults that cost no pixel, and an end.

The decoder reports its first warning only. So the header is written anew without what causes harmless warnings, and
every warning about the scans counts. Every file gets an end marker: the decoder then reports missing pixels, and not a
missing end.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from imgserver.engine.sanitize import exif
from imgserver.errors import BrokenImage
from imgserver.runtime.resources import MIB

SOI, EOI, SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
SOS, COM = 0xDA, 0xFE
APP0, APP1, APP2, APP13, APP14, APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF
# Start-of-frame markers: all, and those of the two processes that code coefficients.
SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL, PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC9}), frozenset({0xC2, 0xCA})
# Markers without a length: TEM, RST0-RST7, SOI.
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
# Bounds of what precedes the first scan. A profile and a description in XMP take some 20 segments of 64 KiB.
MAX_SEGMENTS, MAX_GARBAGE_BYTES = 4_096, 4_096
# Each scan of a progressive file costs a pass over all its coefficients; encoders write about ten.
MAX_SCANS = 200
MAX_METADATA_BYTES, MAX_PROFILE_BYTES, MAX_COMMENTS = MIB, 4 * MIB, 16
# Bit n stands for coefficient n of a block.
ALL_COEFFICIENTS = (1 << 64) - 1
# The value of Adobe's color transform for YCbCr and YCCK, by the number of components.
ADOBE_TRANSFORMS = {3: 1, 4: 2}


@dataclass(slots=True)
class Head:
    """The segments up to the header of the first scan, and the offset of that scan's data in the file."""

    segments: list[bytes] = field(default_factory=list)
    scan_at: int = 0
    sof: int = 0
    component_ids: bytes = b""
    adobe: int | None = None
    metadata_bytes: int = 0
    profile_bytes: int = 0
    seen: dict[str, int] = field(default_factory=dict)

    def is_new(self, name: str, most: int = 1) -> bool:
        """Whether fewer than `most` segments of this kind came before."""
        self.seen[name] = self.seen.get(name, 0) + 1
        return self.seen[name] <= most


def header(file: BinaryIO) -> bytes:
    """A JPEG that ends before its first scan's data. Raises BrokenImage."""
    return b"".join((SOI, *_read_head(file).segments, EOI))


def whole(file: BinaryIO, size: int) -> bytearray:
    """The JPEG of a file of `size` bytes. Raises BrokenImage."""
    head = _read_head(file)
    start = b"".join((SOI, *head.segments))
    # The scans are copied once only, from the file to their place.
    data = bytearray(len(start) + max(0, size - head.scan_at) + len(EOI))
    data[: len(start)] = start
    file.seek(head.scan_at)
    end = len(start) + file.readinto(memoryview(data)[len(start) : -len(EOI)])  # type: ignore[attr-defined]
    data[end:] = EOI
    if not _has_all_scans(data, head, scan_at=len(start)):
        raise BrokenImage("the source is truncated")
    return data


def besides_image(file: BinaryIO) -> tuple[bytes, bytes]:
    """The bytes before the data of the first scan, and those after the end of the image. Raises BrokenImage."""
    scan_at = _read_head(file).scan_at
    file.seek(0)
    data = file.read()
    end = data.find(EOI, scan_at)
    return data[:scan_at], data[end + len(EOI) :] if end >= 0 else b""


def _has_all_scans(data: bytearray, head: Head, *, scan_at: int) -> bool:
    """Whether the scans hold all coefficients of all components in full precision.

    A file that lacks whole scans decodes without a warning: blurred, or with components that are zero.
    """
    if head.sof not in SEQUENTIAL | PROGRESSIVE:
        return True
    coded = dict.fromkeys(head.component_ids, 0)
    for scan in _scans(data, head, scan_at):
        first, last, low_bit = scan[-3], scan[-2], scan[-1] & 15
        for component in scan[1:-3:2] if low_bit == 0 or head.sof in SEQUENTIAL else ():
            coded[component] = coded.get(component, 0) | (1 << last + 1) - (1 << first)
    return all(coefficients & ALL_COEFFICIENTS == ALL_COEFFICIENTS for coefficients in coded.values())


def _scans(data: bytearray, head: Head, scan_at: int) -> Iterator[bytes]:
    """The content of each scan header (B.2.3). The data of a scan never contains 0xFF and the code of a marker."""
    end = data.find(EOI, scan_at)
    at = scan_at - len(head.segments[-1])
    for _ in range(MAX_SCANS):
        content = bytes(data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")])
        if content and len(content) == 4 + 2 * content[0]:
            yield content
        at = data.find(SCAN, at + 2, end)
        if at < 0:
            return
    raise BrokenImage("the source has too many scans")


def _read_head(file: BinaryIO) -> Head:
    head = Head()
    file.seek(2)
    for _ in range(MAX_SEGMENTS):
        marker = _marker(file)
        if marker in ALONE:
            head.segments.append(bytes((0xFF, marker)))
            continue
        segment = _segment(file, marker)
        if marker == SOS:
            head.segments.append(_scan_header(segment, head))
            head.scan_at = file.tell()
            _correct_adobe(head)
            return head
        _add(head, marker, segment)
    raise BrokenImage("the source has too many segments")


def _marker(file: BinaryIO) -> int:
    """The next marker; bytes before it are skipped, as decoders do."""
    for _ in range(MAX_GARBAGE_BYTES):
        byte = file.read(1)
        if byte == b"\xff":
            while byte == b"\xff":
                byte = file.read(1)
            if byte == EOI[1:]:
                break
            if byte != b"\0" and byte:
                return byte[0]
        if not byte:
            break
    raise BrokenImage("the source is truncated")


def _segment(file: BinaryIO, marker: int) -> bytes:
    """The segment with its marker and length."""
    length = file.read(2)
    content = file.read(max(0, int.from_bytes(length, "big") - 2))
    if len(length) + len(content) != max(2, int.from_bytes(length, "big")):
        raise BrokenImage("the source is truncated")
    return bytes((0xFF, marker)) + length + content


def _add(head: Head, marker: int, segment: bytes) -> None:
    if marker in SOF and len(segment) > 9:
        head.sof, head.component_ids = marker, segment[10::3]
    if APP0 <= marker <= APP15 or marker == COM:
        segment = _metadata(head, marker, segment)
    if segment:
        head.segments.append(segment)


def _metadata(head: Head, marker: int, segment: bytes) -> bytes:
    """The segment within bounds; b"" if it is dropped."""
    content = segment[4:]
    if marker == APP0 and content[:5] == b"JFIF\0" and len(content) >= 14 and head.is_new("jfif"):
        # The version is that of JFIF 1.01, and there is no thumbnail: the decoder warns of other versions.
        return b"\xff\xe0\x00\x10JFIF\0\x01\x01" + content[7:12] + b"\0\0"
    if marker == APP14 and content[:5] == b"Adobe" and len(content) >= 12:
        head.adobe = len(head.segments)
        return b"\xff\xee\x00\x0e" + content[:12]
    if marker == APP1 and content[:4] == b"Exif":
        block = exif.bounded(content) if head.is_new("exif") else b""
        return struct.pack(">BBH", 0xFF, APP1, len(block) + 2) + block if block else b""
    if marker == APP2 and content[:12] == b"ICC_PROFILE\0":
        head.profile_bytes += len(segment)
        return segment if head.profile_bytes <= MAX_PROFILE_BYTES else b""
    return segment if _is_kept(head, marker, content) else b""


def _is_kept(head: Head, marker: int, content: bytes) -> bool:
    """Whether the segment holds XMP, IPTC or a comment, and the bounds allow it."""
    xmp = marker == APP1 and content[:4] == b"http" and head.is_new("xmp")
    iptc = marker == APP13 and content[:5] == b"Photo" and head.is_new("iptc")
    comment = marker == COM and head.is_new("comment", MAX_COMMENTS)
    head.metadata_bytes += len(content) if xmp or iptc or comment else 0
    return (xmp or iptc or comment) and head.metadata_bytes <= MAX_METADATA_BYTES


def _scan_header(segment: bytes, head: Head) -> bytes:
    """The header of the first scan. Some encoders write odd spectral limits into sequential files; decoders ignore
    them with a warning."""
    return segment[:-3] + b"\x00\x3f\x00" if head.sof in SEQUENTIAL and len(segment) >= 10 else segment


def _correct_adobe(head: Head) -> None:
    """Replaces an unknown color transform by the one that decoders assume, after a warning."""
    known = ADOBE_TRANSFORMS.get(len(head.component_ids))
    if head.adobe is not None and known is not None:
        segment = head.segments[head.adobe]
        if segment[-1] not in (0, known):
            head.segments[head.adobe] = segment[:-1] + bytes((known,))
