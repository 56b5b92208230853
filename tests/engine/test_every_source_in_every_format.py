"""Every kind of original can be written in every format, and what a format cannot hold is refused before any work."""

from io import BytesIO

import pytest
from PIL import Image

from imgserver.engine import ENCODERS
from imgserver.engine.job import Limits
from imgserver.engine.vips import Image as VipsImage
from imgserver.errors import OutputOverLimit
from imgserver.plan.plan import Fit, Kernel, Mask, Orient, Px, Step
from tests.engine.conftest import Renderer, difference, opened, saved

GRAY = Image.linear_gradient("L").resize((40, 30))
COLOR = Image.merge("RGB", (GRAY, GRAY.transpose(Image.Transpose.ROTATE_180), GRAY))


def png_of_16_bits(mode: str) -> bytes:
    """Pillow writes 16 bits in gray without alpha only."""
    image = COLOR if mode.startswith("RGB") else GRAY
    pixels = VipsImage.new_from_memory(image.tobytes(), 40, 30, len(image.getbands()), "uchar")
    deep = pixels.copy(interpretation="srgb" if len(image.getbands()) == 3 else "b-w").colourspace(
        "rgb16" if mode.startswith("RGB") else "grey16"
    )
    return bytes((deep.addalpha() if mode.endswith("A") else deep).pngsave_buffer())


def tiff_of_bands(count: int) -> bytes:
    bands = VipsImage.new_from_memory(COLOR.tobytes(), 40, 30, 3, "uchar").copy(interpretation="srgb")
    extra = [255 - 40 * number for number in range(count - 3)]
    image = bands.bandjoin(extra) if extra else bands.extract_band(0, n=count)
    return bytes(image.tiffsave_buffer())


SOURCES = {
    "jpg": lambda: saved(COLOR, "JPEG", quality=95),
    "gray jpg": lambda: saved(GRAY, "JPEG", quality=95),
    "cmyk jpg": lambda: saved(COLOR.convert("CMYK"), "JPEG", quality=95),
    "rgba png": lambda: saved(COLOR.convert("RGBA"), "PNG"),
    "gray and alpha png": lambda: saved(GRAY.convert("LA"), "PNG"),
    "palette png": lambda: saved(COLOR.quantize(99), "PNG"),
    "palette and alpha png": lambda: saved(COLOR.quantize(99), "PNG", transparency=98),
    "one bit png": lambda: saved(GRAY.convert("1"), "PNG"),
    "16 bit gray png": lambda: png_of_16_bits("L"),
    "16 bit gray and alpha png": lambda: png_of_16_bits("LA"),
    "16 bit rgb png": lambda: png_of_16_bits("RGB"),
    "16 bit rgba png": lambda: png_of_16_bits("RGBA"),
    "tiff of 2 bands": lambda: tiff_of_bands(2),
    "tiff of 4 bands": lambda: tiff_of_bands(4),
    "tiff of 5 bands": lambda: tiff_of_bands(5),
    "cmyk tiff": lambda: saved(COLOR.convert("CMYK"), "TIFF"),
    "fax": lambda: saved(GRAY.convert("1"), "TIFF", compression="group4"),
    "gif": lambda: saved(COLOR.quantize(99), "GIF"),
    "webp": lambda: saved(COLOR.convert("RGBA"), "WEBP"),
    "avif": lambda: saved(COLOR, "AVIF", quality=95),
    "bmp": lambda: saved(COLOR, "BMP"),
    "ico": lambda: saved(COLOR.convert("RGBA").resize((32, 32)), "ICO"),
    "one pixel": lambda: saved(Image.new("RGB", (1, 1), "red"), "PNG"),
    "one clear pixel": lambda: saved(Image.new("RGBA", (1, 1)), "PNG"),
    "a column": lambda: saved(Image.new("RGB", (1, 3000), "red"), "PNG"),
    "a row": lambda: saved(Image.new("L", (3000, 1), 9), "PNG"),
}
STEPS: tuple[tuple[Step, ...], ...] = ((Orient(),), (Orient(), Fit(Px(20)), Mask((3,) * 4)))


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_written_in_every_format(draw: Renderer, source: str) -> None:
    data = SOURCES[source]()
    for steps in STEPS:
        shown = draw.image(data, *steps).convert("RGBA")
        for name in ("source", "auto", *ENCODERS):
            result = draw(data, *steps, format=name, profile="keep" if name == "png" else "srgb")

            image = opened(result.body)
            assert image.size == (result.size.width, result.size.height) == shown.size, (name, steps)
            # GIF has no half transparency, and 4:2:0 averages the colors of a thin line.
            is_comparable = "cmyk" not in source and (name != "gif" or "2 bands" not in source)
            if is_comparable and len(steps) == 1 and min(image.size) > 1:
                assert difference(on_white(image), on_white(shown), side=8) < 40, name


def on_white(image: Image.Image) -> Image.Image:
    clear = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)


FLAT = saved(Image.new("L", (40, 30), 9), "PNG")
WIDE = Limits(output_side=65535)


@pytest.mark.parametrize(("name", "limit"), [("webp", 16383), ("avif", 16384), ("jpg", 65500), ("gif", 65535)])
@pytest.mark.parametrize("upright", [False, True])
def test_the_largest_side_of_a_format_is_written(draw: Renderer, name: str, limit: int, upright: bool) -> None:
    size = (2, limit) if upright else (limit, 2)

    body = draw(FLAT, Fit(*map(Px, size), mode="exact", enlarge="allow"), limits=WIDE, format=name).body

    assert Image.open(BytesIO(body)).size == size


@pytest.mark.parametrize(("name", "limit"), [("webp", 16383), ("avif", 16384), ("jpg", 65500)])
def test_a_larger_side_is_refused_with_the_limit_before_any_work(
    draw: Renderer, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    monkeypatch.setattr("imgserver.engine.render.run_steps", None)
    steps = Fit(Px(limit + 1), Px(2), mode="exact", enlarge="allow"), Kernel("blur", 9)

    with pytest.raises(OutputOverLimit, match=f"{name}: {limit + 1}×2 is over the format's limit; sides up to {limit}"):
        draw(FLAT, *steps, limits=WIDE, format=name)


def test_the_automatic_format_is_the_best_one_that_can_hold_the_image(draw: Renderer) -> None:
    def media_type(side: int) -> str:
        fit = Fit(Px(side), Px(2), mode="exact", enlarge="allow")
        return draw(FLAT, fit, limits=WIDE, format="auto", offers=("avif", "webp")).media_type

    assert [media_type(side) for side in (16383, 16384, 16385)] == ["image/avif", "image/avif", "image/png"]
