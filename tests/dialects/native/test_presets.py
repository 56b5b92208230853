"""Presets: names for options."""

import pytest

from imgserver.dialects.native import NativeDialect, NativeSettings, preset_faults
from imgserver.errors import BadOption
from imgserver.plan.canonical import plan_digest
from imgserver.security.signing import Keyring, SigningKey

TEXTS = {
    "card": "c_fill,w_400,h_300,g_auto/f_webp,q_70",
    "upright": "a_ignore/w_100",
    "big": "/".join(["w_9"] * 15),
    "download": "fl_attachment:card",
}
DIALECT = NativeDialect(NativeSettings(), {"photos"}, "photos", presets=TEXTS)
ONLY = NativeDialect(
    NativeSettings(presets_only=True), {"photos"}, "photos", presets=TEXTS, keyring=Keyring((SigningKey(bytes(32)),))
)


def digest(options: str) -> str:
    return plan_digest(DIALECT.parse(f"/img/{options}/photo.jpg").plan)


def error_of(dialect: NativeDialect, tail: str) -> BadOption:
    with pytest.raises(BadOption) as caught:
        dialect.parse("/img/" + tail)
    return caught.value


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ("t_card", TEXTS["card"]),
        ("t_c%61rd", TEXTS["card"]),
        ("t_card/q_60", "c_fill,w_400,h_300,g_auto/f_webp,q_60"),
        ("q_60/t_card", TEXTS["card"]),
        ("t_card/e_grayscale", TEXTS["card"] + "/e_grayscale"),
        ("w_900/t_card", "w_900/" + TEXTS["card"]),
        ("t_upright/t_card", TEXTS["upright"] + "/" + TEXTS["card"]),
        ("t_card/dpr_2", "c_fill,w_800,h_600,g_auto/f_webp,q_70"),
    ],
)
def test_a_preset_is_replaced_by_its_text(options: str, meant: str) -> None:
    assert digest(options) == digest(meant)


def test_flags_of_a_preset_count() -> None:
    assert DIALECT.parse("/img/t_download/photo.jpg").attachment == "card"


@pytest.mark.parametrize(
    ("tail", "sentence", "at"),
    [
        ("w_9/t_crad/p.jpg", 't: "crad" is not allowed; the name of a preset of this server; nearest: card', 9),
        ("t_card,q_60/p.jpg", "t: a preset is alone in its segment", 5),
        ("q_60,t_card/p.jpg", "t: a preset is alone in its segment", 10),
        ("w_9/t_upright/p.jpg", "a: ignore is for the first segment only", 9),
        ("t_big/w_8/w_7/p.jpg", "presets make more than 16 option segments", 15),
    ],
)
def test_the_message_says_what_to_change_and_where(tail: str, sentence: str, at: int) -> None:
    error = error_of(DIALECT, tail)

    assert (error.detail, error.facts["at"]) == (sentence, at)


def test_the_limit_counts_the_steps_of_presets() -> None:
    dialect = NativeDialect(NativeSettings(max_steps=3), {"photos"}, "photos", presets={"two": "w_9/w_8"})

    assert dialect.parse("/img/t_two/p.jpg")
    assert "make 4 steps, more than 3" in error_of(dialect, "t_two/w_7/p.jpg").detail


@pytest.mark.parametrize("tail", ["w_9/p.jpg", "t_card/q_60/p.jpg", "q_60/t_card/p.jpg", "exp_9,w_9/p.jpg"])
def test_with_presets_only_any_other_option_is_refused(tail: str) -> None:
    error = error_of(ONLY, tail)

    assert error.detail == "this server allows presets only, such as t_card"
    assert error.facts["argument"] in ("w", "q", "exp")


@pytest.mark.parametrize("tail", ["p.jpg", "t_card/p.jpg", "_/w_9/p.jpg"])
def test_with_presets_only_presets_and_originals_without_options_are_allowed(tail: str) -> None:
    assert ONLY.parse("/img/" + tail)


def test_a_signed_url_with_a_preset_may_expire() -> None:
    rest = "exp_1798761600/t_card/p.jpg"

    assert ONLY.parse(f"/img/s--{ONLY._keyring.sign(rest, source='photos')}--/{rest}").expires == 1_798_761_600


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "w_80O",
            'w: "80O" is not allowed; whole pixels 1-8192 or a fraction 0.0001-1.0, written with a decimal point',
        ),
        ("w_9,w_8", "w: written twice in one segment"),
        ("c_fill,w_9", "c: fill needs two of w, h and ar, or ar alone"),
        ("f_png/fl_lossless.animated", "fl: animated has no effect on png"),
        ("f_jxl", "f: this build cannot write jxl"),
        ("t_card", "t_card: a preset cannot contain another preset or an expiry"),
        ("w_9/exp_1798761600", "exp_1798761600: a preset cannot contain another preset or an expiry"),
        (
            "w_9/photo.jpg",
            '"photo.jpg" is not a segment of options; segments are separated by one /, and no source follows',
        ),
        ("w_9/_", '"_" is not a segment of options; segments are separated by one /, and no source follows'),
        ("/w_9", '"" is not a segment of options; segments are separated by one /, and no source follows'),
        ("", '"" is not a segment of options; segments are separated by one /, and no source follows'),
        ("w_9, q_8", "must be options as they are written in a URL, without spaces, ? and #"),
        ("w_9?x", "must be options as they are written in a URL, without spaces, ? and #"),
        ("w_9/" * 17 + "w_9", "more than 16 option segments"),
        ("a_90/a_ignore", "a: ignore is for the first segment only"),
    ],
)
def test_a_preset_that_cannot_be_parsed_is_a_fault(text: str, fault: str) -> None:
    assert list(preset_faults({"one": text}, NativeSettings())) == [f"presets.one: {fault}"]


def test_every_bad_preset_is_a_fault_and_no_good_one() -> None:
    assert list(preset_faults(TEXTS, NativeSettings(presets_only=True))) == []
    assert len(list(preset_faults({"a": "w_0", **TEXTS, "b": "q_0"}, NativeSettings()))) == 2
