import pytest

from imgserver.errors import Expired
from imgserver.headers import caching
from imgserver.headers.caching import YEAR_SECONDS, Cacheability, FreshnessSettings, bounded, seconds_left
from imgserver.plan.rendition import CachePolicy


def test_cache_control_contains_the_configured_stale_directives():
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
        (Cacheability(source_seconds=0), "max-age=0"),
        (Cacheability(versioned=True, source_seconds=60), f"max-age=60, {GRACES}"),
        (Cacheability(policy=CachePolicy.PRIVATE), "private, max-age=300"),
        (Cacheability(policy=CachePolicy.PRIVATE, source_seconds=20), "private, max-age=20"),
        (Cacheability(policy=CachePolicy.PRIVATE, source_seconds=0), "private, max-age=0"),
        (Cacheability(policy=CachePolicy.PRIVATE, versioned=True), f"private, max-age={YEAR_SECONDS}"),
        (Cacheability(policy=CachePolicy.NO_STORE, versioned=True), "no-store"),
        (Cacheability(policy=CachePolicy.NO_STORE, useful_seconds=90), "no-store"),
        (Cacheability(policy=CachePolicy.MUST_REVALIDATE, source_seconds=0), "no-cache"),
        (Cacheability(policy=CachePolicy.MUST_REVALIDATE, source_seconds=60), "max-age=60, must-revalidate"),
        (Cacheability(policy=CachePolicy.MUST_REVALIDATE), "max-age=300, must-revalidate"),
        (Cacheability(useful_seconds=10**6), f"max-age=10, {GRACES}"),
        (Cacheability(useful_seconds=90), "max-age=10, stale-while-revalidate=90, stale-if-error=90"),
        (Cacheability(useful_seconds=7), "max-age=7, stale-while-revalidate=7, stale-if-error=7"),
        (Cacheability(useful_seconds=-3), "max-age=0"),
        (Cacheability(versioned=True, useful_seconds=10**9), f"max-age=10, {GRACES}"),
        (Cacheability(useful_seconds=90, source_seconds=5), "max-age=5, stale-while-revalidate=90, stale-if-error=90"),
    ],
)
def test_max_age_is_limited_by_the_cacheability(terms, expected):
    assert caching.cache_control(FreshnessSettings(), terms) == expected


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (Cacheability(), f"max-age=7200, {GRACES}"),
        (Cacheability(versioned=True), FOR_GOOD),
        (Cacheability(source_seconds=60), f"max-age=60, {GRACES}"),
        (Cacheability(useful_seconds=7), "max-age=7, stale-while-revalidate=7, stale-if-error=7"),
        (Cacheability(policy=CachePolicy.PRIVATE, source_seconds=60), None),
        (Cacheability(policy=CachePolicy.NO_STORE), None),
        (Cacheability(policy=CachePolicy.MUST_REVALIDATE, source_seconds=60), "max-age=60, must-revalidate"),
    ],
)
def test_cdn_cache_control_is_sent_only_if_configured(terms, expected):
    assert caching.cdn_cache_control(FreshnessSettings(), terms) is None
    assert caching.cdn_cache_control(FreshnessSettings(cdn_max_age_seconds=7200), terms) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("v", ""),
        ("v=", ""),
        ("v=1", "1"),
        ("v=&v=2", "2"),
        ("v=1&v=2", "1"),
        ("a=b&v=2", "2"),
        ("V=2", ""),
        ("ver=2", ""),
    ],
)
def test_the_version_in_a_query_is_the_first_value_of_the_parameter(query, expected):
    assert caching.version_in(query, "v") == expected
    assert caching.version_in(query, "") == ""


def test_a_version_parameter_with_special_characters_is_refused():
    with pytest.raises(ValueError, match=r"http\.version_parameter"):
        FreshnessSettings(version_parameter="a=b")


def test_errors_have_a_max_age_or_no_store():
    assert caching.error_cache_control(0) == "no-store"
    assert caching.error_cache_control(30) == "max-age=30"


def test_a_record_expires_after_it_is_stale_and_both_times_have_jitter():
    early, late = (caching.lifetime(created=1000, soft_seconds=100, draw=draw) for draw in (0.0, 1.0))

    assert (early.fresh_until, early.expires) == (pytest.approx(1090), pytest.approx(1225))
    assert (late.fresh_until, late.expires) == (pytest.approx(1110), pytest.approx(1275))


def test_a_record_without_a_lifetime_is_never_refreshed_early():
    assert not caching.is_early(now=1e12, fresh_until=None, render_seconds=9, draw=1e-9)


def test_early_refresh_is_rare_long_before_the_end_of_freshness_and_certain_after_it():
    draws = [(number + 1) / 1000 for number in range(1000)]

    def share(now):
        return sum(caching.is_early(now=now, fresh_until=100, render_seconds=1, draw=draw) for draw in draws) / 1000

    assert share(80) == 0
    assert share(99) == pytest.approx(0.37, abs=0.02)  # e^-1
    assert share(100) == 1
    assert caching.is_early(now=0, fresh_until=100, render_seconds=1, draw=0) is False


def test_a_slow_render_is_refreshed_earlier():
    def early(seconds):
        return caching.is_early(now=95, fresh_until=100, render_seconds=seconds, draw=0.1)

    assert (early(1), early(3)) == (False, True)


@pytest.mark.parametrize(("now", "left"), [(900.0, 100), (999.0, 1), (999.9, 0)])
def test_a_link_is_valid_before_its_expiry(now: float, left: int) -> None:
    assert seconds_left(1000, now=now) == left


@pytest.mark.parametrize("now", [1000.0, 1000.1, 5000.0])
def test_a_link_expires_at_its_second(now: float) -> None:
    with pytest.raises(Expired):
        seconds_left(1000, now=now)


@pytest.mark.parametrize(
    ("field", "seconds", "expected"),
    [
        ("max-age=300, stale-while-revalidate=86400", 10_000, "max-age=300, stale-while-revalidate=9700"),
        ("max-age=300, stale-if-error=60", 100, "max-age=100, stale-if-error=0"),
        ("max-age=300, s-maxage=3600, stale-if-error=60", 1000, "max-age=300, s-maxage=1000, stale-if-error=0"),
        ("max-age=31536000, immutable", 5, "max-age=5, immutable"),
        ("max-age=300", 0, "max-age=0"),
        ("max-age=5, stale-while-revalidate=5", 12, "max-age=5, stale-while-revalidate=5"),
        ("max-age=5, stale-if-error=9", 12, "max-age=5, stale-if-error=7"),
        ("no-store", 5, "no-store"),
    ],
)  # fmt: skip
def test_no_stored_response_outlives_the_link(field: str, seconds: int, expected: str) -> None:
    assert bounded(field, seconds=seconds) == expected
