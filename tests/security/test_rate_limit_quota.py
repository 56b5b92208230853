"""Buckets that refill, one per original."""

import pytest

from imgserver.errors import QuotaExceeded
from imgserver.plan.plan import SourceRef
from imgserver.security.rate_limit import BUCKETS, Quota, QuotaSettings

CAT, DOG = SourceRef("photos", "cat.png"), SourceRef("photos", "dog.jpg")


class Scene:
    def __init__(self, per_minute: int = 120, burst: int = 40) -> None:
        self.now = 1000.0
        self.quota = Quota(QuotaSettings(per_minute, burst), lambda: self.now)

    def granted(self, ref: SourceRef, asked: int) -> int:
        """How many of so many at once."""
        count = 0
        for _ in range(asked):
            try:
                self.quota.take(ref)
            except QuotaExceeded:
                continue
            count += 1
        return count


def test_a_burst_is_granted_and_no_more() -> None:
    scene = Scene()

    assert scene.granted(CAT, 1000) == 40
    assert scene.granted(DOG, 1000) == 40


def test_a_bucket_refills_steadily_up_to_the_burst() -> None:
    scene = Scene()
    scene.granted(CAT, 40)

    for seconds, granted in ((0.4, 0), (0.1, 1), (5.0, 10), (3600.0, 40)):
        scene.now += seconds
        assert scene.granted(CAT, 1000) == granted


def test_over_a_long_time_it_grants_the_rate_and_one_burst() -> None:
    scene = Scene(per_minute=60, burst=5)
    granted = 0
    for _ in range(600):
        granted += scene.granted(CAT, 3)
        scene.now += 0.25

    assert granted == pytest.approx(5 + 150, abs=1)


def test_the_refusal_says_when_to_come_back() -> None:
    scene = Scene(per_minute=6, burst=1)
    scene.quota.take(CAT)

    with pytest.raises(QuotaExceeded) as caught:
        scene.quota.take(CAT)
    assert caught.value.facts["retry_after"] == 10
    scene.now += 10
    scene.quota.take(CAT)


def test_what_nobody_made_is_given_back() -> None:
    scene = Scene(burst=1)
    scene.quota.take(CAT)
    scene.quota.give_back(CAT)

    assert scene.granted(CAT, 2) == 1


def test_without_a_rate_nothing_is_counted() -> None:
    scene = Scene(per_minute=0)

    assert scene.granted(CAT, 10_000) == 10_000
    assert len(scene.quota) == 0


def test_memory_is_bounded_and_full_buckets_are_forgotten() -> None:
    scene = Scene()
    for number in range(BUCKETS + 500):
        scene.quota.take(SourceRef("photos", str(number)))
    assert len(scene.quota) == BUCKETS

    scene.now += 60
    for number in range(BUCKETS):
        scene.granted(SourceRef("photos", f"new {number % 3}"), 1)
    assert len(scene.quota) <= BUCKETS - 120 + 3
    scene.now += 60
    for number in range(BUCKETS):
        scene.granted(SourceRef("photos", f"newer {number}"), 1)
    assert len(scene.quota) == BUCKETS
