"""Content negotiation by Accept, Save-Data and client hints."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from imgserver.headers.negotiation import (
    EVERY_HINT,
    HINT_FIELDS,
    NO_HINTS,
    Hints,
    is_negotiated,
    negotiate,
    offers,
    read_hints,
    variants,
    vary,
)
from imgserver.plan.canonical import plan_digest
from imgserver.plan.plan import ImageRequest, Output, Plan, SourceRef, Terminal

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI = "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,*/*;q=0.5"
OLD = "image/webp,*/*"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, ()),
        ("", ()),
        ("*/*", ()),
        ("image/*", ()),
        ("image/*,*/*;q=0.8", ()),
        ("text/html", ()),
        ("image/jpeg", ()),
        (CHROME, ("avif", "webp")),
        (SAFARI, ("avif", "webp")),
        (OLD, ("webp",)),
        ("image/avif", ("avif", "webp")),
        ("image/avif,image/webp;q=0", ()),
        ("image/avif;q=0", ()),
        ("image/avif;q=0,image/webp", ("webp",)),
        ("image/avif;q=0.0,image/webp;q=0.001", ("webp",)),
        ("image/avif;q=0,image/avif,image/webp", ("webp",)),
        ("image/avif;q=0.5,image/webp", ("webp",)),
        ("image/avif;q=1.000,image/webp;q=0.9", ("avif", "webp")),
        ("IMAGE/WebP ; Q=0.5", ("webp",)),
        ("image/webp;level=1;q=0", ()),
        ('image/webp;note="a,b;q=0";q=0.4', ("webp",)),
        ('text/plain;x="image/webp,image/avif"', ()),
        ("image/webp;q=2", ()),
        ("image/webp;q=abc,image/avif;q=", ()),
        ("image/webp;q=0.1234", ()),
        ("image/webp;q=\u0661", ()),
        ("image/webpx,ximage/avif", ()),
        (',,;;=,"image/webp', ()),
        ("image/webp, ,*/*", ("webp",)),
        ("image/avif, ;", ("avif", "webp")),
        ("image/webp;;", ("webp",)),
    ],
)
def test_accept_is_reduced_to_the_supported_formats(accept: str | None, expected: tuple[str, ...]) -> None:
    assert offers(accept) == expected


@given(st.text() | st.text(alphabet='image/webpavif*,;=q.01 "\\'))
def test_malformed_fields_never_raise(accept: str) -> None:
    assert offers(accept) in ((), ("webp",), ("avif", "webp"))


def test_a_thousand_accept_fields_make_three_keys() -> None:
    made = random.Random(7)
    types = ["image/avif", "image/webp", "image/*", "*/*", "image/png", "image/jxl", "text/html"]
    weights = ["", ";q=0", ";q=0.5", ";q=1", ";q=bad", ";v=b3;q=0.7"]
    fields = {
        ",".join(made.choice(types) + made.choice(weights) for _ in range(made.randint(0, 6))) for _ in range(1000)
    }

    keys = {plan_digest(Plan(output=negotiate(Output("auto"), offers(field)))) for field in fields}

    assert len(fields) > 500
    assert len(keys) == 3


def test_only_the_format_auto_is_negotiated() -> None:
    assert negotiate(Output("auto"), ("avif", "webp")).offers == ("avif", "webp")
    for name in ("webp", "jpg", "source"):
        assert negotiate(Output(name), ("avif", "webp")).offers == ()


@pytest.mark.parametrize(
    ("quality", "save_data", "expected"),
    [("auto", False, "good"), ("auto", True, "eco"), ("best", True, "best"), (80, True, 80)],
)
def test_save_data_lowers_only_an_automatic_quality(quality: object, save_data: bool, expected: object) -> None:
    assert negotiate(Output(quality=quality), (), save_data=save_data).quality == expected  # type: ignore[arg-type]


def test_a_negotiated_output_depends_on_no_header() -> None:
    once = negotiate(Output("auto"), ("webp",))

    assert negotiate(once, once.offers, save_data=True) == once


def test_vary_accept_is_sent_only_for_the_format_auto() -> None:
    assert is_negotiated(Plan(output=Output("auto")))
    assert not is_negotiated(Plan(output=Output("webp")))
    assert not is_negotiated(Plan())
    assert not is_negotiated(Plan(output=Output("auto"), terminal=Terminal("info")))


def test_vary_contains_exactly_the_fields_that_a_url_uses() -> None:
    ref, auto, plain = SourceRef("photos", "a.jpg"), Plan(output=Output("auto")), Plan()

    assert vary(ImageRequest(ref, plain)) == ""
    assert vary(ImageRequest(ref, auto)) == "Accept"
    assert vary(ImageRequest(ref, plain, hints=("width",))) == "Sec-CH-Width, Width"
    assert vary(ImageRequest(ref, auto, hints=("pixel_ratio", "save_data"))) == "Accept, Sec-CH-DPR, DPR, Save-Data"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, NO_HINTS),
        ({"Sec-CH-Width": "500"}, Hints(width=640)),
        ({"Width": "500"}, Hints(width=640)),
        ({"Sec-CH-Width": "640", "Width": "100"}, Hints(width=640)),
        ({"Sec-CH-Width": "0"}, Hints(width=160)),
        ({"Sec-CH-Width": "999999"}, Hints(width=3840)),
        ({"Sec-CH-DPR": "1.1"}, Hints(pixel_ratio=Fraction(3, 2))),
        ({"Sec-CH-DPR": "2"}, Hints(pixel_ratio=Fraction(2))),
        ({"DPR": "99.5"}, Hints(pixel_ratio=Fraction(3))),
        ({"Save-Data": "on"}, Hints(save_data=True)),
        ({"Save-Data": "off"}, NO_HINTS),
        *(
            ({"Sec-CH-Width": text, "Sec-CH-DPR": text}, NO_HINTS)
            for text in ("", "-1", "1e3", "a", "1, 2", "\u0663", "9" * 99)
        ),
    ],
)
def test_a_hint_is_rounded_up_and_a_malformed_one_is_ignored(headers: dict[str, str], expected: Hints) -> None:
    assert read_hints(CIMultiDict(headers), EVERY_HINT) == expected


def test_hints_that_a_url_does_not_use_are_ignored() -> None:
    headers = CIMultiDict({"Sec-CH-Width": "500", "Sec-CH-DPR": "2", "Save-Data": "on"})

    assert read_hints(headers, ()) == NO_HINTS
    assert read_hints(headers, ("save_data",)) == Hints(save_data=True)


def test_a_url_has_few_variants_and_all_are_listed_whatever_the_hints() -> None:
    made = random.Random(7)
    texts = [str(made.uniform(0, 10_000))[: made.randint(1, 7)] for _ in range(3000)]

    for hint in EVERY_HINT:
        found = {read_hints(CIMultiDict(dict.fromkeys(HINT_FIELDS[hint], text)), (hint,)) for text in texts}
        assert found <= set(variants((hint,)))
    assert len(set(variants(("width", "save_data")))) == 24
    assert list(variants(())) == [NO_HINTS]
