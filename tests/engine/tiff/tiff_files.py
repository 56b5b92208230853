"""TIFFs that are written byte by byte (TIFF 6.0): any combination of samples, planes, strips and tiles."""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
CODES = {SHORT: "H", LONG: "I", LONG8: "Q"}
NONE, DEFLATE = 1, 8
BLACK_IS_WHITE, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8

# The samples of the pixel (x, y).
Paint = Callable[[int, int], Sequence[float]]
Fields = Mapping[int, tuple[int, Sequence[int]]]


@dataclass(frozen=True)
class Tiff:
    """`bits` are of one sample; `kind` is "I" for unsigned samples, "i" for signed and "f" for floating point ones.

    `extra` are the values of ExtraSamples. `fields` are further fields, type and values by tag, or replacements.
    """

    paint: Paint
    samples: int = 3
    width: int = 64
    height: int = 48
    bits: int = 8
    kind: str = "I"
    photometric: int = RGB
    compression: int = NONE
    predictor: int = 1
    planar: bool = False
    rows_per_strip: int = 20
    tile: int = 0
    order: str = "<"
    big: bool = False
    extra: tuple[int, ...] = ()
    fields: Fields = field(default_factory=dict)

    def bytes(self) -> bytes:
        return pages(self)

    def parts(self) -> list[bytes]:
        """The strips or tiles, in the order of the file: plane by plane."""
        planes = [[plane] for plane in range(self.samples)] if self.planar else [list(range(self.samples))]
        return [self._part(box, plane) for plane in planes for box in self._boxes()]

    def _boxes(self) -> list[tuple[int, int, int, int]]:
        if self.tile:
            side = self.tile
            return [(x, y, side, side) for y in range(0, self.height, side) for x in range(0, self.width, side)]
        rows = self.rows_per_strip
        return [(0, y, self.width, min(rows, self.height - y)) for y in range(0, self.height, rows)]

    def _part(self, box: tuple[int, int, int, int], plane: list[int]) -> bytes:
        left, top, width, height = box
        rows = [
            [
                [self.paint(min(x, self.width - 1), min(y, self.height - 1))[sample] for sample in plane]
                for x in range(left, left + width)
            ]
            for y in range(top, top + height)
        ]
        data = b"".join(self._packed(self._differences(row)) for row in rows)
        return zlib.compress(data) if self.compression == DEFLATE else data

    def _differences(self, row: list[list[float]]) -> list[float]:
        """The samples of a row, with the horizontal predictor if it is on (section 14)."""
        if self.predictor != 2:
            return [value for pixel in row for value in pixel]
        before, out = [0.0] * len(row[0]), []
        for pixel in row:
            out += [(int(a) - int(b)) % (1 << self.bits) for a, b in zip(pixel, before, strict=True)]
            before = pixel
        return out

    def _packed(self, row: list[float]) -> bytes:
        if self.kind == "f":
            return struct.pack(f"{self.order}{len(row)}{ {16: 'e', 32: 'f', 64: 'd'}[self.bits] }", *row)
        if self.bits in (8, 16, 32):
            code = {8: "b", 16: "h", 32: "i"}[self.bits]
            code = code if self.kind == "i" else code.upper()
            return struct.pack(f"{self.order}{len(row)}{code}", *map(int, row))
        text = "".join(f"{int(value):0{self.bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")

    def all_fields(self, places: Sequence[int], lengths: Sequence[int]) -> dict[int, tuple[int, Sequence[int]]]:
        rows: dict[int, tuple[int, Sequence[int]]] = {
            256: (SHORT, [self.width]),
            257: (SHORT, [self.height]),
            258: (SHORT, [self.bits] * self.samples),
            259: (SHORT, [self.compression]),
            262: (SHORT, [self.photometric]),
            277: (SHORT, [self.samples]),
            284: (SHORT, [2 if self.planar else 1]),
            339: (SHORT, [{"I": 1, "i": 2, "f": 3}[self.kind]] * self.samples),
        }
        if self.predictor != 1:
            rows[317] = (SHORT, [self.predictor])
        if self.extra:
            rows[338] = (SHORT, self.extra)
        if self.tile:
            rows |= {322: (SHORT, [self.tile]), 323: (SHORT, [self.tile]), 324: (LONG, places), 325: (LONG, lengths)}
        else:
            rows |= {273: (LONG, places), 278: (LONG, [self.rows_per_strip]), 279: (LONG, lengths)}
        return {tag: row for tag, row in (rows | dict(self.fields)).items() if row[1]}


def pages(*images: Tiff) -> bytes:
    """A file with one directory for each image; the pixels of an image precede its directory."""
    first = images[0]
    order, big = first.order, first.big
    mark = b"II" if order == "<" else b"MM"
    file = bytearray(mark + (struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)))
    link = 8 if big else 4
    for image in images:
        places, lengths = [], []
        for part in image.parts():
            places.append(len(file))
            lengths.append(len(part))
            file += part + bytes(len(part) & 1)
        struct.pack_into(order + ("Q" if big else "I"), file, link, len(file))
        link = _append_directory(file, image.all_fields(places, lengths), order, big=big)
    return bytes(file)


def _append_directory(file: bytearray, fields: Fields, order: str, *, big: bool) -> int:
    """Returns the offset of the link to the next directory."""
    number, room, row = ("Q", 8, 20) if big else ("I", 4, 12)
    rows, values = b"", b""
    after = len(file) + (8 if big else 2) + row * len(fields) + room
    for tag, (kind, content) in sorted(fields.items()):
        data = struct.pack(f"{order}{len(content)}{CODES.get(kind, 'I')}", *content)
        inside = data.ljust(room, b"\0")
        if len(data) > room:
            inside = struct.pack(order + number, after + len(values))
            values += data + bytes(len(data) & 1)
        count = len(content) // 2 if kind == RATIONAL else len(content)
        rows += struct.pack(order + "HH" + number, tag, kind, count) + inside
    file += struct.pack(order + ("Q" if big else "H"), len(fields)) + rows
    file += bytes(room) + values
    return after - room
