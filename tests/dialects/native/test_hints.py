"""The value `auto`, which client hints give."""

from fractions import Fraction

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.errors import BadOption
from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.canonical import canonical
from imgserver.plan.normalization import normalize

DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos", client_hints=True)


@pytest.mark.parametrize(
    ("tail", "hints", "names", "plan"),
    [
        ("w_auto/p.jpg", NO_HINTS, ("width",), "orient;fit(width=1280)|"),
        ("w_auto/p.jpg", Hints(width=640), ("width",), "orient;fit(width=640)|"),
        (
            "w_auto,h_90,c_fill/p.jpg",
            Hints(width=160),
            ("width",),
            "orient;fit(width=160,height=90,mode=cover,enlarge=allow,finish=crop)|",
        ),
        ("w_400,dpr_auto/p.jpg", NO_HINTS, ("pixel_ratio",), "orient;fit(width=400)|"),
        ("w_400,dpr_auto/p.jpg", Hints(pixel_ratio=Fraction(2)), ("pixel_ratio",), "orient;fit(width=800)|"),
        ("w_400/p.jpg", Hints(640, Fraction(2), True), (), "orient;fit(width=400)|"),
        ("q_auto/p.jpg", NO_HINTS, ("save_data",), "orient|"),
        ("q_auto,f_webp/p.jpg", NO_HINTS, ("save_data",), "orient|format=webp"),
        ("f_auto,w_auto,q_auto/p.jpg", Hints(width=320), ("width", "save_data"), "orient;fit(width=320)|format=auto"),
    ],
)
def test_the_plan_depends_on_the_hints_that_the_url_asks_for(tail, hints, names, plan):
    request = DIALECT.parse("/img/" + tail, hints)

    assert (request.hints, canonical(normalize(request.plan))) == (names, plan)


@pytest.mark.parametrize(
    "tail", ["q_80/p.jpg", "q_auto:good/p.jpg", "w_9/p.jpg", "q_auto,f_png/p.jpg", "q_auto,f_info/p.jpg"]
)
def test_save_data_counts_for_an_automatic_quality_only(tail):
    assert DIALECT.parse("/img/" + tail).hints == ()


def test_a_hinted_width_is_at_most_max_side():
    tight = NativeDialect(NativeSettings(max_side=500), {"photos"}, "photos", client_hints=True)

    for hints in (NO_HINTS, Hints(width=3840)):
        assert canonical(tight.parse("/img/w_auto/p.jpg", hints).plan).startswith("orient;fit(width=500)")


@pytest.mark.parametrize("tail", ["w_auto,dpr_2/p.jpg", "w_auto/dpr_auto/p.jpg"])
def test_a_hinted_width_and_a_pixel_ratio_exclude_each_other(tail):
    with pytest.raises(BadOption, match="w_auto already counts the pixels"):
        DIALECT.parse("/img/" + tail)


def test_other_options_have_no_value_auto():
    with pytest.raises(BadOption, match='h: "auto" is not allowed'):
        DIALECT.parse("/img/h_auto/p.jpg")


def test_without_client_hints_auto_is_refused(dialect):
    hints = Hints(640, Fraction(2), save_data=True)

    assert dialect.parse("/img/w_9,q_auto/p.jpg", hints) == dialect.parse("/img/w_9,q_auto/p.jpg")
    with pytest.raises(BadOption, match="client hints, which are off here"):
        dialect.parse("/img/w_auto/p.jpg", hints)
