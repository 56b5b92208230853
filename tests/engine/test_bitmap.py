"""BMP and ICO: files written here byte by byte, and by Pillow, against the pixels that they describe."""

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgserver.engine.describe import describe
from imgserver.engine.job import Limits
from imgserver.errors import BrokenImage, ImageOverLimit, ImgserverError, UnsupportedImage
from imgserver.plan.plan import Fit, Px
from tests.engine.conftest import Renderer, opened, saved

RGB = tuple[int, int, int]
RGBA = tuple[int, int, int, int]

# 3 pixels wide, so that rows are padded; 2 rows, so that the order of rows shows.
ROWS: list[list[RGB]] = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(255, 255, 255), (0, 0, 0), (255, 0, 0)]]
PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]


def padded(row: bytes) -> bytes:
    return row + bytes(-len(row) % 4)


def dib(
    bits: int,
    rows: list[bytes],
    *,
    width: int = 3,
    compression: int = 0,
    palette: list[RGB] | None = None,
    masks: tuple[int, ...] = (),
    header: int = 40,
    top_down: bool = False,
    pixels: bytes | None = None,
    twice: bool = False,
) -> tuple[bytes, bytes]:
    """Header with palette, and pixels. `twice`: the height of an icon, which has a mask."""
    height = len(rows) * (2 if twice else 1)
    data = b"".join(map(padded, rows if top_down else reversed(rows))) if pixels is None else pixels
    colors = palette or []
    if header == 12:
        start = struct.pack("<IHHHH", 12, width, height, 1, bits)
        return start + b"".join(bytes((blue, green, red)) for red, green, blue in colors), data
    sides = (width, -height if top_down else height)
    start = struct.pack("<IiiHHIIiiII", header, *sides, 1, bits, compression, len(data), 0, 0, len(colors), 0)
    start += struct.pack(f"<{len(masks)}I", *masks)
    start += bytes(max(0, header - len(start)))
    return start + b"".join(bytes((blue, green, red, 0)) for red, green, blue in colors), data


def bmp(*arguments: object, **options: object) -> bytes:
    start, data = dib(*arguments, **options)  # type: ignore[arg-type]
    return b"BM" + struct.pack("<IHHI", 14 + len(start) + len(data), 0, 0, 14 + len(start)) + start + data


def indices(bits: int) -> list[bytes]:
    """The rows as indices of PALETTE, packed from the high bits on."""
    packed = []
    for row in ROWS:
        number = 0
        for color in row:
            number = number << bits | PALETTE.index(color)
        length = -(-3 * bits // 8)
        packed.append((number << (8 * length - 3 * bits)).to_bytes(length, "big"))
    return packed


def bgr(*, extra: bytes = b"") -> list[bytes]:
    return [b"".join(bytes((blue, green, red)) + extra for red, green, blue in row) for row in ROWS]


def words(kind: str, masks: tuple[int, ...], alpha: int = 255) -> list[bytes]:
    """The rows as numbers whose bits under the masks are the colors."""

    def packed(color: RGB) -> int:
        number = 0
        for value, mask in zip((*color, alpha), masks, strict=False):
            if mask:
                shift = (mask & -mask).bit_length() - 1
                number |= round(value * (mask >> shift) / 255) << shift
        return number

    return [struct.pack(f"<3{kind}", *map(packed, row)) for row in ROWS]


RGB565, RGB555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)
ARGB4444, ARGB1555 = (0xF00, 0xF0, 0xF, 0xF000), (0x7C00, 0x3E0, 0x1F, 0x8000)
BGRX, RGBX, BGRA = (0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
RGB_OF_10_BITS = (0x3FF00000, 0xFFC00, 0x3FF)
BLACK_WHITE = [b"\x40", b"\xa0"]

BMPS = {
    "24 bits": bmp(24, bgr()),
    "24 bits, top-down": bmp(24, bgr(), top_down=True),
    "24 bits, OS/2": bmp(24, bgr(), header=12),
    "24 bits, version 5": bmp(24, bgr(), header=124),
    "32 bits without alpha": bmp(32, bgr(extra=b"\0")),
    "16 bits": bmp(16, words("H", RGB555)),
    "565": bmp(16, words("H", RGB565), compression=3, masks=RGB565),
    "555": bmp(16, words("H", RGB555), compression=3, masks=RGB555),
    "4444": bmp(16, words("H", ARGB4444), compression=3, masks=ARGB4444, header=56),
    "1555": bmp(16, words("H", ARGB1555), compression=6, masks=ARGB1555),
    "bgrx": bmp(32, words("I", BGRX), compression=3, masks=BGRX),
    "rgbx": bmp(32, words("I", RGBX), compression=3, masks=RGBX, header=52),
    "10 bits": bmp(32, words("I", RGB_OF_10_BITS), compression=3, masks=RGB_OF_10_BITS),
    "alpha 255": bmp(32, words("I", BGRA), compression=3, masks=BGRA, header=108),
    "alpha 0 everywhere": bmp(32, words("I", BGRA, 0), compression=3, masks=BGRA, header=124),
    "alpha, top-down": bmp(32, words("I", BGRA), compression=3, masks=BGRA, header=124, top_down=True),
    "8 bits": bmp(8, indices(8), palette=PALETTE),
    "8 bits, OS/2": bmp(8, indices(8), palette=PALETTE + [(9, 9, 9)] * 251, header=12),
    "8 bits, top-down": bmp(8, indices(8), palette=PALETTE, top_down=True),
    "4 bits": bmp(4, indices(4), palette=PALETTE),
    "8 bits, RLE": bmp(8, indices(8), palette=PALETTE, compression=1, pixels=b"\1\3\1\4\1\0\0\0\0\3\0\1\2\0\0\0\0\1"),
    "8 bits, RLE without an end": bmp(
        8, indices(8), palette=PALETTE, compression=1, pixels=b"\1\3\1\4\1\0\0\0\1\0\1\1\1\2"
    ),
    "4 bits, RLE": bmp(4, indices(4), palette=PALETTE, compression=2, pixels=b"\2\x34\1\x00\0\0\0\3\x01\x20\0\0\0\1"),
}


@pytest.mark.parametrize("name", BMPS)
def test_every_layout_of_a_bmp_is_decoded(draw: Renderer, name: str) -> None:
    image = draw.image(BMPS[name]).convert("RGBA")

    assert image.size == (3, 2)
    expected = [(*color, 255) for row in ROWS for color in row]
    assert [image.getpixel((x, y)) for y in range(2) for x in range(3)] == expected


def test_a_bmp_of_one_bit_is_decoded(draw: Renderer) -> None:
    plain = draw.image(bmp(1, BLACK_WHITE, palette=[(0, 0, 0), (255, 255, 255)])).convert("L")
    colored = draw.image(bmp(1, BLACK_WHITE, palette=[(0, 0, 255), (255, 0, 0)])).convert("RGB")

    assert list(plain.tobytes()) == [0, 255, 0, 255, 0, 255]
    assert [colored.getpixel((x, 0)) for x in range(3)] == [(0, 0, 255), (255, 0, 0), (0, 0, 255)]


def test_partial_alpha_of_a_bmp_is_kept(draw: Renderer) -> None:
    data = bmp(32, words("I", BGRA, 128), compression=3, masks=BGRA, header=124)

    assert draw.image(data).getpixel((0, 0)) == (255, 0, 0, 128)


def test_a_run_length_bitmap_that_ends_early_has_its_first_color_in_the_rest(draw: Renderer) -> None:
    data = bmp(8, indices(8), palette=PALETTE, compression=1, pixels=b"\1\3\0\1")

    image = draw.image(data).convert("RGB")

    assert [image.getpixel((x, y)) for x, y in ((0, 1), (1, 1), (0, 0))] == [(255, 255, 255), PALETTE[0], PALETTE[0]]


def icon(*images: tuple[int, int, int, bytes]) -> bytes:
    """An ICO with images: width and height in the directory, bits, bytes."""
    at = 6 + 16 * len(images)
    directory, body = struct.pack("<HHH", 0, 1, len(images)), b""
    for width, height, bits, data in images:
        directory += struct.pack("<BBBBHHII", width % 256, height % 256, 0, 0, 1, bits, len(data), at + len(body))
        body += data
    return directory + body


def icon_dib(bits: int, rows: list[bytes], mask: list[bytes], **options: object) -> bytes:
    start, data = dib(bits, rows, twice=True, **options)  # type: ignore[arg-type]
    return start + data + b"".join(map(padded, reversed(mask)))


OPAQUE = [b"\0", b"\0"]
# The second pixel of the first row is transparent.
HOLE = [b"\x40", b"\0"]


@pytest.mark.parametrize(
    ("data", "alpha"),
    [
        (icon_dib(24, bgr(), OPAQUE), 255),
        (icon_dib(24, bgr(), HOLE), 0),
        (icon_dib(8, indices(8), HOLE, palette=PALETTE), 0),
        (icon_dib(4, indices(4), HOLE, palette=PALETTE), 0),
        (icon_dib(32, bgr(extra=b"\xff"), HOLE), 255),
        (icon_dib(32, bgr(extra=b"\xff"), [], pixels=None), 255),
        (icon_dib(32, bgr(extra=b"\0"), HOLE), 0),
        (icon_dib(32, bgr(extra=b"\0"), HOLE) + bytes(99), 0),
    ],
    ids=["24", "24 mask", "8 mask", "4 mask", "32", "32 without mask", "32 empty alpha", "bytes behind"],
)
def test_bitmaps_in_an_ico_are_decoded(draw: Renderer, data: bytes, alpha: int) -> None:
    image = draw.image(icon((3, 2, 0, data))).convert("RGBA")

    assert (image.size, image.getpixel((0, 0)), image.getpixel((0, 1))) == ((3, 2), (255, 0, 0, 255), (255,) * 4)
    assert image.getpixel((1, 0))[3] == alpha  # type: ignore[index]


def test_the_largest_image_of_an_ico_is_shown(draw: Renderer) -> None:
    """By its own size: the directory cannot name a side above 256 pixels."""
    sizes = {16: (1, 2, 3), 512: (200, 0, 0), 300: (0, 0, 200), 64: (9, 9, 9)}
    images = [(side, side, 32, saved(Image.new("RGB", (side, side), color), "PNG")) for side, color in sizes.items()]

    image = draw.image(icon(*images, (3, 2, 24, icon_dib(24, bgr(), OPAQUE))))

    assert (image.size, image.convert("RGB").getpixel((9, 9))) == ((512, 512), (200, 0, 0))


@pytest.mark.parametrize("options", [{}, {"bitmap_format": "bmp"}])
def test_an_ico_of_pillow_is_decoded(draw: Renderer, options: dict[str, str]) -> None:
    drawn = Image.radial_gradient("L").resize((64, 64))
    original = Image.merge("RGBA", (drawn, drawn, drawn, drawn))

    image = draw.image(saved(original, "ICO", sizes=[(16, 16), (64, 64), (32, 32)], **options))

    assert image.convert("RGBA").tobytes() == original.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_a_bmp_of_pillow_is_decoded(draw: Renderer, mode: str) -> None:
    original = Image.radial_gradient("L").resize((101, 33)).convert(mode)

    image = draw.image(saved(original, "BMP"))

    assert image.convert("RGB").tobytes() == original.convert("RGB").tobytes()


def test_bitmaps_become_png_by_default(draw: Renderer) -> None:
    made = [draw(data, format="source") for data in (BMPS["24 bits"], icon((3, 2, 24, icon_dib(24, bgr(), OPAQUE))))]

    assert [(one.media_type, one.source_format) for one in made] == [("image/png", "bmp"), ("image/png", "ico")]


def test_a_bitmap_is_scaled(draw: Renderer) -> None:
    original = Image.radial_gradient("L").convert("RGB")

    assert draw.image(saved(original, "BMP"), Fit(Px(64))).size == (64, 64)


def test_a_bitmap_is_described(draw: Renderer) -> None:
    for name, data in (("a.bmp", BMPS["alpha 255"]), ("a.ico", icon((3, 2, 0, icon_dib(24, bgr(), OPAQUE))))):
        (draw.folder / name).write_bytes(data)
        found = describe(str(draw.folder / name), Limits())
        assert (found.format, found.width, found.height, found.bits, found.alpha) == (name[2:], 3, 2, 8, True)


@pytest.mark.parametrize("name", [name for name in BMPS if "without an end" not in name])
def test_a_truncated_bmp_is_broken(draw: Renderer, name: str) -> None:
    with pytest.raises(BrokenImage):
        draw(BMPS[name][:-7])


@pytest.mark.parametrize(
    "data",
    [
        icon((3, 2, 24, icon_dib(24, bgr(), OPAQUE)))[:-3],
        icon((3, 2, 32, icon_dib(32, bgr(extra=b"\xff"), [])))[:-3],
        icon((9, 9, 32, saved(Image.radial_gradient("L"), "PNG")))[:-300],
        icon((9, 9, 32, b"")),
    ],
)
def test_a_truncated_ico_is_broken(draw: Renderer, data: bytes) -> None:
    with pytest.raises(BrokenImage):
        draw(data)


@pytest.mark.parametrize(
    "data",
    [
        bmp(24, bgr(), compression=4),
        bmp(24, bgr(), compression=5),
        bmp(2, bgr()),
        b"BM a text that begins with these letters",
        b"\0\0\2\0" + icon((3, 2, 24, icon_dib(24, bgr(), OPAQUE)))[4:],
    ],
    ids=["jpeg inside", "png inside", "2 bits", "text", "cursor"],
)
def test_other_bitmaps_are_unsupported(draw: Renderer, data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        draw(data)


def test_limits_hold_before_a_bitmap_is_decoded(draw: Renderer) -> None:
    wide = bmp(24, [b""], width=20_000)
    wider = bmp(24, [b""], width=2_000_000_000)
    many = bmp(8, [b""] * 9_000, width=9_000, palette=PALETTE, compression=1)
    inside = icon((0, 0, 32, saved(Image.new("1", (9_000, 9_000)), "PNG")))

    for data in (wide, wider, many, inside):
        with pytest.raises(ImageOverLimit):
            draw(data)
    with pytest.raises(BrokenImage):
        draw(bmp(24, [b""], width=0))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(BMPS)), st.integers(2, 60), st.integers(0, 255), st.booleans())
def test_a_damaged_bitmap_gives_an_image_or_one_of_our_errors(
    draw: Renderer, name: str, at: int, value: int, as_icon: bool
) -> None:
    data = bytearray(BMPS[name])
    data[min(at, len(data) - 1)] = value
    whole = icon((3, 2, 0, bytes(data[14:]))) if as_icon else bytes(data)

    try:
        assert opened(draw(whole, format="png").body).size
    except ImgserverError as error:
        assert error.status in (400, 415, 422)


def test_only_the_plug_ins_of_these_formats_are_used(draw: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Pillow chooses a plug-in by the bytes")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(Image, "init", refuse)

    assert draw(BMPS["24 bits"], format="png").size.width == 3
    assert draw(icon((3, 2, 0, icon_dib(24, bgr(), OPAQUE))), format="png").size.width == 3
