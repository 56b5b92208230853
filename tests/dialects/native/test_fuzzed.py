"""Any target is parsed or refused with an error of `errors.py`, with every feature of the dialect switched on."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgserver.headers.negotiation import NO_HINTS, Hints
from imgserver.plan.plan import ImageRequest
from imgserver.security.remote_url import REMOTE
from tests.fuzz.targets import check, hints, targets


@given(targets(), hints)
def test_any_target_is_parsed_or_refused(target: str, given: Hints) -> None:
    check(target, given)


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    check(text, NO_HINTS)
    check("/img/" + text, NO_HINTS)


def is_signed(request: ImageRequest) -> bool:
    return request.signed


def expires(request: ImageRequest) -> bool:
    return request.expires is not None


def is_remote(request: ImageRequest) -> bool:
    return request.ref.source == REMOTE


def has_hints(request: ImageRequest) -> bool:
    return bool(request.hints)


@pytest.mark.parametrize("reached", [is_signed, expires, is_remote, has_hints])
def test_the_generated_targets_reach_every_feature(reached: Callable[[ImageRequest], bool]) -> None:
    """Otherwise all generated targets might be refused early."""
    found = False

    @settings(max_examples=1000)
    @given(targets(), hints)
    def look(target: str, given_hints: Hints) -> None:
        nonlocal found
        found = found or any(map(reached, check(target, given_hints)))

    look()

    assert found
