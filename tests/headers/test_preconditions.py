"""Conditional requests: the precedence and the comparisons of RFC 9110, 13."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.headers import preconditions
from imgserver.headers.caching import http_date

MODIFIED = 1_700_000_000
DATE = http_date(MODIFIED)


def not_modified(none_match=None, modified_since=None, modified=MODIFIED):
    return preconditions.is_not_modified(
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
        ('"x"', DATE, False),  # If-None-Match takes precedence
        (None, DATE, True),
        (None, http_date(MODIFIED + 10), True),
        (None, http_date(MODIFIED - 1), False),
        (None, "yesterday", False),
        (None, "", False),
        (None, "Mon, 99 Foo 99999 99:99:99 GMT", False),
        (None, None, False),
    ],
)
def test_conditional_requests_follow_rfc_9110(none_match, modified_since, expected):
    assert not_modified(none_match, modified_since) is expected


def test_if_modified_since_is_ignored_without_a_modification_time():
    assert not_modified(modified_since=DATE, modified=None) is False


@given(st.text(), st.text())
def test_malformed_conditions_never_raise(none_match, modified_since):
    not_modified(none_match, None)
    assert not_modified(None, modified_since) in (True, False)
    failed(none_match, None)
    assert failed(None, modified_since) in (True, False)


def failed(match=None, unmodified_since=None, modified=MODIFIED):
    return preconditions.is_failed(match=match, unmodified_since=unmodified_since, etag="abc", modified=modified)


@pytest.mark.parametrize(
    ("match", "unmodified_since", "expected"),
    [
        (None, None, False),
        ("*", None, False),
        (" * ", None, False),
        ('"abc"', None, False),
        ('"x", "abc"', None, False),
        ('"x,y" , "abc"', None, False),
        ('W/"abc"', None, True),  # strong comparison
        ('W/"abc", "abc"', None, False),
        ('"x"', None, True),
        ('"abcd"', None, True),
        ("abc", None, True),
        ("", None, True),
        ('"*"', None, True),
        ('"abc"', http_date(MODIFIED - 1), False),  # If-Match takes precedence
        ('"x"', http_date(MODIFIED + 1), True),
        (None, DATE, False),
        (None, http_date(MODIFIED + 10), False),
        (None, http_date(MODIFIED - 1), True),
        (None, "yesterday", False),
        (None, "", False),
    ],
)
def test_if_match_and_if_unmodified_since_fail_as_rfc_9110_says(match, unmodified_since, expected):
    assert failed(match, unmodified_since) is expected


def test_if_unmodified_since_is_ignored_without_a_modification_time():
    assert failed(unmodified_since=http_date(0), modified=None) is False
