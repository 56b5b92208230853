"""A result is not larger than its original without need: palettes stay palettes, low quality stays low.

Sizes are compared as ratios, pixels as Pillow decodes them.
"""

import random
from fractions import Fraction

import pytest
from PIL import Image, ImageDraw

from imgserver.engine.job import Job, RenderResult
from imgserver.engine.render import render
from imgserver.plan.plan import Crop, Fit, Orient, Output, Plan, Px, Rel, Tone
from tests.engine.conftest import Renderer, difference, opened, saved
from tests.engine.test_lossless_strip import WORDS, exif
from tests.running_server import SAMPLES

SMALLER = Fit(Rel(Fraction(3, 4)))
PHOTO = Image.open(SAMPLES / "creek.jpg").convert("RGB").resize((450, 300))


def drawing(width: int = 500, height: int = 350) -> Image.Image:
    """Texts, boxes and circles on a light ground, as on a screenshot."""
    draw, image = random.Random(3), Image.new("RGB", (width, height), (250, 250, 248))
    pen = ImageDraw.Draw(image)
    for number in range(40):
        x, y, color = draw.randrange(width), draw.randrange(height), tuple(draw.randrange(256) for _ in range(3))
        pen.text((x, y), f"Settings {number}", fill=color)
        pen.ellipse((x, y, x + 30, y + 30), outline=color, width=2)
    return image


def clear(colors: int) -> Image.Image:
    """A drawing whose opacity grows from top to bottom."""
    image = drawing().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image.quantize(colors, method=Image.Quantize.FASTOCTREE)


def ratio(result: RenderResult) -> float:
    return len(result.body) / result.source_bytes


def pixels(image: Image.Image) -> bytes:
    """The pixels; black where nothing is seen."""
    shown = image.convert("RGBA")
    return Image.composite(shown, Image.new("RGBA", shown.size), shown.getchannel("A").point(bool, "1")).tobytes()


def on_white(image: Image.Image) -> Image.Image:
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)


PALETTES = {
    "64 colors": saved(drawing().quantize(64), "PNG", optimize=True),
    "16 colors": saved(drawing().quantize(16), "PNG", optimize=True),
    "4 colors": saved(drawing().quantize(4), "PNG", optimize=True),
    "photograph": saved(PHOTO.quantize(256), "PNG", optimize=True),
    "alpha": saved(clear(128), "PNG", optimize=True),
    "clear color": saved(drawing().quantize(32), "PNG", optimize=True, transparency=0),
    "two levels": saved(drawing().convert("1"), "PNG", optimize=True),
    "gray": saved(drawing().convert("L"), "PNG", optimize=True),
    "gif": saved(drawing().quantize(64), "GIF"),
}
POOR = {
    "jpg 10": saved(PHOTO, "JPEG", quality=10),
    "jpg 20": saved(PHOTO, "JPEG", quality=20),
    "jpg 20 gray": saved(PHOTO.convert("L"), "JPEG", quality=20),
    "jpg 20 progressive": saved(PHOTO, "JPEG", quality=20, progressive=True),
    "jpg 60": saved(PHOTO, "JPEG", quality=60),
    "webp 20": saved(PHOTO, "WEBP", quality=20),
    "avif 20": saved(PHOTO, "AVIF", quality=20),
}


@pytest.mark.parametrize("name", [*PALETTES, *POOR])
def test_an_image_that_no_step_changes_is_not_larger_than_its_original(draw: Renderer, name: str) -> None:
    original = (PALETTES | POOR)[name]

    result = draw(original, Orient(), Fit(Px(3000)))

    assert ratio(result) <= 1
    # All of these would lose quality or gain bytes if they were encoded again.
    assert pixels(opened(result.body)) == pixels(opened(original))


@pytest.mark.parametrize("name", PALETTES)
def test_a_scaled_palette_stays_a_palette(draw: Renderer, name: str) -> None:
    source = opened(PALETTES[name])

    result = draw(PALETTES[name], SMALLER, format="png")

    image = opened(result.body)
    assert image.mode in ("P", "L", "1")
    full = saved(source.convert("RGBA").resize(image.size, Image.Resampling.LANCZOS), "PNG", optimize=True)
    assert len(result.body) < 0.6 * len(full)
    assert difference(on_white(image), on_white(source)) < 12


@pytest.mark.parametrize("name", [name for name in PALETTES if name not in ("photograph", "gray", "gif")])
def test_few_colors_are_written_as_a_palette_without_loss(draw: Renderer, name: str) -> None:
    source = opened(PALETTES[name])
    full = saved(source.convert("RGBA"), "PNG")

    result = draw(full, Crop(Px(400), Px(300)), format="png")

    image = opened(result.body)
    assert image.mode in ("P", "1")
    left, top = (source.width - 400) // 2, (source.height - 300) // 2
    assert pixels(image) == pixels(source.crop((left, top, left + 400, top + 300)))


@pytest.mark.parametrize(("colors", "bits"), [(2, 1), (3, 2), (16, 4), (17, 8), (256, 8)])
def test_a_palette_has_no_more_bits_than_it_needs(draw: Renderer, colors: int, bits: int) -> None:
    image = Image.new("RGB", (colors, 2))
    image.putdata([(number * 7 % 256, number, 255 - number) for number in range(colors)] * 2)

    body = draw(saved(image, "PNG"), Crop(Px(colors), Px(1)), format="png").body

    assert (body[24], body[25]) == (bits, 3)  # bit depth and color type of the header
    assert opened(body).convert("RGB").tobytes() == image.crop((0, 0, colors, 1)).tobytes()


def test_transparent_pixels_of_a_palette_hide_no_color(draw: Renderer) -> None:
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((10, 200, 30, 255), (0, 0, 9, 9))

    shown = opened(draw(saved(image, "PNG"), Crop(Px(20), Px(19)), format="png").body).convert("RGBA")

    assert shown.getpixel((15, 15)) == (0, 0, 0, 0)


def test_a_photograph_keeps_full_colors(draw: Renderer) -> None:
    result = draw(saved(PHOTO, "PNG"), SMALLER)

    assert opened(result.body).mode == "RGB"
    assert len(result.body) <= 1.05 * len(saved(opened(result.body), "PNG", optimize=True))


def test_gray_with_alpha_keeps_every_value(draw: Renderer) -> None:
    shades = Image.merge("LA", (Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90)))

    result = draw(saved(shades, "PNG"), Crop(Px(250), Px(250)), format="png")

    assert opened(result.body).mode == "LA"
    assert pixels(opened(result.body)) == pixels(shades.crop((3, 3, 253, 253)))


@pytest.mark.parametrize("name", POOR)
def test_an_original_of_low_quality_does_not_grow_when_it_is_made_smaller(draw: Renderer, name: str) -> None:
    result = draw(POOR[name], SMALLER)

    assert ratio(result) <= 1
    assert opened(result.body).format == opened(POOR[name]).format
    assert difference(opened(result.body), PHOTO) < 40


@pytest.mark.parametrize(("name", "format_"), [("jpg 20", "webp"), ("jpg 20", "avif"), ("webp 20", "avif")])
def test_a_format_that_is_at_least_as_efficient_does_not_need_more_bytes(
    draw: Renderer, name: str, format_: str
) -> None:
    assert ratio(draw(POOR[name], SMALLER, format=format_)) <= 1


def test_a_number_for_the_quality_is_passed_to_the_encoder(draw: Renderer) -> None:
    path = draw.folder / "original"
    path.write_bytes(POOR["jpg 20"])
    plans = [Plan((SMALLER,), Output(quality=number)) for number in (40, 60, 80, 95)]

    sizes = [len(render(Job(str(path), plan)).body) for plan in plans]

    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * len(POOR["jpg 20"])


def test_an_enlarged_image_may_have_more_bytes(draw: Renderer) -> None:
    assert ratio(draw(POOR["jpg 20"], Fit(Px(900), enlarge="allow"))) > 1


def test_the_original_in_the_answer_has_no_metadata(draw: Renderer) -> None:
    for name in ("JPEG", "WEBP", "AVIF"):
        original = saved(PHOTO, name, quality=15, exif=exif())

        result = draw(original, Orient())

        assert opened(result.body).tobytes() == opened(original).tobytes()
        assert not opened(result.body).getexif()
        assert WORDS not in result.body


def test_a_stated_format_is_written_even_if_the_original_is_smaller(draw: Renderer) -> None:
    assert draw(POOR["avif 20"], format="jpg").media_type == "image/jpeg"


def test_the_automatic_format_is_that_of_the_original_where_that_is_smaller(draw: Renderer) -> None:
    flat = saved(Image.new("1", (300, 200)), "PNG", optimize=True)

    assert draw(flat, format="auto", offers=("avif", "webp")).media_type == "image/png"
    assert draw(POOR["jpg 10"], format="auto", offers=("webp",)).media_type == "image/jpeg"
    assert draw(POOR["avif 20"], format="auto", offers=("webp",)).media_type == "image/webp"


def test_a_drawing_is_written_without_loss_where_that_is_smaller(draw: Renderer) -> None:
    original = saved(drawing().quantize(64).convert("RGB"), "PNG")

    drawn, photo = draw(original, Crop(Px(400)), format="webp"), draw(saved(PHOTO, "PNG"), format="webp")

    window = opened(original).crop((50, 0, 450, 350))
    assert opened(drawn.body).convert("RGB").tobytes() == window.tobytes()
    assert opened(photo.body).tobytes() != PHOTO.tobytes()


def test_a_lossless_webp_does_not_become_a_larger_lossy_one(draw: Renderer) -> None:
    original = saved(drawing(), "WEBP", lossless=True)

    assert ratio(draw(original, Orient())) <= 1
    assert ratio(draw(original, Tone("negate"))) < 1.3


def test_an_animated_gif_of_few_colors_keeps_few_colors(draw: Renderer) -> None:
    frames = [drawing(300, 200).rotate(angle).quantize(32) for angle in (0, 90, 180)]
    original = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)

    result = draw(original, SMALLER)

    assert result.size.frames == 3
    assert ratio(result) < 1.1
