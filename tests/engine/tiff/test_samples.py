"""The colors of a TIFF are right, or a whole file of another kind is unsupported, never corrupt."""

from collections.abc import Callable

import pytest
from PIL import Image

from imgserver.errors import UnsupportedImage
from imgserver.plan.plan import Fit, Px
from tests.engine.conftest import Renderer
from tests.engine.tiff.tiff_files import (
    BLACK_IS_WHITE,
    CMYK,
    DEFLATE,
    GRAY,
    LAB,
    PALETTE,
    RATIONAL,
    SHORT,
    YCBCR,
    Paint,
    Tiff,
    pages,
)
from tests.running_server import CASES

UPPER, LOWER = (80, 40, 128), (200, 150, 30)
AT_UPPER, AT_LOWER = (20, 10), (50, 40)
Color = tuple[int, ...]


def rgb(x: int, y: int) -> Color:
    return UPPER if y < 24 else LOWER


def luma(x: int, y: int) -> Color:
    return (64,) if y < 24 else (192,)


def index(x: int, y: int) -> Color:
    return (0,) if y < 24 else (1,)


def cmyk(x: int, y: int) -> Color:
    """Red above, cyan below."""
    return (0, 255, 255, 0) if y < 24 else (255, 0, 0, 0)


def ycbcr(x: int, y: int) -> Color:
    red, green, blue = rgb(x, y)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    return round(light), round((blue - light) / 1.772 + 128), round((red - light) / 1.402 + 128)


def followed(paint: Paint, *further: int) -> Paint:
    return lambda x, y: (*paint(x, y), *further)


def scaled(paint: Paint, factor: int) -> Paint:
    return lambda x, y: [factor * value for value in paint(x, y)]


def palette(bits: int) -> dict[int, tuple[int, list[int]]]:
    rest = [0] * ((1 << bits) - 2)
    return {320: (SHORT, [code for a, b in zip(UPPER, LOWER, strict=True) for code in (a * 257, b * 257, *rest)])}


FULL = {530: (SHORT, [1, 1])}
# The coefficients of BT.709 and the range of video, as fractions.
VIDEO = FULL | {
    529: (RATIONAL, [2126, 10000, 7152, 10000, 722, 10000]),
    532: (RATIONAL, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]),
}


def video(x: int, y: int) -> Color:
    red, green, blue = rgb(x, y)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (
        round(16 + light * 219 / 255),
        round(128 + (blue - light) / 1.8556 * 112 / 127),
        round(128 + (red - light) / 1.5748 * 112 / 127),
    )


SHOWN: dict[str, tuple[Tiff, Callable[[int, int], Color]]] = {
    "RGB": (Tiff(rgb), rgb),
    "RGB in planes": (Tiff(rgb, planar=True), rgb),
    "RGB of 16 bits": (Tiff(scaled(rgb, 257), bits=16), rgb),
    "RGB of 16 bits, big-endian planes": (Tiff(scaled(rgb, 257), bits=16, planar=True, order=">"), rgb),
    "predictor": (Tiff(rgb, compression=DEFLATE, predictor=2), rgb),
    "predictor of 16 bits": (Tiff(scaled(rgb, 257), bits=16, compression=DEFLATE, predictor=2), rgb),
    "palette of 1 bit": (Tiff(index, samples=1, photometric=PALETTE, bits=1, fields=palette(1)), rgb),
    "palette of 4 bits": (Tiff(index, samples=1, photometric=PALETTE, bits=4, fields=palette(4)), rgb),
    "palette of 8 bits in tiles": (Tiff(index, samples=1, photometric=PALETTE, tile=16, fields=palette(8)), rgb),
    "palette with alpha": (
        Tiff(followed(index, 99), samples=2, photometric=PALETTE, fields=palette(8), extra=(2,)),
        followed(rgb, 99),
    ),
    "gray": (Tiff(luma, samples=1, photometric=GRAY), luma),
    "gray of 16 bits": (Tiff(scaled(luma, 257), samples=1, photometric=GRAY, bits=16), luma),
    "gray of 4 bits": (
        Tiff(lambda x, y: (4,) if y < 24 else (12,), samples=1, photometric=GRAY, bits=4),
        lambda x, y: (68,) if y < 24 else (204,),
    ),
    "white is zero": (
        Tiff(luma, samples=1, photometric=BLACK_IS_WHITE),
        lambda x, y: (255 - luma(x, y)[0],),
    ),
    "white is zero, 1 bit": (
        Tiff(index, samples=1, photometric=BLACK_IS_WHITE, bits=1),
        lambda x, y: (255,) if y < 24 else (0,),
    ),
    "alpha": (Tiff(followed(rgb, 100), samples=4, extra=(2,)), followed(rgb, 100)),
    "alpha in planes": (Tiff(followed(rgb, 100), samples=4, extra=(2,), planar=True), followed(rgb, 100)),
    "unspecified sample": (Tiff(followed(rgb, 100), samples=4, extra=(0,)), rgb),
    "undeclared fourth sample": (Tiff(followed(rgb, 100), samples=4), followed(rgb, 100)),
    "alpha, then a spot color": (Tiff(followed(rgb, 100, 7), samples=5, extra=(2, 0)), followed(rgb, 100)),
    "a spot color, then alpha": (Tiff(followed(rgb, 7, 100), samples=5, extra=(0, 2)), followed(rgb, 100)),
    "four spot colors": (Tiff(followed(rgb, 1, 2, 3, 4), samples=7, extra=(0, 0, 0, 0)), rgb),
    "gray with alpha": (Tiff(followed(luma, 100), samples=2, photometric=GRAY, extra=(2,)), followed(luma, 100)),
    "gray with masks": (Tiff(followed(luma, 1, 2, 3), samples=4, photometric=GRAY, extra=(0, 0, 0)), luma),
    "YCbCr": (Tiff(ycbcr, photometric=YCBCR, fields=FULL), rgb),
    "YCbCr in Deflate": (Tiff(ycbcr, photometric=YCBCR, compression=DEFLATE, fields=FULL), rgb),
    "YCbCr in tiles": (Tiff(ycbcr, photometric=YCBCR, tile=16, fields=FULL), rgb),
    "YCbCr of BT.709 in the range of video": (Tiff(video, photometric=YCBCR, fields=VIDEO), rgb),
}


def pixel(image: Image.Image, at: tuple[int, int]) -> Color:
    """Red, green, blue and alpha."""
    value = image.convert("RGBA").getpixel(at)
    assert isinstance(value, tuple)
    return tuple(round(sample) for sample in value)


def rgba(color: Color) -> Color:
    """The same of a color that may be gray, and may lack alpha."""
    colors, alpha = (color[:-1], color[-1:]) if len(color) in (2, 4) else (color, (255,))
    return (*(colors * 3)[:3], *alpha)


@pytest.mark.parametrize("name", SHOWN)
def test_the_colors_are_right(draw: Renderer, name: str) -> None:
    tiff, expected = SHOWN[name]

    image = draw.image(tiff.bytes())

    for at in (AT_UPPER, AT_LOWER):
        shown, right = pixel(image, at), rgba(expected(*at))
        assert max(abs(int(a) - int(b)) for a, b in zip(shown, right, strict=True)) <= 1, (shown, right)


@pytest.mark.parametrize("name", ["alpha, then a spot color", "four spot colors", "YCbCr", "gray with masks"])
def test_the_colors_survive_a_resize_and_the_way_to_jpeg(draw: Renderer, name: str) -> None:
    tiff, expected = SHOWN[name]
    opaque = Tiff(
        **{field: getattr(tiff, field) for field in ("samples", "photometric", "extra", "fields")}
        | {"paint": tiff.paint}
    )

    image = draw.image(opaque.bytes(), Fit(Px(32)), format="jpg").convert("RGB")

    alpha = expected(0, 0)[3] / 255 if len(expected(0, 0)) == 4 else 1
    colors = (expected(0, 0) * 3)[:3]
    right = [round(color * alpha + 255 * (1 - alpha)) for color in colors]
    assert max(abs(a - b) for a, b in zip(pixel(image, (9, 5))[:3], right, strict=True)) <= 3


@pytest.mark.parametrize(("name", "at"), [("rgb_alpha_spot.tif", (20, 10)), ("ycbcr_chunky_11.tif", (20, 10))])
def test_extra_samples_and_ycbcr_of_the_cases(draw: Renderer, name: str, at: tuple[int, int]) -> None:
    assert max(abs(a - b) for a, b in zip(pixel(draw.image(CASES / name), at), UPPER, strict=False)) <= 1


@pytest.mark.parametrize("extra", [(), (0,), (0, 0)])
@pytest.mark.parametrize("planar", [False, True])
def test_cmyk_with_further_samples_is_opaque(draw: Renderer, planar: bool, extra: tuple[int, ...]) -> None:
    paint = followed(cmyk, *(9 for _ in extra))

    image = draw.image(Tiff(paint, samples=4 + len(extra), photometric=CMYK, planar=planar, extra=extra).bytes())

    red, cyan = pixel(image, AT_UPPER), pixel(image, AT_LOWER)
    assert (red[3], cyan[3]) == (255, 255)
    assert red[0] > 200 > 100 > max(red[1:3])
    assert min(cyan[1:3]) > 130 > 60 > cyan[0]


def test_associated_alpha_is_divided_out(draw: Renderer) -> None:
    paint = followed(lambda x, y: [round(value * 100 / 255) for value in rgb(x, y)], 100)

    image = draw.image(Tiff(paint, samples=4, extra=(1,)).bytes())

    assert max(abs(a - b) for a, b in zip(pixel(image, AT_UPPER), (*UPPER, 100), strict=True)) <= 2


UNSUPPORTED: dict[str, Tiff] = {
    "floats of 32 bits": Tiff(luma, samples=1, photometric=GRAY, bits=32, kind="f"),
    "floats of 16 bits": Tiff(luma, samples=1, photometric=GRAY, bits=16, kind="f"),
    "floats of 64 bits": Tiff(luma, samples=1, photometric=GRAY, bits=64, kind="f"),
    "RGB in floats": Tiff(rgb, bits=32, kind="f"),
    "signed samples": Tiff(luma, samples=1, photometric=GRAY, bits=16, kind="i"),
    "32 bits": Tiff(luma, samples=1, photometric=GRAY, bits=32),
    "RGB of 4 bits": Tiff(lambda x, y: (1, 2, 3), bits=4),
    "different depths": Tiff(rgb, fields={258: (SHORT, [8, 8, 16])}),
    "Lab of 8 bits": Tiff(rgb, photometric=LAB),
    "Lab of 16 bits": Tiff(rgb, bits=16, photometric=LAB),
    "ICC Lab": Tiff(rgb, photometric=9),
    "color filter array": Tiff(luma, samples=1, photometric=32803),
    "transparency mask": Tiff(index, samples=1, bits=1, photometric=4),
    "subsampled YCbCr": Tiff(ycbcr, photometric=YCBCR, fields={530: (SHORT, [2, 2])}),
    "YCbCr of unknown subsampling": Tiff(ycbcr, photometric=YCBCR),
    "YCbCr in planes": Tiff(ycbcr, photometric=YCBCR, planar=True, fields=FULL),
    "planes in tiles": Tiff(rgb, planar=True, tile=16),
    "JPEG 2000": Tiff(rgb, compression=34712),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_whole_file_of_another_kind_is_unsupported(draw: Renderer, name: str) -> None:
    with pytest.raises(UnsupportedImage):
        draw(UNSUPPORTED[name].bytes(), Fit(Px(32)))


@pytest.mark.parametrize(
    "name",
    ["f3_grey_f32.tif", "f4_grey_f64.tif", "float32_rgb_srgb_profile.tif", "float64_grey.tif", "planes_ycbcr.tif"],
)
def test_floats_and_planar_ycbcr_of_the_cases_are_unsupported(draw: Renderer, name: str) -> None:
    with pytest.raises(UnsupportedImage):
        draw(CASES / name)


def test_each_page_is_read_by_its_own_directory(draw: Renderer) -> None:
    kinds = [SHOWN["YCbCr"], SHOWN["gray"], SHOWN["four spot colors"]]
    data = pages(*(tiff for tiff, _ in kinds), UNSUPPORTED["Lab of 8 bits"])

    for number, (_, expected) in enumerate(kinds, 1):
        shown = pixel(draw.image(data, frames=number), AT_UPPER)
        assert max(abs(a - b) for a, b in zip(shown, rgba(expected(*AT_UPPER)), strict=True)) <= 1
    with pytest.raises(UnsupportedImage):
        draw(data, frames=4)
