"""Decompression bombs, made in code: small files that would be large or slow to decode."""

import io
import struct
import zlib
from base64 import b85decode
from collections.abc import Iterable

from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def png(
    width: int, height: int, *chunks: tuple[bytes, bytes], bits: int = 8, kind: int = 2, interlaced: bool = False
) -> bytes:
    """A PNG with this IHDR and these chunks after it."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    return PNG_MAGIC + b"".join(_chunk(name, data) for name, data in [(b"IHDR", header), *chunks])


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def wide_interlaced_png() -> bytes:
    """1,000,000 × 24, 16-bit RGBA, interlaced; cut after the first 8 bytes of an IDAT."""
    head = png(1_000_000, 24, bits=16, kind=6, interlaced=True)
    return head + struct.pack(">I", 1000) + b"IDAT"


def tall_empty_png() -> bytes:
    return png(1, 1_000_000, (b"IDAT", zlib.compress(b"")), (b"IEND", b""))


def zeros_png() -> bytes:
    """20,000 × 20,000 of one bit."""
    rows = zlib.compressobj(9)
    row = bytes(1 + 20_000 // 8)
    data = b"".join(rows.compress(row * 1000) for _ in range(20)) + rows.flush()
    return png(20_000, 20_000, (b"IDAT", data), (b"IEND", b""), bits=1, kind=0)


def interlaced_png(side: int) -> bytes:
    """A complete square RGBA image of zeros, interlaced: a decoder must hold all of it."""
    rows = zlib.compressobj(9)
    # Adam7: the seven passes' offsets and steps.
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    data = b""
    for x, y, across, down in passes:
        wide, high = (side - x + across - 1) // across, (side - y + down - 1) // down
        row = bytes(1 + 4 * wide) if wide > 0 else b""
        data += b"".join(rows.compress(row) for _ in range(high))
    return png(side, side, (b"IDAT", data + rows.flush()), (b"IEND", b""), kind=6, interlaced=True)


def text_png() -> bytes:
    """1 × 1 with 60 MB of compressed text."""
    text = b"Comment\0\0" + zlib.compress(b"planted-word" * 5_000_000, 9)
    return png(1, 1, (b"zTXt", text), (b"IDAT", zlib.compress(bytes(4))), (b"IEND", b""))


def patched_jpeg() -> bytes:
    """An image of 16 × 16 whose frame header declares 65,500 × 65,500."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    struct.pack_into(">HH", data, at, 65_500, 65_500)
    return bytes(data)


def many_frames_gif(frames: int = 5_000) -> bytes:
    """A canvas of 1,000 × 1,000 and frames of one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1000, 1000, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    control = b"\x21\xf9\x04\x04\x02\x00\x00\x00"
    frame = control + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0" + frame * frames + b";"


# 16,383 × 16,383 of black, coded in full.
_BLACK_AVIF = (
    "c-muNV30{GsVqn=%S>Ycg51nBLl8SRGZDnUmYZ6V$N&L~87VnMP&PwBW^xGw8c@p2$xj9`TpSn}fe-|KL1_l=yFfxYGcylt4OmnZ$Vp{_@)F"
    "Ao3_(o3g3OX!xRS8Uf}#Q-ZIM}!oDZaV63Yyo8|8UG@*<hV1*s6j?f*kCgFr!MMJ7munS+A^NQq?@<igw!bP{tT6En~$PjgceON1D>xaGgs|"
    "NH-Q5t9@zhtX+q38BD;4?7Z{&#PQ8fq^0F{25oJeasz~TK`BYuyr~bE#H+oXUhbI^;->()~o(%JAQh8^3G)!wkvfsU4A@wWo6uD_I<1wY;Kq"
    "D?#e4}?0n}gI(v@(F{2+obBlT$PlcxZ)7~f0cIfAUtE(S9i8+5JC~o4Mh_&1GETx67xv7?09^b^ba`S?w>i>s6eR*KX*~0ua@W89Zelh{?j`"
    "lFhEt%nzeBo~L-seYGO#k&{x#2?29TLBD&ZK^rY4ud1dCIDjf5K}Nd0Rg>t`0wXV$}3e(??AoHGS0dQPW3FA2of{^ik6XpXoF;9005njY$"
)


def black_avif() -> bytes:
    return zlib.decompress(b85decode(_BLACK_AVIF))


SVG_HUGE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="10000000" height="10000000"><rect width="9" height="9"/></svg>'
)
SVG_NESTED = (
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink"'
    b' width="99" height="99"><defs><g id="a0"><rect width="9" height="9"/></g>'
    + b"".join(b'<g id="a%d">%s</g>' % (n + 1, b'<use x:href="#a%d"/>' % n * 10) for n in range(9))
    + b'</defs><use x:href="#a9"/></svg>'
)

# The cost of an SVG filter does not depend on the size of the image.
SVG_FILTER = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="3000" height="3000">'
    b'<filter id="f" x="0" y="0" width="1" height="1">'
    b'<feTurbulence baseFrequency="0.9" numOctaves="9"/><feGaussianBlur stdDeviation="90"/>'
    b'<feTurbulence baseFrequency="0.7" numOctaves="9"/><feMorphology radius="40"/></filter>'
    b'<rect width="3000" height="3000" filter="url(#f)"/></svg>'
)

# Files of formats whose loaders must stay blocked. The tests name all of them .jpg.
STRANGERS: dict[str, bytes] = {
    "empty text": b"this is not an image\n" * 9,
    "mvg": b"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 'label:@x'\npop graphic-context\n",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "pdf": b"%PDF-1.7\n1 0 obj<<>>endobj\n%%EOF\n",
    "psd": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 9, 9, 8, 3) + bytes(99),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM",
    "vips": b"\xb6\xa6\xf2\x08" + bytes(60),
    "csv": b"1,2,3\n4,5,6\n",
    "netpbm": b"P6\n2 2\n255\n" + bytes(12),
    "bmp": b"BM" + bytes(60),
    "svg": SVG_HUGE,
    "svg after xml": SVG_NESTED,
}


def refused() -> Iterable[tuple[str, bytes, str]]:
    """The name, the bytes, and the limit that refuses the file."""
    yield "wide interlaced png", wide_interlaced_png(), "source side"
    yield "tall empty png", tall_empty_png(), "source side"
    yield "20000 x 20000 png of one bit", zeros_png(), "source side"
    yield "patched jpeg", patched_jpeg(), "source side"
    yield "black avif", black_avif(), "source pixels"
    yield "gif of 5000 frames", many_frames_gif(), "frames"
    yield "gif of 150 million-pixel frames", many_frames_gif(150), "source pixels"
