"""What each level leaves out, when it begins and ends, and that nothing that a URL states is changed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.plan.canonical import plan_digest
from imgserver.plan.geometry import bind_plan
from imgserver.plan.normalization import normalize
from imgserver.plan.plan import Anchor, Crop, Dims, Fit, Kernel, Orient, Output, Plan, Px, Terminal
from imgserver.rendering.degradation import RELIEF, THRESHOLDS, Degradation, DegradationLevel, degrade
from imgserver.rendering.queue import Criticality

BOTH = Output("auto", offers=("avif", "webp"))
SMART = Fit(Px(300), Px(300), mode="cover", finish="crop", anchor=Anchor("attention"))


@pytest.mark.parametrize(
    ("output", "level", "degraded"),
    [
        (BOTH, DegradationLevel.NONE, BOTH),
        (BOTH, DegradationLevel.EFFORT, Output("auto", offers=("avif", "webp"), effort=0)),
        (BOTH, DegradationLevel.FORMAT, Output("auto", offers=("webp",))),
        (BOTH, DegradationLevel.PLAIN, Output("auto")),
        (Output("auto", offers=("webp",)), DegradationLevel.FORMAT, Output("auto", offers=("webp",))),
        (Output("auto", offers=("webp",)), DegradationLevel.PLAIN, Output("auto")),
        # The URL states AVIF, but no effort.
        (Output("avif"), DegradationLevel.EFFORT, Output("avif", effort=0)),
        (Output("avif"), DegradationLevel.PLAIN, Output("avif", effort=0)),
        (Output("avif", effort=4), DegradationLevel.PLAIN, Output("avif", effort=4)),
        (Output("webp", quality=30), DegradationLevel.PLAIN, Output("webp", quality=30)),
    ],
)
def test_each_level_degrades_the_output(output, level, degraded):
    assert degrade(Plan((Orient(),), output), level).output == degraded


def test_only_the_last_level_leaves_out_smart_crops_and_sharpening():
    steps = (Orient(), Crop(Px(500), Px(500), anchor=Anchor("entropy")), SMART, Kernel("sharpen"), Kernel("blur"))

    assert degrade(Plan(steps, BOTH), DegradationLevel.FORMAT).steps == steps
    plain = degrade(Plan(steps, BOTH), DegradationLevel.PLAIN).steps
    assert [getattr(step, "anchor", Anchor()).is_smart for step in plain] == [False] * 4
    assert Kernel("sharpen") not in plain
    assert Kernel("blur") in plain


@given(st.sampled_from(DegradationLevel), st.integers(1, 3000), st.integers(1, 3000))
def test_a_degraded_rendition_has_the_requested_size(level, width, height):
    plan = Plan((Orient(), SMART), BOTH)
    dims = Dims(width, height)

    assert bind_plan(degrade(plan, level), dims).after == bind_plan(plan, dims).after


@pytest.mark.parametrize("level", [DegradationLevel.EFFORT, DegradationLevel.FORMAT, DegradationLevel.PLAIN])
def test_a_degraded_rendition_has_its_own_key(level):
    plan = Plan((Orient(), SMART), BOTH)

    assert plan_digest(degrade(plan, level)) != plan_digest(plan)


def test_a_degraded_rendition_is_what_a_client_without_avif_gets():
    """One record serves both."""
    webp = Plan((Orient(),), Output("auto", offers=("webp",)))

    assert normalize(degrade(Plan((Orient(),), BOTH), DegradationLevel.FORMAT)) == normalize(webp)


@pytest.mark.parametrize("terminal", ["info", "blurhash", "palette"])
def test_descriptions_of_an_image_are_never_degraded(terminal):
    plan = Plan((Orient(), SMART), BOTH, Terminal(terminal))

    assert degrade(plan, DegradationLevel.PLAIN) is plan


def test_levels_begin_in_order_and_end_below_their_thresholds():
    degradation = Degradation()
    pressures = [0.4, 0.6, 1.1, 1.6, 1.2, 1.0, 0.8, 0.6, 0.4, 0.3]

    assert [degradation.level(Criticality.NORMAL, pressure).name for pressure in pressures] == [
        *("NONE", "EFFORT", "FORMAT", "PLAIN", "PLAIN", "FORMAT", "FORMAT", "EFFORT", "EFFORT", "NONE"),
    ]


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_level_follows_from_the_pressure_within_the_hysteresis(pressures):
    degradation = Degradation()
    for pressure in pressures:
        level = degradation.level(Criticality.NORMAL, pressure)
        assert all(level >= step for step, threshold in THRESHOLDS.items() if pressure > threshold)
        assert all(level < step for step, threshold in THRESHOLDS.items() if pressure <= RELIEF * threshold)


def test_each_class_has_its_own_level():
    degradation = Degradation()
    degradation.level(Criticality.NORMAL, 0.6)

    assert degradation.level(Criticality.URGENT, 0.0) is DegradationLevel.NONE
    # Between relief and threshold: only the class that was degraded before is still degraded.
    assert degradation.level(Criticality.NORMAL, 0.4) is DegradationLevel.EFFORT
    assert degradation.level(Criticality.URGENT, 0.4) is DegradationLevel.NONE


def test_half_pixels_stay_exact():
    plan = Plan((Fit(Px(Fraction(99, 2)), Px(10), mode="cover", finish="crop", anchor=Anchor("attention")),), BOTH)

    assert degrade(plan, DegradationLevel.PLAIN).steps[0].width == Px(Fraction(99, 2))
