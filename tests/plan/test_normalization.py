"""Equal images have one normal form, and different images have different ones."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.plan.canonical import (
    canonical,
    plan_digest,
)
from imgserver.plan.geometry import bind_plan
from imgserver.plan.normalization import join_motions, normalize
from imgserver.plan.plan import (
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
    Output,
    Plan,
    Px,
    Rel,
    Step,
    Terminal,
    Tone,
    Trim,
    Turn,
)

ALL = Rel(Fraction(1))


HALF = Rel(Fraction(1, 2))


NOTHING = Rel(Fraction(0))


def text_of(*steps: Step, output: Output | None = None) -> str:
    return canonical(normalize(Plan(steps, output or Output())))


@pytest.mark.parametrize(
    "step",
    [
        Fit(),
        Fit(ALL),
        Fit(ALL, ALL, finish="pad"),
        Fit(ratio=Fraction(1)),
        Crop(),
        Crop(ALL, ALL),
        Crop(ALL, anchor=Anchor("south")),
        Canvas(),
        Canvas((NOTHING, Px(0), Px(0), Px(0))),
        Turn(),
        Turn(degrees=360),
        Turn(degrees=-720),
        Turn(motion=6, degrees=270),
        Tone("brightness"),
        Tone("gamma"),
        Tone("opacity"),
        Tone("hue", Fraction(0)),
        Tone("hue", Fraction(360)),
        Tone("sepia", Fraction(0)),
        Kernel("blur", 0),
        Mask(),
        Flatten(TRANSPARENT),
        Flatten(Color(9, 9, 9, 0)),
    ],
)
def test_a_neutral_step_is_dropped(step: Step) -> None:
    assert text_of(step) == "|"


@pytest.mark.parametrize(
    "step",
    [
        Orient(),
        Orient(3),
        Trim(),
        Fit(Px(1)),
        Fit(HALF),
        Fit(ALL, enlarge="allow", finish="pad", height=Px(3)),
        Fit(ratio=Fraction(1), mode="cover", finish="crop"),
        Crop(ALL, anchor=Anchor("south", dy=Px(3))),
        Crop(ratio=Fraction(1)),
        Crop(zoom=Fraction(2)),
        Turn(2),
        Turn(degrees=1),
        Tone("hue", Fraction(1)),
        Tone("opacity", Fraction(0)),
        Tone("grayscale"),
        Mask(ellipse=True),
        Flatten(),
    ],
)
def test_a_step_with_an_effect_stays(step: Step) -> None:
    assert normalize(Plan((step,))).steps != ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Fit(Px(800), ratio=Fraction(16, 9)), Fit(Px(800), Px(450))),
        (Fit(height=Px(450), ratio=Fraction(16, 9)), Fit(Px(800), Px(450))),
        (Fit(Px(100), ratio=Fraction(3)), Fit(Px(100), Px(Fraction(100, 3)))),
        (Fit(Px(8), Px(9), ratio=Fraction(3)), Fit(Px(8), Px(9))),
        (Fit(Px(Fraction(800))), Fit(Px(800))),
        (Fit(Px(8), fill=WHITE, anchor=Anchor("north")), Fit(Px(8))),
        (Fit(Px(8), mode="cover"), Fit(Px(8))),
        (Fit(Px(8), mode="exact"), Fit(Px(8))),
        (Fit(HALF, enlarge="allow"), Fit(HALF)),
        (Fit(HALF, HALF, mode="exact", enlarge="reject"), Fit(HALF, HALF, mode="exact")),
        (
            Fit(ratio=Fraction(1), mode="cover", enlarge="shrink_box", finish="crop"),
            Fit(ratio=Fraction(1), mode="cover", enlarge="allow", finish="crop", shrink=False),
        ),
        (
            Fit(Px(8), Px(8), finish="pad", fill=Color(1, 2, 3, 0)),
            Fit(Px(8), Px(8), finish="pad"),
        ),
        (Crop(ALL, Px(5)), Crop(None, Px(5))),
        (Crop(Px(50), ratio=Fraction(2)), Crop(Px(50), Px(25))),
        (Crop(Px(5), anchor=Anchor("north", dx=NOTHING, fx=Px(3))), Crop(Px(5), anchor=Anchor("north"))),
        (Turn(degrees=-15), Turn(degrees=345)),
        (Turn(degrees=90), Turn(6)),
        (Turn(degrees=-90, fill=WHITE), Turn(8)),
        (Tone("hue", Fraction(-180)), Tone("hue", Fraction(180))),
        (Mask((1, 1, 1, 1), ellipse=True), Mask(ellipse=True)),
        (Trim(color=WHITE), Trim()),
    ],
)
def test_equal_steps_have_one_text(one: Step, other: Step) -> None:
    assert text_of(one) == text_of(other) != "|"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Output("png", quality=80, lossless=True), Output("png")),
        (Output("webp", lossless=True, quality=3), Output("webp", lossless=True)),
        (Output("jpg", lossless=True, quality=3), Output("jpg", quality=3)),
        (Output("webp", progressive=True, offers=("webp",)), Output("webp")),
        (Output("jpg", frames="first"), Output("jpg")),
        (Output("png", background=Color(1, 2, 3)), Output("png")),
        (Output("source", offers=("avif", "webp")), Output()),
    ],
)
def test_equal_outputs_have_one_text(one: Output, other: Output) -> None:
    assert text_of(output=one) == text_of(output=other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Output("auto", offers=("webp",)), Output("auto")),
        (Output("auto"), Output("source")),
        (Output("jpg", quality=80), Output("jpg", quality=81)),
        # A level also bounds the result by its original.
        (Output("jpg", quality=80), Output("jpg", quality="good")),
        (Output("jpg", background=Color(1, 2, 3)), Output("jpg")),
        (Output("gif", frames="first"), Output("gif")),
        (Output("jpg", frames=1), Output("jpg")),
        (Output("jpg", frames=1), Output("jpg", frames="first")),
        (Output(quality="good"), Output(quality="eco")),
        (Output("webp", lossless=True), Output("webp")),
        (Output(metadata="all"), Output()),
        (Output(profile="keep"), Output()),
    ],
)
def test_different_outputs_have_different_texts(one: Output, other: Output) -> None:
    assert text_of(output=one) != text_of(output=other)


def test_data_about_an_image_does_not_depend_on_how_the_image_would_be_encoded() -> None:
    plan = Plan(output=Output(quality=3, metadata="all", lossless=True), terminal=Terminal("info", colors=9))

    assert canonical(normalize(plan)) == "||kind=info"


CORNERS = ((0, 0), (1, 0), (0, 1))


def moved(point: tuple[int, int], motion: int) -> tuple[int, int]:
    """The corner of a unit square after a motion."""
    x, y = point
    return {
        1: (x, y),
        2: (1 - x, y),
        3: (1 - x, 1 - y),
        4: (x, 1 - y),
        5: (y, x),
        6: (1 - y, x),
        7: (1 - y, 1 - x),
        8: (y, 1 - x),
    }[motion]


@pytest.mark.parametrize("second", range(1, 9))
@pytest.mark.parametrize("first", range(1, 9))
def test_two_rigid_turns_are_joined_to_one_that_moves_every_corner_equally(first: int, second: int) -> None:
    joined = join_motions(first, second)

    assert [moved(moved(c, first), second) for c in CORNERS] == [moved(c, joined) for c in CORNERS]
    assert text_of(Turn(first), Turn(second)) == text_of(Turn(joined))


def test_turns_are_joined_across_neutral_steps_but_not_across_others() -> None:
    assert text_of(Turn(6), Fit(), Turn(8)) == "|"
    assert text_of(Turn(6), Fit(Px(3)), Turn(8)) == "turn(motion=6);fit(width=3);turn(motion=8)|"
    assert text_of(Turn(6), Turn(degrees=5)) == "turn(motion=6);turn(degrees=5)|"


lengths = st.one_of(
    st.integers(1, 300).map(Px),
    st.fractions(Fraction(1, 2), 300, max_denominator=8).map(Px),
    st.fractions(Fraction(1, 40), 1, max_denominator=40).map(Rel),
)


offsets = st.one_of(st.integers(-20, 20).map(Px), st.just(NOTHING))


ratios = st.fractions(Fraction(1, 4), 4, max_denominator=20)


anchors = st.builds(
    Anchor, st.sampled_from(["center", "north", "south_west", "focal", "attention"]), lengths, lengths, offsets, offsets
)


fits = st.builds(
    Fit,
    st.none() | lengths,
    st.none() | lengths,
    st.none() | ratios,
    st.sampled_from(["contain", "cover", "exact"]),
    st.sampled_from(["deny", "allow", "shrink_box"]),
    st.booleans(),
    st.sampled_from(["none", "crop", "pad"]),
    anchors,
)


turns = st.builds(Turn, st.integers(1, 8)) | st.builds(Turn, degrees=st.integers(-360, 360))


steps = fits | turns | st.builds(Canvas, st.tuples(*[offsets.filter(lambda o: o == NOTHING or o.value >= 0)] * 4))


plans = st.lists(steps, max_size=5).map(lambda found: Plan((Orient(), *found)))


dims = st.builds(Dims, st.integers(1, 400), st.integers(1, 400), st.integers(1, 8))


@given(plans, dims)
def test_normalizing_changes_no_size(plan: Plan, size: Dims) -> None:
    assert bind_plan(normalize(plan), size).after == bind_plan(plan, size).after


@given(plans)
def test_normalizing_twice_is_normalizing_once(plan: Plan) -> None:
    once = normalize(plan)

    assert normalize(once) == once
    assert plan_digest(once) == plan_digest(plan)


@given(plans, plans)
def test_plans_that_differ_when_normalized_have_different_texts(one: Plan, other: Plan) -> None:
    assert (normalize(one) == normalize(other)) == (canonical(normalize(one)) == canonical(normalize(other)))
