"""What is left out, when, and that nothing a URL says outright is changed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.plan.canonical import normalise, plan_digest
from imgserver.plan.geometry import bind_plan
from imgserver.plan.plan import Anchor, Crop, Dims, Fit, Kernel, Orient, Output, Plan, Px, Terminal
from imgserver.rendering.degradation import RELIEF, THRESHOLDS, Degradation, Rung, cheaper

BOTH = Output("auto", offers=("avif", "webp"))
SMART = Fit(Px(300), Px(300), mode="cover", finish="crop", anchor=Anchor("attention"))


@pytest.mark.parametrize(
    ("output", "rung", "left"),
    [
        (BOTH, Rung.WHOLE, BOTH),
        (BOTH, Rung.EFFORT, Output("auto", offers=("avif", "webp"), effort=0)),
        (BOTH, Rung.FORMAT, Output("auto", offers=("webp",))),
        (BOTH, Rung.PLAIN, Output("auto")),
        (Output("auto", offers=("webp",)), Rung.FORMAT, Output("auto", offers=("webp",))),
        (Output("auto", offers=("webp",)), Rung.PLAIN, Output("auto")),
        # The URL says AVIF, and nothing of how much work goes into it.
        (Output("avif"), Rung.EFFORT, Output("avif", effort=0)),
        (Output("avif"), Rung.PLAIN, Output("avif", effort=0)),
        (Output("avif", effort=4), Rung.PLAIN, Output("avif", effort=4)),
        (Output("webp", quality=30), Rung.PLAIN, Output("webp", quality=30)),
    ],
)
def test_what_each_rung_leaves_of_the_output(output, rung, left):
    assert cheaper(Plan((Orient(),), output), rung).output == left


def test_only_the_last_rung_takes_smart_crops_and_sharpening():
    steps = (Orient(), Crop(Px(500), Px(500), anchor=Anchor("entropy")), SMART, Kernel("sharpen"), Kernel("blur"))

    assert cheaper(Plan(steps, BOTH), Rung.FORMAT).steps == steps
    plain = cheaper(Plan(steps, BOTH), Rung.PLAIN).steps
    assert [getattr(step, "anchor", Anchor()).is_smart for step in plain] == [False] * 4
    assert Kernel("sharpen") not in plain
    assert Kernel("blur") in plain


@given(st.sampled_from(Rung), st.integers(1, 3000), st.integers(1, 3000))
def test_a_cheaper_picture_has_the_size_that_was_asked_for(rung, width, height):
    plan = Plan((Orient(), SMART), BOTH)
    dims = Dims(width, height)

    assert bind_plan(cheaper(plan, rung), dims).after == bind_plan(plan, dims).after


@pytest.mark.parametrize("rung", [Rung.EFFORT, Rung.FORMAT, Rung.PLAIN])
def test_a_cheaper_picture_has_a_key_of_its_own(rung):
    plan = Plan((Orient(), SMART), BOTH)

    assert plan_digest(cheaper(plan, rung)) != plan_digest(plan)


def test_what_a_client_without_avif_gets_is_the_same_picture():
    """One record serves both: the degraded answer of one is the proper answer of the other."""
    webp = Plan((Orient(),), Output("auto", offers=("webp",)))

    assert normalise(cheaper(Plan((Orient(),), BOTH), Rung.FORMAT)) == normalise(webp)


@pytest.mark.parametrize("terminal", ["info", "blurhash", "palette"])
def test_what_is_told_about_a_picture_is_never_cheapened(terminal):
    plan = Plan((Orient(), SMART), BOTH, Terminal(terminal))

    assert cheaper(plan, Rung.PLAIN) is plan


def test_rungs_are_taken_in_order_and_left_below_where_they_were_taken():
    degradation = Degradation()
    pressures = [0.4, 0.6, 1.1, 1.6, 1.2, 1.0, 0.8, 0.6, 0.4, 0.3]

    assert [degradation.at(pressure).name for pressure in pressures] == [
        *("WHOLE", "EFFORT", "FORMAT", "PLAIN", "PLAIN", "FORMAT", "FORMAT", "EFFORT", "EFFORT", "WHOLE"),
    ]


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_rung_always_follows_from_the_pressure_within_the_relief(pressures):
    degradation = Degradation()
    for pressure in pressures:
        rung = degradation.at(pressure)
        assert all(rung >= step for step, threshold in THRESHOLDS.items() if pressure > threshold)
        assert all(rung < step for step, threshold in THRESHOLDS.items() if pressure <= RELIEF * threshold)


def test_halves_of_pixels_stay_exact():
    plan = Plan((Fit(Px(Fraction(99, 2)), Px(10), mode="cover", finish="crop", anchor=Anchor("attention")),), BOTH)

    assert cheaper(plan, Rung.PLAIN).steps[0].width == Px(Fraction(99, 2))
