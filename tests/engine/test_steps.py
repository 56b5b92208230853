"""The size after every step is exactly the bound one, and the pixels are at their places."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from imgserver.engine.job import Quality
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import (
    BLACK,
    TRANSPARENT,
    WHITE,
    Anchor,
    Canvas,
    Color,
    Crop,
    Dims,
    Fit,
    Flatten,
    Kernel,
    Mask,
    Orient,
    Px,
    Rel,
    Step,
    Tone,
    Trim,
    Turn,
)
from tests.engine.conftest import SAMPLES, Renderer, difference, saved

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)


def quarters(width: int = 80, height: int = 60) -> Image.Image:
    """Red, green; blue, white: every motion gives a different image."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """Photographs of odd sizes, as baseline JPEG, so that the decoder reduces them."""
    folder = tmp_path_factory.mktemp("odd")
    with Image.open(SAMPLES / "dogs.jpg") as photo:
        sizes = [(997, 661), (661, 997), (333, 1001), (97, 61), (1, 1), (3, 200)]
        for size in sizes:
            photo.resize(size).save(folder / f"{size[0]}x{size[1]}.jpg", quality=92)
    return {size: folder / f"{size[0]}x{size[1]}.jpg" for size in sizes}


fits = st.builds(
    Fit,
    st.one_of(st.none(), st.builds(Px, st.integers(1, 700)), st.just(Rel(Fraction(29, 100)))),
    st.one_of(st.none(), st.builds(Px, st.integers(1, 700)), st.just(Rel(Fraction(1, 3)))),
    mode=st.sampled_from(["contain", "cover", "exact"]),
    enlarge=st.sampled_from(["deny", "allow", "shrink_box"]),
    shrink=st.booleans(),
    finish=st.sampled_from(["none", "crop", "pad"]),
    anchor=st.sampled_from([Anchor(), Anchor("south_east", dx=Px(3)), Anchor("focal", fx=Rel(Fraction(7, 10)))]),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([(997, 661), (661, 997), (333, 1001), (97, 61), (1, 1), (3, 200)]), fits, st.integers(1, 8))
def test_the_engine_produces_the_bound_size(draw: Renderer, odd: Any, size: Any, fit: Fit, orientation: int) -> None:
    steps = (Orient(orientation), fit)
    expected = bind_plan(steps, Dims(*size)).after
    if expected.width * expected.height > 3_000_000:
        return

    result = draw(odd[size], *steps, format="png")

    assert result.size == expected
    with Image.open(_body(result.body)) as image:
        assert image.size == (expected.width, expected.height)


def _body(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((Fit(Px(333)),), (333, 206)),
        ((Crop(Px(401), Px(301), anchor=Anchor("south_east")), Fit(Px(101))), (101, 76)),
        ((Crop(Px(401), Px(301), anchor=Anchor("attention")),), (401, 301)),
        ((Crop(Px(401), Px(301), anchor=Anchor("attention")), Fit(Px(77))), (77, 58)),
        ((Fit(Px(99), Px(99), mode="cover", finish="crop", anchor=Anchor("entropy")),), (99, 99)),
        ((Turn(6), Fit(Px(100))), (100, 162)),
        ((Turn(degrees=30), Fit(Px(100))), (100, 91)),
        ((Fit(Px(100)), Canvas((Px(1), Px(2), Px(3), Px(4)))), (106, 66)),
        ((Kernel("blur", 3), Fit(Px(99)), Kernel("pixelate", 10), Mask(ellipse=True)), (99, 61)),
        ((Tone("sepia", Fraction(1, 2)), Flatten(), Fit(Px(50))), (50, 31)),
    ],
)
def test_chains_of_steps_produce_the_bound_size(
    draw: Renderer, steps: tuple[Step, ...], expected: tuple[int, int], linear: bool
) -> None:
    with Image.open(SAMPLES / "autumn.jpg") as photo:
        dims = Dims(*photo.size)

    result = draw("autumn.jpg", *steps, quality=Quality(linear_light=linear))

    bound = bind_plan(steps, dims).after
    assert (result.size.width, result.size.height) == (bound.width, bound.height)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("steps", [(Orient(),), (Orient(), Fit(Px(40))), (Orient(), Tone("negate", Fraction(0)))])
def test_orientation_is_applied_as_in_viewers(draw: Renderer, orientation: int, steps: tuple[Step, ...]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    original = saved(quarters(), "JPEG", exif=exif, quality=95, subsampling=0)

    result = draw.image(original, *steps)

    seen = Image.new("RGB", (1, 1))
    with Image.open(_body(original)) as stored:
        seen = ImageOps.exif_transpose(stored)
    assert difference(result, seen, side=4) < 12
    assert result.size[0] < result.size[1] if orientation > 4 else result.size[0] > result.size[1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_crop_refers_to_the_upright_image(draw: Renderer, orientation: int) -> None:
    """The upper left is red in the upright image, for every orientation, also if the image is loaded at a reduced
    size."""
    shown = quarters(800, 600)
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = shown if back is None else shown.transpose(Image.Transpose(back))
    exif = Image.Exif()
    exif[0x0112] = orientation
    original = saved(stored, "JPEG", exif=exif, quality=95)
    window = Crop(Px(300), Px(200), anchor=Anchor("north_west", dx=Px(40), dy=Px(40)))

    result = draw.image(original, Orient(), window, Fit(Px(30)))

    assert result.size == (30, 20)
    assert difference(result, Image.new("RGB", (30, 20), RED)) < 12


@pytest.mark.parametrize(
    ("motion", "expected"),
    [(2, (GREEN, RED)), (3, ((255, 255, 255), BLUE)), (6, (BLUE, RED)), (8, (GREEN, (255, 255, 255)))],
)
def test_a_turn_moves_the_corners(draw: Renderer, motion: int, expected: tuple[Any, Any]) -> None:
    result = draw.image(saved(quarters(), "PNG"), Turn(motion)).convert("RGB")

    assert (result.getpixel((2, 2)), result.getpixel((result.width - 3, 2))) == expected


def test_a_free_turn_leaves_transparent_corners_and_a_color_fills_them(draw: Renderer) -> None:
    clear = draw.image(saved(quarters(), "PNG"), Turn(degrees=30))
    filled = draw.image(saved(quarters(), "PNG"), Turn(degrees=30, fill=Color(250, 250, 0)))

    assert clear.mode == "RGBA"
    assert clear.getpixel((0, 0)) == (0, 0, 0, 0)
    assert filled.getpixel((0, 0)) == (250, 250, 0)
    # Clockwise: the upper left moves up and to the right, so that the top corner is red.
    assert clear.getpixel((clear.width // 2 - 10, 12))[:3] == RED


def test_padding_has_its_color_and_the_image_is_unchanged(draw: Renderer) -> None:
    fit = Fit(Px(80), Px(80), finish="pad", fill=Color(1, 2, 3))

    result = draw.image(saved(quarters(), "PNG"), fit)

    assert result.getpixel((40, 5)) == (1, 2, 3)
    assert result.getpixel((5, 15)) == RED


@pytest.mark.parametrize(
    ("fill", "expected"),
    [("edge", RED), ("auto", (127, 122, 127)), (TRANSPARENT, (0, 0, 0, 0)), (Color(9, 9, 9), (9, 9, 9))],
)
def test_padding_can_be_the_border_its_mean_or_transparent(draw: Renderer, fill: Any, expected: Any) -> None:
    result = draw.image(saved(quarters(), "PNG"), Fit(Px(80), Px(80), finish="pad", fill=fill))

    found = result.getpixel((3, 3))
    assert isinstance(found, tuple)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 8


def test_padding_can_be_a_blurred_copy_of_the_image(draw: Renderer) -> None:
    result = draw("sunset.jpg", Fit(Px(200), Px(300), finish="pad", fill="blur"), format="png")
    plain = draw.image("sunset.jpg", Fit(Px(200)))

    with Image.open(_body(result.body)) as image:
        middle = image.crop((0, 83, 200, 217))
        assert difference(middle.resize(plain.size), plain) < 25
        assert image.crop((0, 0, 200, 60)).getextrema() != ((0, 0),) * 3


def test_transparent_pixels_do_not_change_scaled_colors(draw: Renderer) -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 255, 0))
    image.paste((10, 200, 30, 255), (0, 0, 31, 64))

    for linear in (False, True):
        result = draw(saved(image, "PNG"), Fit(Px(16)), quality=Quality(linear_light=linear))
        with Image.open(_body(result.body)) as small:
            shown = small.convert("RGBA")
        seen = [shown.getpixel((x, 8)) for x in range(16)]
        assert all(abs(pixel[0] - 10) < 12 and pixel[1] > 180 for pixel in seen if pixel[3] > 60), (linear, seen)


def test_linear_light_keeps_the_brightness_of_a_fine_pattern(draw: Renderer) -> None:
    image = Image.new("L", (256, 256))
    image.putdata([255 * ((x + y) % 2) for y in range(256) for x in range(256)])
    gray = saved(image, "PNG")

    light = draw(gray, Fit(Px(64)), quality=Quality(linear_light=True), format="png")
    code = draw(gray, Fit(Px(64)), format="png")

    with Image.open(_body(light.body)) as seen, Image.open(_body(code.body)) as dark:
        assert abs(seen.convert("L").getpixel((30, 30)) - 188) < 6
        assert abs(dark.convert("L").getpixel((30, 30)) - 128) < 6


def test_a_mask_rounds_the_corners_with_a_radius(draw: Renderer) -> None:
    result = draw.image(saved(quarters(), "PNG"), Mask((20, 0, 0, 10)))

    corners = [result.getpixel(at)[3] for at in ((0, 0), (79, 0), (79, 59), (0, 59), (40, 30))]
    assert corners == [0, 255, 255, 0, 255]


def test_an_ellipse_reaches_the_sides_and_leaves_the_corners(draw: Renderer) -> None:
    result = draw.image(saved(quarters(), "PNG"), Mask(ellipse=True))

    assert [result.getpixel(at)[3] for at in ((0, 0), (79, 59), (40, 30))] == [0, 0, 255]
    assert result.getpixel((40, 1))[3] > 200


def test_in_a_format_without_alpha_the_background_is_visible(draw: Renderer) -> None:
    result = draw.image(saved(quarters(), "PNG"), Mask((30, 0, 0, 0)), format="jpg", background=Color(0, 0, 255))

    red, green, blue = result.getpixel((1, 1))
    assert (red < 30, green < 30, blue > 220) == (True, True, True)


@pytest.mark.parametrize(
    ("tone", "before", "after"),
    [
        (Tone("brightness", Fraction(3, 2)), (100, 60, 20), (150, 90, 30)),
        (Tone("contrast", Fraction(2)), (100, 150, 20), (72, 172, 0)),
        (Tone("saturation", Fraction(0)), (200, 200, 200), (200, 200, 200)),
        (Tone("grayscale", Fraction(1)), (0, 255, 0), (182, 182, 182)),
        (Tone("negate", Fraction(1)), (255, 0, 100), (0, 255, 155)),
        (Tone("gamma", Fraction(2)), (64, 64, 64), (128, 128, 128)),
        (Tone("hue", Fraction(120)), (255, 0, 0), (0, 113, 0)),
        (Tone("sepia", Fraction(1)), (100, 100, 100), (135, 120, 94)),
    ],
)
def test_tones_follow_css(draw: Renderer, tone: Tone, before: Any, after: Any) -> None:
    result = draw.image(saved(Image.new("RGB", (8, 8), before), "PNG"), tone).convert("RGB")

    found = result.getpixel((4, 4))
    assert isinstance(found, tuple)
    assert max(abs(a - b) for a, b in zip(found, after, strict=True)) <= 3


def test_opacity_changes_the_alpha_of_all_pixels(draw: Renderer) -> None:
    assert draw.image(saved(quarters(), "PNG"), Tone("opacity", Fraction(1, 2))).getpixel((9, 9)) == (*RED, 128)


def test_pixelate_makes_equal_blocks(draw: Renderer) -> None:
    image = draw.image("cat.png", Fit(Px(100)), Kernel("pixelate", 10)).convert("RGB")

    assert len({image.getpixel((x, y)) for x in range(20, 30) for y in range(30, 40)}) == 1


def test_blur_reduces_contrast_and_sharpen_increases_it(draw: Renderer) -> None:
    def contrast(*steps: Step) -> float:
        image = draw.image("cat.png", Fit(Px(200)), *steps).convert("L")
        data = image.tobytes()
        return sum(abs(a - b) for a, b in pairwise(data)) / len(data)

    assert contrast(Kernel("blur", 3)) < contrast() / 2
    assert contrast(Kernel("sharpen", 3)) > contrast() * 1.05


@pytest.mark.parametrize(("pad", "expected"), [(0, (30, 20)), (5, (40, 30)), (500, (80, 60))])
def test_trim_finds_the_content_inside_the_border(draw: Renderer, pad: int, expected: tuple[int, int]) -> None:
    image = Image.new("RGB", (80, 60), WHITE_RGB)
    image.paste(RED, (20, 25, 50, 45))

    assert draw.image(saved(image, "PNG"), Trim(pad=pad)).size == expected


WHITE_RGB = (WHITE.red, WHITE.green, WHITE.blue)


def test_steps_after_a_trim_refer_to_the_trimmed_size(draw: Renderer) -> None:
    image = Image.new("RGB", (80, 60), WHITE_RGB)
    image.paste(RED, (20, 20, 50, 35))

    result = draw.image(saved(image, "PNG"), Trim(), Fit(Rel(Fraction(1, 2))), Canvas((Px(1),) * 4, BLACK))

    assert result.size == (17, 10)


def test_a_trim_by_alpha_and_one_that_finds_nothing(draw: Renderer) -> None:
    image = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    image.paste((*RED, 255), (20, 20, 50, 35))

    assert draw.image(saved(image, "PNG"), Trim(by="alpha")).size == (30, 15)
    assert draw.image(saved(Image.new("RGB", (80, 60)), "PNG"), Trim()).size == (80, 60)


def test_a_smart_crop_contains_what_draws_the_eye(draw: Renderer) -> None:
    image = Image.new("RGB", (600, 200), (90, 90, 90))
    with Image.open(SAMPLES / "cat.png") as cat:
        image.paste(cat.convert("RGB").resize((150, 150)), (440, 25))

    fit = Fit(Px(200), Px(200), mode="cover", enlarge="allow", finish="crop", anchor=Anchor("attention"))
    result = draw.image(saved(image, "PNG"), fit)

    assert difference(result, Image.new("RGB", (200, 200), (90, 90, 90))) > 40


STREAMED = [
    (Crop(Px(900), Px(700), anchor=Anchor("south_east")), Fit(Px(200))),
    (Tone("opacity", Fraction(1, 2)), Fit(Px(200))),
    (Mask((50, 0, 0, 9)), Fit(Px(200))),
    (Canvas((Px(9),) * 4, fill="edge"), Fit(Px(200))),
    (Flatten(Color(9, 9, 9, 100)), Fit(Px(200))),
    (Turn(2), Fit(Px(200), Px(200), finish="pad")),
    (Orient(7), Kernel("sharpen", 1), Fit(Px(200), Px(200), mode="cover", finish="crop", anchor=Anchor("entropy"))),
]


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("steps", STREAMED, ids=range(len(STREAMED)))
def test_a_large_image_is_read_once_from_top_to_bottom(
    draw: Renderer, tall: bytes, steps: tuple[Step, ...], linear: bool
) -> None:
    """A small image fits into the line buffers of libvips. Only a large one shows a second reading."""
    assert draw(tall, *steps, quality=Quality(linear_light=linear)).size.width <= 200


@pytest.fixture(scope="module")
def tall() -> bytes:
    with Image.open(SAMPLES / "dogs.jpg") as photo:
        photo.putalpha(Image.linear_gradient("L").resize(photo.size))
        return saved(photo.resize((1400, 2100)), "PNG", compress_level=1)
