"""ICC profiles for colors that a file describes by numbers (ICC.1:2001-04): code points of ITU-T H.273, or a gamma."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

Point = tuple[float, float]
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Chromaticities:
    """The primaries and the white of a color space, as x and y of CIE 1931."""

    red: Point
    green: Point
    blue: Point
    white: Point


D65, DCI_WHITE, ILLUMINANT_C = (0.3127, 0.3290), (0.314, 0.351), (0.310, 0.316)
BT709 = Chromaticities((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
# By the number of ColourPrimaries (H.273, table 2).
PRIMARIES = {
    1: BT709,
    4: Chromaticities((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), ILLUMINANT_C),
    5: Chromaticities((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: Chromaticities((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), D65),
    7: Chromaticities((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), D65),
    9: Chromaticities((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), D65),
    11: Chromaticities((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), DCI_WHITE),
    12: Chromaticities((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), D65),
}
# The white of the profile connection space, D50, and the Bradford matrix for the adaptation to it.
D50 = (0.9642, 1.0, 0.8249)
BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
# Luminance of white in SDR (ITU-R BT.2408), and the peak for which HDR images are made, in cd/m².
SDR_WHITE, HDR_PEAK = 203.0, 1000.0
CURVE_POINTS = 4096


def _srgb(code: float) -> float:
    return code / 12.92 if code <= 0.04045 else ((code + 0.055) / 1.055) ** 2.4


def _pq(code: float) -> float:
    """SMPTE ST 2084: light relative to the white of SDR, mapped to at most 1."""
    power = code ** (1 / 78.84375)
    light = max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return _tone_mapped(10_000 / SDR_WHITE * light ** (1 / 0.1593017578125))


def _hlg(code: float) -> float:
    """ITU-R BT.2100 with a system gamma of 1.2, which is applied to each channel alone."""
    scene = code * code / 3 if code <= 0.5 else (2.718281828 ** ((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return _tone_mapped(HDR_PEAK / SDR_WHITE * scene**1.2)


def _tone_mapped(light: float) -> float:
    """Light from 0 to HDR_PEAK, compressed to 0-1 (the extended curve of Reinhard, as in browsers)."""
    peak = HDR_PEAK / SDR_WHITE
    light = min(light, peak)
    return light * (1 + light / (peak * peak)) / (1 + light)


Curve = Callable[[float], float]
# By the number of TransferCharacteristics (H.273, table 3). Browsers show 1, 6, 14 and 15 (BT.709 and its copies) like
# sRGB.
TRANSFERS: dict[int, Curve] = {
    1: _srgb,
    4: lambda code: code**2.2,
    5: lambda code: code**2.8,
    6: _srgb,
    8: lambda code: code,
    13: _srgb,
    14: _srgb,
    15: _srgb,
    16: _pq,
    17: lambda code: code**2.6,
    18: _hlg,
}


@lru_cache(maxsize=64)
def from_code_points(primaries: int, transfer: int, *, gray: bool) -> bytes | None:
    """The profile for code points of H.273; b"" for sRGB, None if a number is not known."""
    points, curve = PRIMARIES.get(primaries), TRANSFERS.get(transfer)
    if points is None or curve is None:
        return None
    if curve is _srgb and (gray or points is BT709):
        return b""
    return _profile(points, curve, gray=gray)


@lru_cache(maxsize=64)
def from_gamma(gamma: float, points: Chromaticities, *, gray: bool) -> bytes:
    """The profile for a gamma as in the gAMA chunk of PNG: the exponent from light to code values.

    Returns b"" if the numbers describe no color space.
    """
    if not 0.1 <= gamma <= 10:
        return b""
    try:
        return _profile(points, lambda code: code ** (1 / gamma), gray=gray)
    except (ArithmeticError, ValueError, struct.error):
        return b""


def is_near(one: Chromaticities, other: Chromaticities, tolerance: float) -> bool:
    pairs = zip(_points(one), _points(other), strict=True)
    return all(abs(a - b) <= tolerance for point, like in pairs for a, b in zip(point, like, strict=True))


def _points(points: Chromaticities) -> tuple[Point, ...]:
    return points.red, points.green, points.blue, points.white


def _profile(points: Chromaticities, curve: Curve, *, gray: bool) -> bytes:
    codes = (round(65535 * min(1.0, curve(index / (CURVE_POINTS - 1)))) for index in range(CURVE_POINTS))
    table = struct.pack(">4s4xI", b"curv", CURVE_POINTS) + struct.pack(f">{CURVE_POINTS}H", *codes)
    description = b"colors of the file\0"
    tags = {b"wtpt": _xyz(D50), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    tags[b"desc"] = struct.pack(">4s4xI", b"desc", len(description)) + description + bytes(78 + 1)
    if gray:
        tags[b"kTRC"] = table
    else:
        columns = zip(*_to_d50(points), strict=True)
        tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), table)
    return _file(tags, b"GRAY" if gray else b"RGB ")


def _xyz(values: tuple[float, ...]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in values))


def _file(tags: dict[bytes, bytes], space: bytes) -> bytes:
    """A profile of version 2 for a display; equal contents are written once."""
    at = 128 + 4 + 12 * len(tags)
    rows, contents, places = [], b"", dict[bytes, int]()
    for name, content in tags.items():
        if content not in places:
            places[content] = at + len(contents)
            contents += content + bytes(-len(content) % 4)
        rows.append(struct.pack(">4sII", name, places[content], len(content)))
    size = at + len(contents)
    head = struct.pack(">I4xI4s4s4s", size, 0x02400000, b"mntr", space, b"XYZ ") + struct.pack(
        ">6H4s28x", 2024, 1, 1, 0, 0, 0, b"acsp"
    )
    light = struct.pack(">3i", *(round(value * 65536) for value in D50))
    head = (head + light).ljust(128, b"\0")
    return head + struct.pack(">I", len(tags)) + b"".join(rows) + contents


def _to_d50(points: Chromaticities) -> Matrix:
    """The matrix from linear RGB to XYZ, adapted to D50."""
    primaries = _transposed(tuple(_xyz_of(point) for point in (points.red, points.green, points.blue)))
    white = _xyz_of(points.white)
    scale = _applied(_inverse(primaries), white)
    to_xyz = tuple((row[0] * scale[0], row[1] * scale[1], row[2] * scale[2]) for row in primaries)
    source, target = _applied(BRADFORD, white), _applied(BRADFORD, D50)
    gains = tuple(tuple(target[i] / source[i] if i == j else 0.0 for j in range(3)) for i in range(3))
    adapt = _product(_inverse(BRADFORD), _product(gains, BRADFORD))
    return _product(adapt, to_xyz)


def _xyz_of(point: Point) -> tuple[float, float, float]:
    """The color of luminance 1 with this chromaticity."""
    x, y = point
    return x / y, 1.0, (1 - x - y) / y


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _applied(matrix: Matrix, vector: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _product(one: Matrix, other: Matrix) -> Matrix:
    columns = _transposed(other)
    return tuple(tuple(sum(a * b for a, b in zip(row, column, strict=True)) for column in columns) for row in one)


def _inverse(m: Matrix) -> Matrix:
    """By cofactors. Raises ZeroDivisionError."""
    cofactors = tuple(
        tuple(
            m[(j + 1) % 3][(i + 1) % 3] * m[(j + 2) % 3][(i + 2) % 3]
            - m[(j + 1) % 3][(i + 2) % 3] * m[(j + 2) % 3][(i + 1) % 3]
            for j in range(3)
        )
        for i in range(3)
    )
    determinant = sum(m[0][k] * cofactors[k][0] for k in range(3))
    return tuple(tuple(value / determinant for value in row) for row in cofactors)
