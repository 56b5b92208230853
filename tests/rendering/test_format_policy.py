from dataclasses import replace

import pytest

from imgserver.engine.job import Limits
from imgserver.errors import BadOption, UnsupportedImage
from imgserver.plan.plan import Output, Plan, Terminal
from imgserver.rendering.format_policy import FormatPolicy
from imgserver.security.policy import FormatLists, PixelLimits

PNG, WEBP = b"\x89PNG\r\n\x1a\n" + bytes(64), b"RIFF\0\0\0\0WEBPVP8 " + bytes(64)
PLAIN = FormatLists(write=("jpg", "png", "gif"))


def format_policy(**parts) -> FormatPolicy:
    policy = FormatPolicy()
    for name, value in parts.items():
        setattr(policy, name, value)
    return policy


def plan(**output) -> Plan:
    return Plan(output=Output(**output))


def test_without_a_policy_nothing_is_changed() -> None:
    one = Plan(output=Output(format="auto", offers=("avif", "webp")))

    assert FormatPolicy().permitted_plan(one, WEBP) is one
    assert FormatPolicy().limits(Limits()) == Limits()
    FormatPolicy().check_output(plan(format="tiff"))


def test_pixel_limits_replace_those_of_the_settings() -> None:
    limits = Limits(source_pixels=5, output_pixels=6)

    assert format_policy(pixels=PixelLimits(source=9)).limits(limits) == replace(limits, source_pixels=9)
    assert format_policy(pixels=PixelLimits(output=2)).limits(limits) == replace(limits, output_pixels=2)


def test_a_url_cannot_name_a_format_that_the_policy_does_not_allow() -> None:
    with pytest.raises(BadOption) as caught:
        format_policy(formats=PLAIN).check_output(plan(format="webp"))
    assert caught.value.facts == {"argument": "f", "value": "webp", "allowed": "jpg, png, gif"}
    for name in ("auto", "source", "jpg"):
        format_policy(formats=PLAIN).check_output(plan(format=name))
    format_policy(formats=PLAIN).check_output(Plan(output=Output(format="webp"), terminal=Terminal("info")))


def test_negotiation_offers_only_allowed_formats() -> None:
    permitted = format_policy(formats=PLAIN).permitted_plan(plan(format="auto", offers=("avif", "webp")), PNG)

    assert permitted.output.offers == ()


def test_the_format_of_the_source_is_used_only_if_it_is_allowed() -> None:
    assert format_policy(formats=PLAIN).permitted_plan(plan(format="source"), WEBP).output.format == "auto"
    assert format_policy(formats=PLAIN).permitted_plan(plan(format="source"), PNG).output.format == "source"


def test_an_original_of_a_forbidden_format_is_refused_by_its_first_bytes() -> None:
    with pytest.raises(UnsupportedImage) as caught:
        format_policy(formats=FormatLists(read=("jpg",))).permitted_plan(plan(), PNG)
    assert caught.value.facts == {"format": "png"}
    # The worker refuses unknown formats.
    format_policy(formats=FormatLists(read=("jpg",))).permitted_plan(plan(), b"nothing")
