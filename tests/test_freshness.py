import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver import freshness
from imgserver.freshness import FreshnessSettings

MODIFIED = 1_700_000_000
DATE = freshness.http_date(MODIFIED)


def not_modified(none_match=None, modified_since=None, modified=MODIFIED):
    return freshness.is_not_modified(
        none_match=none_match, modified_since=modified_since, etag="abc", modified=modified
    )


@pytest.mark.parametrize(
    ("none_match", "modified_since", "expected"),
    [
        ('"abc"', None, True),
        ('W/"abc"', None, True),
        ('"x", "abc"', None, True),
        ('"x,y", W/"abc" , "z"', None, True),
        ("*", None, True),
        ('"abcd"', None, False),
        ("abc", None, False),
        ("", None, False),
        ('"x"', DATE, False),  # If-None-Match beats the date
        (None, DATE, True),
        (None, freshness.http_date(MODIFIED + 10), True),
        (None, freshness.http_date(MODIFIED - 1), False),
        (None, "yesterday", False),
        (None, "", False),
        (None, "Mon, 99 Foo 99999 99:99:99 GMT", False),
        (None, None, False),
    ],
)
def test_conditions_are_judged_as_rfc_9110_says(none_match, modified_since, expected):
    assert not_modified(none_match, modified_since) is expected


def test_without_a_known_time_a_date_decides_nothing():
    assert not_modified(modified_since=DATE, modified=None) is False


@given(st.text(), st.text())
def test_malformed_conditions_never_raise(none_match, modified_since):
    not_modified(none_match, None)
    assert not_modified(None, modified_since) in (True, False)


def test_cache_control_names_the_graces_that_are_on():
    assert freshness.cache_control(FreshnessSettings()) == (
        "max-age=300, stale-while-revalidate=86400, stale-if-error=86400"
    )
    assert freshness.cache_control(FreshnessSettings(10, 0, 0)) == "max-age=10"


def test_errors_say_how_long_they_hold():
    assert freshness.error_cache_control(0) == "no-store"
    assert freshness.error_cache_control(30) == "max-age=30"
