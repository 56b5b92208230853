"""What is left out, when, and that nothing a URL says outright is changed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.plan.canonical import normalize, plan_digest
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Anchor, Crop, Dims, Fit, Kernel, Orient, Output, Plan, Px, Terminal
from imgserver.rendering.degradation import RELIEF, THRESHOLDS, Degradation, DegradationLevel, degrade

BOTH = Output("auto", offers=("avif", "webp"))
SMART = Fit(Px(300), Px(300), mode="cover", finish="crop", anchor=Anchor("attention"))


@pytest.mark.parametrize(
    ("output", "level", "left"),
    [
        (BOTH, DegradationLevel.NONE, BOTH),
        (BOTH, DegradationLevel.EFFORT, Output("auto", offers=("avif", "webp"), effort=0)),
        (BOTH, DegradationLevel.FORMAT, Output("auto", offers=("webp",))),
        (BOTH, DegradationLevel.PLAIN, Output("auto")),
        (Output("auto", offers=("webp",)), DegradationLevel.FORMAT, Output("auto", offers=("webp",))),
        (Output("auto", offers=("webp",)), DegradationLevel.PLAIN, Output("auto")),
        # The URL says AVIF, and nothing of how much work goes into it.
        (Output("avif"), DegradationLevel.EFFORT, Output("avif", effort=0)),
        (Output("avif"), DegradationLevel.PLAIN, Output("avif", effort=0)),
        (Output("avif", effort=4), DegradationLevel.PLAIN, Output("avif", effort=4)),
        (Output("webp", quality=30), DegradationLevel.PLAIN, Output("webp", quality=30)),
    ],
)
def test_what_each_level_leaves_of_the_output(output, level, left):
    assert degrade(Plan((Orient(),), output), level).output == left


def test_only_the_last_rung_takes_smart_crops_and_sharpening():
    steps = (Orient(), Crop(Px(500), Px(500), anchor=Anchor("entropy")), SMART, Kernel("sharpen"), Kernel("blur"))

    assert degrade(Plan(steps, BOTH), DegradationLevel.FORMAT).steps == steps
    plain = degrade(Plan(steps, BOTH), DegradationLevel.PLAIN).steps
    assert [getattr(step, "anchor", Anchor()).is_smart for step in plain] == [False] * 4
    assert Kernel("sharpen") not in plain
    assert Kernel("blur") in plain


@given(st.sampled_from(DegradationLevel), st.integers(1, 3000), st.integers(1, 3000))
def test_a_cheaper_picture_has_the_size_that_was_asked_for(level, width, height):
    plan = Plan((Orient(), SMART), BOTH)
    dims = Dims(width, height)

    assert bind_plan(degrade(plan, level), dims).after == bind_plan(plan, dims).after


@pytest.mark.parametrize("level", [DegradationLevel.EFFORT, DegradationLevel.FORMAT, DegradationLevel.PLAIN])
def test_a_cheaper_picture_has_a_key_of_its_own(level):
    plan = Plan((Orient(), SMART), BOTH)

    assert plan_digest(degrade(plan, level)) != plan_digest(plan)


def test_what_a_client_without_avif_gets_is_the_same_picture():
    """One record serves both: the degraded answer of one is the proper answer of the other."""
    webp = Plan((Orient(),), Output("auto", offers=("webp",)))

    assert normalize(degrade(Plan((Orient(),), BOTH), DegradationLevel.FORMAT)) == normalize(webp)


@pytest.mark.parametrize("terminal", ["info", "blurhash", "palette"])
def test_what_is_told_about_a_picture_is_never_cheapened(terminal):
    plan = Plan((Orient(), SMART), BOTH, Terminal(terminal))

    assert degrade(plan, DegradationLevel.PLAIN) is plan


def test_rungs_are_taken_in_order_and_left_below_where_they_were_taken():
    degradation = Degradation()
    pressures = [0.4, 0.6, 1.1, 1.6, 1.2, 1.0, 0.8, 0.6, 0.4, 0.3]

    assert [degradation.at(pressure).name for pressure in pressures] == [
        *("NONE", "EFFORT", "FORMAT", "PLAIN", "PLAIN", "FORMAT", "FORMAT", "EFFORT", "EFFORT", "NONE"),
    ]


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_rung_always_follows_from_the_pressure_within_the_relief(pressures):
    degradation = Degradation()
    for pressure in pressures:
        level = degradation.at(pressure)
        assert all(level >= step for step, threshold in THRESHOLDS.items() if pressure > threshold)
        assert all(level < step for step, threshold in THRESHOLDS.items() if pressure <= RELIEF * threshold)


def test_halves_of_pixels_stay_exact():
    plan = Plan((Fit(Px(Fraction(99, 2)), Px(10), mode="cover", finish="crop", anchor=Anchor("attention")),), BOTH)

    assert degrade(plan, DegradationLevel.PLAIN).steps[0].width == Px(Fraction(99, 2))
