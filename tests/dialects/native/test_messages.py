"""Which targets are refused, with which status and which message."""

from dataclasses import fields

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings
from imgserver.dialects.native.options import OPTIONS
from imgserver.dialects.native.segment import Segment
from imgserver.errors import (
    BadOption,
    ImgserverError,
    NotInThisBuild,
    SignatureRefused,
    SourceDenied,
    TargetTooLong,
)

SIDE = "whole pixels 1-8192 or a fraction 0.0001-1.0, written with a decimal point"

BAD_VALUES = [
    ("w", "80O"),
    ("w", "0"),
    ("w", "0.0"),
    ("w", "8193"),
    ("w", "1.5"),
    ("w", "-5"),
    ("w", "+5"),
    ("w", "05"),
    ("w", "1e3"),
    ("w", "1_0"),
    ("w", ".5"),
    ("w", "0.00001"),
    ("w", "0.12345"),
    ("w", "9" * 5000),
    ("w", ""),
    ("h", "%EF%BC%91"),
    ("h", "nan"),
    ("ar", "16:0"),
    ("ar", "16:9:1"),
    ("ar", "10000:1"),
    ("ar", "0.001"),
    ("ar", "101"),
    ("c", "fil"),
    ("g", "top"),
    ("x", "65536"),
    ("x", "1.0001"),
    ("y", "--1"),
    ("z", "0.05"),
    ("z", "11"),
    ("z", "1.00001"),
    ("a", "361"),
    ("a", "9.5"),
    ("a", "flip"),
    ("a", "90.15"),
    ("a", "90..hflip"),
    ("e", "blurr:4"),
    ("e", "blur:0.1"),
    ("e", "blur:101"),
    ("e", "blur:1:2"),
    ("e", "brightness"),
    ("e", "brightness:101"),
    ("e", "grayscale:1"),
    ("e", "pixelate:2.5"),
    ("e", "trim:256"),
    ("e", "trim:1:nocolor"),
    ("e", "trim:1:fff:1"),
    ("o", "101"),
    ("r", "4097"),
    ("r", "1:2:3:4:5"),
    ("r", "1:max"),
    ("bo", "0"),
    ("bo", "4:"),
    ("bo", "501"),
    ("b", "fffff"),
    ("b", "ggg"),
    ("b", "White"),
    ("f", "heic"),
    ("f", "palette:17"),
    ("f", "palette:"),
    ("f", "info:1"),
    ("q", "0"),
    ("q", "101"),
    ("q", "auto:super"),
    ("dpr", "0.4"),
    ("dpr", "5"),
    ("pg", "0"),
    ("pg", "10000"),
    ("fl", "stil"),
    ("fl", "still:1"),
    ("fl", "attachment:a%20b"),
    ("fl", "still.still"),
    ("exp", "soon"),
    ("t", "Card"),
    ("t", ""),
    ("t", "a" * 65),
]


def error_of(dialect: NativeDialect, tail: str) -> ImgserverError:
    with pytest.raises(ImgserverError) as caught:
        dialect.parse("/img/" + tail)
    return caught.value


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_the_error_for_a_bad_value_names_key_range_and_position(dialect: NativeDialect, key: str, value: str) -> None:
    error = error_of(dialect, f"q_80,{key}_{value}/photo.jpg" if key != "q" else f"w_80,{key}_{value}/photo.jpg")

    assert isinstance(error, BadOption)
    assert error.facts["argument"] == key
    assert error.facts["allowed"]
    assert error.facts["at"] == len("/img/q_80,")
    assert error.detail.startswith(f'{key}: "') and error.facts["allowed"] in error.detail


def test_every_key_of_this_build_has_a_bad_value_in_the_table() -> None:
    assert {row.key for row in OPTIONS.values() if not row.later} == {key for key, _ in BAD_VALUES}


def test_every_option_of_this_build_has_a_field() -> None:
    assert {row.name for row in OPTIONS.values() if not row.later} == {field.name for field in fields(Segment)} - {
        "written"
    }


@pytest.mark.parametrize(
    ("tail", "sentence"),
    [
        ("w_80O/p.jpg", f'w: "80O" is not allowed; {SIDE}'),
        ("w_archive/p.jpg", f'w: "archive" is not allowed; {SIDE}; if w_archive is a folder, write `_/` before it'),
        ("w_800,wd_800/p.jpg", 'no option "wd" next to w_800; nearest: w (width)'),
        ("w_800,qality_8/p.jpg", 'no option "qality" next to w_800; nearest: q (quality)'),
        ("w_800,photo/p.jpg", 'no option "photo" next to w_800'),
        ("w_800,,h_9/p.jpg", 'no option "" next to w_800'),
        ("j_smith/p.jpg", 'no option "j"; if j_smith is a folder, write `_/` before it'),
        ("w_800,j_5/p.jpg", 'no option "j" next to w_800'),
        ("w_9,w_8/p.jpg", "w: written twice in one segment"),
        ("fl_still,fl_still/p.jpg", "fl: still is written twice in one segment"),
        ("w_auto/p.jpg", "w: auto is for client hints, which are off here"),
        ("w_9,dpr_auto/p.jpg", "dpr: auto is for client hints, which are off here"),
        ("w_%zz/p.jpg", "w: a % without two hex digits; a percent sign itself is %25"),
        ("w_8%00/p.jpg", "w: a control character"),
        ("w_%ff/p.jpg", "w: percent-encoded bytes that are not UTF-8"),
        ("w_9,h_9,ar_1:1/p.jpg", "ar: w and h already give the shape; two of w, h and ar are enough"),
        ("c_fill/p.jpg", "c: fill needs a side: w, h or ar"),
        ("c_crop,f_png/p.jpg", "c: crop needs a side: w, h or ar"),
        ("c_fill,w_400/p.jpg", "c: fill needs two of w, h and ar, or ar alone"),
        ("c_pad,h_400/p.jpg", "c: pad needs two of w, h and ar, or ar alone"),
        ("c_thumb,ar_1:1,g_auto/p.jpg", "c: thumb needs two of w, h and ar"),
        ("c_thumb,w_0.5,h_9,g_auto/p.jpg", "w: thumb needs whole pixels: a fraction gives no ratio"),
        ("c_scale,ar_1:1/p.jpg", "c: scale needs w or h besides ar"),
        ("w_9,g_north/p.jpg", "g: c_limit neither crops nor pads, so that g, x and y have no effect"),
        ("w_9,x_3/p.jpg", "x: c_limit neither crops nor pads, so that g, x and y have no effect"),
        ("y_3/p.jpg", "y: a segment without a side neither crops nor pads, so that g, x and y have no effect"),
        (
            "c_pad,w_9,h_9,g_auto/p.jpg",
            "g: auto is for modes that crop; c_pad needs a compass point",
        ),
        (
            "c_fill,w_9,h_9,g_auto,x_5/p.jpg",
            "x: g_auto chooses the place; an offset needs a compass point",
        ),
        ("c_fill,w_9,h_9,g_xy,x_0.5/p.jpg", "g: xy needs x and y, the point to keep; y is missing"),
        (
            "c_fill,w_9,h_9,g_xy,x_0.5,y_-0.1/p.jpg",
            'y: "-0.1" is not allowed; a point inside the image: pixels from 0, or a fraction 0.0-1.0',
        ),
        ("c_fill,w_9,h_9,z_2/p.jpg", "z: only with c_thumb"),
        ("w_9/a_ignore/p.jpg", "a: ignore is for the first segment only"),
        ("a_90.ignore/p.jpg", "a: ignore must come first, and only once"),
        ("w_9,b_auto/p.jpg", "b: auto is for the pad modes: pad lpad mpad rpad"),
        ("b_blurred/p.jpg", "b: blurred is for the pad modes: pad lpad mpad rpad"),
        ("fl_animated,pg_2/p.gif", "pg: one page has no animation; leave out fl_animated"),
        ("fl_animated,f_png/p.gif", "fl: animated has no effect on png"),
        ("fl_lossless/f_jpg/p.png", "fl: lossless has no effect on jpg"),
        ("fl_progressive,f_webp/p.png", "fl: progressive has no effect on webp"),
        ("fl_animated.still/p.gif", "fl: animated and still exclude each other"),
        ("exp_1798761600,w_9/p.jpg", "exp: only in signed URLs: anybody could write another time"),
    ],
)
def test_the_message_says_what_to_change(dialect: NativeDialect, tail: str, sentence: str) -> None:
    error = error_of(dialect, tail)

    assert (type(error), error.detail) == (BadOption, sentence)


@pytest.mark.parametrize(
    ("tail", "nearest"),
    [
        ("c_fil,w_9/p.jpg", "fill"),
        ("e_blurr:4/p.jpg", "blur"),
        ("e_grayscal/p.jpg", "grayscale"),
        ("f_jepg/p.jpg", "jpg"),
        ("g_nort,c_fill,w_9,h_9/p.jpg", "north"),
        ("b_whit/p.jpg", "white"),
        ("w_9,hight_9/p.jpg", "h"),
        ("c_zzzz,w_9/p.jpg", None),
        ("e_brightness:101/p.jpg", None),
    ],
)
def test_the_nearest_known_word_is_named(dialect: NativeDialect, tail: str, nearest: str | None) -> None:
    error = error_of(dialect, tail)

    assert error.facts.get("nearest") == nearest
    assert nearest is None or f"nearest: {nearest}" in error.detail


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ("l_logo.png,w_9/p.jpg", "layers are not in this build"),
        ("w_9/l_text:sans_48:Hi%0Ayou,co_fff/p.jpg", "layers are not in this build"),
        ("u_back.png/p.jpg", "underlays are not in this build"),
        ("co_fff/p.jpg", "text layers are not in this build"),
        ("c_fill,w_9,h_9,g_face/p.jpg", "detects no faces"),
        ("c_thumb,w_9,h_9/p.jpg", "try g_auto"),
        ("f_jxl/p.jpg", "cannot write jxl"),
        ("fl_tile/p.jpg", "tile belongs to layers"),
    ],
)
def test_an_option_of_a_later_build_is_not_in_this_build(dialect: NativeDialect, tail: str, words: str) -> None:
    error = error_of(dialect, tail)

    assert isinstance(error, NotInThisBuild) and words in error.detail


def test_a_signature_without_a_key_is_refused(dialect: NativeDialect) -> None:
    assert type(error_of(dialect, "s--mVQWZncozB1VroorjC3Lcg--/w_800,q_80/photo.jpg")) is SignatureRefused


def test_a_signature_counts_in_the_first_segment_only(dialect: NativeDialect) -> None:
    assert dialect.parse("/img/w_9/s--x--/a.jpg").ref.path == "s--x--/a.jpg"
    assert dialect.parse("/img/_/s--x--/a.jpg").ref.path == "s--x--/a.jpg"
    assert dialect.parse("/img/s--x--").ref.path == "s--x--"


@pytest.mark.parametrize(
    "tail",
    [
        "w_400/https://example.com/a%20b.jpg",
        "w_400/https:/example.com/a.jpg",
        "HTTP://example.com/a.jpg",
        "https%3A%2F%2Fexample.com%2Fa.jpg%3Fid%3D5",
        "w_400/b64/aHR0cHM6Ly9leGFtcGxlLmNvbS9hLmpwZz9pZD01",
    ],
)
def test_a_url_of_another_host_is_denied(dialect: NativeDialect, tail: str) -> None:
    assert type(error_of(dialect, tail)) is SourceDenied


def test_limits_are_settings() -> None:
    tight = NativeDialect(
        NativeSettings(max_side=100, max_segments=2, max_steps=3, max_target_bytes=256), {"photos"}, "photos"
    )

    assert "1-100 or" in error_of(tight, "w_101/p.jpg").detail
    assert "more than 2 option segments" in error_of(tight, "w_9/w_8/w_7/p.jpg").detail
    assert "make 4 steps, more than 3" in error_of(tight, "e_blur,e_blur,e_blur/p.jpg").detail
    assert type(error_of(tight, "a" * 256)) is TargetTooLong
    assert tight.parse("/img/c_crop,w_101/w_100/" + "p" * 232).plan.steps


def test_a_target_may_have_eight_thousand_bytes_with_its_query(dialect: NativeDialect) -> None:
    target = "/img/p.jpg?".ljust(8000, "v")

    assert dialect.parse(target).ref.path == "p.jpg"
    with pytest.raises(TargetTooLong):
        dialect.parse(target + "v")


@pytest.mark.parametrize("sources", [{"b64"}, {"text"}, {"Photos"}, {"w_1"}, {"other"}])
def test_source_names_that_the_grammar_does_not_allow_are_refused(sources: set[str]) -> None:
    with pytest.raises(ValueError, match="source names"):
        NativeDialect(NativeSettings(), sources, "photos")
