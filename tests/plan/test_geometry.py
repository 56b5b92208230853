"""The arithmetic of plans: the rounding rule, every mode of a Fit, the limits, the resolution that steps need."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.errors import BadRequest, OutputOverLimit
from imgserver.plan.geometry import Box, bind, bind_plan, check, resolve, share_needed, whole
from imgserver.plan.plan import (
    Anchor,
    Canvas,
    Crop,
    Dims,
    Fit,
    Flatten,
    Kernel,
    Mask,
    Orient,
    Plan,
    Px,
    Rel,
    Step,
    Tone,
    Trim,
    Turn,
)

PHOTO = Dims(1200, 800)
SQUARE: dict[str, Any] = {"width": Px(1500), "height": Px(1500)}


def size_of(step: Step, dims: Dims = PHOTO) -> tuple[int, int]:
    return bind(step, dims).size


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, 0),
        (Fraction(1, 2), 1),
        (Fraction(3, 2), 2),
        (Fraction(5, 2), 3),
        (Fraction(-1, 2), -1),
        (7, 7),
        (Fraction(29, 100) * 50, 15),
        (Fraction(-5, 2), -3),
        (Fraction(49, 100), 0),
        (Fraction(-49, 100), 0),
    ],
)
def test_halves_round_away_from_zero(number: Fraction, expected: int) -> None:
    assert whole(number) == expected


def test_a_fraction_refers_to_its_axis_and_stays_exact() -> None:
    assert resolve(Rel(Fraction(29, 100)), 50) == Fraction(29, 2)
    assert resolve(Px(Fraction(3, 2)), 50) == Fraction(3, 2)


@pytest.mark.parametrize(
    ("name", "fields", "expected", "scaled"),
    [
        ("limit", {}, (1200, 800), (1200, 800)),
        ("fit", {"enlarge": "allow"}, (1500, 1000), (1500, 1000)),
        ("mfit", {"enlarge": "allow", "shrink": False}, (1500, 1000), (1500, 1000)),
        ("inside", {"enlarge": "shrink_box"}, (800, 533), (800, 533)),
        ("pad", {"enlarge": "allow", "finish": "pad"}, (1500, 1500), (1500, 1000)),
        ("lpad", {"finish": "pad"}, (1500, 1500), (1200, 800)),
        ("mpad", {"enlarge": "allow", "shrink": False, "finish": "pad"}, (1500, 1500), (1500, 1000)),
        ("rpad", {"enlarge": "shrink_box", "finish": "pad"}, (800, 800), (800, 533)),
        ("fill", {"mode": "cover", "enlarge": "allow", "finish": "crop"}, (1500, 1500), (2250, 1500)),
        ("lfill", {"mode": "cover", "finish": "crop"}, (1200, 800), (1200, 800)),
        ("rfill", {"mode": "cover", "enlarge": "shrink_box", "finish": "crop"}, (800, 800), (1200, 800)),
        ("full-fit-in", {"mode": "cover", "enlarge": "allow"}, (2250, 1500), (2250, 1500)),
        ("outside", {"mode": "cover", "enlarge": "shrink_box"}, (1200, 800), (1200, 800)),
        ("scale", {"mode": "exact", "enlarge": "allow"}, (1500, 1500), (1500, 1500)),
        ("force", {"mode": "exact"}, (1200, 800), (1200, 800)),
        ("ipx fill", {"mode": "exact", "enlarge": "shrink_box"}, (800, 800), (800, 800)),
    ],
)
def test_a_1200_by_800_photo_in_a_box_of_1500_by_1500(
    name: str, fields: dict[str, Any], expected: tuple[int, int], scaled: tuple[int, int]
) -> None:
    bound = bind(Fit(**SQUARE, **fields), PHOTO)

    assert (name, bound.size, bound.scaled) == (name, expected, scaled)


def test_a_fit_that_must_not_enlarge_is_refused_if_it_would() -> None:
    with pytest.raises(BadRequest, match="would enlarge"):
        bind(Fit(**SQUARE, mode="exact", enlarge="reject"), PHOTO)
    assert size_of(Fit(Px(1200), Px(800), mode="exact", enlarge="reject")) == (1200, 800)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Fit(Px(800)), (800, 533)),
        (Fit(height=Px(400)), (600, 400)),
        (Fit(Px(800), Px(400)), (600, 400)),
        (Fit(Px(2000), enlarge="allow"), (2000, 1333)),
        (Fit(Rel(Fraction(1, 2))), (600, 400)),
        (Fit(Px(800), ratio=Fraction(16, 9), mode="cover", enlarge="shrink_box", finish="crop"), (800, 450)),
        (Fit(ratio=Fraction(1), mode="cover", enlarge="shrink_box", finish="crop"), (800, 800)),
        (Fit(ratio=Fraction(1), finish="pad"), (1200, 1200)),
        (Fit(Px(300), mode="exact", enlarge="allow"), (300, 200)),
        (Fit(), (1200, 800)),
        (Fit(Px(1), Px(1)), (1, 1)),
        (Crop(Px(400), Px(300), anchor=Anchor("north_west", dx=Px(120), dy=Px(80))), (400, 300)),
        (Crop(Px(400), Px(300), anchor=Anchor("north_west", dx=Px(1000), dy=Px(80))), (200, 300)),
        (Crop(Px(5000)), (1200, 800)),
        (Crop(ratio=Fraction(1)), (800, 800)),
        (Crop(ratio=Fraction(1), zoom=Fraction(2)), (400, 400)),
        (Crop(ratio=Fraction(1), zoom=Fraction(1, 2)), (1200, 800)),
        (Canvas((Px(1), Px(2), Px(3), Px(4))), (1206, 804)),
        (Turn(6), (800, 1200)),
        (Turn(degrees=90), (800, 1200)),
        (Turn(degrees=180), (1200, 800)),
        (Turn(degrees=45), (1414, 1414)),
        (Mask(ellipse=True), (1200, 800)),
    ],
)
def test_a_step_binds_to_its_size(step: Step, expected: tuple[int, int]) -> None:
    assert size_of(step) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_five_to_eight_swap_the_sides(orientation: int) -> None:
    expected = (800, 1200) if orientation > 4 else (1200, 800)

    assert bind(Orient(), Dims(1200, 800, orientation)).after == Dims(*expected)
    assert bind(Orient(orientation), Dims(1200, 800, 3)).after == Dims(*expected)


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        (Anchor("center"), Box(200, 0, 800, 800)),
        (Anchor("west"), Box(0, 0, 800, 800)),
        (Anchor("north_east"), Box(400, 0, 800, 800)),
        (Anchor("east", dx=Px(30)), Box(370, 0, 800, 800)),
        (Anchor("center", dx=Px(-50)), Box(150, 0, 800, 800)),
        (Anchor("east", dx=Px(5000)), Box(0, 0, 800, 800)),
        (Anchor("focal", fx=Rel(Fraction(7, 10))), Box(400, 0, 800, 800)),
        (Anchor("focal", fx=Px(650)), Box(250, 0, 800, 800)),
    ],
)
def test_the_window_of_a_fill_is_at_its_anchor_and_inside(anchor: Anchor, expected: Box) -> None:
    fit = Fit(Px(800), Px(800), mode="cover", enlarge="allow", finish="crop", anchor=anchor)

    assert bind(fit, PHOTO).box == expected


def test_padding_puts_the_image_at_its_anchor() -> None:
    fit = Fit(Px(600), Px(600), finish="pad", anchor=Anchor("south", dy=Px(40)))

    assert bind(fit, PHOTO).box == Box(0, 160, 600, 400)


def test_a_focal_crop_is_centered_on_its_point_and_stays_inside() -> None:
    def at(x: int) -> Box | None:
        return bind(Crop(Px(200), Px(100), anchor=Anchor("focal", fx=Px(x), fy=Px(400))), PHOTO).box

    assert at(600) == Box(500, 350, 200, 100)
    assert at(1190) == Box(1000, 350, 200, 100)


def test_a_window_outside_the_image_is_refused() -> None:
    away = Anchor("north_west", dx=Px(1200))
    with pytest.raises(BadRequest, match="lies outside the 1200×800 image"):
        bind(Crop(Px(10), Px(10), anchor=away), PHOTO)
    with pytest.raises(BadRequest):
        bind(Crop(Px(1201), Px(10), outside="reject"), PHOTO)


def test_binding_ends_at_a_trim() -> None:
    plan = Plan((Orient(), Trim(), Fit(Px(500))))

    bound = bind_plan(plan, Dims(1200, 800, 6))

    assert (bound.is_partial, bound.after, bound.rest) == (True, Dims(800, 1200), (Fit(Px(500)),))


def test_the_error_for_a_result_over_the_limit_names_step_size_and_range() -> None:
    bounds = bind_plan(Plan((Fit(Px(9000), enlarge="allow"),)), PHOTO)

    with pytest.raises(OutputOverLimit, match=r"fit: 9000×6000 .* sides up to 8192 px") as caught:
        check(bounds, side=8192, pixels=40_000_000)
    assert caught.value.facts["argument"] == "fit"


def test_a_step_that_keeps_a_large_original_is_allowed() -> None:
    dims = Dims(12_000, 4_000)

    check(bind_plan(Plan((Orient(), Crop(ratio=Fraction(2)), Fit(Px(800)))), dims), side=8192, pixels=40_000_000)
    with pytest.raises(OutputOverLimit):
        check(bind_plan(Plan((Orient(),)), dims), side=8192, pixels=40_000_000)


@pytest.mark.parametrize("steps", [(), (Orient(),), (Orient(), Flatten(), Tone("negate")), (Orient(), Turn(6))])
def test_an_original_over_the_limit_is_named_and_no_option(steps: tuple[Step, ...]) -> None:
    with pytest.raises(OutputOverLimit, match=r"the original is .* sides up to 8192 px") as caught:
        check(bind_plan(steps, Dims(12_000, 10, 6)), side=8192, pixels=40_000_000)

    assert "12000" in caught.value.facts["value"]
    assert "argument" not in caught.value.facts


def test_the_step_that_made_the_size_is_named() -> None:
    steps = (Orient(), Canvas((Px(5_000),) * 4), Tone("negate"))

    with pytest.raises(OutputOverLimit, match="canvas: 10100×10100"):
        check(bind_plan(steps, Dims(100, 100)), side=8192, pixels=400_000_000)


def test_the_limit_counts_the_pixels_of_all_frames() -> None:
    plan = Plan((Fit(Px(1000), Px(1000), mode="exact", enlarge="allow"),))

    check(bind_plan(plan, Dims(500, 500, 1, 40)), side=8192, pixels=40_000_000)
    with pytest.raises(OutputOverLimit, match="with 41 frames"):
        check(bind_plan(plan, Dims(500, 500, 1, 41)), side=8192, pixels=40_000_000)


def test_a_step_that_enlarges_is_refused_even_if_the_result_is_small() -> None:
    plan = Plan((Fit(Px(8000), enlarge="allow"), Fit(Px(100))))

    with pytest.raises(OutputOverLimit):
        check(bind_plan(plan, Dims(800, 8000)), side=8192, pixels=40_000_000)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), Fraction(1)),
        ((Fit(Px(300)),), Fraction(1, 4)),
        ((Orient(), Crop(Px(600), Px(600)), Fit(Px(200))), Fraction(1, 3)),
        ((Fit(Px(300)), Kernel("blur", 5)), Fraction(1, 4)),
        ((Kernel("blur", 5), Fit(Px(300))), Fraction(1)),
        ((Turn(6), Flatten(), Tone("gamma", Fraction(2)), Fit(Px(200))), Fraction(1, 4)),
        ((Turn(degrees=10), Fit(Px(300))), Fraction(1)),
        ((Fit(Px(300)), Fit(Px(30))), Fraction(1, 4)),
        ((Trim(), Fit(Px(30))), Fraction(1)),
        ((Fit(Px(3000), enlarge="allow"),), Fraction(5, 2)),
        ((Fit(Px(100), Px(100), mode="cover", enlarge="allow", finish="crop"),), Fraction(1, 8)),
    ],
)
def test_the_decoder_must_deliver_the_resolution_that_the_first_fit_needs(
    steps: tuple[Step, ...], expected: Fraction
) -> None:
    assert share_needed(bind_plan(steps, PHOTO).bounds) == expected


sides = st.integers(1, 4000)
boxes = st.integers(1, 3000)


@given(sides, sides, boxes, boxes, st.sampled_from(["deny", "allow", "shrink_box"]), st.booleans())
def test_a_contained_image_never_exceeds_its_box(w: int, h: int, bw: int, bh: int, enlarge: Any, pad: bool) -> None:
    bound = bind(Fit(Px(bw), Px(bh), enlarge=enlarge, finish="pad" if pad else "none"), Dims(w, h))

    assert bound.scaled[0] <= bw
    assert bound.scaled[1] <= bh
    if enlarge != "allow":
        assert bound.scaled[0] <= w
        assert bound.scaled[1] <= h


@given(sides, sides, boxes, boxes)
def test_a_fill_has_exactly_the_size_of_its_box(w: int, h: int, bw: int, bh: int) -> None:
    bound = bind(Fit(Px(bw), Px(bh), mode="cover", enlarge="allow", finish="crop"), Dims(w, h))

    assert bound.size == (bw, bh)
    assert bound.box is not None
    assert 0 <= bound.box.left <= bound.scaled[0] - bw
    assert 0 <= bound.box.top <= bound.scaled[1] - bh


@given(sides, sides, st.integers(1, 100), st.integers(1, 100))
def test_a_ratio_alone_crops_to_the_largest_box_inside(w: int, h: int, a: int, b: int) -> None:
    fit = Fit(ratio=Fraction(a, b), mode="cover", enlarge="shrink_box", finish="crop")

    width, height = bind(fit, Dims(w, h)).size

    assert width <= w
    assert height <= h
    assert width == w or height == h


@given(sides, sides, st.integers(-360, 360))
def test_a_turned_image_fits_its_bounding_box(w: int, h: int, degrees: int) -> None:
    width, height = bind(Turn(degrees=degrees), Dims(w, h)).size

    assert (width + 1) ** 2 + (height + 1) ** 2 >= w * w + h * h
    assert min(width, height) >= min(w, h) - 1


@given(sides, sides, boxes, boxes, st.sampled_from(["contain", "cover", "exact"]))
def test_every_size_is_at_least_one(w: int, h: int, bw: int, bh: int, mode: Any) -> None:
    assert min(bind(Fit(Px(Fraction(bw, 7)), Px(Fraction(bh, 7)), mode=mode), Dims(w, h)).size) >= 1


@given(sides, sides, st.integers(-5000, 5000), st.integers(-5000, 5000), boxes, boxes)
def test_a_crop_is_inside_or_refused(w: int, h: int, x: int, y: int, bw: int, bh: int) -> None:
    crop = Crop(Px(bw), Px(bh), anchor=Anchor("north_west", dx=Px(x), dy=Px(y)))
    try:
        box = bind(crop, Dims(w, h)).box
    except BadRequest:
        assert x >= w or y >= h or x + bw <= 0 or y + bh <= 0
        return
    assert box is not None
    assert (box.left >= 0, box.top >= 0, box.left + box.width <= w, box.top + box.height <= h) == (True,) * 4
