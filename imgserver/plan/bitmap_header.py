"""The headers of BMP and ICO files: sizes and layouts, from the bytes. Nothing is decoded here."""

import struct
from dataclasses import dataclass

BMP_MAGIC = b"BM"
ICO_MAGIC = b"\0\0\1\0"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Sizes of the known headers: OS/2 1 and 2, Windows 3, two of Adobe, Windows 4 and 5.
CORE_HEADER = 12
HEADERS = frozenset({CORE_HEADER, 40, 52, 56, 64, 108, 124})
FILE_HEADER_BYTES = 14
ICO_ENTRY = struct.Struct("<BBBBHHII")
MAX_ICO_ENTRIES = 256
BITFIELDS = (3, 6)


@dataclass(frozen=True, slots=True)
class DibHeader:
    """The header of a device-independent bitmap: of a BMP, or of an image in an ICO, which has twice the height.

    `compression`: 0 none, 1 and 2 RLE, 3 and 6 bit fields. `masks` are those of red, green, blue and alpha, for bit
    fields only. `palette_bytes` follow the header.
    """

    bytes: int
    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, int, int, int]
    palette_bytes: int

    @property
    def stride(self) -> int:
        """Bytes of one row without compression."""
        return (self.width * self.bits + 31) // 32 * 4


@dataclass(frozen=True, slots=True)
class IcoEntry:
    """One image of an ICO: its bytes in the file, its real size, and the bits of a pixel."""

    offset: int
    length: int
    width: int
    height: int
    bits: int


def read_dib(data: bytes, at: int) -> DibHeader:
    """The header at this offset. Raises ValueError and struct.error if there is none."""
    (size,) = struct.unpack_from("<I", data, at)
    if size not in HEADERS:
        raise ValueError(f"a header of {size} bytes")
    if size == CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, at + 4)
        return DibHeader(size, width, height, False, bits, 0, (0, 0, 0, 0), 3 << bits if bits <= 8 else 0)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, at + 4)
    (colors,) = struct.unpack_from("<I", data, at + 32)
    masks = _masks(data, at, size, compression) if compression in BITFIELDS else (0, 0, 0, 0)
    palette = 4 * (colors or (1 << bits if bits <= 8 else 0))
    return DibHeader(size, width, abs(height), height < 0, bits, compression, masks, palette)


def _masks(data: bytes, at: int, size: int, compression: int) -> tuple[int, int, int, int]:
    """A header of 40 bytes is followed by three masks (four with compression 6); longer headers contain them."""
    has_alpha = size >= 56 or (size == 40 and compression == 6)
    red, green, blue, *alpha = struct.unpack_from("<IIII" if has_alpha else "<III", data, at + 40)
    return red, green, blue, alpha[0] if alpha else 0


def read_bmp(data: bytes) -> DibHeader:
    """Raises ValueError and struct.error for anything but a BMP."""
    if not data.startswith(BMP_MAGIC):
        raise ValueError("not a BMP")
    return read_dib(data, FILE_HEADER_BYTES)


def read_ico(data: bytes) -> list[IcoEntry]:
    """The images of an ICO whose headers are in `data`. Raises ValueError and struct.error for anything but an ICO."""
    magic, count = struct.unpack_from("<4sH", data)
    if magic != ICO_MAGIC or not 0 < count <= MAX_ICO_ENTRIES:
        raise ValueError("not an ICO")
    entries = [ICO_ENTRY.unpack_from(data, 6 + ICO_ENTRY.size * number) for number in range(count)]
    return [found for entry in entries if (found := _entry(data, *entry))]


def _entry(
    data: bytes,
    width: int,
    height: int,
    _colors: int,
    _reserved: int,
    _planes: int,
    bits: int,
    length: int,
    offset: int,
) -> IcoEntry | None:
    """The entry with the size in its own header, which counts; the directory cannot name one above 256 pixels. None
    for an entry that is no image."""
    try:
        if data.startswith(PNG_MAGIC, offset):
            width, height = struct.unpack_from(">II", data, offset + 16)
            return IcoEntry(offset, length, width, height, 32)
        if offset >= len(data):
            return IcoEntry(offset, length, width or 256, height or 256, bits)
        dib = read_dib(data, offset)
    except (struct.error, ValueError):
        return None
    return IcoEntry(offset, length, dib.width, dib.height // 2, dib.bits)


def largest(entries: list[IcoEntry]) -> IcoEntry:
    """The image with most pixels; of equal ones, the one with most colors. Raises ValueError without any."""
    return max(entries, key=lambda entry: (entry.width * entry.height, entry.bits))


def is_bmp(head: bytes) -> bool:
    """Whether a file begins as a BMP does. Its two letters are not enough, because a text may begin with them: the size
    of the header that follows must be a known one."""
    try:
        return bool(read_bmp(head))
    except (ValueError, struct.error):
        return False


def is_ico(head: bytes) -> bool:
    """Whether a file begins as an ICO does."""
    try:
        return head.startswith(ICO_MAGIC) and bool(read_ico(head))
    except (ValueError, struct.error):
        return False
