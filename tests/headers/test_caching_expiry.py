"""Links that end, and the copies of their pictures."""

import pytest

from imgserver.errors import Expired
from imgserver.headers.caching import bounded, seconds_left


@pytest.mark.parametrize(("now", "left"), [(900.0, 100), (999.0, 1), (999.9, 0)])
def test_a_link_is_good_until_its_second(now: float, left: int) -> None:
    assert seconds_left(1000, now=now) == left


@pytest.mark.parametrize("now", [1000.0, 1000.1, 5000.0])
def test_from_its_second_on_a_link_is_over(now: float) -> None:
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
def test_no_copy_outlives_the_link(field: str, seconds: int, expected: str) -> None:
    assert bounded(field, seconds=seconds) == expected
