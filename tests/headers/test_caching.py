import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.headers import caching
from imgserver.headers.caching import Cacheability, FreshnessSettings

MODIFIED = 1_700_000_000
DATE = caching.http_date(MODIFIED)


def not_modified(none_match=None, modified_since=None, modified=MODIFIED):
    return caching.is_not_modified(none_match=none_match, modified_since=modified_since, etag="abc", modified=modified)


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
        (None, caching.http_date(MODIFIED + 10), True),
        (None, caching.http_date(MODIFIED - 1), False),
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
    assert caching.cache_control(FreshnessSettings()) == (
        "max-age=300, stale-while-revalidate=86400, stale-if-error=86400"
    )
    assert caching.cache_control(FreshnessSettings(10, 0, 0, 0)) == "max-age=10"


GRACES = "stale-while-revalidate=86400, stale-if-error=86400"
FOR_GOOD = "max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (Cacheability(versioned=True), FOR_GOOD),
        (Cacheability(source_seconds=60), f"max-age=60, {GRACES}"),
        (Cacheability(source_seconds=9999), f"max-age=300, {GRACES}"),
        (Cacheability(source_seconds=0), f"max-age=0, {GRACES}"),
        (Cacheability(versioned=True, source_seconds=60), f"max-age=60, {GRACES}"),
        (Cacheability(useful_seconds=10**6), f"max-age=10, {GRACES}"),
        (Cacheability(useful_seconds=90), "max-age=10, stale-while-revalidate=90, stale-if-error=90"),
        (Cacheability(useful_seconds=7), "max-age=7, stale-while-revalidate=7, stale-if-error=7"),
        (Cacheability(useful_seconds=-3), "max-age=0"),
        (Cacheability(versioned=True, useful_seconds=10**9), f"max-age=10, {GRACES}"),
        (Cacheability(useful_seconds=90, source_seconds=5), "max-age=5, stale-while-revalidate=90, stale-if-error=90"),
    ],
)
def test_an_answer_holds_as_long_as_its_terms_allow(terms, expected):
    assert caching.cache_control(FreshnessSettings(), terms) == expected


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (Cacheability(), f"max-age=7200, {GRACES}"),
        (Cacheability(versioned=True), FOR_GOOD),
        (Cacheability(source_seconds=60), f"max-age=60, {GRACES}"),
        (Cacheability(useful_seconds=7), "max-age=7, stale-while-revalidate=7, stale-if-error=7"),
    ],
)
def test_cdns_are_told_of_their_own_only_where_it_is_configured(terms, expected):
    assert caching.cdn_cache_control(FreshnessSettings(), terms) is None
    assert caching.cdn_cache_control(FreshnessSettings(cdn_max_age_seconds=7200), terms) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/img/cat.png", False),
        ("/img/cat.png?", False),
        ("/img/cat.png?v", False),
        ("/img/cat.png?v=", False),
        ("/img/cat.png?v=1", True),
        ("/img/cat.png?v=&v=2", True),
        ("/img/cat.png?a=b&v=2", True),
        ("/img/cat.png?V=2", False),
        ("/img/cat.png?ver=2", False),
        ("/img/v=1/cat.png", False),
    ],
)
def test_a_url_is_versioned_by_its_query(target, expected):
    assert caching.is_versioned(target, "v") is expected
    assert not caching.is_versioned(target, "")


def test_a_version_parameter_that_no_query_spells_like_that_is_refused():
    with pytest.raises(ValueError, match=r"http\.version_parameter"):
        FreshnessSettings(version_parameter="a=b")


def test_errors_say_how_long_they_hold():
    assert caching.error_cache_control(0) == "no-store"
    assert caching.error_cache_control(30) == "max-age=30"


def test_a_record_is_kept_longer_than_it_is_fresh_and_both_ends_are_spread():
    early, late = (caching.lifetime(created=1000, soft_seconds=100, draw=draw) for draw in (0.0, 1.0))

    assert (early.fresh_until, early.expires) == (pytest.approx(1090), pytest.approx(1225))
    assert (late.fresh_until, late.expires) == (pytest.approx(1110), pytest.approx(1275))


def test_a_record_without_ends_is_never_renewed():
    assert not caching.is_early(now=1e12, fresh_until=None, render_seconds=9, draw=1e-9)


def test_early_refresh_is_rare_long_before_the_end_and_certain_after_it():
    draws = [(number + 1) / 1000 for number in range(1000)]

    def share(now):
        return sum(caching.is_early(now=now, fresh_until=100, render_seconds=1, draw=draw) for draw in draws) / 1000

    assert share(80) == 0
    assert share(99) == pytest.approx(0.37, abs=0.02)  # e^-1
    assert share(100) == 1
    assert caching.is_early(now=0, fresh_until=100, render_seconds=1, draw=0) is False


def test_a_costly_picture_is_refreshed_earlier():
    def early(seconds):
        return caching.is_early(now=95, fresh_until=100, render_seconds=seconds, draw=0.1)

    assert (early(1), early(3)) == (False, True)
