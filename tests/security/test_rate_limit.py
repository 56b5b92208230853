import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.errors import OriginalBusy
from imgserver.plan.plan import SourceRef
from imgserver.security.rate_limit import MAX_ORIGINALS, ClientRateLimiter, Quota, QuotaSettings, TokenBuckets

CAT, DOG = SourceRef("photos", "cat.png"), SourceRef("photos", "dog.jpg")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def token_buckets(clock: Clock, max_buckets: int = 100) -> TokenBuckets[str]:
    return TokenBuckets(max_buckets, clock)


@pytest.mark.parametrize(("per_second", "burst"), [(1, 1), (3, 7), (0.1, 40), (1000, 33)])
def test_a_bucket_grants_its_burst_and_then_the_rate(per_second, burst) -> None:
    clock = Clock()
    buckets = token_buckets(clock)

    def take() -> float:
        return buckets.take("a", per_second=per_second, burst=burst)

    assert [take() for _ in range(burst)] == [0] * burst
    assert take() == pytest.approx(1 / per_second)
    clock.now += 1 / per_second
    assert take() == 0
    assert take() > 0
    clock.now += 3600
    assert [take() for _ in range(burst)] == [0] * burst


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.floats(0.5, 50), st.integers(1, 20))
def test_a_bucket_never_grants_more_than_its_burst_and_the_rate(pauses, per_second, burst) -> None:
    clock = Clock()
    buckets, granted = token_buckets(clock), 0
    for pause in pauses:
        clock.now += pause
        granted += buckets.take("a", per_second=per_second, burst=burst) == 0

    assert granted <= burst + sum(pauses) * per_second + 1e-6


def test_a_client_that_waits_for_the_returned_time_gets_a_token() -> None:
    clock = Clock()
    buckets = token_buckets(clock)
    for _ in range(50):
        clock.now += buckets.take("a", per_second=3, burst=2)
        assert buckets.take("a", per_second=3, burst=2) in (0.0, pytest.approx(1 / 3))


def test_keys_do_not_share_a_bucket() -> None:
    buckets = token_buckets(Clock())

    assert buckets.take("a", per_second=1, burst=1) == 0
    assert buckets.take("b", per_second=1, burst=1) == 0
    assert buckets.take("a", per_second=1, burst=1) > 0


def test_a_lower_limit_does_not_block_a_client_for_what_the_higher_limit_granted() -> None:
    buckets = token_buckets(Clock())
    for _ in range(100):
        buckets.take("a", per_second=1, burst=100)

    assert buckets.take("a", per_second=1, burst=2) <= 1


def test_the_bucket_that_was_used_least_recently_is_evicted() -> None:
    buckets = token_buckets(Clock(), max_buckets=3)
    for name in ("a", "b", "c", "a", "d"):
        buckets.take(name, per_second=1, burst=9)

    assert len(buckets) == 3
    assert buckets.take("a", per_second=1, burst=2) > 0


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    buckets = token_buckets(clock)
    for number in range(10):
        buckets.take(str(number), per_second=1, burst=2)
    clock.now += 60
    for number in range(10):
        buckets.take(f"new {number}", per_second=1, burst=2)

    assert len(buckets) == 10


class FakeSharedBuckets:
    """Gives the same answer to everybody."""

    def __init__(self, answer: float | None) -> None:
        self.answer = answer
        self.calls = 0

    async def take(self, name: str, *, per_second: float, burst: int) -> float | None:
        self.calls += 1
        return self.answer


@pytest.mark.parametrize(("answer", "wait"), [(0.0, 0), (2.5, 2.5), (None, 0)])
async def test_the_shared_bucket_decides_unless_it_does_not_answer(answer, wait) -> None:
    limiter = ClientRateLimiter(FakeSharedBuckets(answer))

    assert await limiter.take("a", per_second=1, burst=5) == wait


async def test_a_flood_reaches_the_shared_bucket_only_up_to_its_limit() -> None:
    shared = FakeSharedBuckets(None)
    limiter = ClientRateLimiter(shared)
    waits = [await limiter.take("a", per_second=0.001, burst=5) for _ in range(100)]

    assert [wait == 0 for wait in waits] == [True] * 5 + [False] * 95
    assert shared.calls == 5


class QuotaAt:
    """A quota with a clock, and how many renditions it grants."""

    def __init__(self, per_minute: int = 120, burst: int = 40) -> None:
        self.clock = Clock()
        self.quota = Quota(QuotaSettings(per_minute, burst), self.clock)

    def granted(self, ref: SourceRef, requested: int) -> int:
        count = 0
        for _ in range(requested):
            try:
                self.quota.take(ref)
            except OriginalBusy:
                continue
            count += 1
        return count


def test_a_quota_grants_a_burst_per_original() -> None:
    one = QuotaAt()

    assert one.granted(CAT, 1000) == 40
    assert one.granted(DOG, 1000) == 40


def test_a_quota_refills_steadily_up_to_the_burst() -> None:
    one = QuotaAt()
    one.granted(CAT, 40)

    for seconds, granted in ((0.4, 0), (0.1, 1), (5.0, 10), (3600.0, 40)):
        one.clock.now += seconds
        assert one.granted(CAT, 1000) == granted


def test_over_a_long_time_a_quota_grants_the_rate_and_one_burst() -> None:
    one = QuotaAt(per_minute=60, burst=5)
    granted = 0
    for _ in range(600):
        granted += one.granted(CAT, 3)
        one.clock.now += 0.25

    assert granted == pytest.approx(5 + 150, abs=1)


def test_retry_after_is_the_time_until_the_next_rendition_is_allowed() -> None:
    one = QuotaAt(per_minute=6, burst=1)
    one.quota.take(CAT)

    with pytest.raises(OriginalBusy) as caught:
        one.quota.take(CAT)
    assert caught.value.facts["retry_after"] == 10
    one.clock.now += 10
    one.quota.take(CAT)


def test_a_token_that_was_put_back_can_be_taken_again() -> None:
    one = QuotaAt(burst=1)
    one.quota.take(CAT)
    one.quota.put_back(CAT)

    assert one.granted(CAT, 2) == 1


def test_a_long_render_counts_once_per_second() -> None:
    one = QuotaAt(burst=10)
    one.quota.take(CAT)
    one.quota.charge(CAT, seconds=4.2)
    one.quota.take(DOG)
    one.quota.charge(DOG, seconds=0.3)

    assert one.granted(CAT, 10) == 6
    assert one.granted(DOG, 10) == 9


def test_without_a_rate_a_quota_counts_nothing() -> None:
    one = QuotaAt(per_minute=0)
    one.quota.charge(CAT, seconds=100.0)
    one.quota.put_back(CAT)

    assert one.granted(CAT, 10_000) == 10_000
    assert len(one.quota) == 0


def test_the_originals_of_a_quota_are_bounded() -> None:
    one = QuotaAt()
    for number in range(MAX_ORIGINALS + 500):
        one.quota.take(SourceRef("photos", str(number)))

    assert len(one.quota) == MAX_ORIGINALS
