"""Any target is parsed or refused by an error of ours, with all that a server may have switched on."""

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


def ends(request: ImageRequest) -> bool:
    return request.expires is not None


def is_remote(request: ImageRequest) -> bool:
    return request.ref.source == REMOTE


def has_hints(request: ImageRequest) -> bool:
    return bool(request.hints)


@pytest.mark.parametrize("reached", [is_signed, ends, is_remote, has_hints])
def test_what_is_asked_reaches_what_it_is_meant_to_reach(reached: Callable[[ImageRequest], bool]) -> None:
    """Else everything might be refused at the door."""
    found = False

    @settings(max_examples=1000)
    @given(targets(), hints)
    def look(target: str, given_hints: Hints) -> None:
        nonlocal found
        found = found or any(map(reached, check(target, given_hints)))

    look()

    assert found
