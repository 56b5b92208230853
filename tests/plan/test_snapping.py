"""URLs may ask for any size, and get one of a few."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.plan.canonical import plan_digest
from imgserver.plan.plan import Crop, Fit, Output, Plan, Px, Rel
from imgserver.plan.snapping import RATIO_PARTS, SizeSnapping

WIDTHS = (160, 320, 640, 960, 1280, 1920, 2560, 3840)
SNAPPING = SizeSnapping(WIDTHS)
NUMBERS = st.integers(1, 8192)


def snapped(**fields) -> Fit:
    step = SNAPPING.snap(Plan((Fit(**fields),))).steps[0]
    assert isinstance(step, Fit)
    return step


@pytest.mark.parametrize(
    ("requested", "expected"), [(1, 160), (160, 160), (161, 320), (321, 640), (3840, 3840), (3841, 3840), (8192, 3840)]
)
def test_one_side_goes_up_to_the_next_width_and_never_beyond_the_last(requested: int, expected: int) -> None:
    assert snapped(width=Px(requested)) == Fit(width=Px(expected))
    assert snapped(height=Px(requested)) == Fit(height=Px(expected))


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ((300, 300), (320, 320)),
        ((300, 200), (320, Fraction(640, 3))),
        ((1500, 1000), (1920, 1280)),
        ((1600, 900), (1920, 1080)),
        ((900, 1600), (1080, 1920)),
        ((400, 300), (640, 480)),
        ((1000, 1), (1280, Fraction(80, 3))),
        ((5000, 2500), (3840, 1920)),
    ],
)
def test_a_box_keeps_common_ratios_exactly(requested: tuple[int, int], expected: tuple[int, int]) -> None:
    assert snapped(width=Px(requested[0]), height=Px(requested[1])) == Fit(Px(expected[0]), Px(expected[1]))


@given(NUMBERS, NUMBERS)
def test_the_ratio_of_a_box_changes_by_at_most_a_hundredth_of_the_longer_side(width: int, height: int) -> None:
    step = snapped(width=Px(width), height=Px(height))
    longer, shorter = max(width, height), min(width, height)
    ratio = Fraction(min(step.width.value, step.height.value)) / max(step.width.value, step.height.value)

    assert ratio == 1 or (step.width.value > step.height.value) == (width > height)
    # The thinnest box has a ratio of 1/48.
    assert abs(ratio - max(Fraction(shorter, longer), Fraction(1, RATIO_PARTS))) <= Fraction(1, 2 * RATIO_PARTS)


@given(NUMBERS, NUMBERS, st.integers(1, 100))
def test_a_snapped_plan_stays_unchanged(width: int, height: int, quality: int) -> None:
    output = Output(quality=quality)
    steps = (Fit(Px(width), Px(height)), Fit(Px(width)), Fit(Px(height), ratio=Fraction(width, height)))
    plan = SNAPPING.snap(Plan(steps, output))

    assert SNAPPING.snap(plan) == plan


def test_a_ratio_with_a_side_is_the_same_box() -> None:
    box = snapped(width=Px(800), height=Px(450))

    assert snapped(width=Px(800), ratio=Fraction(16, 9)) == snapped(height=Px(450), ratio=Fraction(16, 9)) == box


def test_ratios_and_fractions_are_snapped() -> None:
    assert snapped(ratio=Fraction(1601, 900), finish="crop").ratio == Fraction(16, 9)
    assert snapped(width=Rel(Fraction("0.4999"))).width == Rel(Fraction(1, 2))
    assert snapped(width=Rel(Fraction("0.0001"))).width == Rel(Fraction(1, 20))
    assert SNAPPING.snap(Plan((Crop(ratio=Fraction(901, 1600)),))).steps == (Crop(ratio=Fraction(9, 16)),)


def test_a_window_of_the_original_is_not_snapped() -> None:
    plan = Plan((Crop(Px(123), Px(45)),))

    assert SNAPPING.snap(plan) == plan


@pytest.mark.parametrize(
    ("requested", "expected"), [("0.5", "1"), ("1", "1"), ("1.01", "1.5"), ("2.5", "3"), ("4", "4")]
)
def test_a_pixel_ratio_is_one_of_five(requested: str, expected: str) -> None:
    assert SNAPPING.snap_pixel_ratio(Fraction(requested)) == Fraction(expected)


def test_without_widths_nothing_is_snapped() -> None:
    plan = NativeDialect(NativeSettings(), {"p"}, "p").parse("/img/w_100,h_50,q_67,dpr_1.23/a.jpg").plan

    assert plan.steps[-1] == Fit(Px(123), Px(Fraction("61.5")))
    assert plan.output.quality == 67


def random_urls(count: int, seed: int, *, boxes: bool) -> list[str]:
    """Random URLs, as an attacker writes them to fill a cache."""
    draw = random.Random(seed)
    urls = []
    for _ in range(count):
        sides = f"w_{draw.randint(1, 8192)}" + (f",h_{draw.randint(1, 8192)}" if boxes else "")
        rest = "" if boxes else f",q_{draw.randint(1, 100)}"
        urls.append(
            f"/img/{sides}{rest},dpr_{draw.randint(5000, 40000) / 10000},f_{draw.choice(['jpg', 'webp'])}/a.jpg"
        )
    return urls


@pytest.mark.parametrize(
    ("boxes", "most"), [(False, len(WIDTHS) * 20 * 2), (True, len(WIDTHS) * (2 * RATIO_PARTS - 1) * 2)]
)
def test_ten_thousand_urls_have_only_as_many_keys_as_the_widths_allow(boxes: bool, most: int) -> None:
    snapping = NativeDialect(NativeSettings(snap_widths=WIDTHS), {"p"}, "p")
    free = NativeDialect(NativeSettings(), {"p"}, "p")
    urls = random_urls(10_000, 7, boxes=boxes)

    assert len({plan_digest(snapping.parse(url).plan) for url in urls}) <= most
    assert len({plan_digest(free.parse(url).plan) for url in urls}) > 9_000
