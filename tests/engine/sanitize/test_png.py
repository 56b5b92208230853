"""The colors of a PNG are those that its chunks describe, and its metadata is bounded."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from imgserver.engine.sanitize import png
from imgserver.errors import BrokenImage, UnsupportedImage
from imgserver.plan.plan import Fit, Px
from tests.engine.conftest import Renderer, saved

Color = tuple[int, ...]
RED: Color = (200, 30, 30)
# Chromaticities of white, red, green and blue, times 100,000.
SRGB_POINTS = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
P3_POINTS = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
# From linear Display P3 to linear sRGB, as CSS Color 4 gives it, and from linear BT.2020.
P3_TO_SRGB = ((1.2249402, -0.2249402, 0.0), (-0.0420570, 1.0420570, 0.0), (-0.0196376, -0.0786361, 1.0982736))
BT2020_TO_SRGB = (
    (1.6604910, -0.5876411, -0.0728499),
    (-0.1245505, 1.1328999, -0.0083494),
    (-0.0181508, -0.1005789, 1.1187297),
)
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunks(image: Image.Image, *chunks: bytes) -> bytes:
    """A PNG with `chunks` after its header."""
    data = saved(image, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def flat(color: Color = RED) -> Image.Image:
    return Image.new("RGB", (40, 30), color)


def cicp(primaries: int, transfer: int, matrix: int = 0, full_range: int = 1) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, matrix, full_range)))


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def profile(name: str = "sRGB") -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()
    return chunk(b"iCCP", b"a\0\0" + zlib.compress(data))


def to_light(code: float) -> float:
    return code / 12.92 if code <= 0.04045 else float(((code + 0.055) / 1.055) ** 2.4)


def to_code(light: float) -> int:
    light = min(1.0, max(0.0, light))
    return round(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


def expected(color: Color, matrix: tuple[tuple[float, ...], ...], exponent: float | None = None) -> Color:
    """The color in sRGB. Its light is the code to the power of `exponent`; by default that of sRGB."""
    light = [(code / 255) ** exponent if exponent else to_light(code / 255) for code in color]
    return tuple(to_code(sum(a * b for a, b in zip(row, light, strict=True))) for row in matrix)


def shown(draw: Renderer, data: bytes, **output: object) -> Color:
    pixel = draw.image(data, Fit(Px(20)), **output).getpixel((9, 9))
    assert isinstance(pixel, tuple)
    return pixel


def is_near(one: Color, other: Color, tolerance: int = 2) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("color", [(200, 30, 30), (40, 180, 90), (30, 60, 160), (128, 128, 128)])
@pytest.mark.parametrize(
    ("chunks", "matrix", "exponent"),
    [
        ([cicp(12, 13)], P3_TO_SRGB, None),
        ([cicp(12, 1)], P3_TO_SRGB, None),
        ([cicp(9, 13)], BT2020_TO_SRGB, None),
        ([cicp(1, 13)], IDENTITY, None),
        ([cicp(1, 8)], IDENTITY, 1.0),
        ([cicp(1, 4)], IDENTITY, 2.2),
        ([gamma(1.0)], IDENTITY, 1.0),
        ([gamma(0.55), chunk(b"cHRM", SRGB_POINTS)], IDENTITY, 1 / 0.55),
        ([gamma(0.45455), chunk(b"cHRM", P3_POINTS)], P3_TO_SRGB, 2.2),
        ([gamma(0.45455), chunk(b"cHRM", SRGB_POINTS)], IDENTITY, None),
        ([gamma(0.45455)], IDENTITY, None),
        ([chunk(b"cHRM", P3_POINTS)], IDENTITY, None),
    ],
)
def test_described_colors_become_srgb(
    draw: Renderer, chunks: list[bytes], matrix: tuple[tuple[float, ...], ...], exponent: float | None, color: Color
) -> None:
    result = shown(draw, with_chunks(flat(color), *chunks))

    assert is_near(result, expected(color, matrix, exponent)), result


@pytest.mark.parametrize(
    ("chunks", "matrix"),
    [
        ([cicp(12, 13), profile(), chunk(b"sRGB", b"\0"), gamma(1.0)], P3_TO_SRGB),
        ([profile(), cicp(12, 13)], P3_TO_SRGB),
        ([profile(), gamma(1.0), chunk(b"cHRM", P3_POINTS)], IDENTITY),
        ([chunk(b"sRGB", b"\0"), gamma(1.0), chunk(b"cHRM", P3_POINTS)], IDENTITY),
        ([cicp(12, 13, matrix=1), gamma(0.45455)], IDENTITY),
        ([cicp(12, 13, full_range=0)], IDENTITY),
        ([cicp(2, 2)], IDENTITY),
        ([cicp(77, 13), profile()], IDENTITY),
        ([gamma(0.0)], IDENTITY),
        ([gamma(1.0 / 2.2), chunk(b"cHRM", bytes(32))], IDENTITY),
        ([gamma(1.0), chunk(b"cHRM", b"\xff" * 28 + b"\0\0\0\1")], IDENTITY),
        ([chunk(b"cICP", b"\x0c"), chunk(b"gAMA", b"\0")], IDENTITY),
    ],
)
def test_cicp_wins_over_the_profile_then_srgb_then_gamma(
    draw: Renderer, chunks: list[bytes], matrix: tuple[tuple[float, ...], ...]
) -> None:
    assert is_near(shown(draw, with_chunks(flat(), *chunks)), expected(RED, matrix))


def test_cicp_for_srgb_replaces_a_profile(draw: Renderer) -> None:
    wide = chunk(b"iCCP", b"a\0\0" + zlib.compress(png.icc.from_code_points(12, 13, gray=False) or b""))

    assert is_near(shown(draw, with_chunks(flat(), wide)), expected(RED, P3_TO_SRGB))
    assert shown(draw, with_chunks(flat(), wide, cicp(1, 13))) == RED


def test_alpha_and_palette_are_unaffected(draw: Renderer) -> None:
    image = flat().convert("RGBA")
    image.putalpha(99)

    unscaled = draw.image(with_chunks(image, cicp(12, 13))).getpixel((9, 9))
    assert is_near(unscaled, (*expected(RED, P3_TO_SRGB), 99))  # type: ignore[arg-type]
    palette = flat().quantize(8)
    assert is_near(shown(draw, with_chunks(palette, cicp(12, 13)))[:3], expected(RED, P3_TO_SRGB))


def test_a_linear_gray_image_is_brightened(draw: Renderer) -> None:
    image = draw.image(with_chunks(Image.new("L", (40, 30), 128), gamma(1.0)), Fit(Px(20))).convert("L")

    assert abs(int(image.getpixel((9, 9))) - to_code(128 / 255)) <= 2  # type: ignore[arg-type]


@pytest.mark.parametrize("transfer", [16, 18])
def test_an_hdr_ramp_stays_in_order_and_uses_the_whole_range(draw: Renderer, transfer: int) -> None:
    ramp = Image.linear_gradient("L").rotate(90).convert("RGB")

    row = draw.image(with_chunks(ramp, cicp(9, transfer))).convert("L").crop((0, 99, 256, 100)).tobytes()

    levels = row if row[0] < row[-1] else row[::-1]
    assert list(levels) == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 255)
    assert len(set(levels)) > 60


def test_the_white_of_sdr_in_pq_is_bright_and_not_clipped(draw: Renderer) -> None:
    """148 of 255 is 203 cd/m²: 0.52 of the light of white after tone mapping."""
    assert is_near(shown(draw, with_chunks(flat((148, 148, 148)), cicp(9, 16))), (190, 190, 190), 4)


def test_a_kept_profile_describes_the_unchanged_values(draw: Renderer) -> None:
    image = draw.image(with_chunks(flat(), cicp(12, 13)), Fit(Px(20)), profile="keep")

    assert image.getpixel((9, 9)) == RED
    source = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    assert converted is not None
    assert is_near(converted.getpixel((9, 9)), expected(RED, P3_TO_SRGB))  # type: ignore[arg-type]


def test_a_file_that_needs_no_change_is_not_copied() -> None:
    for chunks in (
        [],
        [profile()],
        [chunk(b"sRGB", b"\0")],
        [gamma(0.45455), chunk(b"cHRM", SRGB_POINTS)],
        [cicp(1, 13)],
    ):
        assert png.whole(BytesIO(with_chunks(flat(), *chunks))) is None


def test_large_text_and_unknown_chunks_are_cut_off(draw: Renderer) -> None:
    heavy = [chunk(b"tEXt", b"Comment\0" + bytes(900_000))] * 5 + [chunk(b"prVt", bytes(900_000))] * 5
    data = with_chunks(flat(), *heavy)

    assert len(png.header(BytesIO(data)) or data) < 1_100_000
    assert shown(draw, data) == RED


def test_endless_chunks_are_refused(draw: Renderer) -> None:
    with pytest.raises(BrokenImage):
        draw(with_chunks(flat(), *[chunk(b"prVt", b"")] * 5_000))


def test_an_unknown_critical_chunk_is_unsupported(draw: Renderer) -> None:
    with pytest.raises(UnsupportedImage):
        draw(with_chunks(flat(), chunk(b"CgBI", b"\x50\0\x20\2")))


@pytest.mark.parametrize("length", [8, 20, 33, 60, 70, 90])
def test_a_file_that_ends_in_its_header_is_broken(draw: Renderer, tmp_path: Path, length: int) -> None:
    with pytest.raises(BrokenImage):
        draw(with_chunks(flat(), profile(), gamma(1.0))[:length])
