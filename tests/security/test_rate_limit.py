import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgserver.security import rate_limit
from imgserver.security.rate_limit import Buckets, ClientBuckets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("per_second", "burst"), [(1, 1), (3, 7), (0.1, 40), (1000, 33)])
def test_a_burst_is_had_at_once_and_then_the_rate(per_second, burst) -> None:
    clock = Clock()
    bucket = Buckets(clock)

    def take() -> float:
        return bucket.take("a", per_second=per_second, burst=burst)

    assert [take() for _ in range(burst)] == [0] * burst
    assert take() == pytest.approx(1 / per_second)
    clock.now += 1 / per_second
    assert take() == 0
    assert take() > 0
    clock.now += 3600
    assert [take() for _ in range(burst)] == [0] * burst


@given(st.lists(st.floats(0, 2), min_size=1, max_size=200), st.floats(0.5, 50), st.integers(1, 20))
def test_nobody_gets_more_than_the_burst_and_the_rate(pauses, per_second, burst) -> None:
    clock = Clock()
    bucket, had = Buckets(clock), 0
    for pause in pauses:
        clock.now += pause
        had += bucket.take("a", per_second=per_second, burst=burst) == 0

    assert had <= burst + sum(pauses) * per_second + 1e-6


def test_who_waits_as_told_is_let_in() -> None:
    clock = Clock()
    bucket = Buckets(clock)
    for _ in range(50):
        clock.now += bucket.take("a", per_second=3, burst=2)
        assert bucket.take("a", per_second=3, burst=2) in (0.0, pytest.approx(1 / 3))


def test_clients_do_not_share() -> None:
    bucket = Buckets(Clock())

    assert bucket.take("a", per_second=1, burst=1) == 0
    assert bucket.take("b", per_second=1, burst=1) == 0
    assert bucket.take("a", per_second=1, burst=1) > 0


def test_a_slower_rate_does_not_lock_out_for_what_the_faster_one_gave() -> None:
    bucket = Buckets(Clock())
    for _ in range(100):
        bucket.take("a", per_second=1, burst=100)

    assert bucket.take("a", per_second=1, burst=2) <= 1


def test_the_table_is_bounded_and_forgets_who_was_seen_longest_ago(monkeypatch) -> None:
    monkeypatch.setattr(rate_limit, "CLIENTS_LIMIT", 3)
    bucket = Buckets(Clock())
    for name in ("a", "b", "c", "a", "d"):
        bucket.take(name, per_second=1, burst=9)

    assert len(bucket) == 3
    assert bucket.take("a", per_second=1, burst=2) > 0


class Redis:
    def __init__(self, answer: float | None) -> None:
        self.answer = answer
        self.asked = 0

    async def take(self, name: str, *, per_second: float, burst: int) -> float | None:
        self.asked += 1
        return self.answer


@pytest.mark.parametrize(("answer", "wait"), [(0.0, 0), (2.5, 2.5), (None, 0)])
async def test_the_shared_bucket_decides_unless_it_is_silent(answer, wait) -> None:
    assert await ClientBuckets(Redis(answer)).take("a", per_second=1, burst=5) == wait


async def test_a_flood_costs_redis_no_more_than_it_may_have() -> None:
    redis = Redis(None)
    both = ClientBuckets(redis)
    waits = [await both.take("a", per_second=0.001, burst=5) for _ in range(100)]

    assert [wait == 0 for wait in waits] == [True] * 5 + [False] * 95
    assert redis.asked == 5
