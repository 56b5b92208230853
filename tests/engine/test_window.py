"""Shrink-on-load neither stretches nor shifts an image: the places of points are compared with those by arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from imgserver.engine.window import _grid
from imgserver.plan.plan import Anchor, Crop, Fit, Orient, Px, Step, Tone
from tests.engine.conftest import Renderer, saved
from tests.running_server import CASES

SPOT = 12
TOLERANCE_PX = 0.13


def spots(width: int, height: int) -> tuple[Image.Image, list[tuple[float, float]]]:
    """White squares on black, and their centers."""
    image = Image.new("L", (width, height))
    pen = ImageDraw.Draw(image)
    centers = []
    for column in range(6):
        for row in range(4):
            left, top = SPOT + column * (width - 4 * SPOT) // 5, SPOT + row * (height - 4 * SPOT) // 3
            pen.rectangle((left, top, left + 2 * SPOT - 1, top + 2 * SPOT - 1), fill=255)
            centers.append((left + SPOT, top + SPOT))
    return image.convert("RGB"), centers


def centroid(image: Image.Image, at: tuple[float, float], radius: int) -> tuple[float, float]:
    """The center of the light around `at`, in pixels; the center of the first pixel is (0.5, 0.5)."""
    left, top = max(0, int(at[0]) - radius), max(0, int(at[1]) - radius)
    part = image.crop((left, top, min(image.width, left + 2 * radius), min(image.height, top + 2 * radius)))
    light = part.tobytes()
    total = sum(light)
    x = sum(value * (index % part.width + 0.5) for index, value in enumerate(light)) / total
    y = sum(value * (index // part.width + 0.5) for index, value in enumerate(light)) / total
    return left + x, top + y


def largest_shift(result: Image.Image, centers: list[tuple[float, float]], window: tuple[int, int, int, int]) -> float:
    """The largest distance of a spot from its place, in pixels of the result, along one axis."""
    left, top, width, height = window
    across, down = result.width / width, result.height / height
    gray, shift, seen = result.convert("L"), 0.0, 0
    radius = round(SPOT * across) + 4
    for x, y in centers:
        at = (x - left) * across, (y - top) * down
        if radius < at[0] < result.width - radius and radius < at[1] < result.height - radius:
            found = centroid(gray, at, radius)
            shift, seen = max(shift, abs(found[0] - at[0]), abs(found[1] - at[1])), seen + 1
    assert seen >= 4
    return shift


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    ("size", "width"), [((1023, 513), 125), ((999, 751), 166), ((1001, 777), 120), ((1024, 512), 125)]
)
def test_a_side_that_is_no_multiple_of_the_reduction_is_not_stretched(
    draw: Renderer, name: str, size: tuple[int, int], width: int
) -> None:
    image, centers = spots(*size)

    result = draw.image(saved(image, name, quality=97), Fit(Px(width)))

    assert largest_shift(result, centers, (0, 0, *size)) < TOLERANCE_PX


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("window", [(53, 29, 901, 650), (100, 3, 777, 701)])
def test_a_window_between_two_reduced_pixels_is_not_shifted(
    draw: Renderer, name: str, window: tuple[int, int, int, int]
) -> None:
    image, centers = spots(1001, 757)
    left, top, width, height = window
    crop = Crop(Px(width), Px(height), anchor=Anchor("north_west", dx=Px(left), dy=Px(top)))

    result = draw.image(saved(image, name, quality=97), crop, Fit(Px(110)))

    assert largest_shift(result, centers, window) < TOLERANCE_PX + 0.03


def test_two_windows_and_a_turn_are_not_shifted(draw: Renderer) -> None:
    image, centers = spots(1001, 757)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(image.rotate(90, expand=True), "JPEG", quality=97, exif=exif)
    outer = Crop(Px(950), Px(700), anchor=Anchor("north_west", dx=Px(11), dy=Px(17)))
    inner = Crop(Px(901), Px(650), anchor=Anchor("north_west", dx=Px(23), dy=Px(13)))

    result = draw.image(data, Orient(), outer, inner, Fit(Px(110)))

    assert largest_shift(result, centers, (34, 30, 901, 650)) < TOLERANCE_PX + 0.03


def test_a_step_before_the_resize_sees_the_whole_image(draw: Renderer) -> None:
    image, centers = spots(1023, 513)
    steps: tuple[Step, ...] = (Tone("grayscale"), Fit(Px(125)))

    assert (
        largest_shift(draw.image(saved(image, "JPEG", quality=97), *steps), centers, (0, 0, 1023, 513)) < TOLERANCE_PX
    )


def test_a_dot_is_where_it_is_in_the_lossless_file(draw: Renderer) -> None:
    with Image.open(CASES / "f24_dot.png") as truth:
        gray = truth.convert("L")
    middle = centroid(gray, (gray.width / 2, gray.height / 2), gray.width)
    result = draw.image(CASES / "f24_dot.jpg", Fit(Px(250))).convert("L")
    expected = middle[0] * result.width / gray.width, middle[1] * result.height / gray.height

    found = centroid(result, (result.width / 2, result.height / 2), result.width)

    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < TOLERANCE_PX


@settings(max_examples=300, deadline=None)
@given(
    left=st.integers(0, 3000),
    length=st.integers(64, 6000),
    by=st.sampled_from([2, 4, 8]),
    ratio=st.floats(2, 4),
)
def test_the_grid_begins_within_a_seventh_of_a_pixel(left: int, length: int, by: int, ratio: float) -> None:
    start, wide = Fraction(left, by), Fraction(length, by)
    target = max(1, int(wide / Fraction(ratio)))

    grid = _grid(start, wide, target)

    step = float(wide / target)
    begins = grid.start + (grid.size - grid.scaled * step) / 2 + grid.cut * step
    assert abs(begins - float(start)) / step < 1 / 7
    assert grid.scaled >= grid.cut + target
    assert int(grid.size / step + 0.5) == grid.scaled
